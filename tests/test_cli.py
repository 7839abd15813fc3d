"""The command line as a user meets it: help, hints, results on stdout, progress on stderr, stopping and going on.

FIRSTWORDS_UPDATE_GOLDEN=1 pytest tests/test_cli.py writes tests/golden/*.txt and docs/commands.md anew.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firstwords import __main__ as entry
from firstwords.cli import main
from firstwords.cli.main import command_names
from firstwords.recipe import Recipe, bundled_names, json_schema
from firstwords.report.terminal import Lines, Pace, Screen, duration
from firstwords.training.dev_loss import DevLoss
from firstwords.training.trackers import StepMetrics
from tests.end_to_end.test_bad_input import RECIPE, write_pairs, write_recipe

PROJECT = Path(__file__).resolve().parents[1]
GOLDEN = Path(__file__).parent / "golden"
UPDATE = os.environ.get("FIRSTWORDS_UPDATE_GOLDEN") == "1"


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """80 columns, no settings of the machine, and an empty current folder."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("FIRSTWORDS_WORKSPACE", "FIRSTWORDS_DATA", "FIRSTWORDS_DEBUG", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one trained run of the tiny recipe."""
    folder = tmp_path_factory.mktemp("cli")
    write_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "tiny.toml", "--workspace", str(folder / "runs")]) == 0
    return folder / "runs"


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that succeeds prints on stdout."""
    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command that is refused prints on stderr."""
    capsys.readouterr()
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("firstwords: ")
    assert "Traceback" not in captured.err
    return captured.err


# Help


def help_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    text = answer(capsys, *command, "--help")
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "\x1b" not in text
    return "".join(line.rstrip() + "\n" for line in text.splitlines())


@pytest.mark.parametrize("command", ["", *command_names()])
def test_help_is_as_recorded(capsys: pytest.CaptureFixture[str], command: str) -> None:
    text = help_of(capsys, *command.split())
    path = GOLDEN / f"help-{command or 'firstwords'}.txt"
    if UPDATE:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "if this is wanted: FIRSTWORDS_UPDATE_GOLDEN=1 pytest " + __file__


def test_the_documentation_has_the_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        "# The commands",
        "This page is generated from the commands' own help, and a test compares them:\n"
        "`FIRSTWORDS_UPDATE_GOLDEN=1 pytest tests/test_cli.py` writes it anew.",
        f"```text\n{help_of(capsys)}```",
    ]
    for command in command_names():
        parts += [f"## firstwords {command}", f"```text\n{help_of(capsys, command)}```"]
    text = "\n\n".join(parts) + "\n"
    path = PROJECT / "docs" / "commands.md"
    if UPDATE:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "if this is wanted: FIRSTWORDS_UPDATE_GOLDEN=1 pytest " + __file__


def test_no_arguments_give_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(capsys) == answer(capsys, "--help")


HELP_AND_WHAT_IT_LOADED = """
import sys
from firstwords.cli import main
code = main(["--help"])
print(code, *sorted(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", HELP_AND_WHAT_IT_LOADED]
        # The first may compile what the others find.
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    code, *loaded = ran.stderr.split()
    assert code == "0"
    assert not {"torch", "numpy", "transformers", "tokenizers", "ftfy", "scipy", "httpx"} & set(loaded)
    # Processor time, and the least of it: a busy machine does not fail the test.
    assert min(taken) < 0.5


# Hints


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rnu", "model-a"], "did you mean 'run'?"),
        (["evalaute", "model-a"], "did you mean 'evaluate'?"),
        (["run", "modl-a"], "did you mean 'model-a'?"),
        (["run", "model-a", "--workspce", "x"], "did you mean '--workspace'?"),
        (["recipes", "--jsn"], "did you mean '--json'?"),
        (["run", "model-a", "--training.peek-lr", "1"], "did you mean 'training.peak-lr'?"),
        (["run", "model-a", "--peak-lr", "1"], "did you mean '--training.peak-lr'?"),
        (["run", "model-a", "--training.peak-lr"], "--training.peak-lr has no value"),
        (["run", "model-a", "--training.peak-lr", "fast"], "training.peak-lr"),
        (["run", "model-a", "--seed", "x"], "--seed"),
        (["run", "model-a", "again"], "cannot use again"),
        (["run", "model-a", "--data"], "--data has no value"),
        (["run"], "RECIPE is missing"),
        (["show"], "RUN is missing"),
        (["generate", "model-a"], "PROMPT is missing"),
        (["show", "model-a", "--training.peak-lr", "1"], "no option --training.peak-lr"),
        (["--bogus"], "no option --bogus"),
        (["xyzzy"], "`firstwords --help` lists the commands"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_mistyped_is_refused_with_a_hint(
    capsys: pytest.CaptureFixture[str], words: list[str], hint: str
) -> None:
    message = refusal(capsys, *words)
    assert hint in message
    _what, where, do = message.splitlines()
    assert where.startswith("  where: ")
    assert do.startswith("  do:    ")


# Recipes


def test_recipes_lists_all_in_words_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    lines = answer(capsys, "recipes").splitlines()
    assert [line.split()[0] for line in lines] == bundled_names()
    assert [found["name"] for found in json.loads(answer(capsys, "recipes", "--json"))] == bundled_names()


def test_new_writes_a_recipe_that_is_valid_and_never_overwrites(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "my.toml" in answer(capsys, "new", "my", "--from", "model-a")
    written = (tmp_path / "my.toml").read_text()
    assert Recipe.load("my.toml").training == Recipe.load("model-a").training
    assert Recipe.load("my.toml").name == "my"
    assert "# Highest learning rate.\npeak-lr = 0.0003\n" in written
    assert "already there" in refusal(capsys, "new", "my")
    assert (tmp_path / "my.toml").read_text() == written
    assert "name" in refusal(capsys, "new", "no good name")


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(answer(capsys, "schema")) == json_schema()


# Runs


def test_a_run_prints_progress_on_stderr_and_the_result_on_stdout(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_recipe(tmp_path)
    assert main(["tokenizer", "tiny.toml", "--name", "mine", "--tokenizer.vocabulary=280", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    assert "runs/mine" in out
    assert "corpus      done" in err
    assert "280 tokens" in err
    assert "corpus" not in out
    recipe = Recipe.load(tmp_path / "runs" / "mine" / "recipe.toml")
    assert (recipe.seed, recipe.tokenizer.vocabulary) == (3, 280)
    # Again: nothing is made twice; the JSON is all that stands on stdout.
    assert main(["tokenizer", "tiny.toml", "--name", "mine", "--tokenizer.vocabulary=280", "--seed=3", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["tokenizer"]["vocabulary"] == 280
    assert err.split() == ["corpus", "kept", "tokenizer", "kept", "tokens", "kept"]


def test_data_folders_are_searched_in_order_and_those_of_the_environment_last(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_recipe(tmp_path, RECIPE.replace('at = "sentences.txt"', ""))
    text = (tmp_path / "sentences.txt").read_text()
    for folder in ("first", "second", "third"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sentences.txt").write_text(text.replace("cat", folder))
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("FIRSTWORDS_DATA", os.pathsep.join(["empty", "third"]))
    for data, expected in ((["--data", "empty", "--data", "second", "--data", "first"], "second"), ([], "third")):
        made = json.loads(answer(capsys, "corpus", "tiny.toml", "--json", *data))
        assert expected in (Path(made["path"]) / "corpus" / "train.txt").read_text()


def test_show_has_the_facts_of_the_run(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    text = answer(capsys, "show", "tiny", "--workspace", str(workspace))
    for label in ("architecture", "parameters", "training text", "tokenizer", "learning rate", "batch x accumulation"):
        assert f"\n{label}  " in text
    assert "LLaMA 32 x 1, 2 heads, 64 wide" in text
    assert "cpu, fp32" in text
    value = json.loads(answer(capsys, "show", "tiny", "--workspace", str(workspace), "--json"))[0]
    assert value["training"]["steps"] == 3
    last = value["dev_losses"][-1]
    assert f"{last['dev_loss']:.3f} / {last['dev_loss_batch_means']:.3f} / {last['dev_bits_per_byte']:.3f}" in text


def test_show_of_two_runs_puts_them_side_by_side(capsys: pytest.CaptureFixture[str], workspace: Path) -> None:
    text = answer(capsys, "show", "tiny", str(workspace / "tiny"), "--workspace", str(workspace))
    head = text.splitlines()[0]
    assert head.split() == ["tiny", "tiny"]
    second = head.rindex("tiny")
    lines = [line for line in text.splitlines() if line.startswith(("architecture", "steps", "seed"))]
    assert len(lines) == 3
    assert all(line[second - 1] == " " and line[second] != " " for line in lines)


def test_runs_lists_how_far_each_is(
    capsys: pytest.CaptureFixture[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIRSTWORDS_WORKSPACE", str(workspace))
    head, line = answer(capsys, "runs").splitlines()
    (found,) = json.loads(answer(capsys, "runs", "--json"))
    assert head.split() == ["run", "parameters", "words", "seen", "dev", "loss", "accuracy", "state"]
    assert line.split()[:5] == ["tiny", f"{found['parameters']:,}", f"{found['words_seen']:,}", line.split()[3], "-"]
    assert float(line.split()[3]) == pytest.approx(found["best_dev_loss"], abs=0.001)
    assert line.endswith(found["state"])
    assert (found["name"], found["state"]) == ("tiny", "done: corpus, tokenizer, tokens, training")
    assert "no runs in" in answer(capsys, "runs", "--workspace", "nowhere")


def test_generate_goes_on_with_the_prompt_and_the_seed_decides(
    capsys: pytest.CaptureFixture[str], workspace: Path
) -> None:
    words = ["generate", "tiny", "The cat", "--workspace", str(workspace), "--max-length", "12"]
    first = answer(capsys, *words)
    assert first.startswith("The cat")
    assert answer(capsys, *words) == first
    assert answer(capsys, *words, "--seed", "1") != first
    found = json.loads(answer(capsys, *words, "--json", "--checkpoint", "untrained"))
    assert found["checkpoint"] == "untrained"
    assert found["text"].startswith("The cat")


def test_evaluate_prints_the_accuracies_with_intervals_and_the_control(
    capsys: pytest.CaptureFixture[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.parent)
    write_pairs(workspace.parent / "pairs.jsonl")
    words = ("tiny.toml", "--evaluation.suites", '["pairs.jsonl.firstwords"]', "--evaluation.untrained-control=true")
    text = answer(capsys, "evaluate", *words)
    title, head, agreement, overall, *_ = text.strip().splitlines()
    assert title == "pairs.firstwords: accuracy in %, with 95% intervals"
    assert head.split() == ["pairs", "tiny", "untrained"]
    assert agreement.startswith("agreement")
    assert overall.startswith("overall (mean of 1 paradigms)")
    found = json.loads(answer(capsys, "show", "tiny", "--json"))[0]["evaluations"]
    assert f"{100 * found['pairs.firstwords']['overall']['share']:.1f} [" in overall
    assert f"{100 * found['untrained.pairs.firstwords']['overall']['share']:.1f} [" in overall
    both = answer(capsys, "show", "tiny", "tiny")
    assert "tiny untrained" in both


def test_a_reader_that_stops_reading_is_no_failure(workspace: Path) -> None:
    script = f"{sys.executable} -m firstwords schema | head -n 1"
    ran = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("{\n", "")


def test_a_fault_of_the_tool_says_so_and_keeps_the_traceback(
    capsys: pytest.CaptureFixture[str], workspace: Path, tmp_path: Path
) -> None:
    # A run folder that nothing but a fault could make: the recipe is valid, its training facts are no facts.
    run = tmp_path / "runs" / "odd"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text((workspace / "tiny" / "recipe.toml").read_text())
    (run / "training").mkdir()
    (run / "training" / "metrics.jsonl").write_text('{"dev_loss": 1.0}\n')
    assert main(["show", "odd"]) == 1
    message = capsys.readouterr().err
    assert "Traceback" not in message
    path = Path(message.partition("the whole traceback is in ")[2].splitlines()[0])
    assert "Traceback" in path.read_text()
    path.unlink()


def test_ctrl_c_stops_and_the_same_command_goes_on(tmp_path: Path) -> None:
    write_recipe(tmp_path, RECIPE.replace("max-steps = 3", "epochs = 40\nmax-steps = 60"))
    words = [sys.executable, "-m", "firstwords", "train", "tiny.toml"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        # Any state will do: only the newest two are kept, so one that is waited for by name may come and go unseen.
        states = tmp_path / "runs" / "tiny" / "training" / "state"
        while not any(states.glob("step-*")) and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        stderr = process.communicate()[1]
    assert process.returncode == 130, stderr
    assert stderr.splitlines()[-1].startswith("firstwords: stopped after step ")
    assert stderr.endswith("the same command goes on\n")
    assert main(["train", "tiny.toml"]) == 0


def test_ctrl_c_while_the_command_loads_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading:
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "firstwords.cli", Loading())
    assert entry.main() == 130


# The display


def metrics_of(step: int) -> StepMetrics:
    return StepMetrics(step, step / 10, 100 * step, 1e-3, 5.0 + step / 100, 1.0, 400, 2.0)


def test_plain_lines_come_now_and_then_and_say_how_it_goes() -> None:
    out = io.StringIO()
    display = Lines(out, every_seconds=0.0)
    display.stage("training", "running", "")
    display.step(metrics_of(1), 100)
    display.dev(1, DevLoss(5.5, 5.3, 2.25))
    display.step(metrics_of(2), 100)
    display.progress("blimp.firstwords", 1_000, 67_000)
    first, second, dev, third, progress = out.getvalue().splitlines()
    assert first == "training    running"
    assert second == "training    1/100  loss 5.010  200 tokens/s  3 min left"
    assert dev == "training    step 1: dev loss 5.500 nats a token, 2.250 bits a byte"
    assert third.startswith("training    2/100  loss 5.015  dev 5.500  200 tokens/s")
    assert progress == "blimp.firstwords  1,000/67,000"
    quiet = io.StringIO()
    display = Lines(quiet, every_seconds=30.0)
    display.stage("training", "running", "")
    for step in range(1, 50):
        display.step(metrics_of(step), 100)
    assert quiet.getvalue() == "training    running\n"


def test_time_left_goes_by_the_clock_between_steps() -> None:
    pace = Pace()
    pace.add(metrics_of(1), 100.0)
    pace.add(metrics_of(2), 110.0)  # two seconds of training, eight of something else
    assert pace.text(12).endswith("100 s left") or pace.text(12).endswith("2 min left")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99, "99 s"), (1_440, "24 min"), (7_500, "2 h 05 min"), (7_199, "2 h 00 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Terminal(io.StringIO):
    """Text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_the_moving_display_fits_80_columns_and_keeps_finished_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    display = Screen(out)
    with display.bars:
        display.stage("corpus", "kept", "")
        display.stage("training", "running", "")
        display.step(metrics_of(1), 3_575)
        display.dev(1, DevLoss(5.5, 5.3, 2.25))
        display.step(metrics_of(2), 3_575)
        display.bars.refresh()
        display.stage("training", "done", "2 steps")
        display.stage("evaluation", "running", "")
        display.progress("blimp.firstwords", 500, 67_000)
        display.progress("blimp.firstwords", 67_000, 67_000)
        display.stage("evaluation", "done", "blimp.firstwords 57.2%")
    text = out.getvalue()
    assert "corpus      kept" in text
    assert "2/3575" in text
    assert "left" in text
    assert "evaluation  done     blimp.firstwords 57.2%" in text
    assert "\x1b[3" not in text  # NO_COLOR: no colors


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_what_is_left_is_told_on_any_screen(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal()
    display = Screen(out)
    with display.bars:
        display.dev(1, DevLoss(5.5, 5.3, 2.25))
        display.step(StepMetrics(10_000, 1.0, 100, 1e-3, 5.0, 1.0, 400_000, 1.0), 20_000)
        display.bars.refresh()
    lines = [re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", line).strip("\r") for line in out.getvalue().splitlines()]
    assert any(line.rstrip().endswith("2 h 47 min left") for line in lines)
    assert any("400,000 tokens/s" in line for line in lines) == (columns == 120)
    assert "…" not in out.getvalue()
