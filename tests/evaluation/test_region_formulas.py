"""Formulas come to what Python's own arithmetic comes to, and what is no formula is refused at its place."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwords.errors import FirstwordsError
from firstwords.evaluation.region_formulas import Formula

VALUES = {
    (region, condition): float(region * 3 - 7 * len(condition))
    for region in range(5)
    for condition in ("a", "b_c", "x-1")
}


def spaced(draw: st.DrawFn, *parts: str) -> str:
    return "".join(part + draw(st.sampled_from(["", " ", "  "])) for part in parts)


@st.composite
def numbers(draw: st.DrawFn, depth: int = 3) -> tuple[str, str]:
    """A sum as a formula and as Python."""
    kind = draw(
        st.sampled_from(["place", "all", "number", "sum", "minus", "brackets"] if depth else ["place", "number"])
    )
    if kind in ("place", "all"):
        region, condition = draw(st.sampled_from(sorted(VALUES)))
        shown = "*" if region == 0 else str(region)
        return spaced(draw, "(", shown, ";", f"%{condition}%)"), f"(VALUES[{region}, {condition!r}])"
    if kind == "number":
        number = draw(st.sampled_from(["0", "1", "2.5", ".25", "1e2", "10."]))
        return spaced(draw, number), f"({float(number)})"
    inner, python = draw(numbers(depth - 1))
    if kind == "minus":
        # A minus before a sum is that of its first number, in Python too.
        return spaced(draw, "-", "(", inner, ")"), f"(-({python}))"
    if kind == "brackets":
        opened, closed = draw(st.sampled_from(["()", "[]"]))
        return spaced(draw, opened, inner, closed), f"({python})"
    other, other_python = draw(numbers(depth - 1))
    sign = draw(st.sampled_from("+-"))
    right = (f"[{other}]", f"({other_python})") if draw(st.booleans()) else (other, other_python)
    # Without brackets a chain goes from left to right, as Python's does.
    return spaced(draw, inner, sign, right[0]), f"{python} {sign} {right[1]}"


@st.composite
def truths(draw: st.DrawFn, depth: int = 3) -> tuple[str, str]:
    kind = draw(st.sampled_from(["compare", "and", "or", "brackets"] if depth else ["compare"]))
    if kind == "compare":
        (left, left_python), (right, right_python) = draw(numbers()), draw(numbers())
        sign = draw(st.sampled_from("<>="))
        if sign == "=":
            python = f"(abs(({left_python}) - ({right_python})) <= 1e-3 + 1e-5 * abs({right_python}))"
        else:
            python = f"(({left_python}) {sign} ({right_python}))"
        return spaced(draw, left, sign, right), python
    inner, python = draw(truths(depth - 1))
    if kind == "brackets":
        opened, closed = draw(st.sampled_from(["()", "[]"]))
        return spaced(draw, opened, inner, closed), f"({python})"
    other, other_python = draw(truths(depth - 1))
    sign, word = ("&", "and") if kind == "and" else ("|", "or")
    return spaced(draw, inner, sign, other), f"{python} {word} {other_python}"


@given(truths())
def test_a_formula_holds_where_python_says_so(pair: tuple[str, str]) -> None:
    formula, python = pair
    expected = eval(python, {"VALUES": VALUES, "abs": abs})
    assert Formula.parse(formula).holds(VALUES) == expected


def test_what_binds_tighter_than_what() -> None:
    values = {(1, "a"): 1.0, (2, "a"): 2.0, (3, "a"): 3.0}

    def holds(text: str) -> bool:
        return Formula.parse(text).holds(values)

    assert holds("(3;%a%) - (2;%a%) - (1;%a%) = 0")
    assert holds("(3;%a%) - [(2;%a%) - (1;%a%)] = 2")
    assert holds("(1;%a%) < 0 & (1;%a%) < 0 | (1;%a%) > 0")
    assert holds("(1;%a%) > 0 | (1;%a%) < 0 & (1;%a%) < 0")
    assert not holds("[(1;%a%) > 0 | (1;%a%) < 0] & (1;%a%) < 0")
    assert holds("-(1;%a%) + (2;%a%) = 1")
    assert holds("(1;%a%) = 1.0009") and not holds("(1;%a%) = 1.002")
    assert not holds("(1;%a%) < (1;%a%)")


def test_the_regions_of_a_formula_are_known() -> None:
    formula = Formula.parse("[( 7 ; %match sing%) < (*;%b%)] & (7;%match sing%)+1 > 0")
    assert formula.places == {(7, "match sing"), (0, "b")}


@pytest.mark.parametrize(
    ("text", "message", "character"),
    [
        ("(5;%a%) > ", "it ends where a region", 11),
        (" + ".join(["1"] * 5_000) + " > 0", "more than 400 parts", 801),
        ("", "it ends where a region", 1),
        ("(5;%a%)", "it is a number", 8),
        ("(5;%a%) ? 3", r"'\? 3' is no part", 9),
        ("(5;%a%) <= 3", "'=' stands where", 10),
        ("(1;%a%) < (2;%a%) < (3;%a%)", "two sides", 19),
        ("(5;%a%) & (6;%a%) > 1", "stands between comparisons only", 22),
        ("[(5;%a%) > 1] + 1 > 0", "stands between numbers only", 19),
        ("[(5;%a%) > 1", r"'\[' is not closed by '\]'", 13),
        ("[(5;%a%) > 1)", r"'\[' is not closed by '\]'", 13),
        ("(5;%a%) > 1]", r"'\]' is not expected", 12),
        ("(5;a) > 1", "';a\\) > 1' is no part", 3),
        ("(0;%a%) > 1", "counted from 1", 1),
        ("__import__('os') > 1", "is no part", 1),
        ("[" * 200 + "1 > 0" + "]" * 200, "more than 100 brackets", 102),
        ("-" * 5_000 + "1 > 0", "more than 100", 102),
    ],
)
def test_what_is_no_formula_is_refused_at_its_place(text: str, message: str, character: int) -> None:
    with pytest.raises(FirstwordsError, match=message) as caught:
        Formula.parse(text, "x.json, prediction 1")
    assert f"x.json, prediction 1, character {character} of" in (caught.value.where or "")


@given(st.text(st.sampled_from("(5;%a%) <>=&|[]+-0.1*eE "), max_size=30))
def test_any_text_is_a_formula_or_an_error_that_is_explained(text: str) -> None:
    try:
        formula = Formula.parse(text)
    except FirstwordsError:
        return
    values = dict.fromkeys(formula.places, math.pi)
    assert formula.holds(values) in (True, False)
