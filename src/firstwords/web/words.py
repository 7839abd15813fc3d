"""What a model expects next, and what it writes: the distribution after a text, and samples from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from firstwords.model.attention import Layout

if TYPE_CHECKING:
    from firstwords.evaluation.own_model import OwnModel

SHOWN = 20


@dataclass(frozen=True, slots=True)
class NextToken:
    """A token that may come next. special: it is no text but a sign, such as the end of the text."""

    text: str
    probability: float
    bits: float
    special: bool


@dataclass(frozen=True, slots=True)
class NextTokens:
    """The likeliest tokens; the probability of all others together; the entropy of the whole distribution in bits."""

    tokens: tuple[NextToken, ...]
    rest: float
    vocabulary: int
    entropy_bits: float


@dataclass(frozen=True, slots=True)
class Manner:
    """How text is sampled. temperature: 0 always takes the likeliest token. top_p: of the nucleus, above 0 up to 1."""

    temperature: float = 0.7
    top_p: float = 1.0
    most_tokens: int = 60
    seed: int = 0


def next_tokens(subject: OwnModel, text: str, shown: int = SHOWN) -> NextTokens:
    """What comes after `text`, which is read after the beginning-of-sequence token as sentences are scored."""
    reader = subject.reader
    log_V = _logits(subject, _ids(subject, text)).log_softmax(0)
    top = log_V.topk(min(shown, len(log_V)))
    specials = {reader.bos_id, reader.eos_id, reader.pad_id}
    found = [
        NextToken(
            reader.tokenizer.decode([number], skip_special_tokens=False),
            math.exp(log_p),
            -log_p / math.log(2),
            number in specials,
        )
        for number, log_p in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]
    p_V = log_V.exp()
    entropy = float(-(p_V * log_V.clamp_min(-1e4)).sum()) / math.log(2)
    rest = max(0.0, 1.0 - math.fsum(token.probability for token in found))
    return NextTokens(tuple(found), rest, len(log_V), entropy)


class Writer:
    """Goes on with a text, a token a step."""

    def __init__(self, subject: OwnModel, text: str, manner: Manner) -> None:
        """The same seed writes the same text."""
        self._subject, self._manner = subject, manner
        self._ids, self._begun = _ids(subject, text), 0
        self._begun = len(self._ids)
        self._told = ""
        self._generator = torch.Generator().manual_seed(manner.seed)
        self.ended: str | None = None
        """Why no more comes: "the model ended the text", or "as long as asked for"."""

    def step(self) -> str:
        """What one more token adds to the text; empty for a part of a character, and at the end."""
        if self.ended is None and len(self._ids) - self._begun >= self._manner.most_tokens:
            self.ended = "as long as asked for"
        if self.ended is not None:
            return ""
        reader, logits_V = self._subject.reader, _logits(self._subject, self._ids)
        for sign in (reader.pad_id, reader.bos_id):
            if sign is not None and sign != reader.eos_id:
                logits_V[sign] = -torch.inf
        chosen = sample(logits_V, self._manner, self._generator)
        if chosen == reader.eos_id:
            self.ended = "the model ended the text"
            return ""
        self._ids.append(chosen)
        return self._new_text()

    def __iter__(self) -> Iterator[str]:
        while self.ended is None:
            yield self.step()

    def _new_text(self) -> str:
        text = self._subject.reader.tokenizer.decode(self._ids[self._begun :], skip_special_tokens=True)
        # The last character may still lack some of its bytes.
        whole = text.rstrip("\ufffd")
        new = whole[len(self._told) :] if whole.startswith(self._told) else ""
        self._told += new
        return new


def sample(logits_V: torch.Tensor, manner: Manner, generator: torch.Generator) -> int:
    """A token drawn at the temperature from the fewest that have at least `top_p` together (Holtzman et al. 2020)."""
    if manner.temperature <= 0:
        return int(logits_V.argmax())
    p_V, order_V = (logits_V / manner.temperature).softmax(0).sort(descending=True)
    before_V = p_V.cumsum(0) - p_V
    p_V = torch.where(before_V < manner.top_p, p_V, 0.0)
    return int(order_V[torch.multinomial(p_V, 1, generator=generator)])


def _ids(subject: OwnModel, text: str) -> list[int]:
    reader = subject.reader
    before = reader.bos_id if reader.bos_id is not None else reader.eos_id
    ids = reader.encode([text])[0].ids if text else []
    return [*([] if before is None else [before]), *ids]


@torch.no_grad()
def _logits(subject: OwnModel, ids: list[int]) -> torch.Tensor:
    """Scores of every token after `ids`, of which the model sees as many as it has positions: float32, (V,)."""
    seen = ids[-subject.model.shape.positions :]
    hidden_ND = subject.model.hidden(torch.tensor(seen, device=subject.device), Layout.of([len(seen)], subject.device))
    return subject.model.unembedding(hidden_ND[-1]).float().cpu()
