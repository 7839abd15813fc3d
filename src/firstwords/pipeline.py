"""The stages in their order: the only file that knows them all.

corpus -> tokenizer -> tokens -> training -> evaluation -> export, and the report after them. A stage is done when its
mark holds the fingerprint of its settings and of what it reads; then it is not made again. A stage that another run of
the workspace has made from the same settings is taken over.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from firstwords.assessment import Asked, TestSets, assess, number_of, shown
from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.evaluation.tasks.task import Lookup
from firstwords.identity import (
    STAGES,
    Inputs,
    differing_setting,
    environment,
    find_inputs,
    identity_settings,
    stage_fingerprints,
)
from firstwords.models import EVALUATED, checkpoint_identity, load_model, open_run, surprisals_of
from firstwords.recipe import NAME_PATTERN, Recipe
from firstwords.reporter import Reporter, Silent
from firstwords.run_folder import (
    RunFolder,
    atomic_folder,
    atomic_write_json,
    atomic_write_text,
    claim_run,
    find_run,
    fingerprint_of,
    read_json,
    sha256_of,
)
from firstwords.tests_ahead import TestsAhead

if TYPE_CHECKING:
    from firstwords.training.loop import TrainingResult


class Trainer(Protocol):
    """Who trains a run whose tokens are made: `training.loop.train`, or what stands for it."""

    def __call__(
        self, recipe: Recipe, vocabulary: int, tokens: Path, folder: Path, *, reporter: Reporter | None = None
    ) -> TrainingResult:
        """The finished training; raises what `training.loop.train` raises."""
        ...


REPORT = "report"
"""What may come after the last stage: the page of all that the run knows. It is no stage, for nothing rests on it."""


@dataclass(frozen=True, slots=True)
class Job:
    """A recipe being carried out in its run folder."""

    recipe: Recipe
    run: RunFolder
    inputs: Inputs | None
    fingerprints: Mapping[str, str]
    reporter: Reporter
    tests: TestSets
    train: Trainer | None = None
    sibling: RunFolder | None = None
    """The run with which the card compares this one."""

    @property
    def asked(self) -> list[Asked]:
        """What the recipe wants to be measured."""
        return [Asked.parse(named) for named in self.recipe.evaluation.suites]

    def is_done(self, stage: str) -> bool:
        """Whether the run has this stage with these settings and inputs."""
        return self.run.is_done(stage, self.fingerprints[stage])


def run(
    recipe: Recipe,
    *,
    workspace: Path | str = Path("runs"),
    name: str | None = None,
    data: Sequence[Path | str] = (),
    until: str = "export",
    offline: bool = False,
    train: Trainer | None = None,
    reporter: Reporter | None = None,
) -> RunFolder:
    """Carry out every stage of a recipe that is not done, up to `until`, and return the run's folder.

    until: a stage, or "report" for all of them and the page of the run after them.
    data: folders in which sources and test sets are looked for before they are downloaded. train: who trains, such as
    `launch.launchers.Torchrun`; `training.loop.train` in this process where not given.
    Raises FirstwordsError for what a user can mend, and training.loop.Interrupted after Ctrl-C; the same call goes on.
    """
    reporter = reporter or Silent()
    known = (*STAGES, REPORT)
    if until not in known:
        raise FirstwordsError(
            f"there is no stage '{until}'", where="until", do=did_you_mean(until, known) or ", ".join(known)
        )
    wanted = STAGES[: known.index(until) + 1]
    job = _prepare(recipe, Path(workspace), name, [Path(folder) for folder in data], offline, reporter)
    job = replace(job, train=train)
    if "export" in wanted:
        job = _with_sibling(job)
    with job.run.locked():
        _write_recipe(job)
        tests = TestsAhead(job.run, job.tests, job.asked, job.fingerprints["tokenizer"], recipe.model.positions)
        is_ready = "evaluation" not in wanted or job.is_done("evaluation") or tests.were_read()
        if not is_ready:
            tests.read()
        for stage in wanted:
            if stage == "training" and not (is_ready or job.is_done(stage)):
                tests.check_lengths()
            _carry_out(job, stage)
        if until == REPORT:
            _report(job)
    return job.run


def _check_name(name: str) -> None:
    """Refuse a run that would lie elsewhere, or where the results of other models are kept."""
    if re.fullmatch(NAME_PATTERN, name) and name != EVALUATED:
        return
    raise FirstwordsError(
        f"'{name}' cannot be the name of a run",
        where="--name",
        do=f"take letters, digits, dots, hyphens and underscores, and not '{EVALUATED}'; --workspace names the folder",
    )


def _prepare(
    recipe: Recipe, workspace: Path, name: str | None, data: Sequence[Path], offline: bool, reporter: Reporter
) -> Job:
    from firstwords.data.download import cache_folder
    from firstwords.data.folders import check

    check(data)
    _check_name(recipe.name if name is None else name)
    settings, cache = identity_settings(recipe), cache_folder()
    problem: FirstwordsError | None = None
    inputs: Inputs | None = None
    try:
        inputs = find_inputs(recipe, data, cache, offline=offline, say=reporter.say)
    except FirstwordsError as error:
        # A run whose corpus is made no longer needs the sources it was made from.
        problem = error
    checksums = inputs.checksums if inputs else None

    def difference(found: RunFolder) -> str | None:
        facts = found.facts()
        if checksums is not None and facts.get("inputs", checksums) != checksums:
            return "its texts were others"
        return differing_setting(settings, facts.get("identity", {}))

    run = claim_run(recipe.name if name is None else name, workspace, exact=name is not None, same=difference)
    if problem is not None and (run.mark("corpus") is None or "inputs" not in run.facts()):
        raise problem
    recorded = checksums if checksums is not None else run.facts()["inputs"]
    tests = TestSets(Lookup(data, cache, offline, reporter.say))
    return Job(recipe, run, inputs, stage_fingerprints(recipe, recorded), reporter, tests)


def _with_sibling(job: Job) -> Job:
    """The job with the run that its card is to be compared with; another result of that one makes another card."""
    name = job.recipe.export.compare_with
    if name is None:
        return job
    sibling, where = find_run(name, job.run.path.parent), "export.compare-with"
    if sibling.path.resolve() == job.run.path.resolve():
        raise FirstwordsError("a run cannot be compared with itself", where=where, do="name another run")
    mark = sibling.mark("evaluation")
    if mark is None:
        raise FirstwordsError(
            f"the run '{name}' has no results yet that the card could compare this one with",
            where=where,
            do=f"finish it with `firstwords run {name}`, or name another run",
        )
    export = fingerprint_of(job.fingerprints["export"], sibling.name, mark.fingerprint)
    return replace(job, sibling=sibling, fingerprints={**job.fingerprints, "export": export})


def _write_recipe(job: Job) -> None:
    """recipe.toml and run.json: what is to be done, from what, and on what machine."""
    facts = {
        "identity": identity_settings(job.recipe),
        "inputs": job.inputs.checksums if job.inputs else job.run.facts()["inputs"],
        "environment": environment(),
    }
    atomic_write_json(job.run.path / "run.json", facts)
    atomic_write_text(job.run.path / "recipe.toml", job.recipe.to_toml())


def _carry_out(job: Job, stage: str) -> None:
    run, fingerprint = job.run, job.fingerprints[stage]
    if job.is_done(stage):
        job.reporter.stage(stage, "kept", "")
        return
    if stage not in ("evaluation", "export"):
        sibling = run.adopt(stage, fingerprint, partial(_is_whole, stage))
        if sibling is not None:
            job.reporter.stage(stage, "taken over", f"from {sibling.name}")
            return
    job.reporter.stage(stage, "running", "")
    run.unset_done(stage)
    started = time.monotonic()
    make = {
        "corpus": _corpus,
        "tokenizer": _tokenizer,
        "tokens": _tokens,
        "training": _training,
        "evaluation": _evaluation,
        "export": _export,
    }[stage]
    try:
        facts, note = make(job)
    except OSError as error:
        raise _file_problem(error, stage) from error
    seconds = time.monotonic() - started
    run.set_done(stage, fingerprint, seconds, facts)
    job.reporter.stage(stage, "done", f"{note}, {seconds:.1f} s")


def _is_whole(stage: str, folder: Path) -> bool:
    """Whether text and tokens that another run has made still have their checksums."""
    from firstwords.tokens.encoding import TokenFile

    try:
        if stage == "corpus":
            facts = read_json(folder / "corpus.json")
            return all(sha256_of(folder / f"{part}.txt") == facts[part]["sha256"] for part in ("train", "dev"))
        if stage == "tokens":
            for part in ("train", "dev"):
                TokenFile(folder, part).verify()
    except (OSError, ValueError, KeyError, FirstwordsError):
        return False
    return True


def _file_problem(error: OSError, stage: str) -> FirstwordsError:
    return FirstwordsError(
        f"the {stage} stage cannot use a file: {error.strerror or error}",
        where=str(error.filename or stage),
        do="free space or mend the permissions and run again: it goes on where it stopped",
    )


def _corpus(job: Job) -> tuple[dict[str, Any], str]:
    from firstwords.corpus.mixing import make_corpus

    if job.inputs is None:
        raise FirstwordsError("the corpus must be made anew, and its sources are not there", where="corpus.sources")
    with atomic_folder(job.run.stage("corpus")) as new:
        facts = make_corpus(job.recipe.corpus, job.inputs.sources, job.inputs.dev_path, job.recipe.seed, new)
    train = facts["train"]
    return {"train": train, "dev": facts["dev"]}, f"{train['bytes']:,} bytes, {train['words']:,} words"


def _tokenizer(job: Job) -> tuple[dict[str, Any], str]:
    from firstwords.tokens.tokenizer import learn_tokenizer

    text = job.run.stage("corpus") / "train.txt"
    recipe = job.recipe
    with atomic_folder(job.run.stage("tokenizer")) as new:
        facts = learn_tokenizer(recipe.tokenizer, recipe.tokens, text, new, max_length=recipe.model.positions)
    if facts["unencodable_bytes"]:
        job.reporter.say(
            f"warning: {facts['unencodable_bytes']} of the 256 bytes are in no token; characters that need them vanish "
            "(tokenizer.all-bytes = true keeps them)"
        )
    return facts, f"{facts['vocabulary']:,} tokens, {facts['tokens_per_word']:.2f} a word"


def _tokens(job: Job) -> tuple[dict[str, Any], str]:
    from firstwords.tokens.encoding import encode_corpus

    with atomic_folder(job.run.stage("tokens")) as new:
        facts = encode_corpus(job.run.stage("corpus"), job.recipe.tokens, _vocabulary(job), new)
    train = facts["train"]
    return {name: asdict(value) for name, value in facts.items()}, f"{train.tokens:,} in {train.examples:,} examples"


def _training(job: Job) -> tuple[dict[str, Any], str]:
    from firstwords.tokens.encoding import TokenFile
    from firstwords.training.loop import train

    folder, fingerprint = job.run.stage("training"), job.fingerprints["training"]
    begun = folder / "fingerprint"
    if begun.exists() and begun.read_text() != fingerprint:
        # Another version of the tool began it; what it computed is kept, but not built upon.
        folder.rename(folder.with_name(f"training.old-{begun.read_text()[:8]}"))
    atomic_write_text(begun, fingerprint)
    for name in ("train", "dev"):
        TokenFile(job.run.stage("tokens"), name).verify()
    trainer: Trainer = job.train or train
    result = trainer(job.recipe, _vocabulary(job).size, job.run.stage("tokens"), folder, reporter=job.reporter)
    note = f"{result.steps:,} steps, dev loss {result.last_dev_loss:.3f} (best {result.best_dev_loss:.3f})"
    return asdict(result) | {"environment": environment()}, note


def _evaluation(job: Job) -> tuple[dict[str, Any], str]:
    """Measure what has no result yet; each checkpoint is loaded once, and only if it is needed."""
    recipe = job.recipe
    checkpoints = {"": recipe.training.select} | (
        {"untrained.": "untrained"} if recipe.evaluation.untrained_control else {}
    )
    names = []
    for prefix, checkpoint in checkpoints.items():
        names += assess(
            partial(open_run, job.run, checkpoint),
            job.asked,
            job.tests,
            job.run,
            identity=checkpoint_identity(job.run, checkpoint),
            prefix=prefix,
            training_text=job.run.stage("corpus") / "train.txt",
            reporter=job.reporter,
        )
    overall = {name: number_of(job.run.result(name)) for name in names}
    notes = [f"{name} {shown(job.run.result(name))}" for name in overall]
    return {"overall": overall}, ", ".join(notes) or "no suites"


def _export(job: Job) -> tuple[dict[str, Any], str]:
    from firstwords.model.generation import generate
    from firstwords.model.hub import save_folder
    from firstwords.report.card import write_card

    model, vocabulary = load_model(job.run, job.recipe.training.select)
    recipe = job.recipe
    samples = {
        prompt: generate(model, vocabulary, prompt, add_bos=recipe.tokens.add_bos, seed=recipe.seed)
        for prompt in recipe.export.prompts
    }
    with atomic_folder(job.run.stage("export")) as new:
        save_folder(model, vocabulary, job.run.stage("tokenizer"), new)
        shutil.copyfile(job.run.stage("training") / "losses.csv", new / "losses.csv")
        write_card(job.run, samples, new / "README.md", job.sibling)
    return {"samples": samples}, str(job.run.stage("export"))


def _report(job: Job) -> None:
    """Write report.html where the run has gone on since; without the packages that draw, the run is done too."""
    from firstwords.report.page import write_report

    path, started = job.run.path / "report.html", time.monotonic()
    marks = (job.run.path / "done").glob("*.json")
    if path.is_file() and all(mark.stat().st_mtime <= path.stat().st_mtime for mark in marks):
        job.reporter.stage(REPORT, "kept", "")
        return
    job.reporter.stage(REPORT, "running", "")
    try:
        written = write_report(job.run, surprisals_of(job.run))
    except OSError as error:
        raise _file_problem(error, REPORT) from error
    except FirstwordsError as error:
        job.reporter.stage(REPORT, "left out", f"{error.what}: {error.do}")
        return
    for problem in written.problems:
        job.reporter.say(f"warning: {problem}")
    job.reporter.stage(REPORT, "done", f"{path}, {time.monotonic() - started:.1f} s")


def _vocabulary(job: Job) -> Any:
    from firstwords.tokens.tokenizer import Vocabulary

    return Vocabulary.load(job.run.stage("tokenizer"))
