"""Formulas that say of regions of sentences which must have the larger surprisal, as SyntaxGym's suites write them.

`(5;%reduced%) - (5;%full%) > 0 & (6;%reduced%) < (6;%full%)`: in brackets a region's number and a condition's name, `*`
for all regions of it; + and - from left to right; < and >; = for nearly equal; & before |; ( ) and [ ] alike. A formula
is parsed here and never executed as a program.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from firstwords.errors import FirstwordsError

Place = tuple[int, str]
"""A region's number and a condition's name; number 0 stands for all regions."""
Values = Mapping[Place, float]

_DEEPEST, _LONGEST = 100, 400
"""Brackets within brackets, and parts of a formula."""
_NEAR, _NEAR_OF = 1e-3, 1e-5
"""How far apart, in bits and as a share of the second, numbers are still equal (Gauthier et al. 2020)."""

_TOKEN = re.compile(
    r"(?:(?P<place>\(\s*(?P<region>\d+|\*)\s*;\s*%(?P<condition>[^%]*)%\s*\))"
    r"|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<sign>[-+<>=&|()\[\]]))"
)
_CLOSING = {"(": ")", "[": "]"}
_OPERATIONS: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "<": operator.lt,
    ">": operator.gt,
    "=": lambda one, other: abs(one - other) <= _NEAR + _NEAR_OF * abs(other),
    "&": lambda one, other: one and other,
    "|": lambda one, other: one or other,
}


@dataclass(frozen=True, slots=True)
class _Part:
    """A parsed piece of a formula and what it comes to."""

    kind: Literal["number", "truth"]
    value: Callable[[Values], float]


@dataclass(frozen=True, slots=True)
class Formula:
    """A prediction: a formula that holds or does not. places: the regions it speaks of."""

    text: str
    places: frozenset[Place]
    _whole: _Part

    @classmethod
    def parse(cls, text: str, where: str = "the formula") -> Formula:
        """Raises FirstwordsError, with the place in it, for what is no formula that can hold."""
        parser = _Parser(text, where)
        whole = parser.disjunction()
        if parser.next is not None:
            raise parser.wrong(f"'{parser.next[0]}' is not expected")
        if whole.kind != "truth":
            raise parser.wrong("it is a number, and a prediction must compare numbers")
        return cls(text, frozenset(parser.places), whole)

    def holds(self, values: Values) -> bool:
        """Whether it is true of the regions' surprisals."""
        return bool(self._whole.value(values))


class _Parser:
    """Reads a formula from left to right; each method reads what binds tighter than what called it."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where = text, where
        self.places: set[Place] = set()
        self._at = self._end = self._depth = self._count = 0
        self.next: tuple[str, re.Match[str]] | None = None
        self._step()

    def wrong(self, what: str) -> FirstwordsError:
        """An error at the part that comes next."""
        return FirstwordsError(
            f"the formula cannot be read: {what}",
            where=f"{self.where}, character {self._at + 1} of {self.text[:200]!r}",
            do="write it like (5;%one condition%) < (5;%another%)",
        )

    def _step(self) -> None:
        while self._end < len(self.text) and self.text[self._end].isspace():
            self._end += 1
        self._at, self._count = self._end, self._count + 1
        if self._count > _LONGEST:
            raise self.wrong(f"it has more than {_LONGEST} parts")
        if self._at == len(self.text):
            self.next = None
            return
        found = _TOKEN.match(self.text, self._at)
        if found is None:
            raise self.wrong(f"{self.text[self._at : self._at + 10]!r} is no part of a formula")
        self._end = found.end()
        self.next = found.group(), found

    def _takes(self, *signs: str) -> str | None:
        """The sign that comes next, if it is one of these, which is then read."""
        if self.next is None or self.next[0] not in signs:
            return None
        sign = self.next[0]
        self._step()
        return sign

    def _of(self, kind: str, part: _Part, sign: str) -> Callable[[Values], float]:
        if part.kind != kind:
            raise self.wrong(f"'{sign}' stands between {'comparisons' if kind == 'truth' else 'numbers'} only")
        return part.value

    def disjunction(self) -> _Part:
        left = self._conjunction()
        while self._takes("|"):
            left = self._joined("truth", left, "|", self._conjunction())
        return left

    def _conjunction(self) -> _Part:
        left = self._comparison()
        while self._takes("&"):
            left = self._joined("truth", left, "&", self._comparison())
        return left

    def _comparison(self) -> _Part:
        left = self._sum()
        sign = self._takes("<", ">", "=")
        if sign is None:
            return left
        compared = _Part("truth", self._joined("number", left, sign, self._sum()).value)
        if self.next is not None and self.next[0] in "<>=":
            raise self.wrong("a comparison has two sides; join two comparisons by &")
        return compared

    def _sum(self) -> _Part:
        left = self._atom()
        while sign := self._takes("+", "-"):
            left = self._joined("number", left, sign, self._atom())
        return left

    def _joined(self, kind: Literal["number", "truth"], left: _Part, sign: str, right: _Part) -> _Part:
        one, other, operation = self._of(kind, left, sign), self._of(kind, right, sign), _OPERATIONS[sign]
        return _Part(kind, lambda values: operation(one(values), other(values)))

    def _atom(self) -> _Part:
        if self.next is None:
            raise self.wrong("it ends where a region, a number or a bracket must stand")
        text, found = self.next
        if found["place"]:
            place = (0 if found["region"] == "*" else int(found["region"]), found["condition"])
            if found["region"] != "*" and place[0] == 0:
                raise self.wrong("regions are counted from 1 on")
            self.places.add(place)
            self._step()
            return _Part("number", lambda values: values[place])
        if found["number"]:
            number = float(text)
            self._step()
            return _Part("number", lambda _: number)
        sign = self._takes("-", "(", "[")
        if sign is None:
            raise self.wrong(f"'{text}' stands where a region, a number or a bracket must stand")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self.wrong(f"it has more than {_DEEPEST} brackets within each other")
        inner = self._negative() if sign == "-" else self.disjunction()
        if sign != "-" and not self._takes(_CLOSING[sign]):
            raise self.wrong(f"'{sign}' is not closed by '{_CLOSING[sign]}'")
        self._depth -= 1
        return inner

    def _negative(self) -> _Part:
        value = self._of("number", self._atom(), "-")
        return _Part("number", lambda values: -value(values))
