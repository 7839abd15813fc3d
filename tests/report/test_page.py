from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from firstwords import pipeline
from firstwords.cli import reporting
from firstwords.errors import FirstwordsError
from firstwords.models import surprisals_of
from firstwords.recipe import Recipe, bundled_names
from firstwords.report.page import write_report
from firstwords.report.page_pairs import ScoredPair, hardest, most_surprising
from firstwords.report.page_parts import Cell, table
from firstwords.report.page_recipe import recipe_blocks
from firstwords.report.page_training import energy_watt_hours
from firstwords.reporter import Silent
from firstwords.run_folder import RunFolder

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
PARTS = ("recipe", "corpus", "tokenizer", "training", "results", "tasks", "samples", "cost")


class Page(HTMLParser):
    """The elements of a page, its text, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self._open == "script" else self.words).append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


@pytest.fixture
def run(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    shutil.copytree(tiny_run.path, tmp_path / "tiny")
    return RunFolder(tmp_path / "tiny")


def page_of(run: RunFolder) -> Page:
    return Page((run.path / "report.html").read_text(encoding="utf-8"))


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def test_a_finished_run_has_every_part_and_its_numbers(run: RunFolder) -> None:
    report = write_report(run)
    page, result = page_of(run), run.result("grammar.firstwords")
    assert report.problems == ()
    assert [value for value in page.values("id") if value in PARTS] == list(PARTS)
    overall = result["overall"]
    assert f"Overall {100 * overall['accuracy']:.1f}% right" in page.text
    for name, one in result["paradigms"].items():
        assert name in page.text
        assert f"{100 * one['low']:.1f} to {100 * one['high']:.1f}" in page.text
    assert f"{run.mark('training').facts['words_seen']:,} words" in page.text
    assert "A model of the tests" in page.text
    assert next(iter(run.mark("export").facts["samples"].values())).split("\n")[0] in "".join(page.words)


def test_the_page_is_small_and_asks_no_network(run: RunFolder) -> None:
    report = write_report(run)
    page = page_of(run)
    assert report.size_bytes < 3_000_000
    assert report.size_bytes == report.path.stat().st_size
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert page.values("src") == []
    assert all(link.startswith(("#", "charts/")) for link in page.values("href"))
    assert "@import" not in report.path.read_text()
    assert "url(" not in report.path.read_text()


def test_the_policy_allows_the_one_script_of_the_page_and_nothing_else(run: RunFolder) -> None:
    write_report(run)
    page = page_of(run)
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    policy = next(value for value in page.values("content") if "default-src" in value)
    assert page.tags.count("script") == 1
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert not any(name.startswith("on") for name, _ in page.attributes)


def test_links_lead_to_files_that_are_there(run: RunFolder) -> None:
    report = write_report(run)
    links = [link for link in page_of(run).values("href") if link.startswith("charts/")]
    assert sorted(report.charts) == sorted(run.path / link for link in links)
    assert {path.suffix for path in report.charts} == {".svg", ".png", ".pdf"}
    assert all(path.stat().st_size > 1000 for path in report.charts)


def test_hostile_text_of_a_run_stays_text(run: RunFolder) -> None:
    recipe = (run.path / "recipe.toml").read_text()
    (run.path / "recipe.toml").write_text(recipe.replace("A model of the tests", HOSTILE))
    change_json(run.path / "done" / "export.json", lambda mark: mark["facts"]["samples"].update({HOSTILE: HOSTILE}))
    change_json(run.path / "done" / "training.json", lambda mark: mark["facts"]["environment"].update(system=HOSTILE))

    def rename(values: dict) -> None:
        values["statement"] = HOSTILE
        values["notes"] = [HOSTILE]
        values["paradigms"] = {HOSTILE + name: one for name, one in values["paradigms"].items()}
        values["phenomena"] = {HOSTILE + name: one for name, one in values["phenomena"].items()}

    change_json(run.path / "evaluation" / "grammar.firstwords.json", rename)
    pairs = run.path / "evaluation" / "grammar.firstwords.pairs.csv"
    with pairs.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with pairs.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(
            row | {"uid": HOSTILE + row["uid"], "pair_id": HOSTILE, "good": HOSTILE, "bad": HOSTILE} for row in rows
        )

    def drop(values: dict) -> None:
        values["sources"]["wiki"].update(license=HOSTILE, origin=HOSTILE)
        values["sources"]["wiki"]["dropped"]["lines"] = {HOSTILE: 3}

    change_json(run.path / "corpus" / "corpus.json", drop)
    dropped = {"what": "line", "source": "wiki", "place": HOSTILE, "rule": HOSTILE, "reason": HOSTILE, "text": HOSTILE}
    (run.path / "corpus" / "dropped.jsonl").write_text(json.dumps(dropped) + "\n")
    (run.path / "corpus" / "dev.txt").write_text(HOSTILE + "\n")
    train = (run.path / "corpus" / "train.txt").read_bytes()
    (run.path / "corpus" / "train.txt").write_bytes((HOSTILE.encode() + b"\n") * (len(train) // len(HOSTILE)))
    hostile = RunFolder(run.path.rename(run.path.with_name("<img src=x onerror=alert(3)>")))

    report = write_report(hostile, lambda texts: [[(text[:9], 1.0), (text[9:], None)] for text in texts])
    page = page_of(hostile)
    assert report.problems == ()
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not any(name.startswith("on") for name, _ in page.attributes)
    # It is there to be read: description, samples, sentences, paradigms, what was dropped, text.
    assert page.text.count("alert(1)") > 40


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (("done/export.json",), "The model is not exported yet"),
        (("evaluation", "done/evaluation.grammar.firstwords.json"), "not tested on minimal pairs yet"),
        (("training", "done/training.json"), "The training has not begun yet"),
        (("done/tokenizer.json",), "The tokenizer is not learnt yet"),
        (("done/corpus.json",), "The corpus is not made yet"),
        (("done",), "No stage is done yet"),
    ],
)
def test_what_is_not_made_yet_is_said_and_the_rest_is_shown(run: RunFolder, gone: Sequence[str], said: str) -> None:
    for name in gone:
        path = run.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    report = write_report(run)
    page = page_of(run)
    assert said in page.text
    assert report.problems == ()
    assert "5 passes" in page.text or "2 passes" in page.text


def test_a_run_that_is_only_a_recipe_has_a_page(run: RunFolder, tmp_path: Path) -> None:
    only = RunFolder(tmp_path / "only")
    only.path.mkdir()
    shutil.copy(run.path / "recipe.toml", only.path)
    report = write_report(only)
    assert report.problems == ()
    assert report.charts == ()
    assert "2 passes" in page_of(only).text


def test_a_training_at_work_is_shown_as_far_as_it_is(run: RunFolder) -> None:
    (run.path / "done" / "training.json").unlink()
    metrics = run.path / "training" / "metrics.jsonl"
    lines = [line for line in metrics.read_text().splitlines(keepends=True) if '"dev_loss"' not in line]
    metrics.write_text("".join(lines[:7]) + lines[7][:20])
    assert write_report(run).problems == ()
    assert "The training is not done yet. So far: 7 steps" in page_of(run).text


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("training/metrics.jsonl", "no json\n", "Training"),
        ("evaluation/grammar.firstwords.json", '{"suite": "grammar"}', "Minimal pairs"),
        ("evaluation/grammar.firstwords.pairs.csv", "uid,pair_id\nx,y\n", "Minimal pairs"),
        ("tokenizer/tokenizer.json", "{", "Tokenizer"),
        ("corpus/corpus.json", "[]", "Text"),
        ("recipe.toml", "name = 1", "Recipe"),
    ],
)
def test_a_damaged_file_costs_its_part_alone_and_is_named(run: RunFolder, name: str, content: str, part: str) -> None:
    (run.path / name).write_text(content)
    report = write_report(run)
    page = page_of(run)
    assert any(problem.startswith(f"{part}: its files cannot be read") for problem in report.problems)
    assert f"{part}: its files cannot be read" in page.text
    assert "Time of each stage" in page.text
    assert len([value for value in page.values("id") if value in PARTS]) == len(PARTS)


def test_surprisals_stand_under_the_tokens_and_the_difference_is_marked(run: RunFolder) -> None:
    write_report(run, lambda texts: [[(word + " ", 12.34) for word in text.split()] for text in texts])
    page = page_of(run)
    assert "12.3" in page.text
    assert "token s6" in page.values("class")
    assert "token s6 differs" in page.values("class")


def test_a_model_that_cannot_be_asked_costs_the_surprisals_alone(run: RunFolder) -> None:
    def broken(texts: Sequence[str]) -> list[list[tuple[str, float | None]]]:
        raise FirstwordsError("the checkpoint is damaged")

    report = write_report(run, broken)
    assert report.problems == ("Surprisals are missing: the checkpoint is damaged",)
    assert "the most surprising judgements" in page_of(run).text


def test_pairs_files_without_sentences_show_numbers_and_say_so(run: RunFolder) -> None:
    pairs = run.path / "evaluation" / "grammar.firstwords.pairs.csv"
    with pairs.open(newline="") as file:
        rows = [row[:5] for row in csv.reader(file)]
    with pairs.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert write_report(run, lambda texts: [[] for _ in texts]).problems == ()
    assert "the sentence is not in the pairs file" in page_of(run).text


def test_the_command_writes_the_page_with_the_models_own_surprisals(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    reporting.report("tiny", workspace=run.path.parent, json=True)
    out = json.loads(capsys.readouterr().out)
    page = page_of(run)
    assert out["report"] == str(run.path / "report.html")
    assert out["problems"] == []
    assert page.values("class").count("bits") > 50
    for pair in most_surprising(_pairs(run)):
        assert f"{pair.uid}, pair {pair.pair_id}" in page.text


def test_surprisals_of_the_page_add_up_to_the_scores_of_the_result(run: RunFolder) -> None:
    surprisal_of = surprisals_of(run)
    assert surprisal_of is not None
    pairs = _pairs(run)[:5]
    found = surprisal_of([pair.good or "" for pair in pairs])
    assert found is not None
    for pair, tokens in zip(pairs, found, strict=True):
        assert "".join(text for text, _ in tokens) == pair.good
        nats = -sum(bits or 0.0 for _, bits in tokens) * 0.6931471805599453
        assert nats == pytest.approx(pair.good_score, abs=1e-3)


def test_open_shows_the_page_and_says_so_where_it_cannot(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: bool(shown.append(address)))
    reporting.report("tiny", open_page=True, without_surprisals=True, workspace=run.path.parent)
    assert shown == [(run.path / "report.html").as_uri()]
    assert "open" in capsys.readouterr().err


def test_a_page_without_surprisals_loads_no_training_and_no_model_code(run: RunFolder) -> None:
    code = (
        "import sys; from pathlib import Path; from firstwords.report.page import write_report;"
        "from firstwords.run_folder import RunFolder; write_report(RunFolder(Path(sys.argv[1])));"
        "bad = [m for m in sys.modules if m == 'torch' or m.startswith(('firstwords.model.', 'firstwords.training.'))];"
        "assert not bad, bad[:5]"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---- parts ----


def _pairs(run: RunFolder) -> list[ScoredPair]:
    from firstwords.report.page_pairs import read_pairs

    return read_pairs(run, "grammar.firstwords")


def test_the_most_surprising_are_the_worst_and_of_one_paradigm_at_most_two() -> None:
    pairs = [ScoredPair("a", str(n), -10.0 - n, -10.0, "bad", None, None) for n in range(1, 6)]
    pairs += [
        ScoredPair("b", "0", -10.5, -10.0, "bad", None, None),
        ScoredPair("b", "1", -1.0, -2.0, "good", None, None),
    ]
    assert [(pair.uid, pair.pair_id) for pair in most_surprising(pairs)] == [("a", "5"), ("a", "4"), ("b", "0")]


def test_a_hard_paradigm_is_shown_by_its_middle_pair() -> None:
    pairs = [ScoredPair("a", str(n), float(n), 0.0, "good", None, None) for n in (5, -3, 1)]
    pairs.append(ScoredPair("b", "9", 1.0, 0.0, "good", None, None))
    assert [(share, pair.pair_id) for share, pair in hardest(pairs, {"b": 1.0, "a": 0.66})] == [(0.66, "1"), (1.0, "9")]


def test_energy_is_time_times_the_power_that_is_stated() -> None:
    low, high, assumed = energy_watt_hours({"corpus": 3600.0, "training": 7200.0}, "cpu", {"threads": 4})
    assert (low, high) == (pytest.approx(3 + 2 * 12), pytest.approx(12 + 2 * 48))
    assert "3 to 12 W" in assumed
    low, high, assumed = energy_watt_hours({"training": 3600.0}, "cuda", {"cuda": "NVIDIA H100 80GB HBM3"})
    assert (low, high) == (pytest.approx(353), pytest.approx(712))
    assert "700 W" in assumed
    low, high, _ = energy_watt_hours({"training": 3600.0}, "cuda", {"cuda": "something new"})
    assert (low, high) == (pytest.approx(103), pytest.approx(712))


def test_columns_of_numbers_are_known_as_such() -> None:
    made = table("t", ("name", "number"), [("a", Cell("–")), ("b", Cell("1,000", 1000))])
    assert made.numeric == (False, True)


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_recipe_can_be_told(name: str) -> None:
    recipe = Recipe.load(name)
    topics = recipe_blocks(recipe)[0].more["topics"]
    assert set(topics) == {"Text", "Tokenizer", "Examples", "Model", "Training", "Tests"}
    assert f"{recipe.model.layers} layers" in topics["Model"]
    assert recipe.corpus.budget.text in topics["Text"]
    for text in topics.values():
        assert text.endswith(".")
        assert "  " not in text


class Told(Silent):
    """Notes what became of each stage."""

    def __init__(self) -> None:
        self.states: dict[str, tuple[str, str]] = {}

    def stage(self, name: str, state: str, note: str) -> None:
        self.states[name] = (state, note)


def whole_run(run: RunFolder) -> dict[str, tuple[str, str]]:
    """Ask for the run with its report; what became of each stage."""
    told = Told()
    recipe = Recipe.load(run.path / "recipe.toml")
    pipeline.run(recipe, workspace=run.path.parent, name=run.name, until="report", offline=True, reporter=told)
    return told.states


def test_a_run_ends_with_its_report_which_is_made_again_when_the_run_has_gone_on(run: RunFolder) -> None:
    page = run.path / "report.html"
    assert whole_run(run)["report"][0] == "done"
    assert "Surprisals are missing" not in page_of(run).text
    before = page.stat().st_mtime_ns
    assert {state for state, _ in whole_run(run).values()} == {"kept"}
    assert page.stat().st_mtime_ns == before
    os.utime(next((run.path / "done").glob("evaluation.*.json")))
    assert whole_run(run)["report"][0] == "done"


def test_without_the_packages_that_draw_the_run_is_done_all_the_same(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    state, note = whole_run(run)["report"]
    assert state == "left out"
    assert "pip install 'firstwords[report]'" in note
    assert not (run.path / "report.html").exists()
