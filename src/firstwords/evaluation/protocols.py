"""The named protocols: how a sentence becomes a score, and two scores a judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.evaluation.reader import CONTEXTS, Context, Line, Reader, TokenizedText


@dataclass(frozen=True, slots=True)
class Protocol:
    """Everything that a score and an accuracy depend on besides model and data."""

    name: str
    context: Context
    """What stands before a sentence (`reader.CONTEXTS`)."""
    score: Literal["sum", "mean"]
    """Sum of the scored tokens' log-probabilities, or their mean."""
    tie: float
    """What a pair of equal scores counts: 1 right, 0.5 half, 0 wrong."""
    overall: Literal["paradigms", "pairs"]
    """The mean of the paradigms' accuracies, or the share of all pairs pooled."""
    source: str
    """Who scores like this."""
    most_tokens: int | None = None
    """Tokens after which a sentence is cut; None: it is never cut."""
    leading: str = ""
    """Text that is put before every sentence and scored with it."""
    masked: bool = False
    """Whether the models are masked ones, each scored token being masked in its turn."""
    within_word: bool = False
    """For masked models: whether the later tokens of a token's own word are masked with it."""

    @property
    def statement(self) -> str:
        """The whole protocol in words, as it stands beside every result."""
        given = "all other tokens" if self.masked else "tokens before it"
        hidden = " except the later ones of the same word" if self.within_word else ""
        leading = " A space is put before every sentence and scored with it." if self.leading else ""
        cut = "no sentence is cut" if self.most_tokens is None else f"cut after {self.most_tokens} tokens"
        tie = {1.0: "right", 0.5: "half right", 0.0: "wrong"}[self.tie]
        overall = {"paradigms": "the mean of the paradigms' accuracies", "pairs": "the share of all pairs pooled"}
        return (
            f"A sentence is scored by the {self.score} of log p(token | {given}{hidden}) {CONTEXTS[self.context]}; "
            f"{cut}.{leading} Log-probabilities are float32, in nats, and summed in float64. "
            f"A pair is right if the good sentence has the higher score; equal scores count as {tie}. "
            f"Overall is {overall[self.overall]}. {self.source}"
        )

    def lines(
        self, reader: Reader, sentences: Sequence[str | TokenizedText], given: Sequence[int] | None = None
    ) -> tuple[list[Line], int]:
        """Each sentence (plain, or as the reader has tokenized it) as the model reads it, and how many were cut.

        given: how many characters at the beginning of each sentence are read and not scored.
        Raises FirstwordsError for a sentence of which the tokenizer leaves nothing to score.
        """
        if self.leading:
            texts = [sentence if isinstance(sentence, str) else sentence.text for sentence in sentences]
            sentences = [self.leading + text for text in texts]
            given = [count + len(self.leading) if count else 0 for count in given] if given else None
        lines = reader.lines(sentences, self.context, given=given, name=self.name)
        if self.most_tokens is None:
            return lines, 0
        cut = [self._cut(line, self.most_tokens) for line in lines]
        return cut, sum(before is not after for before, after in zip(lines, cut, strict=True))

    @staticmethod
    def _cut(line: Line, most: int) -> Line:
        head = next((place for place, word in enumerate(line.words) if word is not None), 0)
        end = head + most
        if line.stop <= end:
            return line
        return replace(line, ids=line.ids[:end], stop=end, words=line.words[:end])


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="firstwords",
            context="bos",
            score="sum",
            tie=0.5,
            overall="paradigms",
            source="The default of firstwords.",
        ),
        Protocol(
            name="blimp",
            context="bos",
            score="sum",
            tie=0.0,
            overall="paradigms",
            source="The full-sentence method of Warstadt et al. 2020, section 4.",
        ),
        Protocol(
            name="lm-eval",
            context="bos-or-eos",
            score="sum",
            tie=1.0,
            overall="paradigms",
            leading=" ",
            source="As lm-evaluation-harness 0.4 scores its blimp tasks.",
        ),
        Protocol(
            name="babylm-2025",
            context="tokenizer",
            score="sum",
            tie=1.0,
            overall="paradigms",
            source="As the evaluation pipeline of the BabyLM Challenge 2025 scores sentences, on its filtered sets.",
        ),
        Protocol(
            name="minicons",
            context="framed",
            score="mean",
            tie=0.5,
            overall="paradigms",
            source="As sequence_score of minicons 0.3 does by default.",
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
        Protocol(
            name="pll",
            context="both-sides",
            score="sum",
            tie=0.5,
            overall="paradigms",
            masked=True,
            source="Pseudo-log-likelihood, Salazar et al. 2020.",
        ),
        Protocol(
            name="pll-word-l2r",
            context="both-sides",
            score="sum",
            tie=0.5,
            overall="paradigms",
            masked=True,
            within_word=True,
            source="Pseudo-log-likelihood, within-word left-to-right, Kauf & Ivanova 2023.",
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


def check_protocol(protocol: Protocol, *, masked: bool) -> None:
    """Raises FirstwordsError where a causal model is to be scored as a masked one, or the other way round."""
    if protocol.masked != masked:
        kind, fitting = ("masked", "pll, pll-word-l2r") if masked else ("causal", "firstwords, blimp, lm-eval, ...")
        raise FirstwordsError(
            f"the protocol '{protocol.name}' is not for {kind} models",
            where="protocols for them: " + fitting,
            do="name one of these with --protocol",
        )
