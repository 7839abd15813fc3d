"""`firstwords score`: a table for a text, tab-separated lines for a file, and clear words for what cannot be scored."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from firstwords.cli.main import main
from firstwords.cli.scoring import _Wanted, print_file, print_text, score, texts_of
from firstwords.errors import FirstwordsError
from firstwords.evaluation.own_model import OwnModel
from firstwords.evaluation.surprisal import Manner, score_texts
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.tokenizer import Vocabulary
from tests.evaluation.small_models import model_of, save, tokenizer_of

SHAPE = ModelSettings(hidden=32, layers=2, heads=2, intermediate=48, positions=64, init_std=0.2)
TEXT = "The cat sleeps."


@pytest.fixture(scope="module")
def subject(vocabulary: Vocabulary) -> OwnModel:
    return OwnModel("small", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)


def texts(content: bytes, *, paragraphs: bool = False) -> list[tuple[int, str]]:
    return list(texts_of(io.BytesIO(content), "stories.txt", paragraphs=paragraphs))


def test_a_text_is_a_table_with_its_total(subject: OwnModel, capsys: pytest.CaptureFixture[str]) -> None:
    print_text(subject, TEXT, _Wanted.of("word", None), Manner.of(subject))
    out, err = capsys.readouterr()
    words = score_texts(subject, [TEXT], Manner.of(subject))[0].words()
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["start", "end", "tokens", "bits"]
    assert [line[0] for line in lines[1:]] == ["The", "cat", "sleeps.", "together"]
    assert [float(line[-1]) for line in lines[1:-1]] == pytest.approx([word.bits for word in words], abs=1e-3)
    assert float(lines[-1][-1]) == pytest.approx(sum(word.bits or 0 for word in words), abs=2e-3)
    assert "Surprisal in bits" in err


def test_a_text_as_json_has_numbers_and_how_they_were_made(
    subject: OwnModel, capsys: pytest.CaptureFixture[str]
) -> None:
    print_text(subject, TEXT, _Wanted.of("char-span", "4:7,0:15"), Manner(context="none"), json=True)
    value = json.loads(capsys.readouterr().out)
    assert value["model"]["name"] == "small"
    assert "nothing before it" in value["statement"]
    assert [unit["text"] for unit in value["units"]] == ["cat", TEXT]
    assert value["units"][0]["surprisal_bits"] > 0
    # The first token of all has nothing before it, so the whole has no surprisal.
    assert value["units"][1]["surprisal_bits"] is None


def test_a_file_is_tab_separated_lines_with_the_texts_own_line_numbers(
    subject: OwnModel, capsys: pytest.CaptureFixture[str]
) -> None:
    found = texts(b'The cat sleeps.\n\nA "bird"\tsings\r\n   \nThe dog', paragraphs=False)
    assert found == [(1, "The cat sleeps."), (3, 'A "bird"\tsings'), (5, "The dog")]
    print_file(subject, found, _Wanted.of("word", None), Manner.of(subject))
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out), delimiter="\t"))
    assert list(rows[0]) == ["line", "unit", "text", "start", "end", "tokens", "surprisal_bits"]
    assert [(row["line"], row["unit"], row["text"]) for row in rows] == [
        ("1", "1", "The"),
        ("1", "2", "cat"),
        ("1", "3", "sleeps."),
        ("3", "1", "A"),
        ("3", "2", '"bird"'),
        ("3", "3", "sings"),
        ("5", "1", "The"),
        ("5", "2", "dog"),
    ]
    expected = [
        word.bits
        for scored in score_texts(subject, [text for _, text in found], Manner.of(subject))
        for word in scored.words()
    ]
    assert [float(row["surprisal_bits"]) for row in rows] == pytest.approx(expected, abs=1e-5)
    assert "Surprisal in bits" in err


def test_a_file_as_json_is_one_object_a_line_and_unknown_surprisals_are_told(
    subject: OwnModel, capsys: pytest.CaptureFixture[str]
) -> None:
    print_file(subject, [(1, "The cat"), (7, "The")], _Wanted.of("token", None), Manner(context="none"), json=True)
    out, err = capsys.readouterr()
    values = [json.loads(line) for line in out.splitlines()]
    assert [value["line"] for value in values] == [1, 7]
    assert values[1]["units"][0]["surprisal_bits"] is None
    assert "2 units have no surprisal" in err


def test_paragraphs_are_what_stands_between_blank_lines() -> None:
    assert texts(b"\n\nOne\ntwo\n \nthree\n", paragraphs=True) == [(3, "One\ntwo"), (6, "three")]
    assert texts("\ufeffOne\n".encode()) == [(1, "One")]


def test_a_line_that_is_no_utf8_is_named() -> None:
    with pytest.raises(FirstwordsError, match="no valid UTF-8") as caught:
        texts(b"good\nb\xe9d\n")
    assert caught.value.where == "stories.txt:2"


def test_what_stands_before_such_a_line_is_scored(subject: OwnModel, capsys: pytest.CaptureFixture[str]) -> None:
    lines = texts_of(io.BytesIO(b"The cat\nThe dog\nb\xe9d\nThe end\n"), "stories.txt")
    with pytest.raises(FirstwordsError, match="no valid UTF-8"):
        print_file(subject, lines, _Wanted.of("word", None), Manner.of(subject))
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out), delimiter="\t"))
    assert [(row["line"], row["text"]) for row in rows] == [("1", "The"), ("1", "cat"), ("2", "The"), ("2", "dog")]


def test_many_lines_are_scored_in_few_calls_of_the_model(
    vocabulary: Vocabulary, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    class Counting(OwnModel):
        def log_probs(self, lines, **options):  # type: ignore[no-untyped-def]
            calls.append(len(lines))
            return super().log_probs(lines, **options)

    subject = Counting("small", Llama(SHAPE, vocabulary.size, seed=1), vocabulary)
    print_file(subject, [(n, f"The cat runs {n}") for n in range(4_500)], _Wanted.of("word", None), Manner.of(subject))
    assert calls == [2_000, 2_000, 500]
    assert len(capsys.readouterr().out.splitlines()) == 4 * 4_500 + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "nothing to score"),
        ({"text": TEXT, "file": Path("x")}, "a text and a file"),
        ({"text": " "}, "the text is empty"),
        ({"text": TEXT, "by": "char-span"}, "spans to score are not given"),
        ({"text": TEXT, "spans": "1:2"}, "not scored by word"),
        ({"text": TEXT, "by": "char-span", "spans": "4-8"}, "'4-8' is no span"),
        ({"text": TEXT, "by": "char-span", "spans": "8:4"}, "'8:4' is no span"),
        ({"text": TEXT, "by": "char-span", "spans": "1:2,"}, "'' is no span"),
        ({"file": Path("x"), "by": "char-span", "spans": "1:2"}, "a file has many"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_model_is_opened(options: dict[str, object], message: str) -> None:
    arguments = {"text": None, **options}
    text = arguments.pop("text")
    with pytest.raises(FirstwordsError, match=message):
        score("no-such-model", text, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["llama", "gpt2", "roberta"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as other people have it."""
    tokenizer = tokenizer_of(request.param)
    model = model_of(request.param, len(tokenizer))
    return save(model, tokenizer, tmp_path_factory.mktemp("models") / request.param)


def test_a_user_scores_a_sentence_and_a_file_with_any_model(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = folder.name
    assert main(["score", str(folder), TEXT, "--json", "--device", "cpu"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [unit["text"] for unit in value["units"]] == ["The", "cat", "sleeps."]
    assert value["statement"].startswith("Pseudo-surprisal" if kind == "roberta" else "Surprisal")

    # A text that no model here reads at once, beside a short one.
    file = tmp_path / "stories.txt"
    file.write_text(TEXT + "\n\n" + "The bird sings near the house, quietly. " * 12 + "\n")
    assert main(["score", str(folder), "--file", str(file), "--stride", "9", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(out), delimiter="\t"))
    assert [row["line"] for row in rows] == ["1"] * 3 + ["3"] * 84
    assert all(float(row["surprisal_bits"]) > 0 for row in rows)
    expected = [unit["surprisal_bits"] for unit in value["units"]]
    assert [float(row["surprisal_bits"]) for row in rows[:3]] == pytest.approx(expected, abs=1e-4)
    assert "move on by 9 tokens" in err

    code = main(["score", str(folder), TEXT, "--boundary", "after", "--device", "cpu"])
    out, err = capsys.readouterr()
    assert code == (2 if kind == "roberta" else 0)
    assert "masked model" in err if kind == "roberta" else "it ends there" in err


def test_a_file_that_is_not_there_or_no_text_is_explained(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(folder), "--file", str(tmp_path / "none.txt"), "--device", "cpu"]) == 2
    assert "none.txt" in capsys.readouterr().err
    (tmp_path / "bad.txt").write_bytes(b"fine\n\xff\n")
    assert main(["score", str(folder), "--file", str(tmp_path / "bad.txt"), "--device", "cpu"]) == 2
    assert f"{tmp_path / 'bad.txt'}:2" in capsys.readouterr().err
