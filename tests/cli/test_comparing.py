"""`firstwords compare`: models are found by what a user calls them, and the table says what the numbers are of."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from firstwords.cli.comparing import compare
from firstwords.errors import FirstwordsError
from tests.report.test_comparison import PHENOMENA, UIDS, flat, judgements, write
from tests.report.test_comparison import SUITE as MINE


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a run, a model that no run made, and a model of the Hub."""
    folder = tmp_path_factory.mktemp("compare") / "runs"
    for seed, name in enumerate(("model-a", "model-a-seed2")):
        write(folder / name, judgements(MINE, flat(0.6), seed))
        (folder / name / "recipe.toml").write_text("")
    write(folder / "model-a", judgements(MINE, flat(0.5), 8), name="untrained.mine.firstwords")
    for seed, name in enumerate(("other", "owner--name")):
        write(folder / "evaluated" / name, judgements(MINE, flat(0.8), 10 + seed))
    write(folder / "evaluated" / "other", judgements(MINE, flat(0.8), 9), protocol="lm-eval")
    (folder / "unfinished").mkdir()
    (folder / "unfinished" / "recipe.toml").write_text("")
    return folder


def printed(
    capsys: pytest.CaptureFixture[str], a: str, b: str, workspace: Path, *others: str, **options: object
) -> list[str]:
    capsys.readouterr()
    compare(a, b, *others, workspace=workspace, **options)  # type: ignore[arg-type]
    return capsys.readouterr().out.splitlines()


def refused(a: str, b: str, workspace: Path, **options: object) -> FirstwordsError:
    with pytest.raises(FirstwordsError) as caught:
        compare(a, b, workspace=workspace, **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    return caught.value


def test_a_line_for_each_phenomenon_and_overall(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "model-a", "other", workspace)
    assert lines[0] == "mine.firstwords: 400 pairs"
    assert [line.split(":")[0] for line in lines[1:3]] == ["A  model-a", "B  other"]
    assert " ".join(lines[4:6]).startswith("other is better than model-a by ")
    header = next(number for number, line in enumerate(lines) if line.split()[:2] == ["pairs", "A"])
    assert lines[header].split() == ["pairs", "A", "B", "B", "-", "A", "95%", "interval", "p"]
    table = lines[header + 1 : header + 3 + len(PHENOMENA)]
    assert [line.split("  ")[0] for line in table[:-1]] == [*PHENOMENA, "overall"]
    assert table[-1].startswith("  on these paradigms")
    for line in table[:-1]:
        _, _, a, b, difference, *_ = line.split()
        assert float(difference) == pytest.approx(float(b) - float(a), abs=0.11)
    # Nothing is wider than a screen, and no colour is in a pipe.
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    assert "made up" in lines


def test_all_paradigms_or_fields(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "model-a", "other", workspace, by="paradigm")
    # The table, then the drawing.
    assert [line.split()[0] for line in lines if line.split()[:1] and line.split()[0] in UIDS] == UIDS * 2
    assert any(
        line.split()[-5:] == ["interval", "only", "A", "only", "B"]
        for line in (x.removesuffix("p").rstrip() for x in lines)
    )
    assert any(line.startswith("syntax ") for line in printed(capsys, "model-a", "other", workspace, by="field"))


def test_json_has_all_levels(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = json.loads("\n".join(printed(capsys, "model-a", "other", workspace, json=True)))
    assert values["a"]["names"] == ["model-a"]
    assert (len(values["paradigms"]), len(values["phenomena"]), len(values["fields"])) == (10, 3, 1)
    assert values["overall"]["difference"].keys() == {"estimate", "low", "high", "p", "share_better"}
    assert "paradigms" in values["intervals"]["overall"]


def test_models_are_found_by_all_their_names(
    workspace: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sides(a: str, b: str) -> list[str]:
        return [line.split(":")[0][3:] for line in printed(capsys, a, b, workspace)[1:3]]

    assert sides("owner/name", "other") == ["owner--name", "other"]
    assert sides(str(workspace / "model-a"), str(workspace / "evaluated" / "other")) == ["model-a", "other"]
    elsewhere = tmp_path / "a, b" / "copy"
    shutil.copytree(workspace / "model-a" / "evaluation", elsewhere / "evaluation")
    assert sides(str(elsewhere), "other") == ["copy", "other"]
    untrained = workspace / "model-a" / "evaluation" / "untrained.mine.firstwords.json"
    assert sides(str(untrained), "model-a") == ["model-a untrained", "model-a"]
    # The folder of a model's weights is known by the name under which it was evaluated.
    (tmp_path / "weights" / "other").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "weights")
    assert sides("model-a", str(Path("other"))) == ["model-a", "other"]


def test_commas_join_seeds(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "model-a,model-a-seed2", "other", workspace)
    assert lines[1].startswith("A  model-a, model-a-seed2: ")
    assert "2 seeds from" in lines[1]
    assert any("over seeds and pairs" in line for line in lines)


def test_the_suite_and_protocol_may_be_left_out_where_there_is_one(workspace: Path, tmp_path: Path) -> None:
    several = tmp_path / "several"
    for protocol in ("lm-eval", "firstwords", "blimp"):
        write(several / "x", judgements(MINE, flat(0.5), 1), protocol=protocol)
        write(several / "y", judgements(MINE, flat(0.5), 2), protocol=protocol)
    names = str(several / "x"), str(several / "y")
    # Of one suite the protocol of firstwords is meant, unless another is named.
    compare(*names, workspace=workspace)
    compare(*names, workspace=workspace, suite="mine", protocol="blimp")
    (several / "x" / "evaluation" / "mine.firstwords.json").unlink()
    error = refused(*names, workspace, suite="mine")
    assert error.where == "in common: mine.blimp, mine.lm-eval"
    assert "--protocol" in (error.do or "")
    # As results are listed.
    compare(*names, workspace=workspace, suite="mine.lm-eval")
    assert "mine" in (refused(*names, workspace, suite="main").do or "")


def test_what_cannot_be_found_is_said(workspace: Path) -> None:
    assert "did you mean 'model-a'" in str(refused("modela", "other", workspace))
    assert "no results yet" in refused("unfinished", "other", workspace).what
    assert "lm-eval" in (refused("model-a", "other", workspace, protocol="lm-eval").what)
    wrong = workspace / "evaluated" / "other" / "evaluation" / "mine.lm-eval.json"
    nothing = refused("model-a", str(wrong), workspace)
    assert "no suite and protocol in common" in nothing.what
    assert "model-a: mine.firstwords" in (nothing.where or "")
    assert "`firstwords evaluate" in (nothing.do or "")
    assert "--suite mine --protocol firstwords`" in (nothing.do or "")
    assert "twice" in refused("model-a,model-a", "other", workspace).what
    assert refused(",", "other", workspace).what.startswith("there is no model")


def test_more_models_are_each_held_against_the_first(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("model-a", "other", workspace, "owner/name")
    lines = printed(capsys, *names)
    assert [line.split(":")[0] for line in lines[1:4]] == ["A  model-a", "B  other", "C  owner--name"]
    heads = [line.split()[1:6] for line in lines if line.split()[:1] == ["pairs"]]
    assert heads == [["A", "B", "B", "-", "A"], ["A", "C", "C", "-", "A"]]
    assert max(map(len, lines)) <= 80
    assert sum("is better than model-a by" in line for line in lines) == 2
    values = json.loads("\n".join(printed(capsys, *names, json=True)))
    assert [model["label"] for model in values["models"]] == ["model-a", "other", "owner--name"]
    assert (values["b"]["names"], values["others"][0]["b"]["names"]) == (["other"], ["owner--name"])


def test_the_ending_of_the_file_says_its_form(
    workspace: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, begins in (
        ("new/c.md", "# other against model-a\n"),
        ("c.tex", "% Written by firstwords"),
        ("c.html", "<!doctype html>"),
        ("c.json", "{"),
        ("c.txt", "mine.firstwords: 400 pairs"),
    ):
        assert printed(capsys, "model-a", "other", workspace, output=tmp_path / name) == [str(tmp_path / name)]
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)
    assert printed(capsys, "model-a", "other", workspace, form="markdown")[0] == "# other against model-a"
    terminal = printed(capsys, "model-a", "other", workspace)
    assert (tmp_path / "c.txt").read_text().splitlines() == terminal
    assert printed(capsys, "model-a", "other", workspace, form="latex", output=tmp_path / "c") == [str(tmp_path / "c")]
    assert "--format" in (refused("model-a", "other", workspace, output=tmp_path / "c.doc").do or "")
    assert "--json is no html" in refused("model-a", "other", workspace, form="html", json=True).what
    assert "is a folder" in refused("model-a", "other", workspace, form="html", output=tmp_path).what


def test_charts_are_written_where_they_are_asked_for_and_shown_from_there(
    workspace: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output, charts = tmp_path / "text" / "c.md", tmp_path / "pictures"
    printed(capsys, "model-a", "other", workspace, output=output, charts=charts)
    shown = re.findall(r"\]\(<(.*?)>\)", output.read_text())
    assert shown
    assert all((output.parent / address).is_file() and address.startswith("../pictures/") for address in shown)
    printed(capsys, "model-a", "other", workspace, output=output.with_suffix(".html"), charts=charts)
    linked = re.findall(r'href="([^"#]*)"', output.with_suffix(".html").read_text())
    assert linked
    assert all((output.parent / address).is_file() for address in linked)


def test_a_missing_pairs_file_is_named(workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(workspace / "model-a", tmp_path / "model-a")
    pairs = tmp_path / "model-a" / "evaluation" / "mine.firstwords.pairs.csv"
    pairs.unlink()
    assert refused(str(tmp_path / "model-a"), "other", workspace).where == str(pairs)
