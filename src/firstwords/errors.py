"""The one error a user sees: what went wrong, where, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FirstwordsError(Exception):
    """A mistake or a failure that is explained to the user instead of a traceback.

    what: one sentence. where: a file and line, a recipe key or a place in the run.
    do: what the user can do about it. exit_code: 2 for input that cannot be used, 3 for a result
    that must not be believed (a loss or score that is not finite).
    """

    def __init__(self, what: str, *, where: str | None = None, do: str | None = None, exit_code: int = 2) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.do = do
        self.exit_code = exit_code

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.do:
            lines.append(f"  do:    {self.do}")
        return "\n".join(lines)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """`did you mean 'X'?` for the known word nearest to `word`, or None if none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else None
