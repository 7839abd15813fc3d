"""Age of acquisition: surprisals are the model's, planted ages are found, and the official fit is reproduced."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from firstwords.errors import FirstwordsError
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.surprisal import Manner, score_texts
from firstwords.evaluation.tasks.age_of_acquisition import (
    TASK,
    child_age,
    correlations,
    learning_ages,
    model_age,
    official_age,
)
from firstwords.evaluation.tasks.task import Lookup, NotFound, Task, TaskData, write_task_result
from firstwords.model.attention import Layout
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=32, init_std=0.3)
MONTHS = range(16, 31)
SEEN = [1_000_000 * n for n in range(1, 10)] + [10_000_000 * n for n in range(1, 11)]
WORDS = [f"w{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(60)]


def shares(middle: float, top: float = 0.98) -> list[float]:
    return [round(top / (1 + math.exp(-0.4 * (month - middle))), 4) for month in MONTHS]


def write(folder: Path, contexts: Mapping[str, Sequence[str]], ages: Mapping[str, Sequence[float | str]]) -> TaskData:
    folder.mkdir(exist_ok=True)
    values = {word: [{"context": text} for text in texts] for word, texts in contexts.items()}
    (folder / "cdi_childes.json").write_text(json.dumps(values))
    with (folder / "cdi_human.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "word", *MONTHS])
        writer.writerows([number, word, *values] for number, (word, values) in enumerate(ages.items()))
    return TASK.load(Lookup([folder], folder))


@pytest.fixture(scope="module")
def subject(vocabulary: Vocabulary) -> OwnModel:
    return OwnModel("small", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)


@pytest.fixture
def animals(tmp_path: Path) -> TaskData:
    long = "Some trees sing and a bird does too, quietly. " * 4 + "The"
    return write(
        tmp_path,
        {"cat": ["The", "Some girl talks near the", long], "bird": ["A "], "unseen": []},
        {"cat": shares(20), "bird": shares(24), "unseen": shares(22)},
    )


def test_a_word_has_the_mean_of_its_surprisals_in_context(subject: OwnModel, animals: TaskData, tmp_path: Path) -> None:
    task: Task = TASK
    result = task.evaluate(subject, animals, "firstwords")
    assert [row["word"] for row in result.rows] == ["cat", "bird"]
    texts = [f"{context} cat" for context in animals.items[0].contexts[:2]]
    bits = [scored.words()[-1].bits for scored in score_texts(subject, texts, Manner())]
    long = animals.items[0].contexts[2]
    (scored,) = score_texts(subject, [f"{long} cat"], Manner(), given=[len(long)])
    assert scored.slid
    # Of a long context the model reads the end: BOS and as many tokens before the word as fit.
    ids = [subject.reader.bos_id, *subject.reader.tokenize([f"{long} cat"])[0].ids[-32:]]
    with torch.no_grad():
        table = subject.model(torch.tensor(ids), Layout.of([33])).log_softmax(dim=1)
    count = scored.words()[-1].tokens
    direct = -sum(float(table[place - 1, ids[place]]) for place in range(33 - count, 33)) / math.log(2)
    assert scored.words()[-1].bits == pytest.approx(direct, abs=1e-3)
    assert result.rows[0]["surprisal_bits"] == pytest.approx((sum(filter(None, bits)) + direct) / 3, abs=1e-3)
    assert result.rows[0]["contexts"] == 3
    assert result.rows[0]["chance_bits"] == pytest.approx(count * math.log2(subject.model.vocabulary))
    assert result.notes == ["1 contexts are longer than the model reads; it read their ends."]
    assert result.overall.value == pytest.approx(np.mean([row["surprisal_bits"] for row in result.rows]))
    path = write_task_result(result, tmp_path, "aoa", task=TASK, protocol="firstwords", data=animals, facts={})
    assert json.loads(path.read_text())["overall"]["items"] == 2


def test_the_official_protocol_reads_the_word_alone(
    subject: OwnModel, vocabulary: Vocabulary, animals: TaskData
) -> None:
    from tokenizers.processors import TemplateProcessing

    result = TASK.evaluate(subject, animals, "babylm-2025")
    for row in result.rows:
        ids = [vocabulary.bos_id, *vocabulary.encode([row["word"]])[0]]
        # This tokenizer adds BOS by itself, and the official script puts one more.
        ids = [*subject.reader.before, *ids]
        with torch.no_grad():
            table = subject.model(torch.tensor(ids), Layout.of([len(ids)])).log_softmax(dim=1)
        first = len(ids) - row["tokens"]
        expected = -sum(float(table[place - 1, ids[place]]) for place in range(first, len(ids))) / math.log(2)
        assert row["surprisal_bits"] == pytest.approx(expected, abs=1e-3)
    plain = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    plain.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 300), ("</s>", 301)])
    doubled = OwnModel("doubled", subject.model, Vocabulary(plain, 300, 301, 302))
    other = TASK.evaluate(doubled, animals, "babylm-2025")
    assert other.rows[0]["surprisal_bits"] != pytest.approx(
        TASK.evaluate(subject, animals, "firstwords").rows[0]["surprisal_bits"], abs=1e-2
    )


def test_the_age_of_children_is_where_half_of_them_say_the_word() -> None:
    for middle in (18.0, 22.5, 27.0):
        exact = {month: 1 / (1 + math.exp(-0.5 * (month - middle))) for month in MONTHS}
        assert child_age(exact) == pytest.approx(middle, abs=0.02)
    assert child_age(dict.fromkeys(MONTHS, 0.2)) is None
    assert child_age({16: 0.1, 17: math.nan, 18: math.nan}) is None


def learning_curve(log_middle: float, *, top: float = 15.0, low: float = 6.0, slope: float = 5.0) -> np.ndarray:
    x = np.log10(np.array(SEEN) + 1)
    return top - (top - low) / (1 + np.exp(-slope * (x - log_middle)))


def test_a_model_learns_half_way_from_chance_to_its_lowest_surprisal() -> None:
    seen = np.array(SEEN, dtype=float)
    for middle in (6.5, 7.0, 7.5):
        assert model_age(seen, learning_curve(middle), 15.0) == pytest.approx(middle, abs=0.05)
    assert model_age(seen, learning_curve(7, top=29.9, low=29.1), 30.0) == "never a bit below chance"
    assert model_age(seen, learning_curve(7, top=8, low=6), 15.0) == "learnt before the first checkpoint"
    # A single low point is no curve that gets there.
    once = np.full(len(SEEN), 15.0)
    once[3] = 5.0
    assert model_age(seen, once, 15.0) == "not learnt by the last checkpoint"


def reference_official_age(steps: Sequence[float], nats: Sequence[float]) -> float | None:
    """The official formulas, step by step."""
    from scipy.optimize import curve_fit

    def curve(x: np.ndarray, a: float, b: float, c: float, d: float) -> np.ndarray:
        return a / (1 + np.exp(-b * (x - c))) + d

    x, y = np.log10(np.array(steps) + 1), -np.array(nats)
    start = [np.max(y) - np.min(y), 1.0, np.mean(x), np.min(y)]
    try:
        a, b, c, d = curve_fit(curve, x, y, p0=start, maxfev=1000)[0]
    except RuntimeError:
        return None
    chance = np.log2(300_000)
    height = -(chance - 0.5 * (chance - min(nats)))
    if b <= 0 or a <= 0 or height <= d or height >= a + d:
        return None
    age = c - np.log(a / (height - d) - 1) / b
    return age if steps[0] <= 10**age - 1 <= steps[-1] else None


@pytest.mark.filterwarnings("ignore:Covariance", "ignore:overflow")
def test_the_official_ages_are_reproduced() -> None:
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(60):
        nats = learning_curve(rng.uniform(6, 8), top=rng.uniform(12, 20), low=rng.uniform(4, 9))
        nats = nats + rng.normal(0, 0.3, size=len(nats))
        expected, age = reference_official_age(SEEN, nats.tolist()), official_age(np.array(SEEN, dtype=float), nats)
        if expected is None:
            assert isinstance(age, str)
        else:
            found += 1
            assert age == pytest.approx(expected, abs=1e-3)
    assert 20 < found < 60


def checkpoints(middles: Mapping[str, float], rng: np.random.Generator) -> dict[int, list[dict[str, Any]]]:
    curves = {word: learning_curve(middle) + rng.normal(0, 0.15, size=len(SEEN)) for word, middle in middles.items()}
    return {
        seen: [
            {"word": word, "tokens": 1, "surprisal_bits": curve[number], "chance_bits": 15.0}
            for word, curve in curves.items()
        ]
        for number, seen in enumerate(SEEN)
    }


def test_a_model_that_learns_as_children_do_correlates_with_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    months = {word: float(rng.uniform(17, 29)) for word in WORDS}
    data = write(tmp_path, {word: ["The"] for word in WORDS}, {word: shares(months[word]) for word in WORDS})
    alike = {word: 6.3 + (age - 17) / 12 for word, age in months.items()}
    found = learning_ages(checkpoints(alike, rng), data, "firstwords")
    assert found.pearson is not None and found.spearman is not None
    assert found.pearson.value > 0.95 and found.spearman.value > 0.95
    assert found.pearson.items == len(found.rows) == 60 - sum(found.skipped.values())
    for row in found.rows:
        assert row["months"] == pytest.approx(months[row["word"]], abs=0.5)
        assert row["log10_words_seen"] == pytest.approx(alike[row["word"]], abs=0.15)
        assert math.log10(row["words_seen"] + 1) == pytest.approx(row["log10_words_seen"])
    shuffled = dict(zip(WORDS, rng.permutation(list(alike.values())), strict=True))
    none = learning_ages(checkpoints(shuffled, rng), data, "firstwords")
    assert none.pearson is not None and none.pearson.low is not None and none.pearson.high is not None
    assert none.pearson.low < 0 < none.pearson.high

    # Rows as they are read back from a file are texts.
    read = {
        seen: [{key: str(value) for key, value in row.items()} for row in rows]
        for seen, rows in checkpoints(alike, np.random.default_rng(2)).items()
    }
    same = learning_ages(checkpoints(alike, np.random.default_rng(2)), data, "firstwords")
    assert learning_ages(read, data, "firstwords").pearson == same.pearson


def test_words_without_an_age_are_counted_by_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ages = {word: shares(22) for word in WORDS[:6]} | {WORDS[6]: [0.1] * 15}
    data = write(tmp_path, {word: ["The"] * (20 if word != WORDS[5] else 19) for word in ages}, ages)
    rows = checkpoints(dict.fromkeys(ages, 7.0), rng)
    for number, seen in enumerate(SEEN):
        rows[seen][0]["surprisal_bits"] = 14.9 - 0.001 * number
        rows[seen][1]["surprisal_bits"] = 6.0 - 0.01 * number
    found = learning_ages(rows, data, "firstwords")
    assert found.skipped == {
        "model: never a bit below chance": 1,
        "model: learnt before the first checkpoint": 1,
        "children: no age": 1,
    }
    assert len(found.rows) == 4
    # In nats these curves begin below the official threshold, which is half-way to a chance level in bits.
    official = learning_ages(rows, data, "babylm-2025")
    assert official.pearson is None
    assert sum(official.skipped.values()) == 7
    assert official.skipped["fewer than 20 contexts"] == 1
    assert official.statement != found.statement


def test_correlations_have_the_intervals_of_scipy() -> None:
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(4)
    one, other = rng.normal(size=(2, 40))
    other = other + one
    pearson, spearman = correlations(one.tolist(), other.tolist())
    assert pearson is not None and spearman is not None
    expected = pearsonr(one, other).confidence_interval()
    assert (pearson.low, pearson.high) == pytest.approx((expected.low, expected.high))
    assert spearman.value == pytest.approx(spearmanr(one, other).statistic)
    assert spearman.low is not None and spearman.high is not None
    assert spearman.low < spearman.value < spearman.high
    assert correlations([1, 2, 3], [3, 2, 1]) == (None, None)
    assert correlations([1, 1, 1, 1], [1, 2, 3, 4]) == (None, None)


def test_few_or_different_checkpoints_are_refused(animals: TaskData) -> None:
    rows = [{"word": word, "tokens": 1, "surprisal_bits": 5.0, "chance_bits": 8.0} for word in ("cat", "bird")]
    with pytest.raises(FirstwordsError, match="need 5 checkpoints or more, and there are 4"):
        learning_ages(dict.fromkeys(SEEN[:4], rows), animals, "firstwords")
    with pytest.raises(FirstwordsError, match="no surprisal of 'bird'"):
        learning_ages(dict.fromkeys(SEEN, rows[:1]), animals, "firstwords")


@pytest.mark.parametrize(
    ("contexts", "ages", "message"),
    [
        ("{", None, "cannot be read"),
        ("[]", None, "no JSON object of words"),
        ('{"cat": 3}', None, "no list of contexts"),
        ('{"cat": ["The"]}', None, "no text under 'context'"),
        ('{"cat": [{"context": " "}]}', None, "no text under 'context'"),
        ('{"a cat": [{"context": "The"}]}', None, "without spaces"),
        ('{"dog": [{"context": "The"}]}', None, "no line of this word"),
        ('{"cat": []}', None, "no word has a context"),
        (None, "word,16\ncat,0.5\n", "lacks the column 'word', or columns named by ages"),
        (None, "word,16,17,18\ncat,0.5,much,1\n", "a share is no number"),
        (None, "word,16,17,18\ncat,0.5\n", "no line of this word|a share is no number"),
    ],
)
def test_what_is_malformed_is_named(contexts: str | None, ages: str | None, message: str, tmp_path: Path) -> None:
    write(tmp_path, {"cat": ["The"]}, {"cat": shares(20)})
    if contexts is not None:
        (tmp_path / "cdi_childes.json").write_text(contexts)
    if ages is not None:
        (tmp_path / "cdi_human.csv").write_text(ages)
        if "18\ncat,0.5\n" in ages:
            # A short row is a row of empty cells.
            assert math.isnan(TASK.load(Lookup([tmp_path], tmp_path)).items[0].shares[17])
            return
    with pytest.raises(FirstwordsError, match=message) as caught:
        TASK.load(Lookup([tmp_path], tmp_path))
    assert str(tmp_path) in (caught.value.where or "")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"cdi_childes\.json"):
        TASK.load(Lookup([tmp_path], tmp_path))


def test_the_published_words_have_their_size(shared_data: Path, subject: OwnModel, tmp_path: Path) -> None:
    data = TASK.load(Lookup([shared_data / "babylm-2025"], tmp_path))
    words = data.items
    # Of 504 words 19 have no context.
    assert len(words) == 485
    assert sum(len(word.contexts) for word in words) == 8_005
    assert all(list(word.shares) == list(MONTHS) for word in words)
    ages = [child_age(word.shares) for word in words[::12]]
    assert 30 <= sum(age is not None for age in ages) <= len(ages)
    assert all(16 <= age <= 30 for age in ages if age is not None)
    sample = TaskData(words[::40], data.origin, data.sha256)
    result = TASK.evaluate(subject, sample, "firstwords")
    assert all(row["surprisal_bits"] > 0 for row in result.rows)
