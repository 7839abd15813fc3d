"""The command that measures a model: a run's, one of a folder, one of the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from firstwords.cli.options import NO_OPTIONS, DeviceName, RecipeOptions, RecipeSettings
from firstwords.cli.parsing import data_folders
from firstwords.cli.printing import print_columns, print_json
from firstwords.cli.results import print_accuracies, print_curves

if TYPE_CHECKING:
    from firstwords.assessment import TestSets
    from firstwords.reporter import Reporter
    from firstwords.run_folder import RunFolder


def evaluate(
    model: Annotated[
        str | None,
        Parameter(name="MODEL", help="A run, a recipe, the path of a Hugging Face folder, or owner/name on the Hub."),
    ] = None,
    /,
    *,
    suite: Annotated[
        tuple[str, ...],
        Parameter(
            help="Test set: a name (blimp, or with its protocol blimp.card), a collection such as babylm-2025, or the "
            "path of pairs of your own (.csv, .tsv, .jsonl). May be given again. A run's recipe names its own.",
            show_default=False,
            consume_multiple=False,
        ),
    ] = (),
    protocol: Annotated[
        tuple[str, ...],
        Parameter(
            help="How scores are told and judged; may be given again. Otherwise firstwords, for masked models pll.",
            show_default=False,
            consume_multiple=False,
        ),
    ] = (),
    checkpoint: Annotated[
        str | None, Parameter(help="Of a run: last, best, untrained or words-0001M. Otherwise every kept one.")
    ] = None,
    good: Annotated[str | None, Parameter(help="Column of the acceptable sentence in pairs of your own.")] = None,
    bad: Annotated[str | None, Parameter(help="Column of the other one.")] = None,
    by: Annotated[str | None, Parameter(help="Columns to group by, with commas: the first is the paradigm.")] = None,
    pair_id: Annotated[str | None, Parameter(help="Column that names a pair; the line's number otherwise.")] = None,
    device: DeviceName = "auto",
    allow_code: Annotated[
        bool, Parameter(help="Run Python code that comes with the model.", show_default=False)
    ] = False,
    list_: Annotated[
        bool, Parameter(name="--list", help="Describe all test sets and protocols.", show_default=False)
    ] = False,
    options: RecipeOptions = NO_OPTIONS,
    settings: RecipeSettings,
) -> None:
    """Measure a model on test sets: accuracies with intervals, everything that has no result yet.

    Of a run every kept checkpoint is measured. The name of a recipe that has no run yet makes the run first.
    """
    if list_:
        _list(as_json=options.json)
        return
    if model is None:
        from firstwords.errors import FirstwordsError

        raise FirstwordsError(
            "no model is named", where="firstwords evaluate MODEL", do="name a run, a model folder, or owner/name"
        )

    from firstwords.models import find_run_folder
    from firstwords.report.terminal import reporter

    run = find_run_folder(model, options.workspace)
    if settings or options.name is not None or options.seed is not None or (run is None and _is_recipe(model)):
        run = _make_run(model, options, settings)
    with reporter() as progress:
        tests = _test_sets(options, {"good": good, "bad": bad, "pair_id": pair_id}, by, progress)
        _check_columns(tests, suite)
        if run is not None:
            place, names = run, _assess_run(run, suite, protocol, checkpoint, device, tests, progress)
        else:
            place, names = _assess_other(
                model, suite or ("blimp",), protocol, checkpoint, device, allow_code, options, tests, progress
            )
    _show(place, names, as_json=options.json)


def _is_recipe(name: str) -> bool:
    from firstwords.recipe import bundled_names

    return name in bundled_names() or (name.endswith(".toml") and not Path(name).is_dir())


def _make_run(name: str, options: RecipeOptions, settings: dict[str, str]) -> RunFolder:
    from firstwords.cli.running import carry_out

    return carry_out("evaluation", name, options, settings)


def _test_sets(
    options: RecipeOptions,
    named: dict[str, str | None],
    by: str | None,
    progress: Reporter,
) -> TestSets:
    from firstwords.assessment import TestSets
    from firstwords.data.download import cache_folder
    from firstwords.evaluation.tasks.task import Lookup

    columns: dict[str, Any] = {key: value for key, value in named.items() if value is not None}
    if by:
        columns["by"] = tuple(column.strip() for column in by.split(","))
    lookup = Lookup(data_folders(options.data), cache_folder(), options.offline, progress.say)
    return TestSets(lookup, columns)


def _check_columns(tests: TestSets, suites: Sequence[str]) -> None:
    """Refuse columns where no file of one's own is measured: what is asked for would not be there."""
    if not tests.columns or any(Path(name).exists() for name in suites):
        return
    from firstwords.errors import FirstwordsError

    options = ", ".join(f"--{name.replace('_', '-')}" for name in tests.columns)
    raise FirstwordsError(
        "columns are named of a file, and no file of pairs is to be measured",
        where=options,
        do="give the file with --suite, or leave the columns out",
    )


def _assess_run(
    run: RunFolder,
    suites: Sequence[str],
    protocols: Sequence[str],
    checkpoint: str | None,
    device: str,
    tests: TestSets,
    progress: Reporter,
) -> list[str]:
    """Measure one checkpoint of a run, or all that are kept; returns the names of the results."""
    from functools import partial

    from firstwords.assessment import Asked, assess, expand, write_learning_ages
    from firstwords.models import checkpoint_identity, checkpoints_of, open_run, selected
    from firstwords.recipe import Recipe

    recipe = Recipe.load(run.path / "recipe.toml")
    own = [Asked.parse(named) for named in recipe.evaluation.suites]
    if protocols:
        suites = suites or tuple(dict.fromkeys(asked.test for asked in own))
    chosen = selected(run)
    if checkpoint is not None:
        checkpoints = [checkpoint]
    else:
        kept = [name for name in checkpoints_of(run) if name.startswith("words-")]
        control = ["untrained"] if recipe.evaluation.untrained_control else []
        checkpoints = [chosen, *control, *kept]
    names = []
    for one in checkpoints:
        # A collection may have smaller sets for the checkpoints on the way.
        fast = one.startswith("words-")
        asked = expand(suites, protocols, tests, masked=False, fast=fast) if suites else own
        names += assess(
            partial(open_run, run, one, device=device),
            asked,
            tests,
            run,
            identity=checkpoint_identity(run, one),
            prefix="" if one == chosen else f"{one}.",
            training_text=run.stage("corpus") / "train.txt",
            reporter=progress,
        )
        for line in write_learning_ages(run, tests, asked) if one == checkpoints[-1] else ():
            progress.say(line)
    return names


def _assess_other(
    model: str,
    suites: Sequence[str],
    protocols: Sequence[str],
    checkpoint: str | None,
    device: str,
    allow_code: bool,
    options: RecipeOptions,
    tests: TestSets,
    progress: Reporter,
) -> tuple[RunFolder, list[str]]:
    """Measure a model that no run made; its results lie in the workspace's folder `evaluated`."""
    from firstwords.assessment import assess, expand
    from firstwords.models import find_subject

    found = find_subject(
        model,
        workspace=options.workspace,
        checkpoint=checkpoint,
        device=device,
        allow_code=allow_code,
        offline=options.offline,
        say=progress.say,
    )
    subject = found.open()
    asked = expand(suites, protocols, tests, masked=subject.masked)
    names = assess(lambda: subject, asked, tests, found.place, identity=found.identity, reporter=progress)
    return found.place, names


def _show(place: RunFolder, names: Sequence[str], *, as_json: bool) -> None:
    from firstwords.report.results import ModelResults, checkpoint_of, read_results

    if as_json:
        print_json({name: place.result(name) for name in names})
        return
    shown = []
    for checkpoint in (None, "best", "last", "ema"):
        asked = {name for of, name in map(checkpoint_of, names) if of == checkpoint}
        evaluations, measures = read_results(place, checkpoint) if asked else ({}, {})
        shown.append(
            ModelResults(
                f"{place.name} {checkpoint}" if checkpoint else place.name,
                {name: found for name, found in evaluations.items() if name in asked},
                {name: found for name, found in measures.items() if name in asked},
            )
        )
    print_accuracies([shown[0], *(one for one in shown[1:] if one.evaluations or one.measures)])
    kept = {name for of, name in map(checkpoint_of, names) if of is not None}
    print_curves(place, sorted(kept))
    print()
    print_columns([("results", str(place.stage("evaluation")))])


def _list(*, as_json: bool) -> None:
    """All test sets with what they measure, all collections, all protocols."""
    from firstwords.evaluation.protocols import PROTOCOLS
    from firstwords.evaluation.tasks import collection_names, find_collection, find_task, task_names
    from firstwords.evaluation.tasks.task import PairsTask

    tasks = [find_task(name) for name in task_names()]
    collections = {
        name: [test for test, _ in find_collection(name).members(fast=False, masked=False)]
        for name in collection_names()
    }
    if as_json:
        print_json(
            {
                "test_sets": [
                    {
                        "name": task.name,
                        "title": task.title,
                        "measures": task.measures,
                        "license": task.license,
                        "citation": task.citation,
                        "protocols": None if isinstance(task, PairsTask) else dict(task.protocols),
                    }
                    for task in tasks
                ],
                "collections": collections,
                "protocols": {name: protocol.statement for name, protocol in PROTOCOLS.items()},
            }
        )
        return
    print("Test sets of minimal pairs, each under any protocol:")
    print_columns([("  " + task.name, task.measures) for task in tasks if isinstance(task, PairsTask)], wrap=True)
    print("\nOther tasks, with their own protocols:")
    print_columns(
        [
            ("  " + task.name, f"{task.measures} [{', '.join(task.protocols)}]")
            for task in tasks
            if not isinstance(task, PairsTask)
        ],
        wrap=True,
    )
    print("\nCollections:")
    print_columns([("  " + name, ", ".join(tests)) for name, tests in collections.items()], wrap=True)
    print("\nProtocols:")
    print_columns([("  " + name, protocol.statement) for name, protocol in PROTOCOLS.items()], wrap=True)
    print("\nPairs of your own: --suite FILE.csv --good COLUMN --bad COLUMN --by COLUMN,COLUMN")
