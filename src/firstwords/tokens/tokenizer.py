"""Learning a ByteLevel BPE, and the one object that every stage uses to turn text into token ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from firstwords.errors import FirstwordsError
from firstwords.run_folder import atomic_write_json, atomic_write_text
from firstwords.settings import TokenizerSettings, TokenSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A learnt tokenizer with its special tokens: used alike for training, scoring and export."""

    tokenizer: Tokenizer
    bos_id: int
    eos_id: int
    pad_id: int

    @property
    def size(self) -> int:
        """Number of token ids, special tokens counted: the rows of the embeddings."""
        return self.tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens."""
        return [coded.ids for coded in self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        """The text of token ids; special tokens are left out."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    @classmethod
    def load(cls, folder: Path) -> Vocabulary:
        """Read `tokenizer.json` and the names of the special tokens from a tokenizer or model folder."""
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            ids = [_token_id(tokenizer, config[f"{kind}_token"]) for kind in ("bos", "eos", "pad")]
        except Exception as error:  # the tokenizers library raises bare Exception
            raise FirstwordsError(
                f"the tokenizer cannot be read: {error}",
                where=str(folder),
                do="delete that folder and run again: it is made anew",
            ) from None
        return cls(tokenizer, *ids)


def _token_id(tokenizer: Tokenizer, token: str | dict[str, Any]) -> int:
    """Id of a token that tokenizer_config.json names, as plain text or with its settings."""
    content = token if isinstance(token, str) else token["content"]
    found = tokenizer.token_to_id(content)
    if found is None:
        raise ValueError(f"tokenizer.json does not have the token {content}")
    return found


def learn_tokenizer(
    settings: TokenizerSettings, tokens: TokenSettings, text_file: Path, folder: Path, *, max_length: int
) -> dict[str, Any]:
    """Learn a ByteLevel BPE from the lines of `text_file` and write `folder` as Hugging Face's AutoTokenizer reads it.

    Returns what was learnt (sizes, fertility in tokens per word, bytes per token), also written as fertility.json.
    Raises FirstwordsError where the text is too small for the vocabulary.
    """
    from tokenizers import processors, trainers
    from tokenizers.pre_tokenizers import ByteLevel

    tokenizer = _untrained_tokenizer(settings)
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        min_frequency=settings.min_frequency,
        initial_alphabet=sorted(ByteLevel.alphabet()) if settings.all_bytes else [],
        show_progress=False,
    )
    if _is_utf8(text_file):
        # It cuts at line feeds as `read_lines` does, and need not wait for Python.
        tokenizer.train([str(text_file)], trainer)
    else:
        tokenizer.train_from_iterator(read_lines(text_file, keep_ends=True), trainer)
    learnt = tokenizer.get_vocab_size()
    if learnt < settings.vocabulary:
        raise FirstwordsError(
            f"the text gives only {learnt:,} tokens, not a vocabulary of {settings.vocabulary:,}",
            where="tokenizer.vocabulary",
            do=f"set tokenizer.vocabulary to {learnt} or less, lower tokenizer.min-frequency, or give more text",
        )
    specials = list(dict.fromkeys((settings.bos, settings.eos, settings.pad)))
    tokenizer.add_special_tokens(specials)
    byte_level = processors.ByteLevel()
    if tokens.add_bos:
        bos = (settings.bos, tokenizer.token_to_id(settings.bos))
        template = processors.TemplateProcessing(single=f"{bos[0]} $A", pair=f"{bos[0]} $A $B", special_tokens=[bos])
        tokenizer.post_processor = processors.Sequence([byte_level, template])
    else:
        tokenizer.post_processor = byte_level
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    atomic_write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": settings.bos,
            "eos_token": settings.eos,
            "pad_token": settings.pad,
            "model_max_length": max_length,
            "clean_up_tokenization_spaces": False,
        },
    )
    facts = _fertility(Vocabulary.load(folder), text_file) | {"vocabulary": learnt, "special_tokens": specials}
    atomic_write_json(folder / "fertility.json", facts)
    return facts


def _untrained_tokenizer(settings: TokenizerSettings) -> Tokenizer:
    """A ByteLevel BPE with the recipe's normalizer, which has learnt nothing yet."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    steps = {
        "nfc": normalizers.NFC,
        "nfd": normalizers.NFD,
        "nfkc": normalizers.NFKC,
        "lowercase": normalizers.Lowercase,
        "strip": normalizers.Strip,
    }
    tokenizer = Tokenizer(models.BPE())
    if settings.normalizer:
        tokenizer.normalizer = normalizers.Sequence([steps[name]() for name in settings.normalizer])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=settings.prefix_space)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _fertility(vocabulary: Vocabulary, text_file: Path, sample_bytes: int = 2**21) -> dict[str, Any]:
    """How finely the tokenizer cuts: over its first 2 MiB. Fertility is tokens per word (Rust et al. 2021)."""
    words = size = count = 0
    for lines in batched(read_lines(text_file), 1_000):
        count += sum(map(len, vocabulary.encode(lines)))
        words += sum(len(line.split()) for line in lines)
        size += sum(len(line.encode()) + 1 for line in lines)
        if size >= sample_bytes:
            break
    return {
        "tokens_per_word": count / max(words, 1),
        "bytes_per_token": size / max(count, 1),
        "unencodable_bytes": unencodable_bytes(vocabulary),
    }


def unencodable_bytes(vocabulary: Vocabulary) -> int:
    """How many of the 256 bytes are in no token: text that has them vanishes silently (143 for Model A)."""
    from tokenizers.pre_tokenizers import ByteLevel

    known = vocabulary.tokenizer.get_vocab(with_added_tokens=False)
    return sum(symbol not in known for symbol in ByteLevel.alphabet())


def _is_utf8(text_file: Path) -> bool:
    """Whether all of a file is; a mix by chunks cuts characters in two."""
    try:
        with text_file.open(encoding="utf-8", newline="") as file:
            while file.read(2**20):
                pass
    except UnicodeDecodeError:
        return False
    return True


def read_lines(text_file: Path, *, keep_ends: bool = False) -> Iterator[str]:
    """Lines of a UTF-8 text file, cut at line feeds alone.

    A character that a mix by chunks has cut in two becomes U+FFFD.
    """
    with text_file.open("rb") as file:
        for line in file:
            text = line.decode("utf-8", errors="replace")
            yield text if keep_ends else text.removesuffix("\n")


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to `size` items in their order."""
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
