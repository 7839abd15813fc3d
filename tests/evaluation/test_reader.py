"""What a model reads and which tokens are scored, for tokenizers of every habit."""

from __future__ import annotations

from typing import Any

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.protocols import find_protocol
from firstwords.evaluation.reader import CONTEXTS, Context, Line, Reader
from firstwords.tokens.tokenizer import Vocabulary
from tests.evaluation.small_models import SENTENCES, byte_level, tokenizer_of, wrapped

TEXT = SENTENCES[0]
FRAMES = {"bare": None, "bos": "<s> $A", "both": "<s> $A </s>", "eos": "$A </s>"}
AROUND: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "bare": ((), ()),
    "bos": ((0,), ()),
    "both": ((0,), (1,)),
    "eos": ((), (1,)),
}


def reader_of(frame: str | None = None, *, prefix_space: bool = False, **options: Any) -> Reader:
    return Reader.of_transformers(wrapped(byte_level(frame, prefix_space=prefix_space), **options), "here")


def plain(reader: Reader, text: str) -> tuple[int, ...]:
    return tuple(reader.encode([text])[0].ids)


@pytest.mark.parametrize("frame", FRAMES)
def test_what_a_tokenizer_itself_puts_around_a_text_is_known(frame: str) -> None:
    reader = reader_of(FRAMES[frame])
    assert (reader.before, reader.after) == AROUND[frame]
    assert reader.adds_bos is (frame in ("bos", "both"))
    assert (reader.bos_id, reader.eos_id, reader.pad_id, reader.mask_id) == (0, 1, 2, None)


def test_what_is_around_a_text_is_known_of_a_tokenizer_without_latin_letters() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = {"<s>": 0, "</s>": 1, "<pad>": 2, "к": 3, "о": 4, "т": 5}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.add_special_tokens(["<s>", "</s>", "<pad>"])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    assert tokenizer.encode("a", add_special_tokens=False).ids == []
    reader = Reader.of_transformers(wrapped(tokenizer), "here")
    assert (reader.before, reader.after) == ((0,), (1,))


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("context", CONTEXTS)
def test_each_context_says_what_stands_around_a_text_and_what_is_scored(frame: str, context: Context) -> None:
    reader = reader_of(FRAMES[frame])
    ids, (before, after) = plain(reader, TEXT), AROUND[frame]
    count = len(ids)
    expected: dict[Context, tuple[tuple[int, ...], int, int]] = {
        "bos": ((0, *ids), 1, 1 + count),
        "bos-or-eos": ((0, *ids), 1, 1 + count),
        "tokenizer": ((*before, *ids), 1, len(before) + count),
        "framed": ((*before, *ids, *after), 1, len(before) + count + len(after)),
        "both-sides": ((*before, *ids, *after), 1, len(before) + count),
        "none": (ids, 1, count),
    }
    (line,) = reader.lines([TEXT], context)
    assert (line.ids, line.start, line.stop) == expected[context]
    assert len(line.words) == len(line.ids)


def test_a_tokenizer_without_bos_is_refused_takes_eos_or_leaves_the_first_token_unscored() -> None:
    reader = reader_of(eos_token="</s>", pad_token="<pad>")
    assert reader.bos_id is None
    ids = plain(reader, TEXT)
    for name in ("firstwords", "blimp"):
        with pytest.raises(FirstwordsError, match=f"'{name}' begins every text with BOS") as caught:
            find_protocol(name).lines(reader, [TEXT])
        assert "lm-eval" in (caught.value.do or "")
    (line,), _ = find_protocol("lm-eval").lines(reader, [TEXT])
    assert (line.ids, line.start) == ((1, *plain(reader, " " + TEXT)), 1)
    for name in ("babylm-2025", "minicons", "card"):
        (line,), _ = find_protocol(name).lines(reader, [TEXT])
        assert (line.ids, line.start, line.stop) == (ids, 1, len(ids))
    bare = reader_of(pad_token="<pad>")
    with pytest.raises(FirstwordsError, match="'lm-eval' begins every text with BOS or EOS, and this tokenizer"):
        find_protocol("lm-eval").lines(bare, [TEXT])


def test_a_tokenizer_that_adds_bos_and_eos_gets_neither_twice() -> None:
    reader = reader_of("<s> $A </s>")
    ids = plain(reader, TEXT)
    for name in ("firstwords", "blimp", "babylm-2025"):
        (line,), _ = find_protocol(name).lines(reader, [TEXT])
        assert (line.ids, line.start, line.stop) == ((0, *ids), 1, 1 + len(ids)), name
    (line,), _ = find_protocol("minicons").lines(reader, [TEXT])
    assert (line.ids, line.start, line.stop) == ((0, *ids, 1), 1, 2 + len(ids)), "minicons scores EOS too"


def test_bos_that_a_text_begins_with_is_not_put_there_twice_but_the_tokenizer_does_it() -> None:
    reader = reader_of("<s> $A")
    text = "<s>The cat."
    ids = plain(reader, text)
    assert ids[0] == 0
    (line,) = reader.lines([text], "bos")
    assert (line.ids, line.start) == (ids, 1)
    (line,) = reader.lines([text], "tokenizer")
    assert list(line.ids) == wrapped(byte_level("<s> $A"))(text)["input_ids"] == [0, *ids]


def test_neither_cutting_nor_padding_of_the_tokenizer_reaches_a_score() -> None:
    tokenizer = wrapped(byte_level("<s> $A </s>"), padding_side="left", model_max_length=5)
    expected = Reader.of_transformers(wrapped(byte_level("<s> $A </s>")), "here").lines([TEXT], "both-sides")
    tokenizer.backend_tokenizer.enable_truncation(5)
    tokenizer.backend_tokenizer.enable_padding(length=50, direction="left", pad_id=2)
    reader = Reader.of_transformers(tokenizer, "here")
    assert reader.lines([TEXT], "both-sides") == expected
    assert (reader.before, reader.after) == ((0,), (1,))


def test_a_slow_tokenizer_is_refused_with_the_way_to_convert_it() -> None:
    from transformers import ByT5Tokenizer

    with pytest.raises(FirstwordsError, match=r"no tokenizer\.json") as caught:
        Reader.of_transformers(ByT5Tokenizer(), "the folder")
    assert (caught.value.where, "save_pretrained" in (caught.value.do or "")) == ("the folder", True)


def test_what_is_given_is_read_and_not_scored_up_to_the_token_that_reaches_beyond() -> None:
    reader = reader_of("<s> $A </s>")
    prompt = "The cat sleeps"
    (line,) = reader.lines([prompt + " near the tree."], "bos", given=[len(prompt)])
    assert reader.tokenizer.decode(line.ids[line.start : line.stop]).strip() == "near the tree."
    # In the middle of a token: that token is scored.
    (coded,) = reader.encode([TEXT])
    start, end = coded.offsets[1]
    assert end - start > 1
    (line,) = reader.lines([TEXT], "bos", given=[end - 1])
    assert line.start == 2
    for context in CONTEXTS:
        first, second = reader.lines([TEXT, TEXT], context, given=[0, len(prompt)])
        assert first == reader.lines([TEXT], context)[0]
        assert first.ids == second.ids
        assert 0 < second.scored < first.scored


@pytest.mark.parametrize("given", [None, [0]])
def test_a_lone_sign_of_a_space_is_scored_except_as_the_pipeline_of_2025_does(given: list[int] | None) -> None:
    reader = reader_of("<s> $A", prefix_space=True)
    (coded,) = reader.encode(["Xylophones!"])
    assert coded.tokens[0] == "Ġ"
    assert coded.offsets[0] == (0, 0)
    for context in ("bos", "bos-or-eos", "framed", "both-sides"):
        assert reader.lines(["Xylophones!"], context, given=given)[0].start == 1
    (line,) = reader.lines(["Xylophones!"], "tokenizer", given=given)
    assert (line.start, line.scored) == (2, len(coded.ids) - 1)


def test_a_text_of_no_token_is_refused_by_name() -> None:
    tokenizer = byte_level("<s> $A")
    reader = Reader.of_transformers(wrapped(tokenizer), "here")
    for context in CONTEXTS:
        with pytest.raises(FirstwordsError, match="has 0 tokens, so that 'mine' has none to score") as caught:
            reader.lines(["The cat.", ""], context, name="mine")
        assert caught.value.where == "''"


def test_a_text_of_one_token_is_refused_only_where_nothing_stands_before_it() -> None:
    reader = reader_of()
    assert plain(reader, "a")
    assert reader.lines(["a"], "bos")[0].scored == 1
    for context in ("tokenizer", "framed", "none"):
        with pytest.raises(FirstwordsError, match="has 1 tokens"):
            reader.lines(["a"], context)


def test_words_of_a_line_are_those_of_the_text() -> None:
    reader = Reader.of_transformers(tokenizer_of("bert"), "here")
    assert (reader.mask_id, reader.unknown_id, reader.pad_id, reader.bos_id) == (4, 1, 0, None)
    (line,) = reader.lines(["The teacher sleeps."], "both-sides")
    assert (line.words[0], line.words[-1]) == (None, None)
    inner = line.words[1:-1]
    assert sorted(set(inner)) == [0, 1, 2, 3]
    assert list(inner) == sorted(inner)
    assert len(inner) > 4


def test_texts_that_were_tokenized_before_give_the_same_lines() -> None:
    reader = reader_of("<s> $A")
    tokenized = reader.tokenize(SENTENCES)
    assert [text.text for text in tokenized] == SENTENCES
    mixed = [one if number % 2 else one.text for number, one in enumerate(tokenized)]
    assert reader.lines(mixed, "bos") == reader.lines(SENTENCES, "bos")


def test_our_own_vocabulary_reads_as_its_folder_does(vocabulary: Vocabulary, tokenizer_folder: Any) -> None:
    from transformers import AutoTokenizer

    theirs = Reader.of_transformers(AutoTokenizer.from_pretrained(tokenizer_folder), "here")
    ours = Reader.of(vocabulary)
    for context in CONTEXTS:
        assert ours.lines(SENTENCES, context) == theirs.lines(SENTENCES, context)
    assert ours.before == theirs.before == (vocabulary.bos_id,)


def test_a_line_counts_what_is_scored() -> None:
    assert Line((5, 6, 7, 8), 2, 3).scored == 1
