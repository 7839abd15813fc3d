"""The built-in grammar: text that looks like documents, and pairs that only grammar can tell apart."""

from __future__ import annotations

import itertools
import math
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable

import pytest

from firstwords.corpus import lexicon
from firstwords.corpus.grammar import ARTIFICIAL_NOTICE, REGISTERS, GrammarPair, documents, minimal_pairs
from firstwords.corpus.grammar_pairs import PARADIGMS
from firstwords.errors import FirstwordsError

PER_PARADIGM = 200


def take(register: str, seed: int, size_bytes: int) -> list[str]:
    texts, size = [], 0
    for text in documents(register, seed):
        texts.append(text)
        size += len(text)
        if size >= size_bytes:
            break
    return texts


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return [text for register in REGISTERS for text in take(register, 5, 1_000_000)]


@pytest.fixture(scope="module")
def pairs() -> list[GrammarPair]:
    return list(minimal_pairs(7, PER_PARADIGM))


def words(text: str) -> list[str]:
    return text.replace(",", " ,").replace(".", " .").replace("?", " ?").split()


# -------------------------------------------------------------------------------------------------- documents


@pytest.mark.parametrize("register", REGISTERS)
def test_same_seed_same_documents_and_no_two_seeds_alike(register: str) -> None:
    first = list(itertools.islice(documents(register, 1), 20))
    assert first == list(itertools.islice(documents(register, 1), 20))
    starts = {next(documents(register, seed)) for seed in range(100)}
    assert len(starts) == 100


def test_registers_differ_for_one_seed() -> None:
    assert len({next(documents(register, 3)) for register in REGISTERS}) == len(REGISTERS)


@pytest.mark.parametrize("register", REGISTERS)
def test_documents_are_lines_of_sentences(register: str) -> None:
    for text in take(register, 2, 50_000):
        lines = text.split("\n")
        assert len(lines) >= 4
        for line in lines:
            assert line == line.strip()
            assert line[0].isupper()
            assert line[-1] in ".?!"
            assert "  " not in line
            assert line.isascii()


def test_unknown_register_names_the_nearest_one() -> None:
    with pytest.raises(FirstwordsError, match="encyclopedic") as error:
        next(documents("encyclopaedic", 1))
    assert error.value.exit_code == 2


def test_two_megabytes_a_second() -> None:
    start = time.process_time()
    take("encyclopedic", 9, 1_000_000)
    assert time.process_time() - start < 0.5


def test_the_notice_says_that_it_is_artificial() -> None:
    assert "artificial" in ARTIFICIAL_NOTICE.lower()


# ------------------------------------------------------------------------------------------------- the lexicon


def test_forms_of_words() -> None:
    verbs = {verb.base: verb for verb in (*lexicon.TRANSITIVE.members, *lexicon.INTRANSITIVE.members)}
    assert (verbs["take"].third, verbs["take"].past, verbs["take"].participle) == ("takes", "took", "taken")
    assert (verbs["hug"].past, verbs["hug"].gerund) == ("hugged", "hugging")
    assert (verbs["carry"].third, verbs["carry"].past) == ("carries", "carried")
    assert (verbs["annoy"].past, verbs["kneel"].past, verbs["arrive"].gerund) == ("annoyed", "knelt", "arriving")
    nouns = {noun.singular: noun.plural for noun in (*lexicon.ANIMATE.members, *lexicon.THINGS.members)}
    assert (nouns["fox"], nouns["mouse"], nouns["lady"], nouns["monkey"]) == ("foxes", "mice", "ladies", "monkeys")
    assert (nouns["tomato"], nouns["thief"], nouns["brush"]) == ("tomatoes", "thieves", "brushes")


def test_every_word_has_partners_in_the_corpus_and_some_held_out() -> None:
    classes = (lexicon.INTRANSITIVE, lexicon.TO_SOMEONE, lexicon.TO_SOMETHING, lexicon.DITRANSITIVE, lexicon.CLAUSAL)
    for noun in lexicon.ACTORS.members:
        for verbs in classes:
            usual, kept = verbs.partners(noun, held_out=False), verbs.partners(noun, held_out=True)
            assert kept
            assert len(usual) + len(kept) == len(verbs.members)
            assert len(usual) > 2 * len(kept)
            assert all(lexicon.is_held_out(noun, verb) for verb in kept)
            assert not any(lexicon.is_held_out(noun, verb) for verb in usual)


# ---------------------------------------------------------------------------------------------- minimal pairs


def test_as_many_pairs_as_asked_for_all_different(pairs: list[GrammarPair]) -> None:
    counts = Counter(pair.uid for pair in pairs)
    assert counts == {paradigm.uid: PER_PARADIGM for paradigm in PARADIGMS}
    assert len({(pair.uid, pair.good) for pair in pairs}) == len(pairs)
    assert len({pair.phenomenon for pair in pairs}) == 8


def test_pairs_follow_from_the_seed(pairs: list[GrammarPair]) -> None:
    assert pairs == list(minimal_pairs(7, PER_PARADIGM))
    other = {pair.good for pair in minimal_pairs(8, PER_PARADIGM)}
    assert len(other & {pair.good for pair in pairs}) < len(pairs) / 20


def test_an_odd_number_is_met_too() -> None:
    assert set(Counter(pair.uid for pair in minimal_pairs(1, 3)).values()) == {3}


def test_good_and_bad_differ_but_not_in_length(pairs: list[GrammarPair]) -> None:
    for pair in pairs:
        assert pair.good != pair.bad
        assert len(pair.good.split()) == len(pair.bad.split())
        assert pair.good.split()[0] == pair.bad.split()[0]


def test_no_test_sentence_is_in_the_corpus(corpus: list[str], pairs: list[GrammarPair]) -> None:
    seen = {
        sentence for text in corpus for line in text.split("\n") for sentence in line.replace(". ", ".\n").split("\n")
    }
    assert len(seen) > 20_000
    assert not seen & {pair.good for pair in pairs}
    assert not seen & {pair.bad for pair in pairs}


def test_held_out_subjects_and_verbs_never_meet_in_the_corpus(corpus: list[str]) -> None:
    verbs = {verb.past: verb for verb in lexicon.INTRANSITIVE.members}
    names = {name.singular: name for name in lexicon.NAMES.members}
    met = 0
    for text in corpus:
        for line in text.split("\n"):
            first, second = words(line + " .")[:2]
            if first in names and second in verbs:
                met += 1
                assert not lexicon.is_held_out(names[first], verbs[second]), line
    assert met > 300


def test_every_word_of_the_pairs_is_in_the_corpus(corpus: list[str], pairs: list[GrammarPair]) -> None:
    known = {word.lower() for text in corpus for word in words(text)}
    assert {word.lower() for pair in pairs for word in words(pair.good) + words(pair.bad)} <= known


# -------------------------------------------------------------- the instrument: who knows no grammar scores 50%


def accuracies(pairs: list[GrammarPair], score: Callable[[str], float]) -> dict[str, tuple[float, int]]:
    """Accuracy, ties counted half, and number of pairs of each paradigm, each phenomenon, and overall."""
    points: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        difference = score(pair.good) - score(pair.bad)
        point = 0.5 if abs(difference) < 1e-9 else float(difference > 0)
        for group in (pair.uid, pair.phenomenon, "overall"):
            points[group].append(point)
    return {group: (sum(values) / len(values), len(values)) for group, values in points.items()}


def unigram(corpus: list[str]) -> Callable[[str], float]:
    counts = Counter(word for text in corpus for word in words(text))
    return lambda sentence: sum(math.log(counts[word] + 1) for word in words(sentence))


def bigram(corpus: list[str]) -> Callable[[str], float]:
    counts: Counter[str] = Counter()
    followed: Counter[tuple[str, str]] = Counter()
    for text in corpus:
        for line in text.split("\n"):
            row = ["<s>", *words(line)]
            counts.update(row)
            followed.update(itertools.pairwise(row))

    def score(sentence: str) -> float:
        row = ["<s>", *words(sentence)]
        return math.fsum(math.log((followed[pair] + 0.01) / (counts[pair[0]] + 10)) for pair in itertools.pairwise(row))

    return score


def position_hash(sentence: str) -> float:
    return sum(zlib.crc32(f"{place} {word}".encode()) % 1009 for place, word in enumerate(words(sentence)))


def whole_hash(sentence: str) -> float:
    return zlib.crc32(sentence.encode())


def test_word_frequency_length_and_chance_score_one_half(corpus: list[str], pairs: list[GrammarPair]) -> None:
    scorers = {"unigram": unigram(corpus), "letters": len, "words at their places": position_hash, "coin": whole_hash}
    for name, scorer in scorers.items():
        for group, (accuracy, number) in accuracies(pairs, scorer).items():
            # 99.9% of a binomial; 20 paradigms, 8 phenomena and 4 scorers are looked at.
            assert abs(accuracy - 0.5) <= 3.3 * 0.5 / math.sqrt(number), f"{name} on {group}: {accuracy:.3f}"


def test_words_without_their_places_score_exactly_one_half(corpus: list[str], pairs: list[GrammarPair]) -> None:
    for scorer in (unigram(corpus), len):
        for group, (accuracy, _) in accuracies(pairs, scorer).items():
            assert accuracy == 0.5, group


def test_each_form_is_good_as_often_as_bad(pairs: list[GrammarPair]) -> None:
    good: Counter[tuple[str, str]] = Counter()
    bad: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        ours, theirs = Counter(words(pair.good)), Counter(words(pair.bad))
        good.update((pair.uid, word) for word in ours - theirs)
        bad.update((pair.uid, word) for word in theirs - ours)
    assert good == bad


LOCAL = {"transitivity", "passive", "ellipsis_of_noun"}
"""Constructions whose two words stand side by side, so that a bigram model may learn them."""


def test_two_words_at_a_time_are_not_enough_over_a_distance(corpus: list[str], pairs: list[GrammarPair]) -> None:
    for group, (accuracy, number) in accuracies(pairs, bigram(corpus)).items():
        if group in {paradigm.uid for paradigm in PARADIGMS} - LOCAL:
            assert abs(accuracy - 0.5) <= 3.3 * 0.5 / math.sqrt(number), f"{group}: {accuracy:.3f}"
