"""Our protocols are those of the packages that people use: item by item, ties and all, on the same model.

lm-eval and minicons run here as their users run them, from the model's folder and the same local files, offline. The
formula of the BabyLM pipeline of 2025 is written out from what its public code does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from firstwords.evaluation.judging import Evaluation, evaluate_suite
from firstwords.evaluation.opening import open_folder
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.pairs import MinimalPair, Suite, grammar_suite, load_suite, make_suite
from firstwords.evaluation.subject import Subject
from firstwords.model.hub import save_folder
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary
from tests.conftest import SHARED_DATA
from tests.evaluation.small_models import SENTENCES, byte_level, model_of, save, tokenizer_of, wrapped

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=256, init_std=0.2)
WITHIN = 1e-4
"""Nats that two float32 computations of one score may differ by."""

TIES = (
    ("A bird sings.", "A bird sings."),
    # Two ways to write é, which the normalizer of the tokenizers makes one.
    ("A caf\u00e9.", "A cafe\u0301."),
)
CLOSE = (
    # Only the last token differs: lm-eval computes both from one row.
    ("The cat sleeps.", "The cat sleeps!"),
    # One is the beginning of the other.
    ("The cat sleeps", "The cat sleeps near the tree"),
    (" The cat sleeps.", "The  cat sleeps."),
    ("Xylophones!", "Some dogs run and a girl talks near the house, quietly."),
)


def named(pairs: Sequence[tuple[str, str]], uid: str) -> list[MinimalPair]:
    return [MinimalPair(uid, str(number), *pair, uid, "syntax") for number, pair in enumerate(pairs)]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """Pairs of the built-in grammar, with ties and close calls; and some of some paradigms of BLiMP, where it is."""
    pairs = [*named(TIES, "ties"), *named(CLOSE, "close"), *grammar_suite(1).pairs[::23]]
    if SHARED_DATA.is_dir():
        blimp = load_suite("blimp", [SHARED_DATA], tmp_path_factory.mktemp("none"), offline=True)
        paradigms = list(dict.fromkeys(pair.uid for pair in blimp.pairs))[::4]
        pairs += [pair for pair in blimp.pairs[::125] if pair.uid in paradigms]
        # Good and bad are the same text in these.
        pairs += [pair for pair in blimp.pairs if pair.good == pair.bad]
    return make_suite("mine", dict.fromkeys(pairs), "a test", None)


@dataclass(frozen=True, slots=True)
class Made:
    """A folder with a model, and the model opened by us."""

    folder: Path
    subject: Subject


@pytest.fixture(scope="module", params=["ours", "gpt2"])
def made(
    request: pytest.FixtureRequest,
    vocabulary: Vocabulary,
    tokenizer_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Made:
    """Our own LLaMA with a tokenizer that adds BOS, and a GPT-2 whose tokenizer does not."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "ours":
        save_folder(Llama(SHAPE, vocabulary.size, seed=1), vocabulary, tokenizer_folder, folder)
    else:
        tokenizer = wrapped(byte_level())
        save(model_of("gpt2", len(tokenizer), max_position_embeddings=256), tokenizer, folder)
    subject = open_folder(folder)
    assert isinstance(subject, OwnModel) is (request.param == "ours")
    return Made(folder, subject)


def evaluate(subject: Subject, suite: Suite, protocol: str) -> Evaluation:
    (result,) = evaluate_suite(subject, suite, [protocol])
    return result


def lm_eval_samples(
    folder: Path, suite: Suite, place: Path
) -> tuple[dict[str, float], dict[str, list[dict[str, Any]]]]:
    """Accuracy of each paradigm, and every judgement, of lm-eval's own blimp scoring on local files."""
    import lm_eval
    import yaml
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    tasks = place / "tasks"
    tasks.mkdir()
    uids = list(dict.fromkeys(pair.uid for pair in suite.pairs))
    template = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks" / "blimp" / "_template_yaml").read_text())
    for uid in uids:
        rows = [
            json.dumps({"sentence_good": pair.good, "sentence_bad": pair.bad})
            for pair in suite.pairs
            if pair.uid == uid
        ]
        (place / f"{uid}.jsonl").write_text("\n".join(rows) + "\n")
        local = {
            "task": f"local_{uid}",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": str(place / f"{uid}.jsonl"), "cache_dir": str(place / "cache")},
        }
        (tasks / f"{uid}.yaml").write_text(yaml.safe_dump(template | local))
    found = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=16),
        tasks=[f"local_{uid}" for uid in uids],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    assert found is not None
    accuracies = {uid: found["results"][f"local_{uid}"]["acc,none"] for uid in uids}
    return accuracies, {uid: found["samples"][f"local_{uid}"] for uid in uids}


@pytest.fixture(scope="module")
def offline() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_DATASETS_DISABLE_PROGRESS_BARS"):
            patch.setenv(name, "1")
        yield


def test_lm_eval_gives_the_same_judgement_of_every_item(
    made: Made, suite: Suite, tmp_path: Path, offline: None
) -> None:
    result = evaluate(made.subject, suite, "lm-eval")
    accuracies, samples = lm_eval_samples(made.folder, suite, tmp_path)
    ties = 0
    for uid, theirs in samples.items():
        ours = [one for one in result.judged if one.pair.uid == uid]
        assert len(theirs) == len(ours) > 0
        for one, sample in zip(ours, sorted(theirs, key=lambda sample: sample["doc_id"]), strict=True):
            assert sample["doc"] == {"sentence_good": one.pair.good, "sentence_bad": one.pair.bad}
            good, bad = (float(response[0][0]) for response in sample["resps"])
            assert one.good_score == pytest.approx(good, abs=WITHIN)
            assert one.bad_score == pytest.approx(bad, abs=WITHIN)
            assert (good == bad) is (one.choice == "tie")
            assert sample["acc"] == (0.0 if one.choice == "bad" else 1.0), "a tie is right"
            ties += one.choice == "tie"
        assert accuracies[uid] == pytest.approx(result.accuracies.paradigms[uid].accuracy, abs=1e-12)
    assert ties == result.counts.ties >= len(TIES)
    assert 0.2 < result.overall.accuracy < 0.8
    assert result.overall.accuracy == pytest.approx(sum(accuracies.values()) / len(accuracies), abs=1e-12)


def test_minicons_gives_the_same_score_of_every_sentence(made: Made, suite: Suite) -> None:
    from minicons import scorer

    theirs = scorer.IncrementalLMScorer(str(made.folder), "cpu")
    result = evaluate(made.subject, suite, "minicons")
    for start in range(0, len(result.judged), 32):
        batch = result.judged[start : start + 32]
        good, bad = (theirs.sequence_score([getattr(one.pair, side) for one in batch]) for side in ("good", "bad"))
        for one, good_score, bad_score in zip(batch, good, bad, strict=True):
            assert one.good_score == pytest.approx(good_score, abs=WITHIN)
            assert one.bad_score == pytest.approx(bad_score, abs=WITHIN)


FRAMES = {"bare": None, "bos": "<s> $A", "both": "<s> $A </s>", "eos": "$A </s>"}


@pytest.fixture(params=[(frame, prefix) for frame in FRAMES for prefix in (False, True)])
def framed(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """A GPT-2 with a tokenizer of one habit: what it puts around a text, and whether it puts a space before it."""
    frame, prefix_space = request.param
    tokenizer = wrapped(byte_level(FRAMES[frame], prefix_space=prefix_space))
    folder = save(model_of("gpt2", len(tokenizer), max_position_embeddings=256), tokenizer, tmp_path / "model")
    return Made(folder, open_folder(folder))


TEXTS = [*SENTENCES, *(text for pair in (*TIES, *CLOSE) for text in pair)]


def test_minicons_agrees_whatever_the_tokenizer_puts_around_a_text(framed: Made) -> None:
    from minicons import scorer

    pairs = [(text, "The cat sleeps.") for text in TEXTS]
    expected = scorer.IncrementalLMScorer(str(framed.folder), "cpu").sequence_score(TEXTS)
    result = evaluate(framed.subject, make_suite("mine", named(pairs, "u"), "a test", None), "minicons")
    assert [one.good_score for one in result.judged] == pytest.approx(expected, abs=WITHIN)


@torch.no_grad()
def pipeline_2025(folder: Path, sentences: Sequence[str], batch: int = 64) -> list[float]:
    """Scores as the evaluation pipeline of BabyLM 2025 makes them, for a causal model and whole sentences.

    The text goes through the tokenizer with its special tokens; a token is scored if its characters end after those
    at which the first token of the row begins, which special tokens, being of no character, do not; the first token of
    the row is never predicted. Rows are padded on the right, and all in the row's float32.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right")
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    scores: list[float] = []
    for start in range(0, len(sentences), batch):
        coded = tokenizer(
            list(sentences[start : start + batch]), padding=True, return_offsets_mapping=True, return_tensors="pt"
        )
        ids, mask, ends = coded["input_ids"], coded["attention_mask"], coded["offset_mapping"][:, :, 1]
        begin = coded["offset_mapping"][:, :1, 0]
        logits = model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1]).logits
        log_probs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[:, :, 0]
        scored = (ends > begin)[:, 1:] & mask[:, 1:].bool()
        scores += (log_probs * scored).sum(1).tolist()
    return scores


def test_the_formula_of_2025_agrees_whatever_the_tokenizer_puts_around_a_text(framed: Made) -> None:
    pairs = [(text, "The cat sleeps.") for text in TEXTS]
    result = evaluate(framed.subject, make_suite("mine", named(pairs, "u"), "a test", None), "babylm-2025")
    assert [one.good_score for one in result.judged] == pytest.approx(pipeline_2025(framed.folder, TEXTS), abs=WITHIN)


def test_the_formula_of_2025_gives_the_same_judgements(made: Made, suite: Suite) -> None:
    result = evaluate(made.subject, suite, "babylm-2025")
    good, bad = (pipeline_2025(made.folder, [getattr(pair, side) for pair in suite.pairs]) for side in ("good", "bad"))
    right: dict[str, list[bool]] = {}
    for one, good_score, bad_score in zip(result.judged, good, bad, strict=True):
        assert one.good_score == pytest.approx(good_score, abs=WITHIN)
        assert one.bad_score == pytest.approx(bad_score, abs=WITHIN)
        # torch.max takes the first of equals, which is the good one; rows of another width may round otherwise.
        first = one.choice == "tie" or good_score >= bad_score
        assert first is (one.choice != "bad")
        right.setdefault(one.pair.uid, []).append(first)
    accuracies = {uid: sum(found) / len(found) for uid, found in right.items()}
    assert {uid: part.accuracy for uid, part in result.accuracies.paradigms.items()} == pytest.approx(accuracies)
    assert result.overall.accuracy == pytest.approx(sum(accuracies.values()) / len(accuracies))


@pytest.mark.parametrize(("protocol", "metric"), [("pll", "original"), ("pll-word-l2r", "within_word_l2r")])
@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_minicons_gives_the_same_pseudo_log_likelihoods(
    kind: str, protocol: str, metric: str, suite: Suite, tmp_path: Path
) -> None:
    from minicons import scorer

    tokenizer = tokenizer_of(kind)
    folder = save(model_of(kind, len(tokenizer), max_position_embeddings=258), tokenizer, tmp_path)
    subject = open_folder(folder)
    sample = replace(suite, pairs=(*suite.pairs[: len(TIES) + len(CLOSE)], *suite.pairs[10::12]))
    result = evaluate(subject, sample, protocol)
    theirs = scorer.MaskedLMScorer(str(folder), "cpu", PLL_metric=metric)

    def score(sentences: list[str]) -> list[float]:
        # Its own call of the tokenizer names a method that transformers 5 no longer has.
        coded = theirs.tokenizer(sentences, padding="longest", return_attention_mask=True)
        found = theirs.sequence_score(coded, PLL_metric=metric, reduction=lambda log_probs: log_probs.sum(0).item())
        return [float(one) for one in found]

    for start in range(0, len(result.judged), 8):
        batch = result.judged[start : start + 8]
        good, bad = score([one.pair.good for one in batch]), score([one.pair.bad for one in batch])
        assert [one.good_score for one in batch] == pytest.approx(good, abs=1e-3, rel=1e-6)
        assert [one.bad_score for one in batch] == pytest.approx(bad, abs=1e-3, rel=1e-6)


def test_protocols_differ_where_they_say_so(made: Made, suite: Suite) -> None:
    """So that agreement above is not one formula under five names."""
    # A space before a text may be a token of no character, which the pipeline of 2025 does not score.
    sample = replace(suite, pairs=tuple(pair for pair in suite.pairs if not pair.good.startswith(" ")))
    scores = {
        name: [one.good_score for one in evaluate(made.subject, sample, name).judged]
        for name in ("firstwords", "lm-eval", "babylm-2025", "minicons", "card")
    }
    # Where the tokenizer adds BOS, the pipeline of 2025 scores as we do; where not, it leaves the first token out.
    same = "firstwords" if made.subject.reader.adds_bos else "card"
    for name, found in scores.items():
        assert (found == scores["babylm-2025"]) is (name in ("babylm-2025", same)), name
    assert scores["lm-eval"] != scores["firstwords"], "a space stands before a sentence"
