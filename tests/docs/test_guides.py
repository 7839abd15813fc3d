"""The commands of the guides run as they stand there, one after the other; only texts and models are smaller."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shlex
from pathlib import Path

import pytest

from firstwords.cli import main
from firstwords.corpus import grammar
from firstwords.evaluation.babylm_counts import full_counts
from firstwords.evaluation.pairs import grammar_suite

GUIDES = sorted((Path(__file__).parents[2] / "docs" / "guides").glob("*.md"))
SMALLER = {
    "quickstart": {"corpus.budget": "60 kB", "corpus.dev-budget": "20 kB"},
    "strict-small": {
        "corpus.budget": "9000 words",
        "corpus.dev-budget": "900 words",
        "tokens.context": "64",
        # Checkpoints would ask for BLiMP itself, which is not among the artificial texts.
        "training.checkpoint-words": "none",
        "evaluation.suites": '["supplement.babylm-2025"]',
    },
}
SMALLER_MODEL = {
    "tokenizer.vocabulary": "500",
    "model.hidden": "32",
    "model.layers": "2",
    "model.heads": "2",
    "model.intermediate": "48",
    "training.max-steps": "12",
    "training.batch-size": "16",
    "training.warmup-steps": "2",
    "training.device": "cpu",
}
TAKE_SETTINGS = ("quickstart", "plan", "run", "tokenizer", "train")


def commands_of(guide: Path) -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", guide.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def made_smaller(words: list[str], guide: Path) -> list[str]:
    command = words[0]
    if command not in TAKE_SETTINGS:
        return words
    recipe = "strict-small" if guide.stem == "challenge" else "quickstart"
    given = SMALLER[recipe] | SMALLER_MODEL
    return [*words, *(part for key, value in given.items() for part in (f"--{key}", value) if f"--{key}" not in words)]


def write_texts(folder: Path) -> None:
    """A folder as an entrant has it: the six sources, and one of the challenge's test sets, all artificial."""
    folder.mkdir()
    for number, source in enumerate(
        ("childes", "gutenberg", "open_subtitles", "simple_wiki", "bnc_spoken", "switchboard")
    ):
        documents = itertools.islice(grammar.documents("encyclopedic", seed=number), 150)
        titled = [
            f"= = = Title {place} = = =\n{document}" if source == "simple_wiki" else document
            for place, document in enumerate(documents)
        ]
        (folder / f"{source}.train").write_text("\n".join(titled) + "\n", encoding="utf-8")
    pairs = grammar_suite(1).pairs
    (folder / "supplement_filtered").mkdir()
    for place, name in enumerate(sorted(full_counts("blimp_supplement"))):
        lines = [
            json.dumps({"sentence_good": pair.good, "sentence_bad": pair.bad, "UID": name, "pairID": str(number)})
            for number, pair in enumerate(pairs[place * 20 : place * 20 + 20])
        ]
        (folder / "supplement_filtered" / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_files_of(guide: Path, place: Path) -> None:
    """What a guide tells the reader to have: its table of pairs, a text, the folder of the challenge."""
    table = re.search(r"^```csv\n(.*?)^```", guide.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if table:
        (place / "negation.csv").write_text(table[1], encoding="utf-8")
        (place / "stories.txt").write_text("The teacher sleeps.\nThe girls that the boy sees sleep.\n")
    if guide.stem == "challenge":
        write_texts(place / "texts")


@pytest.mark.heavy
@pytest.mark.parametrize("guide", GUIDES, ids=[guide.stem for guide in GUIDES])
def test_the_commands_of_a_guide_run(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "cache"))
    for name in ("FIRSTWORDS_WORKSPACE", "FIRSTWORDS_DATA"):
        monkeypatch.delenv(name, raising=False)
    write_files_of(guide, tmp_path)
    commands = commands_of(guide)
    assert len(commands) >= 5
    for program, *given in commands:
        assert program == "firstwords"
        words, target = (given[:-2], given[-1]) if ">" in given else (given, None)
        with contextlib.ExitStack() as stack:
            if target:
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(target).open("w"))))
            code = main(made_smaller(words, guide))
        assert code == 0, f"{' '.join(words)}\n{capsys.readouterr().err[-2_000:]}"
        assert target is None or Path(target).stat().st_size > 0


def test_every_guide_is_named_in_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert [guide.name for guide in GUIDES if f"docs/guides/{guide.name}" not in readme] == []
