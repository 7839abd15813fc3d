"""Natural Stories: words keep their times; a planted effect is found in stories that were not fitted, noise is not."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from firstwords.errors import FirstwordsError
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.surprisal import Manner, score_texts
from firstwords.evaluation.tasks.natural_stories import TASK, held_out_gains
from firstwords.evaluation.tasks.task import Lookup, NotFound, Task, TaskData
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=64, init_std=0.3)
NOUNS, VERBS = ["cat", "dog", "bird", "girl", "teacher", "riverbank"], ["sleeps", "sings", "runs", "talks", "eats"]


def stories(rng: np.random.Generator, count: int = 4, sentences: int = 25) -> list[list[str]]:
    return [
        " ".join(
            f"'The {rng.choice(NOUNS)} {rng.choice(VERBS)},' said the {rng.choice(NOUNS)}, who {rng.choice(VERBS)}."
            for _ in range(sentences)
        ).split()
        for _ in range(count)
    ]


def write(folder: Path, texts: list[list[str]], times: list[np.ndarray], *, published: bool = True) -> TaskData:
    """The corpus as it is published: words in the order of the text, times in that of the alphabet."""
    folder.mkdir(exist_ok=True)
    words = [(word, place, story) for story, text in enumerate(texts, 1) for place, word in enumerate(text, 1)]
    (folder / "all_stories.tok").write_text(
        "word\tzone\titem\n" + "".join(f"{word}\t{place}\t{story}\n" for word, place, story in words)
    )
    lines = [
        f"{word}\t{place}\t{story}\t70\t{times[story - 1][place - 1]}\t90\n" for word, place, story in sorted(words)
    ]
    (folder / "processed_wordinfo.tsv").write_text("word\tzone\titem\tnItem\tmeanItemRT\tsdItemRT\n" + "".join(lines))
    if published:
        (folder / "freqs").mkdir(exist_ok=True)
        (folder / "freqs" / "freqs-1.tsv").write_text(
            "".join(
                f"{story}.{place}.{kind}\t1\t{word}\t{10 ** len(word)}\tNA\n"
                for word, place, story in words
                for kind in ("whole", "word", "1")
            )
        )
    return TASK.load(Lookup([folder], folder))


@pytest.fixture(scope="module")
def subject(vocabulary: Vocabulary) -> OwnModel:
    return OwnModel("small", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)


def noise(rng: np.random.Generator, texts: list[list[str]]) -> list[np.ndarray]:
    return [rng.normal(330, 30, size=len(text)) for text in texts]


def test_a_planted_effect_is_found_and_noise_is_not(subject: OwnModel, tmp_path: Path) -> None:
    task: Task = TASK
    rng = np.random.default_rng(0)
    texts = stories(rng)
    empty = task.evaluate(subject, write(tmp_path, texts, noise(rng, texts)), "firstwords")
    assert empty.overall.low is not None and empty.overall.high is not None
    assert empty.overall.low < 0.002
    assert abs(empty.overall.value) < 0.01

    bits = [[row["surprisal_bits"] for row in empty.rows if row["story"] == story] for story in range(1, 5)]
    planted = []
    for text, of_text in zip(texts, bits, strict=True):
        own = np.array(of_text)
        earlier = np.concatenate([[0.0], own[:-1]])
        planted.append(300 + 3 * own + 2 * earlier + rng.normal(0, 12, size=len(text)))
    found = task.evaluate(subject, write(tmp_path, texts, planted), "firstwords")
    assert found.overall.low is not None and found.overall.high is not None
    assert 0.1 < found.overall.low < found.overall.value < found.overall.high
    fitted = found.more["all_stories_fitted"]
    assert fitted["slope_ms_per_bit"]["value"] == pytest.approx(3, abs=0.35)
    assert fitted["slope_ms_per_bit"]["low"] < 3.2 and fitted["slope_ms_per_bit"]["high"] > 2.8
    assert found.more["floor_of_number_of_tokens"] < found.overall.value
    assert list(found.parts) == ["story 1", "story 2", "story 3", "story 4"]
    assert found.overall.items == sum(len(text) - 2 for text in texts)
    assert found.overall.value == pytest.approx(
        sum(part.value * part.items for part in found.parts.values()) / found.overall.items
    )


def test_words_have_their_own_surprisal_in_the_whole_story_and_their_own_time(
    subject: OwnModel, tmp_path: Path
) -> None:
    rng = np.random.default_rng(1)
    texts = stories(rng, 2)
    times = noise(rng, texts)
    result = TASK.evaluate(subject, write(tmp_path, texts, times), "firstwords")
    assert [row["word"] for row in result.rows] == [word for text in texts for word in text]
    np.testing.assert_allclose([row["time_ms"] for row in result.rows], np.concatenate(times))
    # Each story is longer than the model reads at once.
    (scored,) = score_texts(subject, [" ".join(texts[1])], Manner(marks=False))
    assert scored.slid
    bits = [row["surprisal_bits"] for row in result.rows if row["story"] == 2]
    assert bits == pytest.approx([unit.bits for unit in scored.words()], abs=1e-4)
    # Marks around words are read and not scored.
    assert scored.words()[0].text == "The"
    assert texts[1][0] == "'The"


def test_gains_are_those_of_the_normal_distribution() -> None:
    import statsmodels.api as models
    from scipy.stats import norm

    rng = np.random.default_rng(2)
    base, fold = np.column_stack([np.ones(60), rng.normal(size=60)]), np.repeat([3, 5, 7], 20)
    full = np.column_stack([base, rng.normal(size=60)])
    y = full @ [1.0, 2.0, 3.0] + rng.normal(size=60)
    gains = held_out_gains(y, base, full, fold)
    held = fold == 5
    expected = 0.0
    for design, sign in ((full, 1), (base, -1)):
        fit = models.OLS(y[~held], design[~held]).fit()
        spread = math.sqrt(fit.ssr / (~held).sum())
        expected = expected + sign * norm.logpdf(y[held], fit.predict(design[held]), spread)
    np.testing.assert_allclose(gains[held], expected, atol=1e-9)


def test_frequencies_are_the_corpus_own_or_counted_and_said_so(subject: OwnModel, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    texts = stories(rng, 2)
    times = noise(rng, texts)
    published = write(tmp_path / "a", texts, times)
    assert published.items.words[0].log_frequency == len(texts[0][0])
    counted = write(tmp_path / "b", texts, times, published=False)
    the = sum(word.strip("',.").lower() == "the" for text in texts for word in text)
    assert counted.items.words[0].log_frequency == pytest.approx(math.log10(the))
    assert published.sha256 != counted.sha256
    assert TASK.evaluate(subject, published, "firstwords").notes == []
    (note,) = TASK.evaluate(subject, counted, "firstwords").notes
    assert "freqs-1.tsv" in note


def test_sentences_end_with_their_mark_but_not_within_a_quotation(tmp_path: Path) -> None:
    texts = [["'Who", "is", "it?'", "she", "asked.", "It", "was", "him."], ["A", "dog.", "The", "end."]]
    data = write(tmp_path, texts, [np.ones(8), np.ones(4)])
    assert [word.sentence for word in data.items.words] == [1] * 5 + [2] * 3 + [3] * 2 + [4] * 2


@pytest.mark.parametrize(
    ("file", "old", "new", "message", "line"),
    [
        ("all_stories.tok", "\t3\t1\n", "\t4\t1\n", "the word 4 of story 1 does not follow", 4),
        ("all_stories.tok", "\t3\t1\n", "\tx\t1\n", "'x' is no whole number, in the column 'zone'", 4),
        ("all_stories.tok", "word\t", "token\t", "lacks the columns word", 1),
        ("processed_wordinfo.tsv", "\t330.0\t", "\tNA\t", "'NA' is no reading time", 2),
        ("freqs/freqs-1.tsv", "1.1.word\t1\t", "1.1.word\t", "no code such as", 2),
        ("freqs/freqs-1.tsv", "1.1.word", "1-1-word", "no code such as", 2),
    ],
)
def test_what_is_malformed_is_named(file: str, old: str, new: str, message: str, line: int, tmp_path: Path) -> None:
    texts = stories(np.random.default_rng(4), 2, 3)
    write(tmp_path, texts, [np.full(len(text), 330.0) for text in texts])
    path = tmp_path / file
    text = path.read_text()
    assert old in text
    if "freqs" in file and "-" not in new:
        # A line without its count.
        text = text.replace("1.1.word\t1\t'The\t10000\tNA\n", "1.1.word\t1\t'The\n", 1)
    else:
        text = text.replace(old, new, 1)
    path.write_text(text)
    with pytest.raises(FirstwordsError, match=message) as caught:
        TASK.load(Lookup([tmp_path], tmp_path))
    assert caught.value.where == f"{path}:{line}"


def test_a_missing_file_or_a_single_story_is_refused(subject: OwnModel, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Natural Stories"):
        TASK.load(Lookup([tmp_path], tmp_path))
    texts = stories(np.random.default_rng(5), 1)
    data = write(tmp_path, texts, [np.ones(len(texts[0]))])
    with pytest.raises(FirstwordsError, match="two stories or more"):
        TASK.evaluate(subject, data, "firstwords")


def test_the_published_corpus_has_its_size(shared_data: Path, subject: OwnModel, tmp_path: Path) -> None:
    data = TASK.load(Lookup([shared_data / "naturalstories"], tmp_path))
    words = data.items.words
    assert len(words) == 10_256
    assert {word.story for word in words} == set(range(1, 11))
    assert [word.word for word in words[:9]] == ["If", "you", "were", "to", "journey", "to", "the", "North", "of"]
    assert all(word.time_ms is not None and 100 < word.time_ms < 1_200 for word in words)
    assert 450 < words[-1].sentence < 520
    assert np.mean([word.time_ms for word in words]) == pytest.approx(338.5, abs=0.1)
    shutil.copy(shared_data / "naturalstories" / "all_stories.tok", tmp_path)
    with pytest.raises(NotFound, match=r"processed_wordinfo\.tsv"):
        TASK.load(Lookup([tmp_path], tmp_path))


def test_a_model_of_nans_gives_no_result(vocabulary: Vocabulary, tmp_path: Path) -> None:
    broken = Llama(SHAPE, vocabulary.size)
    torch.nn.init.constant_(broken.norm.weight, math.nan)
    texts = stories(np.random.default_rng(6), 2, 3)
    data = write(tmp_path, texts, [np.ones(len(text)) for text in texts])
    with pytest.raises(FirstwordsError, match="not finite") as caught:
        TASK.evaluate(OwnModel("broken", broken, vocabulary), data, "firstwords")
    assert caught.value.exit_code == 3
