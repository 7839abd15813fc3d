"""A comparison in every form: what a run says of itself, its numbers, and no markup that a name could bring in."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import altair
import pytest

from firstwords.evaluation.significance import holm
from firstwords.report.charts import draw_svg
from firstwords.report.charts_compared import Gap, Standing, differences, dumbbells
from firstwords.report.compared import Compared, Seed, accuracy, compare_all, difference_cells, p_cell
from firstwords.report.compared_drawing import drawing
from firstwords.report.compared_latex import latex
from firstwords.report.compared_latex import text as latex_text
from firstwords.report.compared_markdown import code, markdown
from firstwords.report.compared_markdown import text as markdown_text
from firstwords.report.compared_page import chart_files, page
from firstwords.run_folder import RunFolder
from tests.report.test_comparison import PHENOMENA, SUITE, flat, judgements, write
from tests.report.test_page import Page

CHOSEN = ("mine", "firstwords")
HOSTILE = "<script>alert(1)</script> 50% & $x_1$ {b} #2 ~^\\ | `c` *d* [e](f) --g"


def seed(folder: Path, accuracy_of: float, luck: int) -> Seed:
    write(folder, judgements(SUITE, flat(accuracy_of), luck))
    return Seed.of_folder(folder.name, folder)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tiny_run: RunFolder) -> list[Seed]:
    """A run, which knows its architecture, data and cost, and two models that no run made."""
    folder = tmp_path_factory.mktemp("compared")
    run = folder / "tiny"
    shutil.copytree(tiny_run.path, run)
    return [seed(folder / name, share, luck) for name, share, luck in (("tiny", 0.6, 1), ("b", 0.8, 2), ("c", 0.62, 3))]


@pytest.fixture(scope="module")
def two(models: list[Seed]) -> Compared:
    return compare_all([models[:1], models[1:2]], CHOSEN)


@pytest.fixture(scope="module")
def three(models: list[Seed]) -> Compared:
    return compare_all([[model] for model in models], CHOSEN)


def renamed(found: Compared, name: str) -> Compared:
    """The same with another name for the first model."""
    models = (replace(found.models[0], label=name), *found.models[1:])
    comparisons = tuple(replace(one, a=replace(one.a, label=name)) for one in found.comparisons)
    return replace(found, models=models, comparisons=comparisons)


# What is told


def test_a_run_stands_with_its_architecture_data_and_cost(two: Compared, tiny_run: RunFolder) -> None:
    facts, training = two.facts(), tiny_run.mark("training").facts
    corpus = tiny_run.mark("corpus").facts["train"]
    assert facts["architecture"]["architecture"] == ["LLaMA 32 x 2, 2 heads, 64 wide", "-"]
    assert facts["architecture"]["parameters"][0] == f"{training['parameters']:,}"
    assert facts["data"]["training text"][0] == f"{corpus['bytes']:,} bytes, {corpus['words']:,} words"
    assert facts["cost"]["tokens a second"][0] == f"{training['tokens'] / training['seconds']:,.0f}"
    own = tiny_run.result("grammar.firstwords")["overall"]
    assert facts["accuracy, 95% interval"]["mine.firstwords (400 pairs)"] == [
        accuracy(model.overall) for model in two.models
    ]
    (tested,) = (cells for name, cells in facts["accuracy, 95% interval"].items() if name.startswith("grammar."))
    assert tested == [f"{100 * own['accuracy']:.1f}% ({100 * own['low']:.1f} to {100 * own['high']:.1f})", "-"]


def test_seeds_of_one_model_say_each_answer_once(models: list[Seed]) -> None:
    run = models[0].run
    other = replace(models[1], run=replace(run, recipe=run.recipe | {"seed": 7}))
    found = compare_all([[models[0], other], models[2:]], CHOSEN).facts()
    assert found["architecture"]["seed"][0] == "1; 7"
    assert found["architecture"]["architecture"][0] == "LLaMA 32 x 2, 2 heads, 64 wide"


def test_p_values_of_several_models_are_of_one_family(three: Compared) -> None:
    for level, tests in (("phenomena", 6), ("paradigms", 20)):
        rows = [row for one in three.comparisons for row in getattr(one, level)]
        assert len(rows) == tests
        assert [row.p_holm for row in rows] == pytest.approx(holm([row.p for row in rows]))
    assert three.tests("phenomenon") == 6
    corrected = holm([one.overall.difference.p for one in three.comparisons])
    assert f"b {p_cell(corrected[0])}, c {p_cell(corrected[1])}" in three.first.notes[-1]


def test_each_further_model_is_held_against_the_first(three: Compared, two: Compared) -> None:
    assert [(one.a.label, one.b.label) for one in three.comparisons] == [("tiny", "b"), ("tiny", "c")]
    assert three.first.overall == two.first.overall
    assert three.title == "b and c against tiny"
    values = three.to_json()
    assert values["sentence"] == three.sentences[0]
    assert [one["sentence"] for one in values["others"]] == three.sentences[1:]
    assert values["models"][0]["facts"]["architecture"]["seed"] == "1"


# Markdown


def tables_of(text: str) -> list[list[list[str]]]:
    """Cells of each table of a Markdown text."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    return [[re.split(r" (?<!\\)\| ", row.strip("| \n") + " ") for row in table.splitlines()] for table in tables]


def test_markdown_has_the_sentence_and_every_number(two: Compared) -> None:
    text = markdown(two)
    assert f"**{two.sentences[0]}**" in text
    for row in two.first.phenomena:
        between, interval = difference_cells(row.difference)
        shown = f"**{between}**" if row.p_holm <= 0.05 else between
        cells = [row.name, f"{row.pairs:,}", accuracy(row.a), accuracy(row.b), shown, interval, p_cell(row.p_holm)]
        assert f"| {' | '.join(cells)} |" in text
    assert "b is better than tiny" in text
    assert two.first.statement.split("|")[0] in text


@pytest.mark.parametrize("by", ["phenomenon", "field", "paradigm"])
def test_every_row_of_a_markdown_table_has_its_cells(three: Compared, by: str) -> None:
    text = markdown(renamed(three, HOSTILE), by)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1, table


def test_names_are_no_markup_in_markdown() -> None:
    assert markdown_text("a_b*c|d`e") == r"a\_b\*c\|d\`e"
    assert markdown_text("<b>x</b> p < 0.05 R&D &lt;") == r"\<b>x\</b> p < 0.05 R&D \&lt;"
    assert markdown_text("- two\nlines") == r"\- two lines"
    assert [code(name) for name in ("a_b", "a|b", "a`b")] == ["`a_b`", r"a\|b", r"a\`b"]


def test_pictures_stand_in_markdown_where_they_were_written(two: Compared, tmp_path: Path) -> None:
    written = chart_files(two, "phenomenon", tmp_path / "my charts")
    assert len(written) == 2
    assert all(path.with_name(f"{path.name}.{end}").is_file() for _, path in written for end in ("svg", "png", "pdf"))
    text = markdown(two, charts=[(title, f"my charts/{path.name}.svg") for title, path in written])
    assert "![Accuracy by phenomenon: mine.firstwords](<my charts/mine.firstwords.compared.phenomenon.svg>)" in text
    assert "```" not in text
    assert "```text" in markdown(two)


# LaTeX


def packages(text: str) -> str:
    return re.search(r"\\usepackage\{(.*?)\}", text.splitlines()[0])[1]


@pytest.mark.parametrize("by", ["phenomenon", "paradigm"])
def test_latex_is_whole(three: Compared, by: str) -> None:
    text = latex(renamed(three, HOSTILE), by, [("A 50% chart", "charts/x.pdf")])
    begun = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    open_environments: list[str] = []
    for kind, name in begun:
        if kind == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert open_environments == []
    bare = re.sub(r"\\[\\{}%&$#_]", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert "%" not in "".join(bare.splitlines()[1:]), "a bare percent sign would hide the rest of its line"
    for tabular in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        rows = [row for row in tabular.splitlines() if row.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert {"array", "booktabs"} <= set(packages(text).split(","))


def test_latex_has_the_numbers(two: Compared) -> None:
    text = latex(two)
    overall = two.first.overall
    between, interval = difference_cells(overall.difference)
    low, high = interval.split(" to ")
    assert rf"$\mathbf{{{between}}}$ & ${low}$ to ${high}$ & ${p_cell(overall.difference.p)}$" in text
    for name in PHENOMENA:
        assert f"    {name} & " in text


def test_names_are_no_commands_in_latex() -> None:
    assert latex_text(r"a_b & 5% $x {y} #1") == r"a\_b \& 5\% \$x \{y\} \#1"
    assert latex_text("\\input{x}") == r"\textbackslash{}input\{x\}"
    assert latex_text("owner--name ~ ^ < |") == (
        r"owner-{}-name \textasciitilde{} \textasciicircum{} \textless{} \textbar{}"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX here: the test above parses it instead")
@pytest.mark.parametrize("by", ["phenomenon", "paradigm"])
def test_latex_compiles(three: Compared, tmp_path: Path, by: str) -> None:
    text = latex(renamed(three, HOSTILE), by)
    document = (
        rf"\documentclass{{article}}\usepackage{{{packages(text)}}}\begin{{document}}\input{{tables}}\end{{document}}"
    )
    (tmp_path / "tables.tex").write_text(text, encoding="utf-8")
    (tmp_path / "main.tex").write_text(document)
    words = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout[-2000:]
    assert (tmp_path / "main.pdf").read_bytes().startswith(b"%PDF")


# The page


def test_the_page_asks_nothing_of_any_network_and_runs_its_own_script_only(three: Compared) -> None:
    found = Page(text := page(renamed(three, HOSTILE), charts="charts"))
    (script,) = found.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (value for value in found.values("content") if value.startswith("default-src"))
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(found.tags)
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert all(not value.startswith(("http", "//")) for name in ("href", "src") for value in found.values(name))
    assert "url(" not in text
    assert "<script>alert" not in text
    assert HOSTILE in re.sub(r"\s+", " ", "".join(found.words))


def test_the_page_has_sentences_numbers_facts_and_drawings(three: Compared) -> None:
    found = Page(page(three))
    for sentence in three.sentences:
        assert sentence in found.text
    for row in three.comparisons[1].paradigms:
        assert f"{100 * row.b.low:.1f} to {100 * row.b.high:.1f}" in found.text
    assert "LLaMA 32 x 2, 2 heads, 64 wide" in found.text
    assert [value for value in found.values("id") if value in ("differences", "models", "how")] == [
        "differences",
        "models",
        "how",
    ]
    labels = found.values("aria-label")
    assert any(label.startswith("agreement, b: ") for label in labels)
    assert any(re.match(r"agreement: [+-]\d+\.\d points \[", label) for label in labels)
    assert "As a file" not in found.text
    assert 'href="my%20charts/' in page(three, charts="my charts")


def test_charts_tell_models_apart_without_colours() -> None:
    standings = [Standing("a", (0.4, 0.7), 10), Standing("b", (0.9, 0.2), 10)]
    gaps = [Gap("a", 0.3, 0.2, 0.4, True), Gap("b", -0.7, -0.8, 0.1, False)]
    mark = re.compile(r'<path aria-label="[ab](?:, ([xy]): |: [^"]*, p )([^"]*)"[^>]* d="([^"]+)"')
    for chart, kinds in ((dumbbells("n", "t", standings, ["x", "y"]), 2), (differences("n", "t", gaps, "x", "y"), 2)):
        for spec in (chart.spec, chart.narrow):
            assert altair.Chart.from_dict(spec).to_dict(validate=True)
            shapes = {(model or sure, shape) for model, sure, shape in mark.findall(draw_svg(spec))}
            assert len({kind for kind, _ in shapes}) == len({shape for _, shape in shapes}) == kinds, shapes
    svg = draw_svg(dumbbells("n", "t", standings, ["x", "y"]).spec)
    assert "a, y: 70.0% of 10 pairs" in svg
    assert "b: -70.0 points [-80.0, 10.0], p &gt; 0.05" in draw_svg(differences("n", "t", gaps, "x", "y").spec)


# Plain characters


def test_the_drawing_places_letters_by_their_accuracies(two: Compared) -> None:
    numbers, *lines, legend, _ = [*drawing(two, "phenomenon"), ""]
    assert all(len(line) <= 80 for line in lines)
    assert legend.startswith("= is a sure difference")
    for row, line in zip(two.first.phenomena, lines, strict=True):
        assert line.startswith(row.name)
        scale = line[len(max(PHENOMENA, key=len)) :]
        assert scale.index("A") < scale.index("B")
        assert ("=" in scale) == (row.p_holm <= 0.05)
    assert drawing(two, "phenomenon", width=40) == []
    assert numbers.split()[0].isdigit()
