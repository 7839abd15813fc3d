"""The pairs that tell most of a model: where it is most surely wrong, and what its hardest paradigms look like."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from firstwords.report.page_parts import Block
from firstwords.run_folder import RunFolder

TokenBits = tuple[str, float | None]
"""A token's text and its surprisal in bits; None where the model cannot predict it."""
SurprisalOf = Callable[[Sequence[str]], list[list[TokenBits]] | None]
"""The tokens of each text with their surprisals, None where the model cannot be asked. The tokens of a text,
joined, are the text."""

_SURPRISING = 8
_OF_A_PARADIGM = 2
"""At most so many of one paradigm, so that one construction does not fill the list."""
_HARDEST = 6
_MOST_SHADES = 9
_BITS_A_SHADE = 2.0


@dataclass(frozen=True, slots=True)
class ScoredPair:
    """One line of a pairs file. good, bad: the sentences, where the file has them."""

    uid: str
    pair_id: str
    good_score: float
    bad_score: float
    choice: str
    good: str | None
    bad: str | None

    @property
    def margin(self) -> float:
        """Score of the good sentence minus that of the bad one."""
        return self.good_score - self.bad_score


@dataclass(frozen=True, slots=True)
class ShownToken:
    """A token of a sentence: shade from 0 to 9 by its bits, and whether the other sentence lacks it at this place."""

    text: str
    bits: float | None
    shade: int
    differs: bool


def pair_blocks(
    run: RunFolder, name: str, values: Mapping[str, Any], surprisal_of: SurprisalOf | None, *, folded: bool
) -> list[Block]:
    """The pairs of a result that a reader should see; nothing where its pairs file is gone."""
    pairs = read_pairs(run, name)
    if not pairs:
        return []
    unit = "nats a token" if values["settings"].get("score") == "mean" else "nats"
    wrong, hard = (
        most_surprising(pairs),
        hardest(pairs, {uid: one["accuracy"] for uid, one in values["paradigms"].items()}),
    )
    bits = _surprisals([*wrong, *(pair for _, pair in hard)], surprisal_of)
    lead = (
        f"The margin is the score of the good sentence minus that of the bad one, in {unit}. "
        + (
            "Under each token stands its surprisal in bits; what the other sentence lacks is underlined."
            if bits
            else ""
        )
    ).strip()
    blocks = []
    if wrong:
        shown = [_shown(pair, bits, "") for pair in wrong]
        most = f"At most {_OF_A_PARADIGM} of a paradigm are shown."
        blocks.append(
            Block(f"{name}: the most surprising judgements", said=(f"Wrong by the largest margin. {lead} {most}",),
                  more={"pairs": shown}, folded=folded)
        )  # fmt: skip
    shown = [_shown(pair, bits, f"{100 * accuracy:.1f}% right") for accuracy, pair in hard]
    typical = "The paradigms with the lowest accuracy, each with the pair whose margin is in the middle."
    blocks.append(
        Block(f"{name}: the hardest paradigms", said=(f"{typical} {lead}",), more={"pairs": shown}, folded=folded)
    )
    return blocks


def read_pairs(run: RunFolder, name: str) -> list[ScoredPair]:
    """The judged pairs of a result, in the order of the file; empty where it is gone."""
    path = run.stage("evaluation") / f"{name}.pairs.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            ScoredPair(
                row["uid"],
                row["pair_id"],
                float(row["good_score"]),
                float(row["bad_score"]),
                row["choice"],
                row.get("good"),
                row.get("bad"),
            )
            for row in csv.DictReader(file)
        ]


def most_surprising(pairs: Sequence[ScoredPair]) -> list[ScoredPair]:
    """Wrong judgements by how far they are wrong, the worst first."""
    found: list[ScoredPair] = []
    seen: Counter[str] = Counter()
    for pair in sorted((pair for pair in pairs if pair.margin < 0), key=lambda pair: pair.margin):
        seen[pair.uid] += 1
        if seen[pair.uid] <= _OF_A_PARADIGM:
            found.append(pair)
        if len(found) == _SURPRISING:
            break
    return found


def hardest(pairs: Sequence[ScoredPair], accuracies: Mapping[str, float]) -> list[tuple[float, ScoredPair]]:
    """The paradigms with the lowest accuracies, and of each the pair whose margin is the median."""
    found = []
    for uid in sorted(accuracies, key=lambda uid: accuracies[uid])[:_HARDEST]:
        of_paradigm = sorted((pair for pair in pairs if pair.uid == uid), key=lambda pair: pair.margin)
        if of_paradigm:
            found.append((accuracies[uid], of_paradigm[len(of_paradigm) // 2]))
    return found


def _surprisals(pairs: Sequence[ScoredPair], surprisal_of: SurprisalOf | None) -> dict[str, list[TokenBits]]:
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.good, pair.bad) if text))
    found = surprisal_of(texts) if surprisal_of and texts else None
    return dict(zip(texts, found, strict=True)) if found is not None else {}


def _shown(pair: ScoredPair, bits: Mapping[str, list[TokenBits]], remark: str) -> dict[str, Any]:
    good, bad = (
        [(text, None)] if text and text not in bits else bits.get(text or "", []) for text in (pair.good, pair.bad)
    )
    # Nothing differs to the eye where a sentence is one piece.
    head, tail = _common([text for text, _ in good], [text for text, _ in bad]) if bits else (len(good), 0)
    return {
        "title": f"{pair.uid}, pair {pair.pair_id}",
        "remark": remark,
        "margin": f"{pair.margin:+.2f}",
        "choice": pair.choice,
        "sentences": [
            {
                "kind": kind,
                "score": f"{score:.2f}",
                "stored": text is not None,
                "tokens": _tokens(tokens, head, tail) if bits else [ShownToken(text or "", None, 0, False)],
            }
            for kind, score, text, tokens in (
                ("good", pair.good_score, pair.good, good),
                ("bad", pair.bad_score, pair.bad, bad),
            )
        ],
    }


def _common(good: Sequence[str], bad: Sequence[str]) -> tuple[int, int]:
    """How many tokens both sentences have in common at the beginning and, of the rest, at the end."""
    shorter = min(len(good), len(bad))
    head = next((place for place in range(shorter) if good[place] != bad[place]), shorter)
    tail = next((place for place in range(shorter - head) if good[-1 - place] != bad[-1 - place]), shorter - head)
    return head, tail


def _tokens(tokens: Sequence[TokenBits], head: int, tail: int) -> list[ShownToken]:
    return [
        ShownToken(text, bits, _shade(bits), head <= place < len(tokens) - tail)
        for place, (text, bits) in enumerate(tokens)
    ]


def _shade(bits: float | None) -> int:
    return 0 if bits is None else min(_MOST_SHADES, max(0, int(bits / _BITS_A_SHADE)))
