"""Training learns, goes on exactly where it was killed, and stops when it must."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from firstwords.errors import FirstwordsError
from firstwords.run_folder import sha256_of
from firstwords.settings import TokenSettings
from firstwords.tokens.batches import Batches
from firstwords.tokens.encoding import TokenFile
from firstwords.tokens.tokenizer import Vocabulary
from firstwords.training import loop
from firstwords.training.checkpoints import saved_states
from firstwords.training.dev_loss import dev_losses
from firstwords.training.loop import Interrupted, TrainingResult, train
from firstwords.training.trackers import read_metrics
from tests.training.conftest import EVERYTHING, recipe_with

EVERY_STEP = 1e-9


def run(folder: Path, tokens: Path, vocabulary: Vocabulary, **training: object) -> TrainingResult:
    return train(recipe_with(**training), vocabulary.size, tokens, folder)


def losses_of(folder: Path) -> list[tuple[object, ...]]:
    return [
        tuple(line.get(key) for key in ("step", "train_loss", "gradient_norm", "dev_loss", "ema_dev_loss"))
        for line in read_metrics(folder / "metrics.jsonl")
    ]


def weights_of(folder: Path, checkpoint: str) -> str:
    return sha256_of(folder / "checkpoints" / checkpoint / "model.safetensors")


def last_weights(folder: Path) -> str:
    return weights_of(folder, "last")


def test_it_learns_and_writes_down_what_it_did(tokens: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    result = run(tmp_path, tokens, vocabulary, precision="fp32", epochs=12, log_every_steps=10)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    first = next(line["train_loss"] for line in lines if "train_loss" in line)
    assert abs(first - 5.7) < 0.3, "an untrained model of 303 tokens is near log 303"
    assert result.last_dev_loss < 2.0
    assert result.best_dev_loss == min(line["dev_loss"] for line in lines if "dev_loss" in line)
    rows = list(csv.DictReader((tmp_path / "losses.csv").open()))
    assert [row["step"] for row in rows if row["train_loss"]] == [str(step) for step in range(10, result.steps + 1, 10)]
    assert sum(bool(row["dev_loss"]) for row in rows) == 12
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"untrained", "best", "last"}


KILLED = """
import json
import sys
from pathlib import Path
from firstwords.training.loop import train
from tests.training.conftest import recipe_with
train(recipe_with(**json.loads(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))
"""


@pytest.mark.heavy
@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "fp32"},
        {"precision": "bf16"},
        {"precision": "bf16", "compile": True},
        EVERYTHING | {"precision": "bf16"},
    ],
    ids=["fp32", "bf16", "compiled", "everything"],
)
def test_a_killed_run_ends_with_the_same_weights_and_losses(
    settings: dict[str, object], tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    result = run(whole, tokens, vocabulary, **settings)
    given = json.dumps(settings | {"resume_minutes": EVERY_STEP})
    command = [sys.executable, "-c", KILLED, given, str(vocabulary.size), str(tokens), str(broken)]
    root = Path(__file__).parents[2]
    kills = 0
    # Once early, once past the border of the first epoch, then wherever it happens to be.
    for until in (2, result.steps // 3 + 1):
        process = subprocess.Popen(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)})
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            states = saved_states(broken / "state") if broken.exists() else []
            if states and int(states[-1].name.removeprefix("step-")) >= until:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        process.wait()
    assert kills == 2
    subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, check=True)
    assert last_weights(broken) == last_weights(whole)
    assert losses_of(broken) == losses_of(whole)
    if "ema_decay" in settings:
        assert weights_of(broken, "ema") == weights_of(whole, "ema") != last_weights(whole)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_with_every_choice_made_a_run_goes_on_exactly_from_any_step(
    precision: str, tokens: Path, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr("firstwords.training.checkpoints._KEPT_STATES", 1_000)
    settings = EVERYTHING | {"precision": precision, "resume_minutes": EVERY_STEP, "epochs": 1}
    whole = tmp_path / "whole"
    steps = run(whole, tokens, vocabulary, **settings).steps
    states = saved_states(whole / "state")
    assert len(states) == steps
    batches = Batches(TokenFile(tokens, "train"), TokenSettings(context=32), recipe_with(**settings).training, 1)
    sizes = [batches.step(step).targets for step in range(steps)]
    assert max(sizes) > 4 * min(sizes), "rows grow longer and more"
    # The first, the borders of the schedules, and the last.
    for after in (1, *(round(share * steps) for share in (0.2, 0.3, 0.5, 0.6)), steps):
        broken = tmp_path / str(after)
        shutil.copytree(states[after - 1], broken / "state" / states[after - 1].name)
        shutil.copyfile(whole / "metrics.jsonl", broken / "metrics.jsonl")
        run(broken, tokens, vocabulary, **settings | {"resume_minutes": 60})
        for kept in ("last", "ema"):
            assert weights_of(broken, kept) == weights_of(whole, kept)
        assert losses_of(broken) == losses_of(whole)


def test_z_loss_is_in_the_training_loss_alone(tokens: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    found = {}
    for z_loss in (0.0, 0.1):
        folder = tmp_path / str(z_loss)
        run(folder, tokens, vocabulary, z_loss=z_loss, max_steps=1, precision="fp32", dropout=0.0)
        _, found[z_loss], _, _, _ = losses_of(folder)[0]
    # An untrained model's logits are near 0, so that Z is near the size of the vocabulary.
    assert found[0.1] - found[0.0] == pytest.approx(0.1 * math.log(vocabulary.size) ** 2, rel=0.02)
    # The first step's rate is 0: the weights are the same.
    dev = [losses_of(tmp_path / name)[1][3] for name in ("0.0", "0.1")]
    assert dev[0] is not None and dev[0] == dev[1]


def test_muon_learns_a_small_text_in_fewer_steps(tokens: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    losses = {
        name: run(tmp_path / name, tokens, vocabulary, optimizer=name, epochs=2, precision="fp32").last_dev_loss
        for name in ("adamw", "muon")
    }
    assert losses["muon"] < losses["adamw"]


@pytest.mark.parametrize("left", ['{"step": 99, "half a line', "\0" * 50 + "\n", '{"step": 99}\n[1]\n'])
def test_an_earlier_state_gives_the_same_end(left: str, tokens: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    import shutil

    run(tmp_path, tokens, vocabulary, resume_minutes=EVERY_STEP)
    end, losses = last_weights(tmp_path), losses_of(tmp_path)
    shutil.rmtree(saved_states(tmp_path / "state")[-1])
    (tmp_path / "metrics.jsonl").open("a").write(left)
    run(tmp_path, tokens, vocabulary, resume_minutes=EVERY_STEP)
    assert last_weights(tmp_path) == end
    assert losses_of(tmp_path) == losses


def test_accumulation_and_micro_batches_change_nothing_but_rounding(
    tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    settings = {"precision": "fp32", "epochs": 1, "batch_size": 2, "accumulation": 2, "dropout": 0.0}
    run(tmp_path / "whole", tokens, vocabulary, **settings)
    run(tmp_path / "cut", tokens, vocabulary, micro_tokens=40, **settings)
    for whole, cut in zip(losses_of(tmp_path / "whole"), losses_of(tmp_path / "cut"), strict=True):
        assert [x for x in cut if x is not None] == pytest.approx([x for x in whole if x is not None], rel=1e-3)


OUT_OF_MEMORY = """
import json, resource, sys
from pathlib import Path
import torch
from firstwords.model.loss import summed_cross_entropy
from firstwords.training.loop import train
from firstwords.reporter import Silent
from tests.training.conftest import recipe_with


class Told(Silent):
    def say(self, text):
        print(text, flush=True)


vocabulary, tokens, folder = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
recipe = recipe_with(dropout=0.0, precision="fp32", max_steps=2, batch_size=600, resume_minutes=1e-9)
# What a step of 4,000 tokens takes with this feed-forward width, and what half of it does, lie on both sides of it.
recipe = recipe.override({"model.intermediate": "16000"})
torch.set_num_threads(1)
warm = recipe.override({"training.batch-size": "4", "training.max-steps": "1"})
train(warm, vocabulary, tokens, folder.with_name("warm"))
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
room = int(sys.argv[4])
if room:
    resource.setrlimit(resource.RLIMIT_AS, (held + room, held + room))
train(recipe, vocabulary, tokens, folder, reporter=Told())
"""


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="a process's memory is bounded by Linux's limits")
def test_where_memory_runs_out_micro_batches_get_smaller_and_the_batch_does_not(
    tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]

    def trained(name: str, room: int) -> str:
        command = [sys.executable, "-c", OUT_OF_MEMORY, str(vocabulary.size), str(tokens), str(tmp_path / name / "run")]
        (tmp_path / name).mkdir()
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, str(room)], cwd=root, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert trained("whole", 0) == ""
    told = trained("tight", 700_000_000)
    assert "memory ran out in micro-batches of 4,096 tokens; going on with 2,048" in told
    whole, tight = (losses_of(tmp_path / name / "run") for name in ("whole", "tight"))
    for one, other in zip(whole, tight, strict=True):
        assert [x for x in other if x is not None] == pytest.approx([x for x in one if x is not None], rel=1e-4)
    state = saved_states(tmp_path / "tight" / "run" / "state")[-1]
    kept = json.loads((state / "checkpoint.json").read_text())["progress"]["micro_tokens"]
    assert kept is not None and kept < 4_096, "a run that goes on begins with what fitted"


def test_deterministic_kernels_train_all_that_others_do(tokens: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    import torch

    found = set()
    for number, deterministic in enumerate((False, True, True)):
        folder = tmp_path / str(number)
        run(folder, tokens, vocabulary, deterministic=deterministic, max_steps=6)
        found.add(last_weights(folder))
    # On a CPU sums always have one order.
    assert len(found) == 1
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_loss_that_is_no_number_ends_the_run_with_advice(
    tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    run(tmp_path, tokens, vocabulary, resume_minutes=EVERY_STEP, max_steps=4)
    kept = saved_states(tmp_path / "state")[-1]
    with pytest.raises(FirstwordsError, match="not finite at step") as found:
        run(tmp_path, tokens, vocabulary, peak_lr=1e30, clip_norm=1e30, resume_minutes=60)
    assert found.value.exit_code == 3
    assert "documents" in str(found.value) and str(kept) in str(found.value)
    assert "peak-lr" in str(found.value)
    assert kept.is_dir()


def test_a_norm_of_0_clips_nothing(tokens: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    found = {}
    for norm in (0, 1e30, 0.01):
        run(tmp_path / str(norm), tokens, vocabulary, clip_norm=norm, max_steps=4)
        found[norm] = last_weights(tmp_path / str(norm))
    assert found[0] == found[1e30] != found[0.01]


def test_a_dev_loss_that_is_no_number_ends_the_run_too(tokens: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    with pytest.raises(FirstwordsError, match="the dev loss is not finite at step 1") as found:
        run(tmp_path, tokens, vocabulary, peak_lr=1e38, warmup_steps=0, eval_every_steps=1, clip_norm=1e30)
    assert found.value.exit_code == 3
    assert not any("dev_loss" in line for line in read_metrics(tmp_path / "metrics.jsonl"))


def test_a_wish_to_stop_in_the_last_dev_loss_is_heard(
    tokens: Path, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(tmp_path / "whole", tokens, vocabulary, max_steps=5)

    def interrupted(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return dev_losses(*given)

    with monkeypatch.context() as patch, pytest.raises(Interrupted, match="stopped after step 5"):
        patch.setattr(loop, "dev_losses", interrupted)
        run(tmp_path / "stopped", tokens, vocabulary, max_steps=5)
    assert not (tmp_path / "stopped" / "checkpoints" / "last").exists()
    assert run(tmp_path / "stopped", tokens, vocabulary, max_steps=5).last_dev_loss == whole.last_dev_loss
    assert last_weights(tmp_path / "stopped") == last_weights(tmp_path / "whole")


def test_fewer_tokens_at_once_are_taken_where_a_run_goes_on(
    tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    def kept() -> int:
        state = saved_states(tmp_path / "state")[-1]
        return int(json.loads((state / "checkpoint.json").read_text())["progress"]["micro_tokens"])

    run(tmp_path, tokens, vocabulary, resume_minutes=EVERY_STEP, max_steps=3)
    usual = kept()
    run(tmp_path, tokens, vocabulary, resume_minutes=EVERY_STEP, max_steps=5, micro_tokens=32)
    assert kept() == 32 < usual
    run(tmp_path, tokens, vocabulary, resume_minutes=EVERY_STEP, max_steps=7, micro_tokens=4_096)
    assert kept() == 32, "memory had run out at more"


def test_a_damaged_state_is_refused_and_the_one_before_it_serves(
    tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    import shutil

    run(tmp_path, tokens, vocabulary, resume_minutes=EVERY_STEP)
    end = last_weights(tmp_path)
    newest = saved_states(tmp_path / "state")[-1]
    damaged = newest / "optimizer.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-3] ^= 0xFF
    damaged.write_bytes(data)
    with pytest.raises(FirstwordsError, match="checksum") as found:
        run(tmp_path, tokens, vocabulary)
    assert str(damaged) in str(found.value) and f"delete {newest}" in str(found.value)
    shutil.rmtree(newest)
    run(tmp_path, tokens, vocabulary)
    assert last_weights(tmp_path) == end


def test_checkpoints_are_kept_at_words_seen(tokens: Path, vocabulary: Vocabulary, tmp_path: Path) -> None:
    words = json.loads((tokens / "train.json").read_text())["words"]
    seen: list[str] = []
    recipe = recipe_with(checkpoint_words=[words, 2 * words])
    train(recipe, vocabulary.size, tokens, tmp_path, on_checkpoint=lambda folder: seen.append(folder.name))
    assert seen == [f"words-{words}", f"words-{2 * words}"]
    progress = json.loads((tmp_path / "checkpoints" / seen[0] / "checkpoint.json").read_text())["progress"]
    assert words <= progress["words_seen"] < 1.2 * words
