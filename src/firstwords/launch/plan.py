"""What a run would do, before it does it: stages, steps, tokens, words, memory, time on this machine, and warnings.

Counts are exact where the text can be made in seconds, and then they are those of the run to the last step; of larger
budgets a sample is made and the counts are called "about". Times are measured on this machine with the real model.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from firstwords.assessment import Asked, TestSets
from firstwords.errors import FirstwordsError
from firstwords.evaluation.tasks.task import Lookup
from firstwords.identity import STAGES, find_inputs, stage_fingerprints
from firstwords.launch.remarks import Remark, remarks_on
from firstwords.launch.trial import Trial, find_trial, make_trial
from firstwords.model.cost import ModelCost, training_flops_per_token
from firstwords.recipe import Recipe
from firstwords.run_folder import runs_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from firstwords.evaluation.pairs import Suite
    from firstwords.tokens.batches import Batches
    from firstwords.training.devices import Device

_EXPORT_SECONDS = 5.0
"""Steps of which the largest is taken for the largest of the run."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage: what it would take, or which run of the workspace has done it."""

    name: str
    seconds: float | None
    """None where it was not measured."""
    done_by: str | None


@dataclass(frozen=True, slots=True)
class TextPlan:
    """Corpus, tokenizer and tokens."""

    train_bytes: int
    train_words: int
    dev_bytes: int
    dev_words: int
    vocabulary: int
    """Ids of the model: what BPE learns, and the special tokens."""
    tokens_per_word: float
    tokens: int
    """Of the training text: an epoch."""
    examples: int
    dev_tokens: int
    positions_by_the_usual_way: int | None
    """Positions that an epoch would compute if every line were padded to the context; None for packed rows."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Steps and what they cost."""

    steps: int
    epochs: float
    rows_per_step: int
    tokens_per_step: int
    tokens: int
    """All that pass the model, repeats counted."""
    words_seen: int
    parameters: int
    flops: float
    device: str
    precision: str
    gradient_checkpointing: bool
    memory_bytes: int
    """Predicted peak of the process."""
    free_memory_bytes: int
    tokens_per_second: float | None
    measured_peak_bytes: int | None
    """What the process held at most while a few steps were measured; a whole run comes to hold more."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `firstwords run` would do with a recipe on this machine."""

    name: str
    description: str
    sources: tuple[str, ...]
    exact: bool
    """Whether text, tokens and steps are those of the run, or about."""
    text: TextPlan
    training: TrainingPlan
    suites: dict[str, int | None]
    """Pairs of each `<suite>.<protocol>`; None where the test set is not on this machine yet."""
    stages: tuple[StagePlan, ...]
    remarks: tuple[Remark, ...]

    @property
    def seconds(self) -> float | None:
        """Time of all stages that are not done; None where one was not measured."""
        left = [stage.seconds for stage in self.stages if stage.done_by is None]
        return None if None in left else sum(second for second in left if second is not None)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return asdict(self) | {"seconds": self.seconds}

    def __str__(self) -> str:
        from firstwords.launch.plan_text import plan_lines

        return "\n".join(plan_lines(self))


def make_plan(
    recipe: Recipe,
    data: Sequence[Path] = (),
    cache: Path | None = None,
    *,
    workspace: Path = Path("runs"),
    offline: bool = False,
    measure: bool = True,
    say: Callable[[str], None] | None = None,
) -> Plan:
    """Find the recipe's texts, count them, and measure this machine for some seconds.

    data: folders in which sources and test sets are looked for. Texts that are not there are downloaded into `cache` as
    the run would; test sets are not. workspace: runs there may have done some stages; it is only read.
    measure: False leaves out the times. Raises FirstwordsError for texts that are not to be had and for settings with
    which no stage can begin; what would stop the run later is among the plan's remarks.
    """
    from firstwords.data.download import cache_folder
    from firstwords.training.devices import choose_device

    say = say or (lambda _: None)
    cache = cache or cache_folder()
    inputs = find_inputs(recipe, data, cache, offline=offline, say=say)
    fingerprints = stage_fingerprints(recipe, inputs.checksums)
    device = choose_device(recipe.training)
    with tempfile.TemporaryDirectory(prefix="firstwords-plan-") as temporary:
        trial = find_trial(fingerprints, workspace)
        if trial is None:
            say("making text and tokenizer, to count tokens")
            trial = make_trial(recipe, inputs, Path(temporary))
        text = _text_plan(recipe, trial)
        training = _training_plan(recipe, text, trial, device)
        seconds: dict[str, float | None] = dict.fromkeys(STAGES)
        seconds |= {stage: taken / trial.share for stage, taken in trial.seconds.items()}
        suites = _find_suites(recipe, data, cache)
        problems = list(trial.problems)
        if measure:
            say(f"measuring this machine's {device.kind} in {device.precision} for some seconds")
            training, seconds["training"] = _with_speed(recipe, text, training, trial, device)
            seconds["evaluation"], found = _evaluation(recipe, trial, suites)
            problems += found
            seconds["export"] = _EXPORT_SECONDS
        return Plan(
            name=recipe.name,
            description=recipe.description,
            sources=tuple(recipe.corpus.sources),
            exact=trial.exact,
            text=text,
            training=training,
            suites={str(asked): len(suite.pairs) if suite else None for asked, suite in suites.items()},
            stages=tuple(StagePlan(s, seconds[s], _done_by(s, fingerprints[s], workspace)) for s in STAGES),
            remarks=remarks_on(recipe, inputs, trial, text, training, problems),
        )


def _done_by(stage: str, fingerprint: str, workspace: Path) -> str | None:
    return next((run.name for run in runs_in(workspace) if run.is_done(stage, fingerprint)), None)


def _text_plan(recipe: Recipe, trial: Trial) -> TextPlan:
    corpus = trial.corpus()
    train, dev = trial.scaled_facts("train"), trial.scaled_facts("dev")
    specials = {recipe.tokenizer.bos, recipe.tokenizer.eos, recipe.tokenizer.pad}
    lines = recipe.tokens.examples == "lines"
    return TextPlan(
        train_bytes=round(corpus["train"]["bytes"] / trial.share),
        train_words=train.words,
        dev_bytes=dev.text_bytes,
        dev_words=dev.words,
        vocabulary=recipe.tokenizer.vocabulary + len(specials),
        tokens_per_word=trial.fertility()["tokens_per_word"],
        tokens=train.tokens,
        examples=train.examples,
        dev_tokens=dev.tokens,
        positions_by_the_usual_way=train.examples * recipe.tokens.context if lines else None,
    )


def _batches(recipe: Recipe, trial: Trial, *, scaled: bool) -> Batches:
    """The batches of the run. scaled: with the counts of the whole text, to count steps; else those that were made."""
    from firstwords.tokens.batches import Batches

    tokens = trial.token_file("train")
    if scaled:
        tokens.facts = trial.scaled_facts("train")
    return Batches(tokens, recipe.tokens, recipe.training, recipe.seed)


def _context(recipe: Recipe, trial: Trial) -> float:
    """Tokens of the sequence that a token stands in, on the mean over the tokens of a step."""
    lengths = [len(sequence.ids) - 1 for sequence in _batches(recipe, trial, scaled=False).step(0).sequences]
    return sum(length**2 for length in lengths) / max(sum(lengths), 1)


def _training_plan(recipe: Recipe, text: TextPlan, trial: Trial, device: Device) -> TrainingPlan:
    from firstwords.training.loop import wants_checkpointing
    from firstwords.training.micro_batch import known_micro_tokens

    batches, settings = _batches(recipe, trial, scaled=True), recipe.training
    lines = recipe.tokens.examples == "lines"
    tokens_per_epoch = text.tokens if lines else batches.rows_per_epoch * recipe.tokens.context
    epochs = batches.epochs_done(batches.steps)
    tokens = round(epochs * tokens_per_epoch)
    largest = _batches(recipe, trial, scaled=False).large_step().tokens
    checkpointing = wants_checkpointing(recipe, text.vocabulary, largest, device)
    micro_tokens = known_micro_tokens(recipe, text.vocabulary, device) or device.micro_tokens
    return TrainingPlan(
        steps=batches.steps,
        epochs=epochs,
        rows_per_step=settings.batch_size * settings.accumulation,
        tokens_per_step=round(tokens / batches.steps),
        tokens=tokens,
        words_seen=batches.words_seen(batches.steps),
        parameters=ModelCost.of(recipe.model, text.vocabulary).parameters,
        flops=tokens * training_flops_per_token(recipe.model, text.vocabulary, _context(recipe, trial)),
        device=device.kind,
        precision=device.precision,
        gradient_checkpointing=checkpointing,
        memory_bytes=_memory_bytes(recipe, text, trial, device, micro_tokens, checkpointing=checkpointing),
        free_memory_bytes=device.free_memory_bytes(),
        tokens_per_second=None,
        measured_peak_bytes=None,
    )


def _memory_bytes(
    recipe: Recipe, text: TextPlan, trial: Trial, device: Device, micro_tokens: int, *, checkpointing: bool
) -> int:
    """What training would hold, the process itself (Python, PyTorch) included."""
    from firstwords.training.memory import predicted_bytes

    process_bytes = 0 if device.kind == "cuda" else psutil.Process().memory_info().rss
    return process_bytes + predicted_bytes(
        *(recipe, text.vocabulary, device, micro_tokens),
        step_tokens=_batches(recipe, trial, scaled=False).large_step().tokens,
        checkpointing=checkpointing,
    )


def _with_speed(
    recipe: Recipe, text: TextPlan, training: TrainingPlan, trial: Trial, device: Device
) -> tuple[TrainingPlan, float]:
    """The training's plan with what was measured, and the seconds that the stage would take."""
    from firstwords.launch.measure import measure_training

    speed = measure_training(
        recipe,
        text.vocabulary,
        _batches(recipe, trial, scaled=False),
        device,
        checkpointing=training.gradient_checkpointing,
    )
    step_seconds = speed.seconds_per_step + training.tokens_per_step * speed.seconds_per_token
    every = recipe.training.eval_every_steps
    dev_losses = math.ceil(training.steps / every if every else training.epochs)
    # The forward pass is a third of the work of a training step.
    dev_seconds = dev_losses * text.dev_tokens * speed.seconds_per_token / 3
    measured = replace(
        training,
        tokens_per_second=training.tokens_per_step / step_seconds,
        memory_bytes=_memory_bytes(
            recipe, text, trial, device, speed.micro_tokens, checkpointing=training.gradient_checkpointing
        ),
        measured_peak_bytes=speed.peak_memory_bytes,
    )
    return measured, training.steps * step_seconds + dev_seconds


def _find_suites(recipe: Recipe, data: Sequence[Path], cache: Path) -> dict[Asked, Suite | None]:
    """Every suite of the recipe; None for what is not on this machine, as a plan downloads no test sets."""
    from firstwords.evaluation.tasks import task_names

    tests = TestSets(Lookup(data, cache, offline=True))
    found: dict[Asked, Suite | None] = {}
    for asked in map(Asked.parse, recipe.evaluation.suites):
        try:
            found[asked] = tests.pairs(asked.test)
        except FirstwordsError:
            if asked.test not in task_names():
                raise
            found[asked] = None
    return found


def _evaluation(
    recipe: Recipe, trial: Trial, suites: Mapping[Asked, Suite | None]
) -> tuple[float | None, list[FirstwordsError]]:
    """Seconds to score all suites, None where one cannot be measured, and what would stop the evaluation."""
    from firstwords.evaluation.judging import check_lengths
    from firstwords.evaluation.protocols import find_protocol
    from firstwords.evaluation.reader import Reader
    from firstwords.launch.measure import measure_scoring

    problems: list[FirstwordsError] = []
    seconds = 0.0
    vocabulary = trial.vocabulary()
    for test in dict.fromkeys(asked.test for asked in suites):
        of_test = {asked.protocol: suite for asked, suite in suites.items() if asked.test == test}
        suite = next(iter(of_test.values()))
        if suite is None:
            continue
        try:
            for protocol in of_test:
                check_lengths(suite, find_protocol(protocol), Reader.of(vocabulary), recipe.model.positions)
            seconds += measure_scoring(recipe, vocabulary, suite, list(of_test))
        except FirstwordsError as error:
            problems.append(error)
    if recipe.evaluation.untrained_control:
        seconds *= 2
    return None if None in suites.values() or problems else seconds, problems
