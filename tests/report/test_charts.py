from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

import altair
import pytest
from PIL import Image

from firstwords.report import chart_parts, charts
from firstwords.report.chart_parts import Chart
from firstwords.report.charts import AccuracyPoint, CurvePoint, LossPoint, RatePoint

HOSTILE = "</text></svg><script>alert(1)</script> & \"quoted' url(#x)"


def all_charts(name: str = "a phenomenon") -> list[Chart]:
    points = [AccuracyPoint(f"{name} {n}", 0.4 + n / 20, 0.35 + n / 20, 0.45 + n / 20, 200) for n in range(10)]
    beside = {f"{name} beside": {point.label: 0.5 for point in points}}
    train = [LossPoint(100 * n, 130 * n, 7 - n / 100) for n in range(1, 50)]
    curve = [CurvePoint(f"{name} {n}", 1000 * n, 0.5 + n / 100, 0.45, 0.9) for n in range(1, 30)]
    return [
        charts.losses(train, train[::10], "words"),
        charts.losses(train, [], "tokens"),
        charts.learning_rate([RatePoint(100 * n, 130 * n, n / 1e4) for n in range(20)], "tokens"),
        charts.accuracies("accuracies", f"Accuracy: {name}", points, model=name, beside=beside),
        charts.accuracies("alone", f"Accuracy: {name}", points, model=name, beside={}),
        charts.learning_curves("curves", f"Curves: {name}", curve),
        charts.token_lengths({1: 5, 2: 7, 4: 1}),
    ]


def specs() -> list[chart_parts.Spec]:
    return [spec for chart in all_charts() for spec in (chart.spec, chart.narrow) if spec is not None]


def parts_named(value: Any, key: str) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (part for name, part in value.items() if name == key)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from parts_named(part, key)


def test_a_spec_is_vega_lite_with_a_title_and_no_address() -> None:
    for spec in specs():
        altair.Chart.from_dict(spec).to_dict(validate=True)
        assert spec["title"]
        assert not list(parts_named(spec, "url"))
        json.dumps(spec, allow_nan=False)


def test_every_axis_has_a_title_but_that_of_names() -> None:
    for spec in specs():
        axes = re.findall(r'aria-label="([XY]-axis[^"]*)"', charts.draw_svg(spec))
        assert len(axes) >= 2
        assert all("titled" in axis or axis.startswith("Y-axis for a discrete scale") for axis in axes), axes


def test_units_stand_on_the_axes() -> None:
    by_name = {chart.name: json.dumps(chart.spec) for chart in all_charts()}
    assert "loss, nats a token" in by_name["loss-over-words"]
    assert "words seen" in by_name["loss-over-words"]
    assert "tokens seen" in by_name["loss-over-tokens"]
    assert "pairs judged right, %" in by_name["accuracies"]


def test_files_are_what_their_endings_say() -> None:
    for chart in all_charts():
        files = charts.draw_files(chart.spec)
        assert ElementTree.fromstring(files["svg"]).tag.endswith("svg")
        with Image.open(io.BytesIO(files["png"])) as image:
            assert image.format == "PNG"
            assert image.width > 400
        assert files["pdf"].startswith(b"%PDF-")


def test_a_hostile_name_stays_text_in_a_drawing_and_in_the_page() -> None:
    for chart in all_charts(HOSTILE):
        for spec in (chart.spec, chart.narrow or chart.spec):
            svg = charts.draw_svg(spec)
            for drawing in (svg, charts.inline_svg(svg, chart.title, "wide")):
                tree = ElementTree.fromstring(drawing)
                assert {one.tag.rpartition("}")[2] for one in tree.iter()} <= {
                    "svg",
                    "g",
                    "path",
                    "text",
                    "tspan",
                    "rect",
                    "line",
                }
                assert not any(name.startswith("on") for one in tree.iter() for name in one.attrib)


def test_a_drawing_of_a_page_is_one_labelled_image_without_ids() -> None:
    for chart in all_charts():
        tree = ElementTree.fromstring(charts.inline_svg(charts.draw_svg(chart.spec), chart.title, "wide"))
        assert tree.get("role") == "img"
        assert tree.get("aria-label") == chart.title
        assert tree.get("class") == "chart wide"
        assert not any("id" in one.attrib for one in tree.iter())


def test_text_that_looks_like_attributes_is_kept() -> None:
    point = AccuracyPoint('a role="img" class="x" b', 0.5, 0.4, 0.6, 10)
    chart = charts.accuracies("one", "t", [point], model="m", beside={})
    assert 'a role="img" class="x" b' in "".join(
        ElementTree.fromstring(charts.inline_svg(charts.draw_svg(chart.spec), "t", "wide")).itertext()
    )


def test_every_mark_says_what_it_stands_for() -> None:
    point = AccuracyPoint("ellipsis", 0.875, 0.8, 0.925, 1234)
    chart = charts.accuracies("one", "t", [point], model="small", beside={"people": {"ellipsis": 0.9}})
    svg = charts.draw_svg(chart.spec)
    assert "ellipsis, small: 87.5% [80.0, 92.5], 1,234 pairs" in svg
    assert "ellipsis, people: 90.0%" in svg


def test_colours_are_of_the_palette_that_the_page_knows_in_the_dark() -> None:
    known = {
        chart_parts.INK,
        chart_parts.MUTED,
        chart_parts.GRID,
        chart_parts.BLUE,
        chart_parts.VERMILLION,
        chart_parts.GREEN,
        chart_parts.PURPLE,
    }
    known |= {chart_parts.ORANGE, chart_parts.SKY, "white", "none"}
    for spec in specs():
        tree = ElementTree.fromstring(charts.draw_svg(spec))
        found = {one.get(name, "none") for one in tree.iter() for name in ("fill", "stroke")}
        assert found <= known | {"transparent"}


def test_words_seen_are_logarithmic_only_over_a_wide_range() -> None:
    def scale(most: int) -> str:
        points = [CurvePoint("a", words, 0.5, 0.4, 0.6) for words in (1_000_000, most)]
        return json.dumps(charts.learning_curves("c", "t", points).spec)

    assert '"type": "log"' in scale(100_000_000)
    assert '"type": "log"' not in scale(5_000_000)


def test_many_rows_are_drawn_once() -> None:
    points = [AccuracyPoint(str(n), 0.5, 0.4, 0.6, 10) for n in range(67)]
    assert charts.accuracies("many", "t", points, model="m", beside={}).narrow is None
    assert charts.accuracies("few", "t", points[:12], model="m", beside={}).narrow is not None


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_a_missing_package_is_told_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    import sys

    from firstwords.errors import FirstwordsError

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(FirstwordsError, match="not installed") as error:
        charts.draw_svg(charts.token_lengths({1: 1}).spec)
    assert "pip install" in str(error.value)
