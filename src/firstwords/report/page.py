"""`report.html`: everything that a run knows on one page that needs no network, and its charts as files.

The page asks nothing of anyone: style, script and drawings stand in it, and its content security policy allows no other
script than that one. Whatever comes from the run is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.report.chart_parts import Chart
from firstwords.report.charts import check_installed, draw_files, draw_svg, inline_svg
from firstwords.report.page_pairs import SurprisalOf, TokenBits
from firstwords.report.page_parts import Block, Part, part
from firstwords.report.page_recipe import recipe_blocks
from firstwords.report.page_results import result_blocks, task_blocks
from firstwords.report.page_text import corpus_blocks, tokenizer_blocks
from firstwords.report.page_training import cost_blocks, training_blocks
from firstwords.report.results import read_results
from firstwords.report.summary import state_of
from firstwords.report.terminal import duration
from firstwords.run_folder import RunFolder, atomic_write_bytes, atomic_write_text

if TYPE_CHECKING:
    from markupsafe import Markup

_MOST_DRAWN_BYTES = 1_600_000
"""Of drawings in a page; a page is to stay below 3 MB."""
TEMPLATES = Path(__file__).parent / "templates"
_READ_ERRORS = (FirstwordsError, OSError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Report:
    """What was written. problems: what could not be read, a sentence each; the page says so too."""

    path: Path
    charts: tuple[Path, ...]
    size_bytes: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Glance:
    """A number that is read first. under: its interval."""

    label: str
    value: str
    under: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """What a page says of itself above and below its parts.

    title: of the page. kind: what it is a page of. told: a sentence about that. source: what its numbers were read
    from. lead: what is to be read first. glance: the few numbers after it. charts: folder beside the page that has its
    charts as files, where they were written.
    """

    title: str
    kind: str
    told: str
    source: str
    lead: tuple[str, ...] = ()
    glance: Sequence[Glance] = ()
    charts: str | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """A chart's SVG for wide and for narrow pages; both empty where the page has no room left for it."""

    name: str
    wide: Markup | str = ""
    narrow: Markup | str = ""


def write_report(run: RunFolder, surprisal_of: SurprisalOf | None = None) -> Report:
    """Write `report.html` and `charts/` (SVG, PNG and PDF of each chart) into the run's folder.

    surprisal_of: gives the tokens of sentences with their surprisals in bits; without it pairs are shown without. What
    a run has not made, or what cannot be read, leaves its part with a sentence that says so.
    Raises FirstwordsError where the packages that draw charts are not installed.
    """
    # Otherwise each part would say of its charts that it cannot be read.
    check_installed()
    problems: list[str] = []
    parts = gather(run, surprisal_of, problems)
    charts = write_charts(charts_of(parts), run.path / "charts")
    page = render(
        Head(
            title=run.name,
            kind="a run of firstwords",
            told=f"A run of firstwords: {_or(lambda: state_of(run), 'its state cannot be read')}.",
            source="the files of the run",
            glance=_glance(run),
            charts="charts",
        ),
        parts,
    )
    path = run.path / "report.html"
    atomic_write_text(path, page)
    return Report(path, charts, len(page.encode()), tuple(problems))


def gather(run: RunFolder, surprisal_of: SurprisalOf | None, problems: list[str]) -> list[Part]:
    """All parts of a run's page, in their order; what cannot be read is added to `problems`."""
    asked = _guarded(surprisal_of, problems) if surprisal_of else None
    return [
        part("recipe", "Recipe", lambda: recipe_blocks(Recipe.load(run.path / "recipe.toml")), problems),
        part("corpus", "Text", lambda: corpus_blocks(run), problems),
        part("tokenizer", "Tokenizer", lambda: tokenizer_blocks(run), problems),
        part("training", "Training", lambda: training_blocks(run), problems),
        part("results", "Minimal pairs", lambda: result_blocks(run, asked), problems),
        part("tasks", "Other tasks", lambda: task_blocks(run), problems),
        part("samples", "What it writes", lambda: _sample_blocks(run), problems),
        part("cost", "Cost and versions", lambda: cost_blocks(run), problems),
    ]


def _guarded(surprisal_of: SurprisalOf, problems: list[str]) -> SurprisalOf:
    """Surprisals, or None where the model cannot be asked: the pairs are worth showing without them."""

    def asked(texts: Sequence[str]) -> list[list[TokenBits]] | None:
        try:
            return surprisal_of(texts)
        except FirstwordsError as error:
            told = f"Surprisals are missing: {error.what}"
            if told not in problems:
                problems.append(told)
            return None

    return asked


def _sample_blocks(run: RunFolder) -> list[Block] | str:
    mark = run.mark("export")
    if mark is None:
        return "The model is not exported yet, and samples are drawn then."
    samples: dict[str, str] = mark.facts["samples"]
    if not samples:
        return "The recipe asks for no samples."
    shown = [{"title": f"after “{prompt}”", "text": text} for prompt, text in samples.items()]
    said = "The first draw for each beginning that the recipe names, at temperature 0.7, the beginning included."
    return [Block(said=(said,), more={"samples": shown})]


def charts_of(parts: Sequence[Part]) -> list[Chart]:
    """All charts of a page, in their order."""
    return [chart for one in parts for block in one.blocks for chart in block.charts]


def write_charts(charts: Sequence[Chart], folder: Path) -> tuple[Path, ...]:
    """SVG, PNG and PDF of each chart, by its name."""
    paths = []
    for chart in charts:
        for ending, data in draw_files(chart.spec).items():
            paths.append(folder / f"{chart.name}.{ending}")
            atomic_write_bytes(paths[-1], data)
    return tuple(paths)


def render(head: Head, parts: Sequence[Part]) -> str:
    """The page of gathered parts, with its drawings."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script, style = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.js", "report.css"))
    # Drawings are made by vl-convert from specs alone, which escapes all their texts.
    return environment.get_template("report.html.jinja").render(
        head=head,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        parts=parts,
        drawings=_fitting([_draw(chart) for chart in charts_of(parts)]),
        style=Markup(style),
        script=Markup(script),
        script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        version=version("firstwords"),
    )


def _draw(chart: Chart) -> Drawing:
    from markupsafe import Markup

    wide = inline_svg(draw_svg(chart.spec), chart.title, "wide")
    narrow = inline_svg(draw_svg(chart.narrow), chart.title, "narrow") if chart.narrow else ""
    return Drawing(chart.name, Markup(wide), Markup(narrow))


def _fitting(drawings: Sequence[Drawing]) -> dict[str, Drawing]:
    """Drawings by name, one after the other while there is room: a page must stay small, and the files have all."""
    found, room = {}, _MOST_DRAWN_BYTES
    for drawing in drawings:
        room -= len(drawing.wide) + len(drawing.narrow)
        found[drawing.name] = drawing if room >= 0 else Drawing(drawing.name)
    return found


def _glance(run: RunFolder) -> list[Glance]:
    """The few numbers that are read first; those that are not there are left out, as their parts say why."""
    found = []
    for label, read in _GLANCES:
        # A stage that is not done yet has no facts.
        try:
            found.append(Glance(label, read(run)))
        except KeyError:
            continue
    return [*found, *_or(lambda: _accuracies(run), [])]


def _accuracies(run: RunFolder) -> list[Glance]:
    return [
        Glance(
            name.replace(".", ", "),
            f"{100 * found.overall.share:.1f}%",
            f"{100 * found.overall.low:.1f} to {100 * found.overall.high:.1f}",
        )
        for name, found in read_results(run)[0].items()
        if not name.startswith("untrained.")
    ]


def _facts(run: RunFolder, stage: str) -> dict[str, Any]:
    mark = run.mark(stage)
    return mark.facts if mark else {}


_GLANCES: tuple[tuple[str, Callable[[RunFolder], str]], ...] = (
    ("words of training text", lambda run: f"{_facts(run, 'corpus')['train']['words']:,}"),
    ("parameters", lambda run: f"{_facts(run, 'training')['parameters']:,}"),
    ("words seen", lambda run: f"{_facts(run, 'training')['words_seen']:,}"),
    ("lowest dev loss, nats a token", lambda run: f"{_facts(run, 'training')['best_dev_loss']:.3f}"),
    ("time of training", lambda run: duration(_facts(run, "training")["seconds"])),
)


def _or(read: Callable[[], Any], otherwise: Any) -> Any:
    """What is read, or what stands there where it is not made yet or damaged (its own part says so)."""
    try:
        return read()
    except _READ_ERRORS:
        return otherwise
