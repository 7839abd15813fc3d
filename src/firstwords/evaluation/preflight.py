"""What must be known of a tokenizer before a number is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from firstwords.evaluation.reader import Context, Reader, TokenizedText


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found of a tokenizer on the texts of a test set.

    has_bos, adds_bos: there is a beginning-of-sequence token; the tokenizer itself puts it before a text.
    pad_distinct: padding has a token of its own (None: there is no padding token).
    leading_space: a word at the start of a text is the token that it is within a text, as if a space stood before it.
    unknown_tokens: tokens of the texts that stand for unknown characters. lost_texts: texts of which characters
    vanish. offsets_in_order: every token knows which characters it is of, one after the other.
    """

    has_bos: bool
    adds_bos: bool
    pad_distinct: bool | None
    leading_space: bool
    unknown_tokens: int
    lost_texts: int
    offsets_in_order: bool

    def notes(self, context: Context) -> tuple[str, ...]:
        """What a reader of a result must be told, where texts were scored in this context."""
        found = []
        if context in ("bos", "bos-or-eos") and not self.adds_bos:
            # One name, one formula: leaving BOS out for some models would make their numbers another protocol's.
            found.append(
                "The tokenizer does not begin a text with the beginning-of-sequence token by itself. If none stood "
                "there in training, all scores are told in a context that the model never saw; a protocol without it "
                "(card) fits such a model better."
            )
        if self.unknown_tokens:
            found.append(f"{self.unknown_tokens:,} tokens of the test set are unknown to the tokenizer.")
        if self.lost_texts:
            found.append(f"{self.lost_texts:,} sentences have characters that are in no token and vanish.")
        if not self.offsets_in_order:
            found.append("The tokenizer does not say in order which characters a token is of: scores of words are off.")
        return tuple(found)

    def summary(self) -> str:
        """All of it in one line."""
        bos = "adds BOS" if self.adds_bos else "has BOS, does not add it" if self.has_bos else "has no BOS"
        pad = {True: "pad is a token of its own", False: "pad is another token too", None: "no pad"}[self.pad_distinct]
        space = "as within a text" if self.leading_space else "without the leading space that it has within a text"
        return (
            f"{bos}; {pad}; the first word is read {space}; {self.unknown_tokens:,} unknown tokens; "
            f"{self.lost_texts:,} texts lose characters; offsets {'in order' if self.offsets_in_order else 'BROKEN'}"
        )


def preflight(reader: Reader, texts: Sequence[TokenizedText]) -> Preflight:
    """Look at the tokenizer and at how it has read `texts`."""
    unknown = lost = 0
    in_order = True
    for text in texts:
        if reader.unknown_id is not None:
            unknown += text.ids.count(reader.unknown_id)
        if not _is_covered(text):
            lost += _loses(text)
            in_order = in_order and all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(text.offsets))
    others = {reader.bos_id, reader.eos_id, reader.unknown_id, reader.mask_id}
    before, alone, within = (text.ids for text in reader.tokenize(["to", "the", "to the"]))
    return Preflight(
        has_bos=reader.bos_id is not None,
        adds_bos=reader.adds_bos,
        pad_distinct=None if reader.pad_id is None else reader.pad_id not in others,
        leading_space=within == before + alone,
        unknown_tokens=unknown,
        lost_texts=lost,
        offsets_in_order=in_order,
    )


def _is_covered(text: TokenizedText) -> bool:
    """Whether the tokens' characters, one after the other, are the text, spaces aside: so it is nearly always."""
    return "".join([text.text[start:end] for start, end in text.offsets]).replace(" ", "") == text.text.replace(" ", "")


def _loses(text: TokenizedText) -> bool:
    """Whether a visible character of the text is of no token."""
    covered = bytearray(len(text.text))
    for start, end in text.offsets:
        covered[start:end] = b"\x01" * (end - start)
    return any(not covered[place] and not character.isspace() for place, character in enumerate(text.text))
