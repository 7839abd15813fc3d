"""The text of a recipe as a run would make it, to be counted: the whole where that takes seconds, else a sample.

A trial has the folders of a run (`corpus/`, `tokenizer/`, `tokens/`), made by the same code. A run of the workspace
that has made them already is a trial too.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstwords.budget import Budget
from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.run_folder import read_json, runs_in

if TYPE_CHECKING:
    from firstwords.identity import Inputs
    from firstwords.tokens.encoding import TokenFacts, TokenFile
    from firstwords.tokens.tokenizer import Vocabulary

_WHOLE_BYTES = 20_000_000
"""Texts up to this size are made whole."""
_SAMPLE_BYTES = 6_000_000
_LEAST_SAMPLE = 20_000
"""Bytes or words that a sample takes of a text that has so many: of a small one, a share would be nothing."""
_BYTES_PER_WORD = 5.5
"""Of English text; used only to choose the size of a sample."""
_SMALLEST_VOCABULARY = 512


@dataclass(frozen=True, slots=True)
class Trial:
    """Corpus, tokenizer and tokens of a recipe, or of a sample of its text.

    share, dev_share: how much of each text was made; 1 is all of it, and then every count is exact.
    seconds: what each stage took, of what was made. made_by: the run that had made it.
    problems: what would stop a run on the way here.
    """

    folder: Path
    share: float
    dev_share: float
    seconds: Mapping[str, float]
    made_by: str | None = None
    problems: tuple[FirstwordsError, ...] = field(default=())

    @property
    def exact(self) -> bool:
        """Whether the counts are those of the run itself."""
        return self.share == 1 and not self.problems

    def corpus(self) -> dict[str, Any]:
        """The content of corpus.json."""
        return read_json(self.folder / "corpus" / "corpus.json")

    def fertility(self) -> dict[str, Any]:
        """The content of fertility.json."""
        return read_json(self.folder / "tokenizer" / "fertility.json")

    def vocabulary(self) -> Vocabulary:
        """The tokenizer."""
        from firstwords.tokens.tokenizer import Vocabulary

        return Vocabulary.load(self.folder / "tokenizer")

    def token_file(self, name: str) -> TokenFile:
        """`train` or `dev` as it was made."""
        from firstwords.tokens.encoding import TokenFile

        return TokenFile(self.folder / "tokens", name)

    def scaled_facts(self, name: str) -> TokenFacts:
        """Counts of `train` or `dev` as they would be of the whole text."""
        facts = self.token_file(name).facts
        share = self.dev_share if name == "dev" else self.share
        return replace(
            facts,
            tokens=round(facts.tokens / share),
            examples=round(facts.examples / share),
            words=round(facts.words / share),
            text_bytes=round(facts.text_bytes / share),
        )


def find_trial(fingerprints: Mapping[str, str], workspace: Path) -> Trial | None:
    """A run that has made corpus, tokenizer and tokens of these fingerprints, as a trial."""
    stages = ("corpus", "tokenizer", "tokens")
    for run in runs_in(workspace):
        marks = {stage: run.mark(stage) for stage in stages}
        if all(mark and mark.fingerprint == fingerprints[stage] for stage, mark in marks.items()):
            return Trial(run.path, 1.0, 1.0, {stage: mark.seconds for stage, mark in marks.items() if mark}, run.name)
    return None


def make_trial(recipe: Recipe, inputs: Inputs, folder: Path) -> Trial:
    """Make corpus, tokenizer and tokens in `folder`.

    Raises FirstwordsError as the stages do, but for a budget that cannot be met and a vocabulary that is too large:
    these become `problems`, and what can be made is.
    """
    from firstwords.tokens.encoding import encode_corpus

    sampled = _sample(recipe)
    seconds = {}
    started = time.monotonic()
    problems = _make_corpus(sampled or recipe, inputs, folder / "corpus")
    seconds["corpus"], started = time.monotonic() - started, time.monotonic()
    too_large = _learn_tokenizer(recipe, folder)
    # A sample holds fewer tokens than the whole text: that it cannot give the vocabulary says nothing.
    problems += too_large if sampled is None else []
    seconds["tokenizer"], started = time.monotonic() - started, time.monotonic()
    trial = Trial(folder, 1.0, 1.0, seconds, problems=tuple(problems))
    if sampled is not None:
        corpus, settings = trial.corpus(), recipe.corpus
        trial = replace(
            trial, share=_made(corpus, "train", settings.budget), dev_share=_made(corpus, "dev", settings.dev_budget)
        )
    encode_corpus(folder / "corpus", recipe.tokens, trial.vocabulary(), folder / "tokens")
    return replace(trial, seconds=seconds | {"tokens": time.monotonic() - started})


def _made(corpus: Mapping[str, Any], name: str, budget: Budget | None) -> float:
    """What part of a text's budget a sample is; a dev text of its own has no budget and is never sampled."""
    return 1.0 if budget is None else corpus[name][budget.unit] / budget.amount


def _sample(recipe: Recipe) -> Recipe | None:
    """The recipe of a sample of its text; None where the text is small enough to be made whole."""
    budget, dev_budget = recipe.corpus.budget, recipe.corpus.dev_budget
    size_bytes = budget.amount * (_BYTES_PER_WORD if budget.unit == "words" else 1)
    if size_bytes <= _WHOLE_BYTES:
        return None
    share = _SAMPLE_BYTES / size_bytes
    # In the order of the source, so that no more is read than is taken.
    changes = {"corpus.budget": _part_of(budget, share), "corpus.order": "source", "corpus.short-sources": "accept"}
    if dev_budget is not None:
        changes["corpus.dev-budget"] = _part_of(dev_budget, share)
    return recipe.override(changes)


def _part_of(budget: Budget, share: float) -> str:
    amount = max(round(share * budget.amount), min(_LEAST_SAMPLE, budget.amount))
    return f"{amount} {'words' if budget.unit == 'words' else 'B'}"


def _make_corpus(recipe: Recipe, inputs: Inputs, folder: Path) -> list[FirstwordsError]:
    from firstwords.corpus.mixing import make_corpus

    folder.mkdir()
    try:
        make_corpus(recipe.corpus, inputs.sources, inputs.dev_path, recipe.seed, folder)
    except FirstwordsError as error:
        if error.where not in ("corpus.budget", "corpus.dev-budget"):
            raise
        shutil.rmtree(folder)
        folder.mkdir()
        accepting = recipe.override({"corpus.short-sources": "accept"})
        make_corpus(accepting.corpus, inputs.sources, inputs.dev_path, recipe.seed, folder)
        if not (folder / "train.txt").stat().st_size:
            raise
        return [error]
    return []


def _learn_tokenizer(recipe: Recipe, folder: Path) -> list[FirstwordsError]:
    """Learn the tokenizer, or one of half, a quarter... of the vocabulary where the text does not give so many."""
    from firstwords.tokens.tokenizer import learn_tokenizer

    settings = recipe.tokenizer
    problems: list[FirstwordsError] = []
    text, new, positions = folder / "corpus" / "train.txt", folder / "tokenizer", recipe.model.positions
    while True:
        try:
            learn_tokenizer(settings, recipe.tokens, text, new, max_length=positions)
        except FirstwordsError as error:
            if error.where != "tokenizer.vocabulary" or settings.vocabulary < _SMALLEST_VOCABULARY:
                raise
            problems = problems or [error]
            settings = settings.model_copy(update={"vocabulary": settings.vocabulary // 2})
        else:
            return problems
