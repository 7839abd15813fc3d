"""A card that names a sibling tells how the two differ, by the numbers of both runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from firstwords import pipeline
from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.report.card import write_card
from firstwords.report.compared import Seed, accuracy, compare_all, difference_cells
from firstwords.reporter import Silent
from firstwords.run_folder import RunFolder

RESULT = ("grammar", "firstwords")


class Told(Silent):
    """Notes what became of each stage."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}

    def stage(self, name: str, state: str, note: str) -> None:
        self.states[name] = state


def carried_out(tiny_run: RunFolder, sibling: str, told: Told | None = None, name: str = "younger") -> RunFolder:
    """A run of three steps whose card is compared with another of its workspace."""
    changes = {"training.max-steps": "3", "export.compare-with": sibling, "evaluation.untrained-control": "false"}
    recipe = Recipe.load(tiny_run.path / "recipe.toml").override(changes)
    return pipeline.run(recipe, workspace=tiny_run.path.parent, name=name, offline=True, reporter=told)


@pytest.fixture(scope="module")
def younger(tiny_run: RunFolder) -> RunFolder:
    return carried_out(tiny_run, tiny_run.name)


@pytest.fixture(scope="module")
def section(younger: RunFolder, tiny_run: RunFolder) -> str:
    text = ModelCard.load(younger.stage("export") / "README.md").text
    return re.search(rf"## Compared with {tiny_run.name}\n(.*?)\n## ", text, re.DOTALL)[1]


def test_the_section_has_the_sentence_the_differences_and_the_facts_of_both(
    section: str, younger: RunFolder, tiny_run: RunFolder
) -> None:
    found = compare_all([[Seed.of_folder(run.name, run.path)] for run in (tiny_run, younger)], RESULT)
    assert " ".join(section.split()).startswith(f"**grammar.firstwords**: {found.sentences[0]}")
    assert f"### younger against {tiny_run.name}: `grammar.firstwords`, {found.first.overall.pairs:,} pairs" in section
    for row in found.first.phenomena:
        between, interval = difference_cells(row.difference)
        before = f"| {row.name.replace('_', ' ')} | {row.pairs:,} | {accuracy(row.a)} | {accuracy(row.b)} |"
        (line,) = (line for line in section.splitlines() if line.startswith(before))
        assert [cell.strip(" *") for cell in line[len(before) :].split("|")][:2] == [between, interval]
    steps = [f"{run.mark('training').facts['steps']:,}" for run in (tiny_run, younger)]
    assert f"| steps | {' | '.join(steps)} |" in section
    assert "McNemar" in section


def test_every_row_has_its_cells_and_the_head_is_of_this_run_alone(section: str, younger: RunFolder) -> None:
    for table in re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.strip().splitlines()}) == 1, table
    card = ModelCard.load(younger.stage("export") / "README.md")
    (result,) = card.data.eval_results
    assert result.metric_value == younger.result("grammar.firstwords")["overall"]["accuracy"]
    assert card.data.model_name == "younger"


def test_the_card_is_made_again_only_where_the_sibling_is_another(younger: RunFolder, tiny_run: RunFolder) -> None:
    carried_out(tiny_run, tiny_run.name, told := Told())
    assert set(told.states.values()) == {"kept"}
    mark = tiny_run.mark("evaluation")
    tiny_run.set_done("evaluation", "another fingerprint", mark.seconds, mark.facts)
    try:
        carried_out(tiny_run, tiny_run.name, told := Told())
    finally:
        tiny_run.set_done("evaluation", mark.fingerprint, mark.seconds, mark.facts)
    assert told.states["export"] == "done"
    assert {state for stage, state in told.states.items() if stage != "export"} == {"kept"}


def test_a_sibling_that_cannot_be_compared_is_refused_before_the_work(younger: RunFolder, tiny_run: RunFolder) -> None:
    unfinished = tiny_run.path.parent / "unfinished"
    unfinished.mkdir()
    (unfinished / "recipe.toml").write_text((tiny_run.path / "recipe.toml").read_text())
    for sibling, what in (("younge", "there is no run"), ("younger", "with itself"), ("unfinished", "no results yet")):
        with pytest.raises(FirstwordsError, match=what):
            carried_out(tiny_run, sibling)


def test_results_of_other_data_are_not_compared_and_the_card_says_so(
    younger: RunFolder, tiny_run: RunFolder, tmp_path: Path
) -> None:
    other = RunFolder(tmp_path / "a_b")
    path = other.path / "evaluation" / "grammar.firstwords.json"
    path.parent.mkdir(parents=True)
    text = (tiny_run.stage("evaluation") / "grammar.firstwords.json").read_text()
    digest = re.search(r'"sha256": "(\w+)"', text)[1]
    path.write_text(text.replace(digest, "0" * 64))
    pairs = "grammar.firstwords.pairs.csv"
    path.with_name(pairs).write_text((tiny_run.stage("evaluation") / pairs).read_text())
    write_card(younger, {}, tmp_path / "README.md", other)
    card = (tmp_path / "README.md").read_text()
    assert r"they cannot be compared: a\_b and younger were judged on different data" in card
    path.unlink()
    write_card(younger, {}, tmp_path / "README.md", other)
    assert "no test set and protocol in common" in (tmp_path / "README.md").read_text()
