"""What a user should know before a run begins: what would stop it, what is likely a mistake, what is good to know."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from firstwords.errors import FirstwordsError
from firstwords.machine import usable_cores

if TYPE_CHECKING:
    from firstwords.corpus.sources import ResolvedSource
    from firstwords.identity import Inputs
    from firstwords.launch.plan import TextPlan, TrainingPlan
    from firstwords.launch.trial import Trial
    from firstwords.recipe import Recipe

_BABYLM_EPOCHS = 10
"""Most passes over the text that the BabyLM Challenge allows (Charpentier et al. 2025, arXiv:2502.10645)."""
_RARE = 10
"""A token seen fewer times in the text is rare: its embedding is hardly learnt."""
_RARE_SHARE = 0.5
"""A vocabulary of which a larger share is rare is called too large for the text."""
_COUNTED_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class Remark:
    """kind: `stop` would end the run, `warning` is likely a mistake, `note` is good to know. key: the setting."""

    kind: Literal["stop", "warning", "note"]
    key: str
    text: str


def remarks_on(
    recipe: Recipe,
    inputs: Inputs,
    trial: Trial,
    text: TextPlan,
    training: TrainingPlan,
    problems: Sequence[FirstwordsError],
) -> tuple[Remark, ...]:
    """All remarks on a recipe, what would stop the run first. problems: errors that its stages would raise."""
    found = [Remark("stop", error.where or "", _sentence(error)) for error in problems]
    found += _on_sources(recipe, inputs, trial)
    found += _on_tokens(recipe, trial, text)
    found += _on_training(recipe, training)
    found += _on_machine(recipe, training)
    order = ("stop", "warning", "note")
    return tuple(sorted(found, key=lambda remark: order.index(remark.kind)))


def _sentence(error: FirstwordsError) -> str:
    return error.what + (f" ({error.do})" if error.do else "")


def _on_sources(recipe: Recipe, inputs: Inputs, trial: Trial) -> Iterator[Remark]:
    """Of a sampled budget: whether the sources' files can hold it at all. A whole trial has told already."""
    if trial.share == 1:
        return
    settings = recipe.corpus
    bytes_per_unit = 1.0
    if settings.budget.unit == "words":
        facts = trial.token_file("train").facts
        bytes_per_unit = facts.text_bytes / max(facts.words, 1)
    whole_weight = sum(source.weight for source in settings.sources.values())
    sizes = {name: _size_bytes(source) for name, source in inputs.sources.items()}
    for name, size_bytes in sizes.items():
        share_bytes = settings.budget.amount * bytes_per_unit * settings.sources[name].weight / whole_weight
        if size_bytes is not None and size_bytes < share_bytes and settings.short_sources == "error":
            yield Remark(
                "stop",
                "corpus.budget",
                f"the budget of {settings.budget.text} is larger than the sources: {name} has "
                f"{size_bytes / 1e6:,.1f} MB of its share of about {share_bytes / 1e6:,.1f} MB "
                '(corpus.short-sources = "redistribute" lets the others make up for it)',
            )
    known = [size for size in sizes.values() if size is not None]
    lack = settings.budget.amount * bytes_per_unit - sum(known)
    if len(known) == len(sizes) and lack > 0 and settings.short_sources != "error":
        kind: Literal["stop", "warning"] = "stop" if settings.short_sources == "redistribute" else "warning"
        text = f"all sources together have about {lack / 1e6:,.1f} MB less than the budget of {settings.budget.text}"
        yield Remark(kind, "corpus.budget", text)


def _size_bytes(source: ResolvedSource) -> int | None:
    """Bytes of a source's text; None where its files are packed or it has no end."""
    if not source.files or any(file.path.suffix in (".gz", ".zip") for file in source.files):
        return None
    return sum(file.size_bytes for file in source.files)


def _on_tokens(recipe: Recipe, trial: Trial, text: TextPlan) -> Iterator[Remark]:
    lost = trial.fertility()["unencodable_bytes"]
    if lost:
        yield Remark(
            "warning",
            "tokenizer.all-bytes",
            f"{lost} of the 256 bytes are in no token: characters that need them vanish from every text "
            "(tokenizer.all-bytes = true keeps them)",
        )
    counts = _counts_of_learnt_tokens(trial)
    seen = int((counts / trial.share >= _RARE).sum())
    if seen < (1 - _RARE_SHARE) * len(counts) and not trial.problems:
        yield Remark(
            "warning",
            "tokenizer.vocabulary",
            f"the vocabulary is large for the text: only {seen:,} of its {len(counts):,} tokens of more than one byte "
            f"are seen {_RARE} times or more in an epoch",
        )
    if text.positions_by_the_usual_way:
        share = 1 - text.tokens / text.positions_by_the_usual_way
        yield Remark(
            "note",
            "tokens.examples",
            f"padded to {recipe.tokens.context} tokens, as is usual, {share:.0%} of what is computed would be "
            "padding; firstwords computes none of it, and the losses are the same",
        )
    if recipe.tokens.context < recipe.model.positions:
        yield Remark(
            "note",
            "tokens.context",
            f"no example is longer than {recipe.tokens.context} tokens: the model declares {recipe.model.positions} "
            "positions and never trains on those after",
        )


def _counts_of_learnt_tokens(trial: Trial) -> np.ndarray:
    """How often each token of more than one byte is in the training text that was made."""
    vocabulary, ids = trial.vocabulary(), trial.token_file("train").ids
    counts = np.zeros(vocabulary.size, dtype=np.int64)
    for start in range(0, len(ids), _COUNTED_AT_ONCE):
        counts += np.bincount(ids[start : start + _COUNTED_AT_ONCE], minlength=len(counts))
    entries = vocabulary.tokenizer.get_vocab(with_added_tokens=False)
    return counts[[number for symbols, number in entries.items() if len(symbols) > 1]]


def _on_training(recipe: Recipe, training: TrainingPlan) -> Iterator[Remark]:
    warmup = recipe.training.warmup_steps
    if warmup >= training.steps:
        yield Remark(
            "warning",
            "training.warmup-steps",
            f"the warm-up of {warmup:,} steps is as long as the run or longer ({training.steps:,} steps): the "
            "learning rate never reaches its peak",
        )
    if round(training.epochs, 1) > _BABYLM_EPOCHS:
        yield Remark(
            "warning",
            "training.epochs",
            f"{training.epochs:.1f} epochs are more than the {_BABYLM_EPOCHS} that the rules of BabyLM allow",
        )


def _on_machine(recipe: Recipe, training: TrainingPlan) -> Iterator[Remark]:
    if training.memory_bytes > training.free_memory_bytes:
        yield Remark(
            "warning",
            "training.device",
            f"training may need {training.memory_bytes / 1e9:.1f} GB of memory and "
            f"{training.free_memory_bytes / 1e9:.1f} GB are free now",
        )
    asked = recipe.training.precision
    if asked == "fp16" and training.precision != "fp16":
        yield Remark(
            "note",
            "training.precision",
            f"fp16 needs CUDA; on this machine's {training.device} the products are {training.precision}",
        )
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = usable_cores()
    if training.device == "cpu" and training.tokens_per_second and busy > cores + 0.5:
        yield Remark(
            "note",
            "training.device",
            f"other work keeps this machine busy (load {busy:.1f} on {cores} cores): the times hold while that lasts",
        )
