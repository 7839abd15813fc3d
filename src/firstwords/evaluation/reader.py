"""How a tokenizer turns a text into what a model reads: token ids, what stands before them, and which are scored."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from firstwords.errors import FirstwordsError
from firstwords.tokens.tokenizer import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Context = Literal["bos", "bos-or-eos", "tokenizer", "framed", "both-sides", "none"]
"""What stands before a text: BOS; BOS, or EOS where there is none; the special tokens that the tokenizer itself puts
before a text; those before and after it, scored like the text; those before and after it, not scored (masked models);
nothing, so that the first token is read, not scored."""

CONTEXTS: dict[Context, str] = {
    "bos": "with the beginning-of-sequence token before it, the first token of the sentence scored too",
    "bos-or-eos": "with the beginning-of-sequence token before it (the end-of-sequence token where there is none), "
    "the first token of the sentence scored too",
    "tokenizer": "with the special tokens before it that the tokenizer itself puts there; where it puts none, the "
    "first token of the sentence is read and not scored (nor is one of no character, the lone sign of a space)",
    "framed": "with the special tokens around it that the tokenizer itself puts there, of all of which the very first "
    "token is read and not scored, while special tokens after it are scored too",
    "both-sides": "with the special tokens around it that the tokenizer itself puts there",
    "none": "with nothing before it, so that its first token is read and not scored",
}
"""Each context in words."""


_TEXTS_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Line:
    """Token ids as a model reads them; those from `start` up to `stop` are scored.

    words: for each token the number of the word it is a piece of, None for special tokens.
    """

    ids: tuple[int, ...]
    start: int
    stop: int
    words: tuple[int | None, ...] = ()

    @property
    def scored(self) -> int:
        """How many tokens are scored."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """A text's tokens without special ones: ids, the characters that each is of, the word that each is a piece of."""

    text: str
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    words: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """A tokenizer with what scoring must know of it; of our own vocabulary or of any fast Hugging Face tokenizer.

    before, after: the special tokens that it puts around a text by itself.
    """

    tokenizer: Tokenizer
    bos_id: int | None
    eos_id: int | None
    pad_id: int | None
    mask_id: int | None
    unknown_id: int | None
    before: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> Reader:
        """The reader of a tokenizer that firstwords learnt."""
        before, after = _framing(vocabulary.tokenizer)
        unknown = getattr(vocabulary.tokenizer.model, "unk_token", None)
        return cls(
            vocabulary.tokenizer,
            vocabulary.bos_id,
            vocabulary.eos_id,
            vocabulary.pad_id,
            None,
            vocabulary.tokenizer.token_to_id(unknown) if unknown else None,
            before,
            after,
        )

    @classmethod
    def of_transformers(cls, tokenizer: Any, where: str) -> Reader:
        """The reader of a tokenizer that AutoTokenizer has loaded. Raises FirstwordsError for one that is not fast."""
        fast: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        if fast is None:
            raise FirstwordsError(
                "the tokenizer has no tokenizer.json, and only such tokenizers tell which characters a token is of",
                where=where,
                do="convert it once with transformers: AutoTokenizer.from_pretrained(...).save_pretrained(...)",
            )
        # Rows of their own length: how a tokenizer would pad or cut them must not change a score.
        fast.no_padding()
        fast.no_truncation()
        before, after = _framing(fast)
        bos, eos, pad, mask, unknown = (
            getattr(tokenizer, f"{kind}_token_id", None) for kind in ("bos", "eos", "pad", "mask", "unk")
        )
        return cls(fast, bos, eos, pad, mask, unknown, before, after)

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer itself begins a text with BOS."""
        return self.bos_id is not None and self.before[-1:] == (self.bos_id,)

    def encode(self, texts: Sequence[str]) -> list[Encoding]:
        """Ids, offsets (characters) and word numbers of the tokens of each text, without special tokens."""
        return self.tokenizer.encode_batch(list(texts), add_special_tokens=False)

    def tokenize(self, texts: Sequence[str]) -> list[TokenizedText]:
        """The tokens of each text; some texts at a time, so that only what is needed of them is held."""
        return [
            TokenizedText(text, tuple(encoding.ids), tuple(encoding.offsets), tuple(encoding.word_ids))
            for start in range(0, len(texts), _TEXTS_AT_ONCE)
            for text, encoding in zip(
                texts[start : start + _TEXTS_AT_ONCE], self.encode(texts[start : start + _TEXTS_AT_ONCE]), strict=True
            )
        ]

    def lines(
        self,
        texts: Sequence[str | TokenizedText],
        context: Context,
        *,
        given: Sequence[int] | None = None,
        name: str = "this score",
    ) -> list[Line]:
        """Each text as it is read in `context`; all of its tokens that have something before them are scored.

        texts: plain, or as `tokenize` has read them. given: how many characters at the beginning of each text are read
        and not scored (a prompt); a token that reaches beyond them is scored. name: of the protocol or task, for
        messages.
        Raises FirstwordsError where nothing of a text is left to score, or the tokenizer lacks the context.
        """
        before, after = self._around(context, name)
        found = []
        for number, text in enumerate(self._tokenized(texts)):
            # What we put there is not put there twice; what the tokenizer puts there by itself, it always does.
            stands = context in ("bos", "bos-or-eos") and text.ids[: len(before)] == before
            start = 0 if stands else len(before)
            head = before[:start]
            # Not scored: what is given, and a first token that nothing stands before.
            prompt = given[number] if given else 0
            unscored = sum(end <= prompt for _, end in text.offsets) if prompt or context == "tokenizer" else 0
            framed = context == "framed"
            line = Line(
                head + text.ids + after,
                1 if framed and not prompt else max(1, start + unscored),
                len(head) + len(text.ids) + (len(after) if framed else 0),
                (*(None for _ in head), *text.words, *(None for _ in after)),
            )
            if line.scored < 1:
                raise FirstwordsError(
                    f"a text has {len(text.ids)} tokens, so that '{name}' has none to score",
                    where=repr(text.text),
                    do="leave it out, or use a tokenizer that encodes all its characters (tokenizer.all-bytes = true)",
                )
            found.append(line)
        return found

    def _tokenized(self, texts: Sequence[str | TokenizedText]) -> list[TokenizedText]:
        plain = iter(self.tokenize([text for text in texts if isinstance(text, str)]))
        return [next(plain) if isinstance(text, str) else text for text in texts]

    def _around(self, context: Context, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        if context == "none":
            return (), ()
        if context == "tokenizer":
            return self.before, ()
        if context in ("framed", "both-sides"):
            return self.before, self.after
        first = self.bos_id
        if first is None and context == "bos-or-eos":
            first = self.eos_id
        if first is None:
            raise FirstwordsError(
                f"'{name}' begins every text with {'BOS or EOS' if context == 'bos-or-eos' else 'BOS'}, "
                "and this tokenizer has none",
                where="tokenizer_config.json: bos_token",
                do="score with a protocol that needs none: babylm-2025, minicons or card (or lm-eval, if it has EOS)",
            )
        return (first,), ()


def _framing(tokenizer: Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Special tokens that the tokenizer's own post-processor puts before and after a text."""
    # A text of at least one token is needed; a tokenizer may know no Latin letter, but it knows its own tokens.
    own = (tokenizer.decode([number]) for number in range(min(1_000, tokenizer.get_vocab_size())))
    framed = None
    for text in itertools.chain(["a"], own):
        framed = tokenizer.encode(text, add_special_tokens=True)
        places = [place for place, special in enumerate(framed.special_tokens_mask) if not special]
        if places:
            return tuple(framed.ids[: places[0]]), tuple(framed.ids[places[-1] + 1 :])
    return tuple(framed.ids) if framed else (), ()
