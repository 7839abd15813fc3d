"""The named protocols: how a sentence becomes a score, and two scores a judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.tokens.tokenizer import Vocabulary


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything that a score and an accuracy depend on besides model and data."""

    name: str
    context: Literal["bos", "none"]
    """What stands before a sentence. Without context its first token is read and not scored."""
    score: Literal["sum", "mean"]
    """Sum of the scored tokens' log-probabilities, or their mean."""
    tie: float
    """What a pair of equal scores counts: 1 right, 0.5 half, 0 wrong."""
    overall: Literal["paradigms", "pairs"]
    """The mean of the paradigms' accuracies, or the share of all pairs pooled."""
    most_tokens: int | None
    """Tokens after which a sentence is cut; None: it is never cut."""
    source: str
    """Who scores like this."""

    @property
    def statement(self) -> str:
        """The whole protocol in words, as it stands beside every result."""
        first = {
            "bos": "with the beginning-of-sequence token before it, the first token of the sentence scored too",
            "none": "with nothing before it, so that its first token is read and not scored",
        }[self.context]
        cut = "no sentence is cut" if self.most_tokens is None else f"cut after {self.most_tokens} tokens"
        tie = {1.0: "right", 0.5: "half right", 0.0: "wrong"}[self.tie]
        overall = {"paradigms": "the mean of the paradigms' accuracies", "pairs": "the share of all pairs pooled"}
        return (
            f"A sentence is scored by the {self.score} of log p(token | tokens before it) {first}; {cut}. "
            "Log-probabilities are float32, in nats, and summed in float64. "
            f"A pair is right if the good sentence has the higher score; equal scores count as {tie}. "
            f"Overall is {overall[self.overall]}. {self.source}"
        )

    def sequences(self, vocabulary: Vocabulary, sentences: Sequence[str]) -> tuple[list[list[int]], int]:
        """Token ids of each sentence, context first, and how many sentences were cut.

        All but the first token of a sequence are scored.
        Raises FirstwordsError for a sentence of which the tokenizer leaves nothing to score.
        """
        context = [vocabulary.bos_id] if self.context == "bos" else []
        ids = vocabulary.encode(sentences)
        for sentence, tokens in zip(sentences, ids, strict=True):
            if len(context) + len(tokens) < 2:
                raise FirstwordsError(
                    f"a sentence has {len(tokens)} tokens, so that the protocol '{self.name}' has none to score",
                    where=repr(sentence),
                    do="leave it out, or use a tokenizer that encodes all its characters (tokenizer.all-bytes = true)",
                )
        cut = sum(len(tokens) > self.most_tokens for tokens in ids) if self.most_tokens else 0
        return [context + tokens[: self.most_tokens] for tokens in ids], cut


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="firstwords",
            context="bos",
            score="sum",
            tie=0.5,
            overall="paradigms",
            most_tokens=None,
            source="The default of firstwords.",
        ),
        Protocol(
            name="blimp",
            context="bos",
            score="sum",
            tie=0.0,
            overall="paradigms",
            most_tokens=None,
            source="The full-sentence method of Warstadt et al. 2020, section 4.",
        ),
        Protocol(
            name="card",
            context="none",
            score="sum",
            tie=0.0,
            overall="pairs",
            most_tokens=127,
            source="As the authors of babylm-llama-26m and babylm-llama-66m scored BabyLM 2025's blimp_fast.",
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises FirstwordsError, with the nearest name, where there is none."""
    if name not in PROTOCOLS:
        raise FirstwordsError(
            f"there is no protocol '{name}'",
            where="protocols: " + ", ".join(PROTOCOLS),
            do=did_you_mean(name, PROTOCOLS) or "name one of them",
        )
    return PROTOCOLS[name]
