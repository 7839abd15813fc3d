"""The tokenizer gives back every text, and the cards' tokenizer is made again entry for entry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from firstwords.errors import FirstwordsError
from firstwords.recipe import Recipe
from firstwords.settings import TokenizerSettings, TokenSettings
from firstwords.tokens.tokenizer import Vocabulary, learn_tokenizer, unencodable_bytes


@given(text=st.text())
def test_any_text_comes_back(vocabulary: Vocabulary, text: str) -> None:
    import unicodedata

    plain = unicodedata.normalize("NFC", text)
    assume(not any(name in plain for name in ("<s>", "</s>", "<pad>")))
    assert vocabulary.decode(vocabulary.encode([text])[0]) == plain


def test_the_name_of_a_special_token_is_that_token_in_texts_too(vocabulary: Vocabulary) -> None:
    specials = [vocabulary.bos_id, vocabulary.eos_id, vocabulary.pad_id]
    assert list(vocabulary.encode(["<s></s><pad>"])[0]) == specials
    assert vocabulary.decode(specials) == ""


def test_special_tokens_are_defined_once(vocabulary: Vocabulary, tokenizer_folder: Path) -> None:
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tokenizer_folder)
    ours = (vocabulary.bos_id, vocabulary.eos_id, vocabulary.pad_id)
    assert ours == (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    assert len(theirs) == vocabulary.size
    assert theirs("A cat.")["input_ids"] == [vocabulary.bos_id, *vocabulary.encode(["A cat."])[0]]


def test_a_vocabulary_larger_than_the_text_gives_is_refused(small_text: Path, tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="gives only") as found:
        learn_tokenizer(TokenizerSettings(vocabulary=9_000), TokenSettings(), small_text, tmp_path, max_length=64)
    assert found.value.where == "tokenizer.vocabulary"


def test_all_bytes_can_be_encoded_unless_the_recipe_says_otherwise(small_text: Path, tmp_path: Path) -> None:
    assert (
        learn_tokenizer(
            TokenizerSettings(vocabulary=300), TokenSettings(), small_text, tmp_path / "all", max_length=64
        )["unencodable_bytes"]
        == 0
    )
    seen_only = TokenizerSettings(vocabulary=100, all_bytes=False)
    learn_tokenizer(seen_only, TokenSettings(), small_text, tmp_path / "seen", max_length=64)
    lossy = Vocabulary.load(tmp_path / "seen")
    assert unencodable_bytes(lossy) > 200
    assert lossy.encode(["é"]) == [[]]


def test_a_text_is_cut_at_line_feeds_alone_however_it_is_read(small_text: Path, tmp_path: Path) -> None:
    odd = "one\r\ntwo\rthree\x0bfour\x0cfive\x85six\u2028seven\u2029 \x00\n\n \n\tno line's end, twice: "
    whole, cut = tmp_path / "whole.txt", tmp_path / "cut.txt"
    whole.write_bytes(odd.encode() * 40 + small_text.read_bytes() + odd.encode())
    # As chunks leave it: the file is read by lines then. The one half character more is of no token that both learn.
    cut.write_bytes(whole.read_bytes() + "é".encode()[:1])
    learnt = {}
    for text in (whole, cut):
        folder = tmp_path / text.stem
        learn_tokenizer(TokenizerSettings(vocabulary=330), TokenSettings(), text, folder, max_length=64)
        learnt[text] = json.loads((folder / "tokenizer.json").read_text())
    assert learnt[whole] == learnt[cut]


def test_model_a_has_the_cards_tokenizer(shared_data: Path, tmp_path: Path) -> None:
    recipe, card = Recipe.load("model-a"), shared_data / "cards" / "a"
    learn_tokenizer(recipe.tokenizer, recipe.tokens, card / "train_A_2MB.txt", tmp_path, max_length=512)
    ours = json.loads((tmp_path / "tokenizer.json").read_text())
    assert ours == json.loads((card / "tokenizer.json").read_text())
