"""Training on CUDA: kernels and recordings of a GPU give what the CPU's float32 gives, and the same twice."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from firstwords.model.attention import AttentionGroup, Layout, RaggedGroup, attend
from firstwords.model.flash import flash_is_there
from firstwords.model.llama import Llama
from firstwords.tokens.batches import StepBatch, TokenSequence
from firstwords.tokens.tokenizer import Vocabulary
from firstwords.training.checkpoints import saved_states
from firstwords.training.compiling import compiled_for
from firstwords.training.devices import choose_device
from firstwords.training.loop import train
from firstwords.training.step import Gradients, StepLoss
from tests.training.conftest import EVERYTHING, recipe_with
from tests.training.test_loop import last_weights, losses_of

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")

LENGTHS = [31, 30, 17, 17, 9, 5, 2, 1]
CONTEXT = 32


def steps(count: int) -> Iterator[StepBatch]:
    rng = np.random.default_rng(2)
    for _ in range(count):
        lengths = sorted(rng.integers(2, CONTEXT + 2, 24), reverse=True)
        sequences = tuple(TokenSequence(rng.integers(0, 303, length), 0) for length in lengths)
        yield StepBatch(sequences, sum(lengths), sum(lengths) - len(lengths))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_attention(dtype: torch.dtype) -> None:
    count, generator = sum(LENGTHS), torch.Generator().manual_seed(4)
    given = [torch.randn(count, heads, 16, generator=generator, dtype=torch.float64) for heads in (4, 2, 2)]
    weights = torch.randn(count, 4, 16, generator=generator, dtype=torch.float64)
    found = []
    for device, kind in (("cpu", torch.float64), ("cuda", dtype)):
        own = [x.to(device, kind).requires_grad_() for x in given]
        out = attend(*own, Layout.of(LENGTHS, device))
        found.append([out, *torch.autograd.grad((out * weights.to(device, kind)).sum(), own)])
    assert isinstance(Layout.of(LENGTHS, "cuda").groups[0], RaggedGroup if flash_is_there("cuda") else AttentionGroup)
    error = {torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}[dtype]
    for expected, ours in zip(*found, strict=True):
        assert float((ours.detach().cpu().double() - expected).abs().max()) < error * float(expected.abs().max())


def test_gradients_of_long_sequences_are_the_same_every_time() -> None:
    lengths = [700, 512, 300, 129] * 8
    generator = torch.Generator("cuda").manual_seed(5)
    given = [torch.randn(sum(lengths), 4, 64, device="cuda", generator=generator).bfloat16() for _ in range(4)]
    own, weights = [x.requires_grad_() for x in given[:3]], given[3]
    layout = Layout.of(lengths, "cuda")
    found = [torch.autograd.grad((attend(*own, layout) * weights).sum(), own) for _ in range(10)]
    for others in found[1:]:
        assert all(torch.equal(first, other) for first, other in zip(found[0], others, strict=True))


@pytest.mark.parametrize("compiled", [False, True], ids=["as written", "compiled"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_recorded_gradients_are_those_of_launched_kernels(precision: str, compiled: bool) -> None:
    recipe = recipe_with(dropout=0.0, precision=precision, device="cuda", compile=compiled)
    device, found = choose_device(recipe.training), {}
    start = Llama(recipe.model, 303, seed=1)
    for way in ("launched", "recorded", "on the CPU"):
        model = copy.deepcopy(start).to("cpu" if way == "on the CPU" else "cuda")
        fusion = compiled_for(model, recipe, 10**12, device) if compiled and way != "on the CPU" else None
        own = choose_device(recipe_with(precision="fp32").training) if way == "on the CPU" else device
        scaler = torch.amp.GradScaler(own.kind, init_scale=256.0, enabled=own.scales_loss)
        gradients = Gradients(
            StepLoss(model),
            recipe.training,
            own,
            scaler,
            fusion=fusion,
            micro_tokens=300,
            recorded_context=CONTEXT if way == "recorded" else None,
        )
        found[way] = []
        for batch in steps(5):
            loss = float(gradients.add(batch, seed=1))
            scale = scaler.get_scale() if own.scales_loss else 1.0
            found[way].append((loss, [weight.grad.cpu() / scale for weight in model.parameters()]))
            model.zero_grad()
    for exact, *rough in zip(found["on the CPU"], found["launched"], found["recorded"], strict=True):
        for loss, weights in rough:
            assert loss == pytest.approx(exact[0], rel=2e-3)
            for ours, wanted in zip(weights, exact[1], strict=True):
                assert float((ours - wanted).norm()) < 0.03 * float(wanted.norm())
        # They differ by the filler, which changes how sums are made up.
        for ours, wanted in zip(rough[1][1], rough[0][1], strict=True):
            assert float((ours - wanted).norm()) < 0.02 * float(wanted.norm())


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"precision": "bf16", "compile": True},
        {"precision": "bf16", "compile": True, "deterministic": True},
        {"precision": "bf16", "compile": True, "dropout": 0.1},
        {"precision": "fp32"},
        EVERYTHING | {"precision": "bf16"},
        EVERYTHING | {"precision": "bf16", "compile": True},
    ],
    ids=[
        "bf16",
        "fp16",
        "recorded",
        "deterministic",
        "recorded with dropout",
        "fp32",
        "everything",
        "everything recorded",
    ],
)
def test_a_run_goes_on_exactly_from_any_state(
    settings: dict[str, object], tokens: Path, vocabulary: Vocabulary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firstwords.training.checkpoints._KEPT_STATES", 1_000)
    recipe = recipe_with(**{"dropout": 0.0} | settings | {"device": "cuda", "epochs": 2, "resume_minutes": 1e-9})
    whole, twice = tmp_path / "whole", tmp_path / "twice"
    for folder in (whole, twice):
        result = train(recipe, vocabulary.size, tokens, folder)
    assert result.device == "cuda"
    assert last_weights(twice) == last_weights(whole)
    states = saved_states(whole / "state")
    for after in (1, len(states) // 2, len(states) - 1):
        broken = tmp_path / str(after)
        shutil.copytree(states[after - 1], broken / "state" / states[after - 1].name)
        shutil.copyfile(whole / "metrics.jsonl", broken / "metrics.jsonl")
        train(recipe, vocabulary.size, tokens, broken)
        assert last_weights(broken) == last_weights(whole)
        assert losses_of(broken) == losses_of(whole)
