"""A submission is complete or says what lacks; its shape is the official one, and it can be read again."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from firstwords.errors import FirstwordsError
from firstwords.evaluation.babylm_counts import full_counts
from firstwords.evaluation.judging import evaluate_suite, write_evaluation
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.submission import TRACKS, Submission, collect_submission, write_submission
from firstwords.evaluation.submission_reader import read_submission
from firstwords.evaluation.tasks import find_task
from firstwords.evaluation.tasks.task import Lookup
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary
from tests.evaluation.submission_results import write_data, write_items, write_pairs, write_results, write_supplement

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=256, init_std=0.2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and results of official size, of a model with all checkpoints of strict-small."""
    folder = tmp_path_factory.mktemp("official")
    write_data(folder / "data")
    write_results(folder / "data", folder / "evaluation", TRACKS["strict-small"])
    return folder / "data", folder / "evaluation"


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same without BLiMP, EWoK and COMPS, and with three checkpoints."""
    folder = tmp_path_factory.mktemp("some")
    write_supplement(folder / "data")
    write_results(folder / "data", folder / "evaluation", (1, 2, 3), {"blimp_supplement": "supplement"})
    return folder / "data", folder / "evaluation"


@pytest.fixture
def spoilt(some: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of these results, to be spoilt."""
    folder = tmp_path / "evaluation"
    shutil.copytree(some[1], folder, copy_function=lambda source, target: Path(target).symlink_to(source))
    return folder


ABSENT = ("blimp: ", "ewok: ", "comps: ")
"""Tasks that `some` has no results of."""


def lookup(data: Path) -> Lookup:
    return Lookup([data], Path("nowhere"), offline=True)


@pytest.fixture(scope="module")
def complete(made: tuple[Path, Path]) -> Submission:
    data, results = made
    return collect_submission(results, "strict-small", lookup(data), words_seen=100_000_000)


def test_tracks_ask_for_the_official_checkpoints() -> None:
    assert len(TRACKS["strict-small"]) == 19
    assert len(TRACKS["strict"]) == 28
    assert TRACKS["strict-small"][:11] == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20)
    assert TRACKS["strict"][17:] == (90, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000)


def test_a_complete_submission_has_the_official_shape_and_sizes(complete: Submission) -> None:
    assert complete.lacks == []
    content = complete.content
    for key in (
        "blimp",
        "blimp_supplement",
        "ewok",
        "comps",
        "entity_tracking",
        "wug_adj",
        "wug_past",
        "reading",
        "glue",
    ):
        sizes = {part: len(found["predictions"]) for part, found in content[key].items()}
        assert sizes == dict(full_counts(key)), key
        for part, found in content[key].items():
            ids = [prediction["id"] for prediction in found["predictions"]]
            numbers = range(len(ids))
            assert ids == (list(numbers) if key == "reading" else [f"{part}_{n}" for n in numbers])
    assert content["blimp"]["adjunct_island"]["predictions"][3]["pred"].startswith("adjunct_island 3 ")
    assert content["ewok"]["agent-properties"]["predictions"][0]["pred"] in (" t0.", " u0.")
    assert content["comps"]["wugs"]["predictions"][5]["pred"] in ("A5 sings.", "B5 sings.")
    assert set(content["wug_past"]["wug_past"]["predictions"][1]) == {"id", "pred", "prob"}
    reading = content["reading"]["reading"]["predictions"]
    assert reading[0] == {"id": 0, "pred": pytest.approx(math.log(2)), "prev_pred": None}
    assert reading[1]["prev_pred"] == pytest.approx(math.log(2)), "surprisals are handed in in nats"
    assert isinstance(content["glue"]["boolq"]["predictions"][0]["pred"], int)
    words = content["aoa"]["results"]
    assert len(words) == 19 * 6_560
    assert [row["step"] for row in words[::6_560]] == [f"chck_{millions}M" for millions in TRACKS["strict-small"]]
    assert words[20] == {
        "step": "chck_1M",
        "word_count": 1_000_000,
        "target_word": "word1",
        "context_id": 0,
        "context": "BOS_ONLY",
        "surprisal": pytest.approx(math.log(2)),
    }


def test_checkpoints_stand_in_order_with_shares_from_0_to_1(made: tuple[Path, Path], complete: Submission) -> None:
    fast = complete.content["fast_eval_results"]
    assert set(fast) == {
        *("blimp", "blimp_supplement", "ewok", "entity_tracking", "wug_adj", "wug_past", "reading"),
    }
    assert {len(found) for found in fast.values()} == {19}
    assert fast["reading"][0] == {"spr": 0.01, "rt": 0.02}
    assert fast["wug_adj"][18] == {"wug_adj": 0.25}
    assert set(fast["entity_tracking"][0]) == {f"regular_{n}_ops" for n in range(6)}
    third = (made[1] / "words-0003M.blimp-fast.babylm-2025.pairs.csv").read_text().splitlines()
    own = [line.rsplit(",", 1)[1] for line in third if line.startswith("wh_island,")]
    assert len(own) == 200
    assert fast["blimp"][2]["wh_island"] == pytest.approx(sum(choice != "bad" for choice in own) / 200)


def test_what_is_written_can_be_read_again_as_the_same_choices(
    made: tuple[Path, Path], complete: Submission, tmp_path: Path
) -> None:
    path = write_submission(complete, tmp_path / "out" / "submission.json")
    assert json.loads(path.read_text()) == complete.content
    found = read_submission(path, lookup(made[0]))
    assert found.year == 2025
    assert found.left_out == {}
    for task, judged in found.judged.items():
        lines = (made[1] / f"{task}.babylm-2025.pairs.csv").read_text().splitlines()[1:]
        assert [one.choice for one in judged] == [line.rsplit(",", 1)[1] for line in lines]
        assert [one.pair for one in judged] == list(found.suites[task].pairs)


def collect(some: tuple[Path, Path], results: Path | None = None, **options: Any) -> Submission:
    return collect_submission(
        results or some[1], "strict-small", lookup(some[0]), **{"words_seen": 3_500_000} | options
    )


def test_what_lacks_is_named_and_the_file_refused(some: tuple[Path, Path], spoilt: Path, tmp_path: Path) -> None:
    (spoilt / "entity-tracking.babylm-2025.json").unlink()
    (spoilt / "glue-rte.babylm-2025.json").unlink()
    (spoilt / "words-0002M.age-of-acquisition.babylm-2025.json").unlink()
    for millions in (1, 3):
        (spoilt / f"words-{millions:04d}M.supplement-fast.babylm-2025.json").unlink()
    submission = collect(some, spoilt)
    assert [lack for lack in submission.lacks if not lack.startswith(ABSENT)] == [
        "blimp_supplement: 2 of 3 checkpoints have no supplement-fast.babylm-2025: words-0001M, words-0003M",
        "entity_tracking: there is no result entity-tracking.babylm-2025",
        "glue: there is no result glue-rte.babylm-2025",
        "aoa: 1 of 3 checkpoints have no age-of-acquisition.babylm-2025: words-0002M",
    ]
    assert "comps: there is no result comps.babylm-2025" in submission.lacks
    path = tmp_path / "submission.json"
    with pytest.raises(FirstwordsError, match="not complete; 9 things lack") as caught:
        write_submission(submission, path)
    assert "there is no result comps.babylm-2025" in str(caught.value)
    assert caught.value.exit_code == 2
    assert not path.exists()
    content = json.loads(write_submission(submission, path, partial=True).read_text())
    assert "comps" not in content
    assert [found is None for found in content["fast_eval_results"]["blimp_supplement"]] == [True, False, True]


def test_wrong_sizes_are_named(some: tuple[Path, Path], spoilt: Path) -> None:
    for name in ("entity-tracking.babylm-2025", "words-0002M.entity-tracking-fast.babylm-2025"):
        path = spoilt / f"{name}.items.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.unlink()
        path.write_text("".join(line for line in lines if not line.startswith("regular_5_ops,regular_5_ops_7,")))
    assert [lack for lack in collect(some, spoilt).lacks if not lack.startswith(ABSENT)] == [
        "entity_tracking: regular_5_ops has 158 items, not 159",
        "entity_tracking: at words-0002M, regular_5_ops has 158 items, not 159",
    ]


def test_a_result_of_other_pairs_is_refused(some: tuple[Path, Path], tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(some[0], data)
    path = data / "supplement_filtered" / "hypernym.jsonl"
    path.write_text(path.read_text().replace("hypernym 5 is", "The fifth is"))
    with pytest.raises(FirstwordsError, match=r"the result 'supplement\.babylm-2025' is of other pairs"):
        collect((data, some[1]))


def test_sentences_that_are_not_there_lack(some: tuple[Path, Path], tmp_path: Path) -> None:
    lacks = collect((tmp_path, some[1])).lacks
    expected = "blimp_supplement: the sentences of supplement are needed again, and the BLiMP supplement ('supplement')"
    assert [lack for lack in lacks if lack.startswith(f"{expected} is not there")]


def test_checkpoints_after_the_end_of_training_are_not_asked_for(some: tuple[Path, Path]) -> None:
    submission = collect(some)
    assert submission.asked == (1, 2, 3)
    assert {len(found) for found in submission.content["fast_eval_results"].values()} == {3}
    assert "3 of the 19 checkpoints" in submission.notes[0]
    untold = collect_submission(some[1], "strict", lookup(some[0]))
    assert untold.asked == TRACKS["strict"]
    assert untold.notes == ()
    assert (
        "blimp_supplement: 25 of 28 checkpoints have no supplement-fast.babylm-2025: words-0004M, words-0005M, "
        in "".join(untold.lacks)
    )


def test_the_form_of_2026_has_other_keys_and_says_what_lacks(some: tuple[Path, Path]) -> None:
    submission = collect(some, year=2026)
    assert submission.content["ewok"] is None
    assert "entity_tracking" not in submission.content
    assert "wug_adj" not in submission.content
    assert submission.content["entity_tracking_filtered"] is None
    assert set(submission.content["fast_eval_results"]) == {
        *("blimp", "blimp_supplement", "ewok", "entity_tracking_filtered"),
        *("global_piqa_parallel", "global_piqa_nonparallel", "reading"),
    }
    assert (submission.content["aoa"], submission.content["aoa_surprisals"]) == (None, None)
    assert "global_piqa_parallel: there is no result global-piqa-parallel.babylm-2026" in submission.lacks
    assert not [lack for lack in submission.lacks if lack.startswith(("blimp_supplement", "reading", "glue"))]


def test_tasks_that_are_new_in_2026_are_taken_in(some: tuple[Path, Path], spoilt: Path) -> None:
    counts = full_counts("entity_tracking_filtered")
    boxes = [
        {"uid": part, "id": f"{part}_{n}", "pred": "the cat.", "right": n % 2}
        for part, count in counts.items()
        for n in range(count)
    ]
    write_items(spoilt, "entity-tracking.babylm-2026", boxes)
    regular = [row for row in boxes if str(row["uid"]).startswith("regular")]
    solutions = [{"uid": f"en{n}", "id": f"en{n}_0", "pred": " so.", "right": 1} for n in range(103)]
    for prefix in ("", "words-0001M.", "words-0002M.", "words-0003M."):
        write_items(spoilt, f"{prefix}global-piqa-parallel.babylm-2026", solutions, value=0.75)
        write_items(spoilt, f"{prefix}entity-tracking-fast.babylm-2026", regular)
    submission = collect(some, spoilt, year=2026)
    assert not [lack for lack in submission.lacks if lack.startswith(("entity_tracking", "global_piqa_parallel"))]
    content = submission.content
    assert {part: len(own["predictions"]) for part, own in content["entity_tracking_filtered"].items()} == dict(counts)
    assert content["global_piqa_parallel"]["en7"] == {"predictions": [{"id": "en7_0", "pred": " so."}]}
    assert content["fast_eval_results"]["global_piqa_parallel"] == [{"global_piqa_parallel": 0.75}] * 3
    assert set(content["fast_eval_results"]["entity_tracking_filtered"][0]) == {f"regular_{n}_ops" for n in range(6)}


def test_an_unknown_track_and_year_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="no track 'strict-smal'") as caught:
        collect_submission(tmp_path, "strict-smal", lookup(tmp_path))
    assert caught.value.do == "did you mean 'strict-small'?"
    with pytest.raises(FirstwordsError, match="the form of 2024 is not known"):
        collect_submission(tmp_path, "strict", lookup(tmp_path), year=2024)


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("supplement.babylm-2025.json", "{", "'supplement.babylm-2025' is damaged, or its table is missing"),
        ("supplement.babylm-2025.json", "{}", "is damaged, or its table is missing"),
        ("wug-past-tense.babylm-2025.items.csv", "uid,id,pred,prob\na,b,c,d\n", "the table of the result"),
        ("wug-past-tense.babylm-2025.items.csv", "uid,pred\na,b\n", "the table of the result"),
        ("supplement.babylm-2025.pairs.csv", "uid,pair_id\n", "is of other pairs"),
    ],
)
def test_a_damaged_result_is_named(some: tuple[Path, Path], spoilt: Path, name: str, text: str, what: str) -> None:
    (spoilt / name).unlink()
    (spoilt / name).write_text(text)
    with pytest.raises(FirstwordsError, match=what):
        collect(some, spoilt)


def test_a_number_that_is_not_finite_is_never_written(some: tuple[Path, Path], spoilt: Path, tmp_path: Path) -> None:
    rows = [{"uid": "wug_past", "id": f"wug_past_{n}", "pred": "x", "prob": "nan"} for n in range(50)]
    for name in ("json", "items.csv"):
        (spoilt / f"wug-past-tense.babylm-2025.{name}").unlink()
    write_items(spoilt, "wug-past-tense.babylm-2025", rows)
    submission = collect(some, spoilt)
    with pytest.raises(FirstwordsError, match="not finite") as caught:
        write_submission(submission, tmp_path / "submission.json", partial=True)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "submission.json").exists()


def small_supplement(folder: Path) -> Path:
    nouns = ("cat", "dog", "bird", "girl", "boy")
    for part, noun in zip(full_counts("blimp_supplement"), nouns, strict=True):
        rows = [
            {"sentence_good": f"The {noun} {verb}s.", "sentence_bad": f"The {noun} {verb}."} for verb in ("sing", "run")
        ]
        path = folder / "supplement_filtered" / f"{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_predictions_are_what_a_model_chose(vocabulary: Vocabulary, tmp_path: Path) -> None:
    data = small_supplement(tmp_path / "data")
    suite = find_task("supplement").load(lookup(data))
    subject = OwnModel("tiny", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)
    (result,) = evaluate_suite(subject, suite, ["babylm-2025"])
    write_evaluation(result, tmp_path / "evaluation")
    submission = collect_submission(tmp_path / "evaluation", "strict-small", lookup(data))
    found = submission.content["blimp_supplement"]
    expected: dict[str, Any] = {}
    for one in result.judged:
        assert one.choice in ("good", "bad")
        own = expected.setdefault(one.pair.uid, {"predictions": []})["predictions"]
        own.append({"id": f"{one.pair.uid}_{len(own)}", "pred": getattr(one.pair, one.choice)})
    assert found == expected
    assert "blimp_supplement: hypernym has 2 items, not 842" in submission.lacks


def test_equal_scores_choose_the_good_sentence_in_2025_and_by_a_coin_in_2026(tmp_path: Path) -> None:
    write_supplement(tmp_path / "data")
    suite = find_task("supplement").load(lookup(tmp_path / "data"))
    results = tmp_path / "evaluation"
    results.mkdir()
    rows = [(pair.uid, pair.pair_id, 0, 0, "tie") for pair in suite.pairs]
    write_pairs(results, "supplement.babylm-2025", rows, suite.sha256)
    chosen = {}
    for year in (2025, 2026):
        content = collect_submission(results, "strict-small", lookup(tmp_path / "data"), year=year).content
        predictions = content["blimp_supplement"]["subject_aux_inversion"]["predictions"]
        chosen[year] = sum(prediction["pred"].endswith("is.") for prediction in predictions) / len(predictions)
    assert chosen[2025] == 1.0
    assert 0.45 < chosen[2026] < 0.55


def test_masked_models_are_taken_by_their_pseudo_log_likelihood(tmp_path: Path) -> None:
    data = small_supplement(tmp_path / "data")
    suite = find_task("supplement").load(lookup(data))
    (tmp_path / "evaluation").mkdir()
    rows = [(pair.uid, pair.pair_id, 0, 1, "bad") for pair in suite.pairs]
    write_pairs(tmp_path / "evaluation", "supplement.pll", rows, suite.sha256)
    content = collect_submission(tmp_path / "evaluation", "strict-small", lookup(data)).content
    assert content["blimp_supplement"]["hypernym"]["predictions"][0]["pred"] == suite.pairs[0].bad
