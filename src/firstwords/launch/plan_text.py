"""A plan in words, for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from firstwords.report.terminal import duration

if TYPE_CHECKING:
    from firstwords.launch.plan import Plan

_WIDTH = 80
_INDENT = 12


def plan_lines(plan: Plan) -> list[str]:
    """Lines of at most 80 columns."""
    lines = textwrap.wrap(f"{plan.name}: {plan.description}" if plan.description else plan.name, _WIDTH)
    lines.append("")
    for label, text in _facts(plan):
        lines += _entry(label, text)
    if plan.remarks:
        lines.append("")
    for remark in plan.remarks:
        lines += _entry(remark.kind, remark.text)
    return lines


def _entry(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{label:<{_INDENT}}",
        subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
        break_long_words=False,
    )


def _facts(plan: Plan) -> Iterator[tuple[str, str]]:
    text, training = plan.text, plan.training
    about, number = ("", _exactly) if plan.exact else ("about ", _short)
    yield (
        "text",
        f"{about}{number(text.train_bytes)} bytes, {number(text.train_words)} words of {', '.join(plan.sources)}; "
        f"dev text {about}{number(text.dev_bytes)} bytes, {number(text.dev_words)} words",
    )
    rows = "lines" if text.positions_by_the_usual_way else "documents"
    yield (
        "tokens",
        f"vocabulary {text.vocabulary:,}, {text.tokens_per_word:.2f} tokens a word; {about}{number(text.tokens)} "
        f"tokens in {number(text.examples)} {rows} an epoch",
    )
    yield "model", f"{training.parameters:,} parameters"
    checkpointing = ", gradient checkpointing" if training.gradient_checkpointing else ""
    yield (
        "training",
        f"{about}{training.steps:,} steps of {training.rows_per_step} {'lines' if rows == 'lines' else 'rows'} (about "
        f"{training.tokens_per_step:,} tokens), {training.epochs:.2g} epochs; in all {_short(training.tokens)} tokens, "
        f"{_short(training.words_seen)} words seen, {training.flops:.2g} FLOPs; {training.device}, "
        f"{training.precision}{checkpointing}",
    )
    if plan.suites:
        yield (
            "evaluation",
            ", ".join(
                f"{name} ({'to be downloaded' if pairs is None else f'{pairs:,} pairs'})"
                for name, pairs in plan.suites.items()
            ),
        )
    yield (
        "memory",
        f"about {training.memory_bytes / 1e9:.1f} GB, of {training.free_memory_bytes / 1e9:.1f} GB free"
        + (
            f"; {training.measured_peak_bytes / 1e9:.1f} GB measured in the first steps"
            if training.measured_peak_bytes
            else ""
        ),
    )
    yield "time", _times(plan)


def _times(plan: Plan) -> str:
    parts = []
    for stage in plan.stages:
        if stage.done_by is not None:
            parts.append(f"{stage.name} done (in {stage.done_by})")
        elif stage.seconds is None:
            parts.append(f"{stage.name} not measured")
        else:
            parts.append(f"{stage.name} {duration(max(stage.seconds, 1))}")
    speed = plan.training.tokens_per_second
    measured = f", at {speed:,.0f} tokens/s measured on this machine" if speed else ""
    total = f"; about {duration(plan.seconds)} in all" if plan.seconds is not None else ""
    return ", ".join(parts) + total + measured


def _exactly(count: int) -> str:
    return f"{count:,}"


def _short(count: int) -> str:
    """`2.57 million`: three digits."""
    for unit, name in ((10**9, " billion"), (10**6, " million"), (10**3, " thousand")):
        if count >= unit:
            return f"{count / unit:.3g}{name}"
    return str(count)
