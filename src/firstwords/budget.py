"""How much text a corpus may hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_WORD_UNITS = {"words": 1, "k words": 10**3, "M words": 10**6, "B words": 10**9}


@dataclass(frozen=True, slots=True)
class Budget:
    """How much text a corpus may hold: `amount` bytes of UTF-8 or whitespace-separated words."""

    amount: int
    unit: Literal["bytes", "words"]
    text: str

    @classmethod
    def parse(cls, text: str | Budget) -> Budget:
        """`10MB`, `10 MiB`, `262144 B`, `10M words`, `500k words`. Raises ValueError for anything else."""
        if isinstance(text, Budget):
            return text
        match = re.fullmatch(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?)\s*([A-Za-z][A-Za-z ]*?)\s*", str(text))
        number, unit = (match[1].replace(",", ""), " ".join(match[2].split())) if match else ("", "")
        for known, kind in ((_UNITS, "bytes"), (_WORD_UNITS, "words")):
            if unit in known:
                amount = round(float(number) * known[unit])
                if amount > 0:
                    return cls(amount, kind, str(text).strip())  # type: ignore[arg-type]
        raise ValueError(f"'{text}' is no amount of text; write for example 10MB, 10MiB or 10M words")
