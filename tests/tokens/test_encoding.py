"""Token files hold the text, and damage to them is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.settings import TokenSettings
from firstwords.tokens.encoding import TokenFile, encode_corpus
from firstwords.tokens.tokenizer import Vocabulary


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two documents for training, one for dev, as the corpus stage writes them."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, documents in (("train", ["A cat sleeps.\nIt sings.", "The dog runs."]), ("dev", ["A girl talks."])):
        text, index = b"", []
        for document in documents:
            index.append((len(text), len(text) + len(document.encode()), 0))
            text += document.encode() + b"\n\n"
        (folder / f"{name}.txt").write_bytes(text)
        np.save(folder / f"{name}.index.npy", np.asarray(index, dtype=np.int64))
    return folder


def test_packed_examples_are_whole_documents_between_bos_and_eos(
    corpus: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    facts = encode_corpus(corpus, TokenSettings(), vocabulary, tmp_path / "tokens")
    tokens = TokenFile(tmp_path / "tokens", "train")
    assert facts["train"].examples == 2
    assert tokens.ids.dtype == np.uint16
    for number, text in enumerate(["A cat sleeps.\nIt sings.", "The dog runs."]):
        first, *middle, last = tokens.example(number).tolist()
        assert (first, last) == (vocabulary.bos_id, vocabulary.eos_id)
        assert vocabulary.decode(middle) == text
    assert facts["train"].words == 8


def test_lines_are_examples_blank_ones_too_and_long_ones_are_cut(
    corpus: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    settings = TokenSettings(examples="lines", context=4, add_bos=False, add_eos=False)
    encode_corpus(corpus, settings, vocabulary, tmp_path / "tokens")
    tokens = TokenFile(tmp_path / "tokens", "train")
    pieces = [tokens.example(number).tolist() for number in range(tokens.facts.examples)]
    assert max(map(len, pieces)) == 4
    assert [] in pieces
    assert vocabulary.decode([i for piece in pieces for i in piece]) == "A cat sleeps.It sings.The dog runs."


def test_a_truncated_or_altered_file_is_refused(corpus: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    folder = tmp_path / "tokens"
    encode_corpus(corpus, TokenSettings(), vocabulary, folder)
    path = folder / "train.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(FirstwordsError, match=r"bytes and should have") as found:
        TokenFile(folder, "train")
    assert str(path) in str(found.value)
    path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    with pytest.raises(FirstwordsError, match="checksum"):
        TokenFile(folder, "train").verify()


def test_model_a_has_the_cards_examples(shared_data: Path, tmp_path: Path) -> None:
    """45,807 examples of 513,497 tokens an epoch; 5,908 of the dev text."""
    card = shared_data / "cards" / "a"
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "train.txt").symlink_to(card / "train_A_2MB.txt")
    (corpus / "dev.txt").symlink_to(card / "eval_A.txt")
    from tokenizers import Tokenizer

    vocabulary = Vocabulary(Tokenizer.from_file(str(card / "tokenizer.json")), 16_000, 16_000, 16_001)
    facts = encode_corpus(corpus, Recipe.load("model-a").tokens, vocabulary, tmp_path / "tokens")
    assert (facts["train"].examples, facts["train"].tokens) == (45_807, 513_497)
    assert facts["dev"].examples == 5_908
