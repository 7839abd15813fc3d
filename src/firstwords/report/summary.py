"""What a run made, read from its folder: the facts that `show`, `runs` and the end of a run print."""

from __future__ import annotations

import json
import os
import platform
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firstwords.identity import STAGES
from firstwords.report.results import UNTRAINED, Evaluation, Measured, read_results
from firstwords.report.terminal import duration
from firstwords.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class DevLossLine:
    """The dev loss after a step, as metrics.jsonl has it: nats a token, the cards' unit, bits a byte."""

    step: int
    epoch: float
    dev_loss: float
    dev_loss_batch_means: float
    dev_bits_per_byte: float


@dataclass(frozen=True, slots=True)
class RunSummary:
    """All that one run says of itself; what it has not made yet is None or empty."""

    name: str
    path: str
    state: str
    recipe: dict[str, Any]
    seconds: dict[str, float]
    """Time that each finished stage took."""
    corpus: dict[str, Any] | None
    tokenizer: dict[str, Any] | None
    tokens: dict[str, Any] | None
    training: dict[str, Any] | None
    dev_losses: list[DevLossLine]
    evaluations: dict[str, Evaluation]
    """By `<suite>.<protocol>`; the untrained control's have `untrained.` before it."""
    measures: dict[str, Measured]
    """Results of tasks that are no minimal pairs, by `<task>.<protocol>`."""
    model: str | None
    """The Hugging Face folder."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a list of runs; what it has not made yet is None or empty.

    accuracies: shares by `<suite>.<protocol>` of its evaluation stage.
    """

    name: str
    state: str
    parameters: int | None
    words_seen: int | None
    best_dev_loss: float | None
    accuracies: dict[str, float]


def run_line(run: RunFolder) -> RunLine:
    """What a list says of a run."""
    training, evaluation = (mark.facts if mark else {} for mark in map(run.mark, ("training", "evaluation")))
    names = [name for name in evaluation.get("overall", {}) if not name.startswith(UNTRAINED) and run.has_result(name)]
    # Other tasks measure other things than accuracies.
    pairs = {name: values for name in names if "suite" in (values := run.result(name))}
    return RunLine(
        name=run.name,
        state=state_of(run),
        parameters=training.get("parameters"),
        words_seen=training.get("words_seen"),
        best_dev_loss=training.get("best_dev_loss"),
        accuracies={name: values["overall"]["accuracy"] for name, values in pairs.items()},
    )


def runs_table(runs: Sequence[RunLine]) -> list[list[str]]:
    """A row a run: size, words seen, lowest dev loss, its accuracies in percent, how far it is."""
    rows = [["run", "parameters", "words seen", "dev loss", "accuracy", "state"]]
    for run in runs:
        accuracies = ", ".join(f"{name} {100 * share:.1f}" for name, share in run.accuracies.items())
        numbers = [f"{number:,}" if number is not None else "-" for number in (run.parameters, run.words_seen)]
        loss = "-" if run.best_dev_loss is None else f"{run.best_dev_loss:.3f}"
        rows.append([run.name, *numbers, loss, accuracies or "-", run.state])
    return rows


def summarize(run: RunFolder) -> RunSummary:
    """Read a run's folder, finished or not."""
    marks = {stage: run.mark(stage) for stage in STAGES}
    facts = {stage: mark.facts if mark else None for stage, mark in marks.items()}
    exported = run.stage("export")
    evaluations, measures = read_results(run)
    return RunSummary(
        name=run.name,
        path=str(run.path),
        state=state_of(run),
        recipe=_recipe(run),
        seconds={stage: mark.seconds for stage, mark in marks.items() if mark},
        corpus=facts["corpus"],
        tokenizer=facts["tokenizer"],
        tokens=facts["tokens"],
        training=facts["training"],
        dev_losses=_dev_losses(run),
        evaluations=evaluations,
        measures=measures,
        model=str(exported) if facts["export"] is not None and exported.is_dir() else None,
    )


def state_of(run: RunFolder) -> str:
    """`complete`, `training: step 350, epoch 0.5 of 5`, `done: corpus, tokenizer`; and who is writing it now."""
    done = [stage for stage in STAGES if run.mark(stage) is not None]
    if len(done) == len(STAGES):
        state = "complete"
    else:
        last = _last_metrics(run)
        if last is not None and "training" not in done:
            epochs = _recipe(run).get("training", {}).get("epochs", 0)
            state = f"training: step {last['step']:,}, epoch {last['epoch']:.2f} of {epochs:g}"
        else:
            state = "done: " + (", ".join(done) or "nothing yet")
    writer = _writer(run)
    return f"{state} (being written by {writer})" if writer else state


def facts_table(runs: Sequence[RunSummary]) -> list[list[str]]:
    """A row a fact, a column a run, and the names of the runs on top."""
    facts = [[label, *cells] for group in fact_groups(runs).values() for label, cells in group.items()]
    return [["", *(run.name for run in runs)], *facts]


def fact_groups(runs: Sequence[RunSummary]) -> dict[str, dict[str, list[str]]]:
    """What the cards' comparison table has: for each topic its facts, for each fact a cell a run.

    A run that has not made what a fact tells of has a dash; facts that no run has are left out.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for topic, facts in _FACTS.items():
        for label, fact in facts.items():
            cells = [_or_dash(fact, run) for run in runs]
            if any(cell != "-" for cell in cells):
                found.setdefault(topic, {})[label] = cells
    return found


def _or_dash(fact: Callable[[RunSummary], str], run: RunSummary) -> str:
    """A fact's words, or a dash where the run has not made what it tells of."""
    try:
        return fact(run)
    except (KeyError, TypeError, IndexError):
        return "-"


def _architecture(run: RunSummary) -> str:
    model = run.recipe["model"]
    return f"LLaMA {model['hidden']} x {model['layers']}, {model['heads']} heads, {model['intermediate']:,} wide"


def _tokenizer(run: RunSummary) -> str:
    facts = run.tokenizer or {}
    return f"BPE {facts['vocabulary']:,} + {len(facts['special_tokens'])}, {facts['tokens_per_word']:.2f} tokens a word"


def _text(facts: dict[str, Any] | None, part: str) -> str:
    found = (facts or {})[part]
    return f"{found['bytes']:,} bytes, {found['words']:,} words"


def _training(run: RunSummary) -> dict[str, Any]:
    return run.training or {}


def _settings(run: RunSummary) -> dict[str, Any]:
    settings: dict[str, Any] = run.recipe["training"]
    return settings


def _schedule(run: RunSummary) -> str:
    settings = _settings(run)
    return f"{settings['peak-lr']:g}, {settings['schedule']}, {settings['warmup-steps']:,} steps warm-up"


def _loss(line: DevLossLine) -> str:
    return f"{line.dev_loss:.3f} / {line.dev_loss_batch_means:.3f} / {line.dev_bits_per_byte:.3f}"


def _best(run: RunSummary) -> str:
    best = min(run.dev_losses, key=lambda line: line.dev_loss, default=None)
    return "-" if best is None else f"{_loss(best)} at step {best.step:,}"


def _epochs(run: RunSummary) -> str:
    settings = _settings(run)
    most = f", at most {settings['max-steps']:,} steps" if "max-steps" in settings else ""
    return f"{settings['epochs']:g}{most}"


def _optimizer(run: RunSummary) -> str:
    settings = _settings(run)
    name = "Muon and AdamW" if settings.get("optimizer") == "muon" else "AdamW"
    return f"{name}, weight decay {settings['weight-decay']:g}"


_FACTS: dict[str, dict[str, Callable[[RunSummary], str]]] = {
    "run": {
        "state": lambda run: run.state,
        "seed": lambda run: str(run.recipe["seed"]),
    },
    "architecture": {
        "architecture": _architecture,
        "parameters": lambda run: f"{_training(run)['parameters']:,}",
        "positions": lambda run: f"{run.recipe['model']['positions']:,}",
    },
    "data": {
        "training text": lambda run: _text(run.corpus, "train"),
        "dev text": lambda run: _text(run.corpus, "dev"),
        "sources": lambda run: ", ".join(run.recipe["corpus"]["sources"]),
        "tokenizer": _tokenizer,
        "training tokens": lambda run: f"{(run.tokens or {})['train']['tokens']:,}",
    },
    "training": {
        "optimizer": _optimizer,
        "learning rate": _schedule,
        "batch x accumulation": lambda run: f"{_settings(run)['batch-size']} x {_settings(run)['accumulation']}",
        "context": lambda run: f"{run.recipe['tokens']['context']} ({run.recipe['tokens']['examples']})",
        "epochs": _epochs,
        "steps": lambda run: f"{_training(run)['steps']:,}",
        "words seen": lambda run: f"{_training(run)['words_seen']:,}",
    },
    "cost": {
        "device, precision": lambda run: f"{_training(run)['device']}, {_training(run)['precision']}",
        "training time": lambda run: duration(_training(run)["seconds"]),
        "tokens a second": lambda run: f"{_training(run)['tokens'] / _training(run)['seconds']:,.0f}",
        "peak memory": lambda run: f"{_training(run)['peak_memory_bytes'] / 2**20:,.0f} MiB",
    },
    "losses": {
        "last training loss": lambda run: f"{_training(run)['last_train_loss']:.3f}",
        "last dev loss *": lambda run: _loss(run.dev_losses[-1]),
        "best dev loss *": _best,
    },
    "result": {
        "model and card": lambda run: run.model or "-",
    },
}
"""By topic and label."""

LOSS_LEGEND = "* nats a token / the cards' unit (mean of batch means) / bits a byte"


def _recipe(run: RunFolder) -> dict[str, Any]:
    try:
        return tomllib.loads((run.path / "recipe.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _dev_losses(run: RunFolder) -> list[DevLossLine]:
    names = DevLossLine.__slots__
    found = []
    for line in _metrics_lines(run):
        if '"dev_loss"' in line:
            values = json.loads(line)
            found.append(DevLossLine(**{name: values[name] for name in names}))
    return found


def _last_metrics(run: RunFolder) -> dict[str, Any] | None:
    lines = _metrics_lines(run)
    return json.loads(lines[-1]) if lines else None


def _metrics_lines(run: RunFolder) -> list[str]:
    """Whole lines of metrics.jsonl; a run at work may just be writing the last one."""
    try:
        text = (run.stage("training") / "metrics.jsonl").read_text(encoding="utf-8")
    except OSError:
        return []
    return [line for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _writer(run: RunFolder) -> str | None:
    """The process that writes the run now, if it is alive; a killed one leaves its name behind."""
    try:
        owner = (run.path / ".owner").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.fullmatch(r"process (\d+) on (.*)", owner)
    if match and match[2] == platform.node() and not _alive(int(match[1])):
        return None
    return owner


def _alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def model_card(run: RunSummary) -> Path | None:
    """The model card, where there is one."""
    card = Path(run.model) / "README.md" if run.model else None
    return card if card is not None and card.is_file() else None
