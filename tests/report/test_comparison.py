"""What is said of two models: the arithmetic, the sentence, and what cannot be compared."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from firstwords.errors import FirstwordsError
from firstwords.evaluation.judging import Counts, Evaluation, JudgedPair, judge, write_evaluation
from firstwords.evaluation.pairs import MinimalPair, Suite, load_suite, make_suite
from firstwords.evaluation.preflight import Preflight
from firstwords.evaluation.protocols import find_protocol
from firstwords.report.comparison import Comparison, compare
from firstwords.report.judgements import Result, find_results, read_result, result_of

PHENOMENA = {"agreement": 3, "binding": 2, "islands": 5}
PAIRS = 40
SUITE = make_suite(
    "mine",
    [
        MinimalPair(f"{phenomenon}_{number}", str(pair), f"good {pair}", f"bad {pair}", phenomenon, "syntax")
        for phenomenon, paradigms in PHENOMENA.items()
        for number in range(paradigms)
        for pair in range(PAIRS)
    ],
    "a test",
    None,
    ["made up"],
)
UIDS = list(dict.fromkeys(pair.uid for pair in SUITE.pairs))


def judgements(suite: Suite, accuracies: Mapping[str, float], seed: int, ties: float = 0) -> tuple[JudgedPair, ...]:
    """Pairs judged with these chances of being right; `hard` pairs are the same for all seeds."""
    hard, rng = np.random.default_rng(0).random(len(suite.pairs)), np.random.default_rng(seed)
    found = []
    for pair, same in zip(suite.pairs, hard, strict=True):
        luck = same if rng.random() < 0.5 else rng.random()
        difference = 0.0 if rng.random() < ties else 1.0 if luck < accuracies[pair.uid] else -1.0
        found.append(JudgedPair(pair, -10 + difference, -10))
    return tuple(found)


def write(
    folder: Path,
    judged: Sequence[JudgedPair],
    suite: Suite = SUITE,
    protocol: str = "firstwords",
    name: str | None = None,
) -> Path:
    """A result as `firstwords evaluate` writes it."""
    chosen = find_protocol(protocol)
    evaluation = Evaluation(
        suite=suite,
        protocol=chosen,
        accuracies=judge(judged, chosen),
        counts=Counts(len(judged), sum(one.choice == "tie" for one in judged), 0, 0, 0),
        judged=tuple(judged),
        model={"name": folder.name},
        tokenizer=Preflight(True, True, True, True, 0, 0, True),
        dtype="float32",
        device="cpu",
        seconds=1.0,
        notes=suite.notes,
    )
    path = write_evaluation(evaluation, folder / "evaluation", name)
    grouping = {pair.uid: {"phenomenon": pair.phenomenon, "field": pair.field} for pair in suite.pairs}
    change(path, lambda values: values.setdefault("grouping", grouping))
    return path


def change(path: Path, how: Any) -> None:
    values = json.loads(path.read_text())
    how(values)
    path.write_text(json.dumps(values))


def flat(accuracy: float) -> dict[str, float]:
    return dict.fromkeys(UIDS, accuracy)


def result(
    name: str, accuracies: Mapping[str, float], seed: int, protocol: str = "firstwords", ties: float = 0
) -> Result:
    judged = judgements(SUITE, accuracies, seed, ties)
    return result_of(name, SUITE, judged, find_protocol(protocol), f"{name}.json")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """The results of two models."""
    a = write(tmp_path / "model-a", judgements(SUITE, flat(0.6), 1))
    b = write(tmp_path / "model-b", judgements(SUITE, flat(0.8), 2))
    return a, b


def test_every_number_is_that_of_the_two_files(two: tuple[Path, Path]) -> None:
    a, b = (read_result(path, path.parent.parent.name) for path in two)
    found = compare([a], [b])
    written = [json.loads(path.read_text()) for path in two]
    counted: dict[str, list[tuple[str, str]]] = {}
    rows = [list(csv.DictReader(path.with_name("mine.firstwords.pairs.csv").open(newline=""))) for path in two]
    for one, other in zip(*rows, strict=True):
        counted.setdefault(one["uid"], []).append((one["choice"], other["choice"]))

    assert [row.name for row in found.paradigms] == UIDS
    p_values = []
    for row in found.paradigms:
        only_a = counted[row.name].count(("good", "bad"))
        only_b = counted[row.name].count(("bad", "good"))
        assert (row.pairs, row.only_a, row.only_b) == (PAIRS, only_a, only_b)
        assert row.difference.estimate == pytest.approx((only_b - only_a) / PAIRS)
        p_values.append(mcnemar([[0, only_a], [only_b, 0]], exact=True).pvalue)
        for side, of in zip((row.a, row.b), written, strict=True):
            expected = of["paradigms"][row.name]
            assert (side.estimate, side.low, side.high) == pytest.approx(
                [expected[k] for k in ("accuracy", "low", "high")]
            )
    assert [row.p for row in found.paradigms] == pytest.approx(p_values)
    assert [row.p_holm for row in found.paradigms] == pytest.approx(multipletests(p_values, method="holm")[1])

    assert {row.name: row.paradigms for row in found.phenomena} == PHENOMENA
    for row in found.phenomena:
        parts = [part for part in found.paradigms if part.name.startswith(row.name)]
        assert row.only_b == sum(part.only_b or 0 for part in parts)
        assert row.difference.estimate == pytest.approx(np.mean([part.difference.estimate for part in parts]))
        for side, of in zip((row.a, row.b), written, strict=True):
            expected = of["phenomena"][row.name]
            assert (side.estimate, side.low, side.high) == pytest.approx(
                [expected[k] for k in ("accuracy", "low", "high")]
            )
        narrower = row.difference.high - row.difference.low
        assert narrower < min(part.difference.high - part.difference.low for part in parts)
    assert [row.name for row in found.fields] == ["syntax"]

    overall = found.overall
    assert (overall.kind, overall.paradigms, overall.pairs) == ("mean of 10 paradigms", 10, 400)
    assert overall.a.estimate == pytest.approx(written[0]["overall"]["accuracy"])
    assert overall.difference.estimate == pytest.approx(overall.b.estimate - overall.a.estimate)
    assert overall.these_paradigms.estimate == pytest.approx(overall.difference.estimate)
    assert overall.only_b == sum(row.only_b or 0 for row in found.paradigms)
    assert overall.difference.share_better == 1
    assert found.notes[0] == "made up"
    assert "One seed each" in found.notes[1]
    assert (found.a.names, found.b.label) == (("model-a",), "model-b")
    # Nothing in it that JSON cannot hold.
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["sentence"] == found.sentence
    assert values["overall"]["difference"]["p"] == overall.difference.p


def numbers(comparison: Comparison) -> list[float]:
    lines = [*comparison.fields, *comparison.phenomena, *comparison.paradigms]
    differences = [line.difference for line in lines]
    differences += [comparison.overall.difference, comparison.overall.these_paradigms]
    return [value for one in differences for value in (one.estimate, one.low, one.high)]


accuracies = st.lists(st.sampled_from([0.0, 0.3, 0.6, 0.9, 1.0]), min_size=10, max_size=10).map(
    lambda values: dict(zip(UIDS, values, strict=True))
)


@settings(max_examples=4, phases=[Phase.generate])
@given(a=accuracies, b=accuracies, seeds=st.sampled_from([(1, 1), (2, 2), (2, 1)]), ties=st.sampled_from([0, 0.2]))
def test_turned_around_a_comparison_has_the_other_sign_and_the_same_p(
    a: dict[str, float], b: dict[str, float], seeds: tuple[int, int], ties: float
) -> None:
    side_a = [result(f"a{seed}", a, seed, ties=ties) for seed in range(seeds[0])]
    side_b = [result(f"b{seed}", b, 10 + seed, ties=ties) for seed in range(seeds[1])]
    there, back = compare(side_a, side_b), compare(side_b, side_a)
    turned = np.array(numbers(back)).reshape(-1, 3)[:, [0, 2, 1]].ravel()
    assert numbers(there) == pytest.approx(-turned, abs=1e-9)
    for one, other in zip(there.paradigms, back.paradigms, strict=True):
        assert (one.only_a, one.only_b) == (other.only_b, other.only_a)
        assert one.p == pytest.approx(other.p, rel=1e-3)
        assert (one.a, one.b) == (other.b, other.a)
        assert one.p_holm >= one.p
    assert there.overall.difference.p == pytest.approx(back.overall.difference.p, rel=1e-3)
    assert there.overall.difference.share_better == pytest.approx(1 - back.overall.difference.share_better)

    same = compare(side_a, side_a)
    assert same.alike or seeds[0] > 1
    assert {row.p for row in (*same.paradigms, *same.phenomena)} == {1.0}
    assert {row.difference.estimate for row in (*same.paradigms, *same.phenomena)} == {0.0}
    assert (same.overall.difference.estimate, same.overall.difference.p) == (0, 1)
    assert same.overall.difference.low < 0 < same.overall.difference.high


def test_a_tie_counts_as_the_protocol_says() -> None:
    def sides(protocol: str) -> Comparison:
        tied = result("a", flat(1.0), 1, protocol, ties=1.0)
        right = result("b", flat(1.0), 2, protocol)
        return compare([tied], [right])

    half = sides("firstwords")
    assert half.overall.a.estimate == pytest.approx(0.5)
    # Half right is not wrong: no pair is one that only B has right.
    assert (half.overall.only_a, half.overall.only_b, half.overall.mcnemar_p) == (0, 0, 1)
    assert half.overall.difference.estimate == pytest.approx(0.5)
    assert not half.alike
    wrong = sides("blimp")
    assert (wrong.overall.a.estimate, wrong.overall.only_b) == (0, 400)


def test_pooled_pairs_are_compared_where_the_protocol_pools_them() -> None:
    found = compare([result("a", flat(0.4), 1, "card")], [result("b", flat(0.9), 2, "card")])
    assert found.overall.kind == "400 pairs pooled"
    right = [
        sum(sum(of.values()) for of in result(*one, "card").outcomes.values())
        for one in (("a", flat(0.4), 1), ("b", flat(0.9), 2))
    ]
    assert (found.overall.a.estimate, found.overall.b.estimate) == pytest.approx([count / 400 for count in right])


def test_other_models_accuracies_stand_beside() -> None:
    references = {"5-gram": {uid: number / 10 for number, uid in enumerate(UIDS)}, "partial": {UIDS[0]: 0.3}}
    found = compare([result("a", flat(0.5), 1)], [result("b", flat(0.6), 2)], references=references)
    assert found.references == ("5-gram", "partial")
    assert found.phenomena[0].references == {"5-gram": pytest.approx(0.1)}
    assert found.paradigms[0].references == {"5-gram": 0.0, "partial": 0.3}
    assert found.overall.references == {"5-gram": pytest.approx(0.45)}


SENTENCES = {
    "better": (flat(0.6), flat(0.8)),
    "worse": (flat(0.8), flat(0.6)),
    "no difference": (flat(0.7), flat(0.7)),
    # Better where it is better, worse where it is worse, and both for sure: nothing about other paradigms.
    "these paradigms": (flat(0.5), {uid: 0.95 if number < 6 else 0.3 for number, uid in enumerate(UIDS)}),
}
N = r"(-?\d+\.\d)"
P = r"\(?p [<=] 0\.\d+\)"
VERDICT = rf"model-b is (?:better|worse) than model-a by {N} points \(95% interval {N} to {N}, as were other"
EXPECTED = {
    "better": rf"{VERDICT} paradigms drawn; {P}\.",
    "worse": rf"{VERDICT} paradigms drawn; {P}\.",
    "no difference": rf"model-b and model-a cannot be told apart: the difference is {N} points in favour of "
    rf"model-[ab], and its 95% interval, {N} to {N} for model-b as were other paradigms drawn, holds 0 {P}\.",
    "these paradigms": rf"On these 10 paradigms, {VERDICT} pairs drawn; {P}\. Of other constructions that cannot be "
    rf"said: as were other paradigms drawn, the 95% interval of the difference, {N} to {N} points, holds 0 {P}\.",
}


@pytest.mark.parametrize("case", SENTENCES)
def test_the_sentence_says_no_more_than_the_numbers(case: str) -> None:
    a, b = SENTENCES[case]
    found = compare([result("model-a", a, 1)], [result("model-b", b, 3)])
    match = re.fullmatch(EXPECTED[case], found.sentence)
    assert match, found.sentence
    other, these = found.overall.difference, found.overall.these_paradigms
    told = these if case == "these paradigms" else other
    expected = [abs(told.estimate), told.low, told.high]
    if case == "worse":
        expected = [-told.estimate, -told.high, -told.low]
    if case == "these paradigms":
        expected += [other.low, other.high]
    assert [float(number) for number in match.groups()] == pytest.approx([100 * value for value in expected], abs=0.051)
    assert ("worse" in found.sentence) == (case == "worse")
    assert ("holds 0" in found.sentence) == (other.low <= 0 <= other.high)


def test_sentences_to_the_letter() -> None:
    found = compare([result("model-a", flat(0.6), 1)], [result("model-b", flat(0.8), 2)])
    overall = found.overall
    sure = replace(overall.difference, estimate=0.0444, low=0.0212, high=0.0671, p=0.00043)
    unsure = replace(overall.difference, estimate=-0.0004, low=-0.0123, high=0.0119, p=0.95)

    def sentence(**changes: Any) -> str:
        return replace(found, overall=replace(overall, **changes)).sentence

    assert sentence(difference=sure) == (
        "model-b is better than model-a by 4.4 points (95% interval 2.1 to 6.7, as were other paradigms drawn; "
        "p < 0.001)."
    )
    narrow = replace(sure, estimate=0.0021, low=0.0003, high=0.0039, p=0.02)
    assert sentence(difference=narrow) == (
        "model-b is better than model-a by 0.21 points (95% interval 0.03 to 0.39, as were other paradigms drawn; "
        "p = 0.02)."
    )
    assert sentence(difference=unsure, these_paradigms=unsure) == (
        "model-b and model-a cannot be told apart: the difference is 0.0 points, and its 95% interval, -1.2 to 1.2 for "
        "model-b as were other paradigms drawn, holds 0 (p = 0.95)."
    )
    assert sentence(
        difference=unsure, these_paradigms=replace(sure, estimate=-0.02, low=-0.03, high=-0.01, p=0.004)
    ) == (
        "On these 10 paradigms, model-b is worse than model-a by 2.0 points (95% interval 1.0 to 3.0, as were other "
        "pairs drawn; p = 0.004). Of other constructions that cannot be said: as were other paradigms drawn, the 95% "
        "interval of the difference, -1.2 to 1.2 points, holds 0 (p = 0.95)."
    )
    same = result("model-a", flat(0.6), 1)
    assert compare([same], [replace(same, name="model-b", where="b")]).sentence == (
        "model-b and model-a judge every pair alike."
    )


def test_a_copied_seed_is_told() -> None:
    one, other = (result(name, flat(0.6), number) for number, name in enumerate(("a", "b")))
    found = compare([one, replace(one, name="copy", where="copy.json"), other], [result("c", flat(0.6), 3)])
    assert [note for note in found.notes if "alike" in note] == [
        "a and copy judge every pair alike: a copy is no second seed."
    ]


def test_several_seeds_are_one_side() -> None:
    a = [result(f"a-{seed}", flat(0.6), seed) for seed in range(3)]
    b = [result(f"b-{seed}", flat(0.7), 10 + seed) for seed in range(3)]
    found = compare(a, b)
    assert (found.a.label, found.b.names) == ("a-0 (3 seeds)", ("b-0", "b-1", "b-2"))
    assert (found.overall.only_a, found.overall.mcnemar_p) == (None, None)
    assert [row.p for row in found.paradigms] == [row.difference.p for row in found.paradigms]
    single = [compare([one], [one]).overall.a.estimate for one in a]
    assert found.overall.a.estimate == pytest.approx(np.mean(single))
    assert found.overall.a.spread.sd == pytest.approx(np.std(single, ddof=1))
    assert found.overall.a.spread.greatest == pytest.approx(max(single))
    assert not any("seed" in note for note in found.notes)
    assert compare(a, b[:1]).notes[-1].startswith("b-0 has one seed: other seeds of it are taken to differ as")
    with pytest.raises(FirstwordsError, match="'a-0' is given twice"):
        compare([a[0], a[0]], b)


def changed(one: Result, **changes: Any) -> Result:
    return replace(one, name="model-b", where="b.json", **changes)


def test_what_is_not_the_same_is_not_compared() -> None:
    one = result("model-a", flat(0.6), 1)
    fewer = {uid: of for uid, of in one.outcomes.items() if uid != UIDS[0]}
    for other, what in (
        (changed(one, sha256="0" * 64), "judged on different data"),
        (changed(one, protocol="blimp"), "model-a was judged under the protocol 'firstwords', model-b under 'blimp'"),
        (changed(one, settings={**one.settings, "tie": 1.0}), "'firstwords' did not mean the same .*: tie 0.5 and 1.0"),
        (changed(one, outcomes=fewer), "the pairs of model-a and model-b do not match"),
    ):
        for sides in (([one], [other]), ([other], [one]), ([one, other], [one])):
            with pytest.raises(FirstwordsError) as caught:
                compare(*sides)
            assert caught.value.exit_code == 2
            assert "b.json" in str(caught.value)
        with pytest.raises(FirstwordsError, match=what):
            compare([one], [other])
    # The order of the pairs does not matter.
    turned = {uid: dict(reversed(of.items())) for uid, of in reversed(one.outcomes.items())}
    assert compare([one], [changed(one, outcomes=turned)]).alike


def test_results_are_found_by_suite_and_protocol(two: tuple[Path, Path]) -> None:
    path, _ = two
    judged = judgements(SUITE, flat(0.5), 3)
    write(path.parent.parent, judged, protocol="lm-eval")
    write(path.parent.parent, judged, name="untrained.mine.firstwords")
    write(path.parent.parent, judged, name="words-0001M.mine.firstwords")
    (path.parent / "reading.spillover.json").write_text('{"task": "reading", "metric": "R2"}')
    found = find_results(path.parent)
    assert found == {("mine", "firstwords"): path, ("mine", "lm-eval"): path.with_name("mine.lm-eval.json")}


def chosen(line: str, choice: str) -> str:
    """A line of a pairs file with another choice in it."""
    fields = line.rstrip("\n").split(",")
    return ",".join([*fields[:4], choice, *fields[5:]]) + "\n"


def line_of(error: FirstwordsError) -> str:
    return (error.where or "").rpartition(":")[2]


def test_files_that_are_not_whole_are_refused(two: tuple[Path, Path]) -> None:
    path, _ = two
    pairs = path.with_name("mine.firstwords.pairs.csv")
    whole, lines = pairs.read_text(), pairs.read_text().splitlines(keepends=True)

    def refusal(content: str) -> FirstwordsError:
        pairs.write_text(content)
        with pytest.raises(FirstwordsError) as caught:
            read_result(path, "model-a")
        assert caught.value.exit_code == 2
        assert str(pairs) in (caught.value.where or "")
        return caught.value

    assert "was there before" in (error := refusal(whole + lines[1])).what
    assert line_of(error) == "402"
    assert line_of(refusal("".join([*lines[:7], "agreement_0,9\n", *lines[7:]]))) == "8"
    assert line_of(refusal("".join([*lines[:5], chosen(lines[5], "better"), *lines[6:]]))) == "6"
    assert line_of(refusal("uid,pair\n")) == "1"
    assert line_of(refusal("")) == "1"
    assert "not those of which" in refusal("".join(lines[:-1])).what
    flipped = chosen(lines[1], "bad" if ",good," in lines[1] else "good")
    assert "not those of which" in refusal("".join([lines[0], flipped, *lines[2:]])).what
    pairs.unlink()
    with pytest.raises(FirstwordsError, match="no judgements of single pairs") as caught:
        read_result(path, "model-a")
    assert caught.value.where == str(pairs)
    for content in ("{", "[]", "{}", '{"suite": "mine", "settings": {}}'):
        path.write_text(content)
        with pytest.raises(FirstwordsError, match=r"no JSON|no result on minimal pairs"):
            read_result(path, "model-a")


def test_results_without_grouping_have_no_phenomena_and_say_so(two: tuple[Path, Path]) -> None:
    for path in two:
        change(path, lambda values: values.pop("grouping"))
    found = compare(*([read_result(path, "x")] for path in two))
    assert (found.phenomena, found.fields, len(found.paradigms)) == ((), (), 10)
    assert "evaluate again" in found.notes[-1]


def test_blimp_is_compared_by_its_twelve_phenomena(shared_data: Path, tmp_path: Path) -> None:
    blimp = load_suite("blimp", [shared_data], tmp_path, offline=True)
    uids = list(dict.fromkeys(pair.uid for pair in blimp.pairs))
    sides = []
    for name, accuracy, seed in (("model-a", 0.68, 1), ("model-b", 0.73, 2)):
        path = write(tmp_path / name, judgements(blimp, dict.fromkeys(uids, accuracy), seed), suite=blimp)
        sides.append([read_result(path, name)])
    found = compare(*sides)
    assert (len(found.phenomena), len(found.fields), len(found.paradigms)) == (12, 4, 67)
    assert sum(row.pairs for row in found.phenomena) == found.overall.pairs == 67_000
    assert found.overall.difference.low < 0.05 < found.overall.difference.high
    assert found.sentence.startswith("model-b is better than model-a by")
