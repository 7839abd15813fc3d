"""Surprisal of tokens, words and characters is -log2 of the model's own probabilities, in windows of any width too."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from firstwords.errors import FirstwordsError
from firstwords.evaluation.hf_models import CausalModel, MaskedModel
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.reader import Reader, TokenizedText
from firstwords.evaluation.surprisal import MARKS, Manner, ScoredText, _ranges, score_texts
from firstwords.evaluation.word_borders import tokens_of_borders
from firstwords.model.attention import Layout
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings, TokenizerSettings, TokenSettings
from firstwords.tokens.tokenizer import Vocabulary, learn_tokenizer

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=64, init_std=0.2)
BOS = Manner(context="bos")
LONG = "The cat sleeps near the tree. Some trees sing and a bird does too, quietly. " * 8


@pytest.fixture(scope="module")
def subject(vocabulary: Vocabulary) -> OwnModel:
    return OwnModel("small", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)


@pytest.fixture(scope="module")
def folding(small_text: Path, tmp_path_factory: pytest.TempPathFactory) -> OwnModel:
    """A model whose tokenizer lower-cases, takes accents apart and puts a space before the first word."""
    folder = tmp_path_factory.mktemp("folding")
    asked = TokenizerSettings(vocabulary=290, normalizer=("nfd", "lowercase"), prefix_space=True)
    learn_tokenizer(asked, TokenSettings(), small_text, folder, max_length=256)
    vocabulary = Vocabulary.load(folder)
    return OwnModel("folding", Llama(SHAPE, vocabulary.size, seed=2), vocabulary)


def log2_softmax(subject: OwnModel, ids: list[int]) -> np.ndarray:
    """log2 p(next token | ids up to each place), (T, V), in one plain forward pass."""
    with torch.no_grad():
        logits = subject.model(torch.tensor(ids), Layout.of([len(ids)]))
    return (logits.double().log_softmax(dim=1) / math.log(2)).numpy()


def direct_bits(subject: OwnModel, head: list[int], ids: list[int]) -> np.ndarray:
    table = log2_softmax(subject, [*head, *ids])
    return np.array([-table[len(head) + place - 1, token] for place, token in enumerate(ids)])


def test_tokens_have_the_models_own_surprisal(subject: OwnModel, vocabulary: Vocabulary) -> None:
    texts = ["The cat sleeps near the tree.", "Zebra 🙂 café"]
    for text, scored in zip(texts, score_texts(subject, texts, BOS), strict=True):
        expected = direct_bits(subject, [vocabulary.bos_id], vocabulary.encode([text])[0])
        np.testing.assert_allclose(scored.bits_T, expected, atol=1e-4)
        assert [unit.bits for unit in scored.tokens()] == pytest.approx(expected.tolist(), abs=1e-4)
        assert not scored.slid


@pytest.mark.parametrize("text", ["The CAT  sleeps.", "Über café\tİstanbul 🙂!", " The\ncat ", "a"])
def test_words_are_those_of_the_original_text_and_add_up(text: str, subject: OwnModel, folding: OwnModel) -> None:
    for model in (subject, folding):
        (scored,) = score_texts(model, [text], BOS)
        words = scored.words()
        assert [word.text for word in words] == text.split()
        assert all(text[word.start : word.end] == word.text and word.whole for word in words)
        # Only white space at the end belongs to no word.
        trailing = len(text) - len(text.rstrip())
        counted = scored.bits_T[: len(scored.bits_T) - trailing]
        assert sum(word.tokens for word in words) == len(counted)
        assert sum(word.bits or 0.0 for word in words) == pytest.approx(counted.sum())


def test_spans_take_the_space_before_them_and_say_when_a_token_reaches_over(subject: OwnModel) -> None:
    text = "The cat sleeps near the tree."
    (scored,) = score_texts(subject, [text], BOS)
    words = scored.words()
    assert scored.spans([(word.start, word.end) for word in words]) == words
    assert scored.spans([(words[1].start - 1, words[1].end)])[0].bits == words[1].bits
    whole, rest = scored.spans([(0, len(text)), (4, len(text))])
    assert whole.bits == pytest.approx(scored.bits_T.sum())
    assert rest.bits == pytest.approx(scored.bits_T.sum() - (words[0].bits or 0))
    # " the" is one token: the part that has its first letter has it all.
    assert words[4].tokens == 1
    left, right = scored.spans([(20, 21), (21, 23)])
    assert (left.bits, left.tokens, left.whole) == (words[4].bits, 1, False)
    assert (right.bits, right.tokens, right.whole) == (None, 0, False)
    for span in ((3, 3), (5, 4), (0, 99), (-1, 3)):
        with pytest.raises(FirstwordsError, match="not in a text of 29"):
            scored.spans([span])


def test_what_nothing_stands_before_has_no_surprisal(subject: OwnModel) -> None:
    scored = score_texts(subject, ["The cat sleeps.", "T", ""], Manner(context="none"))
    assert scored[0].words()[0].bits is None
    assert all(word.bits is not None for word in scored[0].words()[1:])
    assert [word.bits for word in scored[1].words()] == [None]
    assert scored[2].words() == []


def test_given_characters_are_read_and_not_scored(subject: OwnModel) -> None:
    text = "The cat sleeps near the tree."
    (whole,), (rest,) = score_texts(subject, [text], BOS), score_texts(subject, [text], BOS, given=[7])
    assert [word.bits is None for word in rest.words()] == [True, True, False, False, False, False]
    assert rest.words()[2:] == [replace(word, bits=pytest.approx(word.bits)) for word in whole.words()[2:]]


@pytest.mark.parametrize(("window", "stride"), [(None, None), (64, 1), (64, 63), (17, 5), (2, 1)])
def test_a_long_text_is_scored_in_windows_with_enough_context(
    window: int | None, stride: int | None, subject: OwnModel, vocabulary: Vocabulary
) -> None:
    (scored,) = score_texts(subject, [LONG], Manner("bos", window=window, stride=stride))
    assert scored.slid
    assert np.isfinite(scored.bits_T).all()
    ids = vocabulary.encode([LONG])[0]
    width, step = window or 64, stride or 32
    # The first window has `width` tokens, each further one adds `step` tokens and has BOS and `width` tokens in all.
    expected = direct_bits(subject, [vocabulary.bos_id], ids[:width]).tolist()
    for start in range(width, len(ids), step):
        stop = min(start + step, len(ids))
        low = stop - width
        expected += direct_bits(subject, [vocabulary.bos_id], ids[low:stop])[start - low :].tolist()
    np.testing.assert_allclose(scored.bits_T, expected, atol=2e-4)


def test_a_text_that_fits_has_the_same_numbers_with_any_stride(subject: OwnModel) -> None:
    text = "The cat sleeps near the tree. Some trees sing."
    (plain,) = score_texts(subject, [text], BOS)
    for stride in (1, 10, 63):
        (again,) = score_texts(subject, [text], Manner("bos", stride=stride))
        np.testing.assert_array_equal(plain.bits_T, again.bits_T)
    exact = LONG[: len(LONG) - 1]
    while len(subject.reader.tokenize([exact])[0].ids) > 64:
        exact = exact[:-1]
    assert len(subject.reader.tokenize([exact])[0].ids) == 64
    assert not score_texts(subject, [exact], BOS)[0].slid


@given(
    count=st.integers(1, 90),
    first=st.integers(0, 40),
    room=st.integers(2, 30),
    stride=st.integers(1, 29),
    masked=st.booleans(),
)
def test_windows_score_each_token_once_with_the_context_they_promise(
    count: int, first: int, room: int, stride: int, masked: bool
) -> None:
    stride = min(stride, room - 1)
    windows = list(_ranges(count, first, room, stride, masked, None))
    scored = [token for _, start, stop in windows for token in range(start, stop)]
    assert scored == list(range(first, count))
    for low, start, stop in windows:
        high = min(low + room, count) if masked else stop
        assert low >= 0
        assert high - low <= room
        if masked:
            margin = (room - stride) // 2
            assert start - low >= min(margin, start)
            assert high - stop >= min(margin, count - stop)
        else:
            assert start - low >= min(room - stride, start)


def word_bits_by_hand(subject: OwnModel, vocabulary: Vocabulary, text: str) -> list[float]:
    """The formula of Pimentel & Meister 2024, from whole distributions, for a tokenizer that marks beginnings."""
    ids = vocabulary.encode([text])[0]
    tokens = [vocabulary.tokenizer.id_to_token(token) for token in range(vocabulary.size)]
    spaces = [n for n in range(vocabulary.size) if vocabulary.tokenizer.decode([n])[:1].isspace()]
    borders = [*spaces, vocabulary.bos_id, vocabulary.eos_id]
    table = log2_softmax(subject, [vocabulary.bos_id, *ids])
    ends = -np.log2(np.exp2(table[:, borders]).sum(axis=1))
    starts = [n for n, token in enumerate(ids) if n == 0 or tokens[token][0] == "Ġ"]
    found = []
    for first, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
        tokens_bits = sum(-table[n, ids[n]] for n in range(first, stop))
        begun = ends[first] if tokens[ids[first]][0] == "Ġ" else 0.0
        found.append(tokens_bits + ends[stop] - begun)
    return found


def test_the_probability_of_a_word_has_its_end_and_not_the_space_before_it(
    subject: OwnModel, folding: OwnModel, vocabulary: Vocabulary
) -> None:
    text = "The cat sleeps near the riverbank, quietly."
    after = Manner("bos", boundary="after")
    (scored,) = score_texts(subject, [text], after)
    assert [word.bits for word in scored.words()] == pytest.approx(
        word_bits_by_hand(subject, vocabulary, text), abs=1e-3
    )
    # The sum over all words is the text's own surprisal and that it ends at a word border.
    (plain,) = score_texts(subject, [text], BOS)
    assert scored.after_T is not None
    total = sum(word.bits or 0.0 for word in scored.words())
    assert total == pytest.approx(plain.bits_T.sum() + scored.after_T[-1], abs=1e-3)
    assert [word.bits for word in scored.words()] != pytest.approx([word.bits for word in plain.words()], abs=1e-2)

    (scored,) = score_texts(folding, [text], after)
    assert scored.before_T is not None and scored.after_T is not None
    # With a space before the first word too, that a word begins is given there as everywhere.
    total = sum(word.bits or 0.0 for word in scored.words())
    assert total == pytest.approx(scored.bits_T.sum() + scored.after_T[-1] - scored.before_T[0], abs=1e-3)


def test_all_words_and_the_end_together_have_probability_one() -> None:
    """Of a model of five tokens: after "ba" come words of one to three letters, longer ones, white space or the end."""
    tokenizer = Tokenizer(models.BPE({"Ġ": 0, "a": 1, "b": 2}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tiny = OwnModel("tiny", Llama(SHAPE, 5, seed=3), Vocabulary(tokenizer, 3, 4, 4))

    context = np.exp2(log2_softmax(tiny, [3, 2, 1])[-1])
    border = context[[0, 3, 4]].sum()
    after_space = np.exp2(log2_softmax(tiny, [3, 2, 1, 0])[-1])
    total = (context[3] + context[4] + context[0] * after_space[[0, 3, 4]].sum()) / border
    words = [""]
    for _ in range(3):
        words = [word + letter for word in words for letter in "ab"]
        found = score_texts(tiny, [f"ba {word}" for word in words], Manner("bos", boundary="after"))
        total += sum(2.0 ** -(scored.words()[-1].bits or 0.0) for scored in found)
    for word in words:
        ids = [3, 2, 1, 0, *("ab".index(letter) + 1 for letter in word)]
        table = log2_softmax(tiny, ids)
        begun = sum(table[place, ids[place + 1]] for place in range(2, len(ids) - 1))
        total += 2.0**begun / border * np.exp2(table[-1, [1, 2]]).sum()
    assert total == pytest.approx(1.0, abs=1e-5)


def test_borders_in_windows_are_those_of_each_window(subject: OwnModel, vocabulary: Vocabulary) -> None:
    text = LONG[:90]
    (wide,) = score_texts(subject, [text], Manner("bos", boundary="after"))
    (same,) = score_texts(subject, [text], Manner("bos", boundary="after", window=60))
    assert not wide.slid and not same.slid
    (narrow,) = score_texts(subject, [text], Manner("bos", boundary="after", window=20, stride=4))
    assert narrow.slid
    assert narrow.before_T is not None and narrow.after_T is not None
    # The first window is 19 tokens and BOS; the second has the 4 tokens after that.
    ids = vocabulary.encode([text])[0]
    borders = tokens_of_borders(subject.reader)
    table = log2_softmax(subject, [vocabulary.bos_id, *ids[4:23]])
    expected = -np.log2(np.exp2(table[:, borders]).sum(axis=1))
    np.testing.assert_allclose(narrow.after_T[19:23], expected[16:20], atol=1e-4)
    spaced = ~np.isnan(narrow.before_T[19:23])
    assert spaced.any()
    np.testing.assert_allclose(narrow.before_T[19:23][spaced], expected[15:19][spaced], atol=1e-4)


def test_border_tokens_are_those_that_begin_with_white_space(subject: OwnModel, vocabulary: Vocabulary) -> None:
    borders = tokens_of_borders(subject.reader)
    tokens = [vocabulary.tokenizer.id_to_token(token) for token in range(vocabulary.size)]
    found = {token for token, is_border in zip(tokens, borders, strict=True) if is_border}
    assert {"Ġca", "Ġ", "Ċ", "ĉ", "<s>", "</s>"} <= found
    assert not found & {"a", "The", ".", "<pad>", "Ã"}


def word_pieces() -> Reader:
    tokenizer = Tokenizer(
        models.WordPiece(vocab={"[UNK]": 0, "the": 1, "ca": 2, "##t": 3, ".": 4, "a": 5, "<s>": 6}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return Reader.of(Vocabulary(tokenizer, 6, 6, 6))


def test_tokenizers_that_cannot_tell_a_space_are_refused() -> None:
    with pytest.raises(FirstwordsError, match="whether a space stands"):
        tokens_of_borders(word_pieces())
    suffixed = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    suffixed.pre_tokenizer = pre_tokenizers.Whitespace()
    suffixed.train_from_iterator(
        ["a cat . a . cat."] * 3, trainers.BpeTrainer(end_of_word_suffix="</w>", show_progress=False)
    )
    with pytest.raises(FirstwordsError, match="whether a space stands"):
        tokens_of_borders(Reader.of(Vocabulary(suffixed, 0, 0, 0)))


def test_wrong_windows_and_contexts_are_refused(subject: OwnModel) -> None:
    for manner, message in (
        (Manner("bos", window=65), "wider than the model's 64"),
        (Manner("bos", stride=0), "cannot move on by 0"),
        (Manner("bos", stride=64), "cannot move on by 64"),
        (Manner("bos", window=8, stride=9), "cannot move on by 9"),
    ):
        with pytest.raises(FirstwordsError, match=message):
            score_texts(subject, [LONG], manner)
    without = OwnModel("without", subject.model, Vocabulary(subject.reader.tokenizer, 0, 0, 0))
    without.reader = replace(without.reader, bos_id=None, eos_id=None)
    for context in ("bos", "bos-or-eos"):
        with pytest.raises(FirstwordsError, match="no token for the context"):
            score_texts(without, [LONG], Manner(context))
    with pytest.raises(FirstwordsError, match="not finite") as caught:
        broken = OwnModel(
            "broken", Llama(SHAPE, subject.model.vocabulary, seed=1), Vocabulary(subject.reader.tokenizer, 0, 0, 0)
        )
        torch.nn.init.constant_(broken.model.norm.weight, math.nan)
        score_texts(broken, ["The cat"], BOS)
    assert caught.value.exit_code == 3
    assert "The cat" in (caught.value.where or "")


def test_a_statement_says_what_was_measured(subject: OwnModel) -> None:
    plain, exact = Manner.of(subject), Manner.of(subject, boundary="after")
    assert "sum over its tokens" in plain.statement(subject)
    assert "it ends there" in exact.statement(subject)
    assert "longer than 64 positions" in plain.statement(subject)
    assert "move on by 7 tokens" in Manner(stride=7).statement(subject)


@given(text=st.text(st.sampled_from("ab éÉ\t\n🙂İß."), max_size=12))
@settings(max_examples=60)
def test_every_token_belongs_to_one_word_whatever_the_text(text: str, subject: OwnModel, folding: OwnModel) -> None:
    for model in (subject, folding):
        (scored,) = score_texts(model, [text], BOS)
        words = scored.words()
        assert [word.text for word in words] == text.split()
        spaces = len(text) - len(text.rstrip())
        # A space may be put before the first word.
        assert len(scored.bits_T) - spaces - 1 <= sum(word.tokens for word in words) <= len(scored.bits_T)
        assert all(word.tokens > 0 and word.bits is not None for word in words)


def test_a_token_over_two_words_is_counted_once() -> None:
    text = TokenizedText("of the cat", (0, 1), ((0, 6), (6, 10)), (0, 1))
    scored = ScoredText(text, np.array([2.0, 3.0]))
    assert [(word.text, word.bits, word.tokens, word.whole) for word in scored.words()] == [
        ("of", 2.0, 1, False),
        ("the", None, 0, False),
        ("cat", 3.0, 1, True),
    ]


def hugging_face(vocabulary: Vocabulary) -> Any:
    from transformers import PreTrainedTokenizerFast

    copy = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=copy, **special)


def test_models_of_transformers_tell_the_same_borders_as_a_plain_forward_pass(vocabulary: Vocabulary) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    # More rows of embeddings than the tokenizer has tokens, as some models have.
    config = GPT2Config(vocab_size=320, n_positions=64, n_embd=32, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    subject = CausalModel("gpt", model, hugging_face(vocabulary))
    texts = ["The cat sleeps near the riverbank, quietly.", "Some dogs run."]
    borders = tokens_of_borders(subject.reader)
    for text, scored in zip(texts, score_texts(subject, texts, Manner("bos", boundary="after")), strict=True):
        ids = [subject.reader.bos_id, *subject.reader.tokenize([text])[0].ids]
        with torch.no_grad():
            table = (model(torch.tensor([ids])).logits[0].double().log_softmax(dim=1) / math.log(2)).numpy()
        ends = -np.log2(np.exp2(table[:, : len(borders)][:, borders]).sum(axis=1))
        np.testing.assert_allclose(scored.after_T, ends[1:], atol=1e-4)
        expected = [-table[place, token] for place, token in enumerate(ids[1:])]
        np.testing.assert_allclose(scored.bits_T, expected, atol=1e-4)


def masked_model(vocabulary: Vocabulary) -> MaskedModel:
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = hugging_face(vocabulary)
    ids = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=40, **size)).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return MaskedModel("bert", model, tokenizer)


def pseudo_bits(
    subject: MaskedModel, head: list[int], ids: list[int], tail: list[int], words: list[int]
) -> list[float]:
    """One row a token: it is masked, and with it the later tokens of its word."""
    found = []
    for place, token in enumerate(ids):
        mask = subject.reader.mask_id
        row = [mask if n >= place and words[n] == words[place] else other for n, other in enumerate(ids)]
        with torch.no_grad():
            logits = subject.model(torch.tensor([[*head, *row, *tail]])).logits[0, len(head) + place]
        found.append(-float(logits.log_softmax(dim=0)[token]) / math.log(2))
    return found


def test_masked_models_tell_pseudo_surprisals_and_slide_with_context_on_both_sides(vocabulary: Vocabulary) -> None:
    subject = masked_model(vocabulary)
    manner = Manner.of(subject)
    assert manner.statement(subject).startswith("Pseudo-surprisal in bits")
    text = "The riverbank sleeps."
    (scored,) = score_texts(subject, [text], manner)
    (tokens,) = subject.reader.tokenize([text])
    bos, eos = [subject.reader.bos_id], [subject.reader.eos_id]
    expected = pseudo_bits(subject, bos, list(tokens.ids), eos, list(tokens.words))
    np.testing.assert_allclose(scored.bits_T, expected, atol=1e-4)
    assert not scored.slid

    (long,) = score_texts(subject, [LONG], replace(manner, stride=10))
    assert long.slid
    assert np.isfinite(long.bits_T).all()
    (tokens,) = subject.reader.tokenize([LONG])
    # A window has 38 tokens between its special ones; the first scores all but the last 14, up to a word's end.
    window = pseudo_bits(subject, bos, list(tokens.ids[:38]), eos, list(tokens.words[:38]))
    np.testing.assert_allclose(long.bits_T[:24], window[:24], atol=1e-4)
    last = pseudo_bits(subject, bos, list(tokens.ids[-38:]), eos, list(tokens.words[-38:]))
    np.testing.assert_allclose(long.bits_T[-14:], last[-14:], atol=1e-4)
    with pytest.raises(FirstwordsError, match="masked model, which cannot say"):
        score_texts(subject, [text], replace(manner, boundary="after"))


def test_marks_around_words_can_be_left_out_and_end_words_then(subject: OwnModel, vocabulary: Vocabulary) -> None:
    text = "'The cat,' (she said) sleeps ... quietly."
    (plain,) = score_texts(subject, [text], Manner("bos", marks=False))
    words = plain.words()
    assert [word.text for word in words] == ["The", "cat", "she", "said", "sleeps", "...", "quietly"]
    assert [text[word.start : word.end] for word in words] == [word.text for word in words]
    (ends,) = score_texts(subject, [text], Manner("bos", marks=False, boundary="after"))
    ids = [vocabulary.bos_id, *vocabulary.encode([text])[0]]
    table = log2_softmax(subject, ids)
    shown = [vocabulary.tokenizer.decode([token])[:1] for token in range(vocabulary.size)]
    borders = [n for n, first in enumerate(shown) if first.isspace() or (first and first in MARKS)]
    mass = -np.log2(np.exp2(table[:, [*borders, vocabulary.bos_id, vocabulary.eos_id]]).sum(axis=1))
    # "cat" is followed by a mark: its probability is that a space or a mark comes then, given that a word begins.
    first = next(n for n, token in enumerate(plain.tokens()) if token.start == words[1].start)
    expected = (words[1].bits or 0) + mass[first + words[1].tokens] - mass[first]
    assert ends.words()[1].bits == pytest.approx(expected, abs=1e-3)
    # "The" follows a mark without a space, so that its own tokens say that it begins.
    first = next(n for n, token in enumerate(plain.tokens()) if token.start == words[0].start)
    assert ends.words()[0].bits == pytest.approx((words[0].bits or 0) + mass[first + words[0].tokens], abs=1e-3)
