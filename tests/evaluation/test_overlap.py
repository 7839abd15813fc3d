"""What of a test set stands in a training text is found, wherever it stands, and nothing else; accuracies are split."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firstwords.evaluation.ngrams import BORDER, ask, index_text, sentence_words
from firstwords.evaluation.overlap import NGRAM, find_overlap, with_and_without
from firstwords.evaluation.pairs import MinimalPair, Suite, make_suite

LONG = "the old dog that sat near the door slept"


def suite_of(*pairs: tuple[str, str]) -> Suite:
    made = [
        MinimalPair(
            uid="one" if number < 2 else "two", pair_id=str(number), good=good, bad=bad, phenomenon="p", field="f"
        )
        for number, (good, bad) in enumerate(pairs)
    ]
    return make_suite("own", made, origin="test", license="none")


def overlap_of(suite: Suite, text: str, folder: Path):  # type: ignore[no-untyped-def]
    path = folder / "train.txt"
    path.write_text(text, encoding="utf-8")
    indexed = index_text(path)
    return find_overlap(suite, path, indexed, ask(indexed, suite.sentences()))


def test_a_sentence_and_an_8gram_are_found_in_other_capitals_and_spaces(tmp_path: Path) -> None:
    suite = suite_of(
        ("The cats sleep.", "The cats sleeps."),
        (f"Look, {LONG}!", f"Look, {LONG.replace('slept', 'sleep')}!"),
        ("A zebra sings.", "A zebra sing."),
    )
    found = overlap_of(suite, f"So THE  cats sleep. I said that {LONG} well\nA zebra\nsings.", tmp_path)
    assert found.whole == ("The cats sleep.",)
    # Nine words give two 8-grams; the bad sentence shares the first.
    assert found.found_ngrams == {
        f"Look, {LONG}!": ("the old dog that sat near the door", "old dog that sat near the door slept"),
        f"Look, {LONG.replace('slept', 'sleep')}!": ("the old dog that sat near the door",),
    }
    assert found.touched == {("one", "0"), ("one", "1")}
    counts = found.to_json()["counts"]
    assert counts["pairs_touched"] == 2 and counts["sentences"] == 6 and counts["ngrams_found"] == 2


words = st.lists(st.sampled_from(["a", "b", "c."]), min_size=1, max_size=12).map(" ".join)


@given(lines=st.lists(words, min_size=1, max_size=6), sentences=st.lists(words, min_size=2, max_size=6, unique=True))
def test_it_finds_what_a_plain_search_finds(
    lines: list[str], sentences: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = "\n".join(lines)
    suite = suite_of(*zip(sentences[::2], sentences[1::2], strict=False))
    found = overlap_of(suite, text, tmp_path_factory.mktemp("text"))
    stream = sentence_words(text)

    def stands(asked: list[str]) -> bool:
        return any(stream[start : start + len(asked)] == asked for start in range(len(stream)))

    for sentence in {sentence for pair in suite.pairs for sentence in (pair.good, pair.bad)}:
        asked = sentence_words(sentence)
        assert (sentence in found.whole) == stands(asked)
        eights = [asked[start : start + NGRAM] for start in range(len(asked) - NGRAM + 1)]
        expected = {" ".join(one) for one in eights if BORDER not in one and stands(one)}
        assert set(found.found_ngrams.get(sentence, ())) == expected


def test_accuracies_are_told_with_and_without_the_touched_pairs() -> None:
    outcomes = {"one": {"0": 1.0, "1": 1.0, "2": 0.0}, "two": {"0": 0.5, "1": 1.0}}
    touched = frozenset({("one", "0"), ("two", "0")})
    shares = with_and_without(outcomes, touched, "pairs")
    assert {name: (share.accuracy, share.pairs) for name, share in shares.items() if share} == {
        "all": (0.7, 5),
        "without": (pytest.approx(2 / 3), 3),
        "touched": (0.75, 2),
    }
    by_paradigm = with_and_without(outcomes, touched, "paradigms")
    assert by_paradigm["without"] is not None and by_paradigm["without"].accuracy == pytest.approx((0.5 + 1) / 2)
    everything = frozenset((uid, pair_id) for uid, of_uid in outcomes.items() for pair_id in of_uid)
    assert with_and_without(outcomes, everything, "paradigms")["without"] is None
    assert with_and_without(outcomes, frozenset(), "paradigms")["touched"] is None
