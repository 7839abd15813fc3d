"""Muon steps each matrix as PyTorch's own does, AdamW the rest; decay and rates go to the weights they are for."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from firstwords.model.attention import Layout
from firstwords.model.hub import to_transformers_weights
from firstwords.model.llama import Llama
from firstwords.model.loss import summed_cross_entropy
from firstwords.settings import ModelSettings, TrainingSettings
from firstwords.tokens.tokenizer import Vocabulary
from firstwords.training.muon import orthogonalized
from firstwords.training.optimizers import make_optimizer, set_learning_rate

SHAPE = ModelSettings(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=48, positions=64)
STEPS = 4


def settings_with(**values: object) -> TrainingSettings:
    return TrainingSettings.model_validate({"device": "cpu", "precision": "bf16", "weight_decay": 0.1} | values)


def gradients(model: Llama, step: int) -> None:
    ids = torch.randint(0, 90, (33,), generator=torch.Generator().manual_seed(step))
    hidden = model.hidden(ids[:-1], Layout.of([20, 12]))
    summed_cross_entropy(hidden, model.unembedding.weight, ids[1:]).backward()


def separate(model: Llama) -> dict[str, nn.Parameter]:
    """The model's weights as transformers has them: every matrix by itself."""
    return {name: nn.Parameter(weight.clone()) for name, weight in to_transformers_weights(model).items()}


def give_gradients(model: Llama, weights: dict[str, nn.Parameter]) -> None:
    twin = Llama(model.shape, model.vocabulary)
    for ours, of_model in zip(twin.parameters(), model.parameters(), strict=True):
        ours.data = of_model.grad.clone()
    for name, gradient in to_transformers_weights(twin).items():
        weights[name].grad = gradient


@pytest.mark.parametrize(
    ("scale", "nesterov", "theirs"),
    [("match-rms-adamw", True, "match_rms_adamw"), ("original", True, "original"), ("original", False, "original")],
)
def test_muon_steps_queries_keys_values_gate_and_up_as_pytorchs_muon_steps_them_apart(
    scale: str, nesterov: bool, theirs: str
) -> None:
    model = Llama(SHAPE, 90, seed=3)
    chosen = settings_with(
        optimizer="muon", muon_scale=scale, muon_nesterov=nesterov, muon_momentum=0.9, muon_steps=4, muon_lr=2e-2,
        peak_lr=1e-3, weight_decay_embeddings=0.2, weight_decay_head=0.3, weight_decay_norms=0.4,
    )  # fmt: skip
    ours = make_optimizer(model, chosen)
    weights, before = separate(model), separate(model)
    matrices = {name: weight for name, weight in weights.items() if "proj" in name}
    assert len(matrices) == 7 * SHAPE.layers
    muon = torch.optim.Muon(
        matrices.values(), lr=2e-2, weight_decay=0.1, momentum=0.9, nesterov=nesterov, ns_steps=4, adjust_lr_fn=theirs
    )
    decays = {"model.embed_tokens.weight": 0.2, "lm_head.weight": 0.3}
    adamw = torch.optim.AdamW(
        [
            {"params": [weight], "weight_decay": decays.get(name, 0.4)}
            for name, weight in weights.items()
            if name not in matrices
        ],
        lr=1e-3, fused=True,
    )  # fmt: skip
    for step in range(STEPS):
        gradients(model, step)
        give_gradients(model, weights)
        set_learning_rate(ours, 1e-3 * (1 - step / 10))
        set_learning_rate(muon, 2e-2 * (1 - step / 10))
        set_learning_rate(adamw, 1e-3 * (1 - step / 10))
        for optimizer in (ours, muon, adamw):
            optimizer.step()
            optimizer.zero_grad()
    for name, weight in to_transformers_weights(model).items():
        moved, apart = weight - before[name], weight - weights[name]
        # bf16 products in batches and one by one may be rounded apart on some CPUs.
        assert apart.norm() <= (0.01 if name in matrices else 1e-5) * moved.norm(), name


def test_the_matrices_made_one_for_speed_are_not_stepped_as_one() -> None:
    """The same test would pass if nothing told them apart, were the two not different."""
    fused = torch.randn(1, 96, 32, generator=torch.Generator().manual_seed(0))
    apart = torch.cat([orthogonalized(part, 5) for part in fused.split(32, dim=1)], dim=1)
    assert (orthogonalized(fused, 5) - apart).norm() > 0.3 * apart.norm()


@pytest.mark.parametrize("shape", [(24, 24), (64, 16), (16, 64)])
def test_an_orthogonalized_matrix_keeps_its_directions_and_has_singular_values_near_one(
    shape: tuple[int, int],
) -> None:
    generator = torch.Generator().manual_seed(1)
    short = min(shape)
    left, _ = torch.linalg.qr(torch.randn(shape[0], short, generator=generator))
    right, _ = torch.linalg.qr(torch.randn(shape[1], short, generator=generator))
    singular = torch.linspace(0.05, 1, short) * 1e-3
    matrix = left @ torch.diag(singular) @ right.T
    found = orthogonalized(torch.stack([matrix, 1e6 * matrix]), 5)
    assert torch.allclose(found[0], found[1], atol=1e-4), "its scale does not matter"
    inner = left.T @ found[0] @ right
    values = inner.diagonal()
    assert ((values > 0.6) & (values < 1.3)).all()
    assert (inner - torch.diag(values)).abs().max() < 1e-3


@pytest.mark.parametrize(("precision", "products"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_muons_products_are_of_the_runs_precision(
    precision: str, products: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()

    def watched(matrices: torch.Tensor, steps: int) -> torch.Tensor:
        seen.add(matrices.dtype)
        return orthogonalized(matrices, steps)

    monkeypatch.setattr("firstwords.training.muon.orthogonalized", watched)
    model = Llama(SHAPE, 90, seed=3)
    optimizer = make_optimizer(model, settings_with(optimizer="muon", precision=precision))
    gradients(model, 0)
    optimizer.step()
    assert seen == {products}


def decay_of(optimizer: torch.optim.Optimizer, model: Llama) -> dict[str, float]:
    names = {weight: name for name, weight in model.named_parameters()}
    return {names[w]: group["weight_decay"] for group in optimizer.param_groups for w in group["params"]}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_group_of_weights_has_its_own_decay(optimizer: str) -> None:
    model = Llama(SHAPE, 90)
    each = settings_with(
        optimizer=optimizer, weight_decay_embeddings=0.2, weight_decay_head=0.3, weight_decay_norms=0.4
    )
    found = decay_of(make_optimizer(model, each), model)
    assert len(found) == len(list(model.parameters()))
    for name, decay in found.items():
        kind = "head" if "unembedding" in name else "embedding" if "embedding" in name else name.split("_")[-1]
        expected = {"head": 0.3, "embedding": 0.2}.get(kind, 0.4 if "norm" in name else 0.1)
        assert decay == expected, name
    shared = decay_of(make_optimizer(model, settings_with(optimizer=optimizer, decay_embeddings=True)), model)
    assert {decay for name, decay in shared.items() if "norm" not in name} == {0.1}
    assert {decay for name, decay in shared.items() if "norm" in name} == {0.0}
    tied = Llama(SHAPE.model_copy(update={"tied_embeddings": True}), 90)
    assert decay_of(make_optimizer(tied, each), tied)["embedding.weight"] == 0.2


def test_decay_shrinks_weights_without_gradients_of_the_loss_by_the_rate_times_the_decay() -> None:
    model = Llama(SHAPE, 90)
    chosen = settings_with(weight_decay_embeddings=0.2, weight_decay_norms=0.4)
    optimizer = make_optimizer(model, chosen)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    set_learning_rate(optimizer, 0.5)
    optimizer.step()
    for name, decay in (("embedding.weight", 0.2), ("unembedding.weight", 0.0), ("norm.weight", 0.4)):
        now = dict(model.named_parameters())[name]
        assert torch.allclose(now, before[name] * (1 - 0.5 * decay)), name


def test_muons_rate_is_its_share_of_the_steps_rate() -> None:
    model = Llama(SHAPE, 90)
    own = make_optimizer(model, settings_with(optimizer="muon", peak_lr=1e-3, muon_lr=2e-2))
    set_learning_rate(own, 5e-4)
    assert {group["rule"]: group["lr"] for group in own.param_groups} == {"muon": pytest.approx(1e-2), "adamw": 5e-4}
    same = make_optimizer(model, settings_with(optimizer="muon", peak_lr=1e-3))
    set_learning_rate(same, 5e-4)
    assert {group["lr"] for group in same.param_groups} == {5e-4}


def test_at_adamws_scale_a_step_is_as_large_as_adamws() -> None:
    """Liu et al. 2025: its root mean square is about 0.2 of the learning rate, as AdamW's."""
    model = Llama(SHAPE, 90, seed=3)
    optimizer = make_optimizer(model, settings_with(optimizer="muon", weight_decay=0, precision="fp32"))
    set_learning_rate(optimizer, 1.0)
    before = model.blocks[0].feed_forward.down.weight.detach().clone()
    gradients(model, 0)
    optimizer.step()
    change = model.blocks[0].feed_forward.down.weight.detach() - before
    assert 0.12 < math.sqrt(float(change.square().mean())) < 0.25


def test_its_state_is_loaded_as_it_was_saved() -> None:
    chosen = settings_with(optimizer="muon")
    model, twin = Llama(SHAPE, 90, seed=3), Llama(SHAPE, 90, seed=3)
    first, second = make_optimizer(model, chosen), make_optimizer(twin, chosen)
    gradients(model, 0)
    first.step()
    first.zero_grad()
    twin.load_state_dict(model.state_dict())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for each, optimizer in ((model, first), (twin, second)):
        gradients(each, 1)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_adamw_alone_steps_as_pytorchs_does_bit_for_bit() -> None:
    model, twin = Llama(SHAPE, 90, seed=3), Llama(SHAPE, 90, seed=3)
    ours = make_optimizer(model, settings_with(weight_decay=0.1))
    assert isinstance(ours, torch.optim.AdamW)
    of_twin = dict(zip(model.parameters(), twin.parameters(), strict=True))
    theirs = torch.optim.AdamW(
        [group | {"params": [of_twin[weight] for weight in group["params"]]} for group in ours.param_groups]
    )
    for step in range(3):
        for each, optimizer in ((model, ours), (twin, theirs)):
            gradients(each, step)
            optimizer.step()
            optimizer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_what_it_holds_of_each_weight_is_there_before_the_first_step(optimizer: str) -> None:
    model = Llama(SHAPE, 90, seed=3)
    made = make_optimizer(model, settings_with(optimizer=optimizer))
    held = {
        weight: {name: tensor.shape for name, tensor in made.state[weight].items()} for weight in model.parameters()
    }
    gradients(model, 0)
    made.step()
    assert held == {
        weight: {name: tensor.shape for name, tensor in made.state[weight].items()} for weight in model.parameters()
    }
    assert all(len(shapes) in (1, 3) for shapes in held.values())


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_training_that_compiles_nothing_does_not_load_the_compiler(
    optimizer: str, tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    lines = (
        "import sys",
        "from pathlib import Path",
        "from firstwords.training.loop import train",
        "from tests.training.conftest import recipe_with",
        f"recipe = recipe_with(optimizer={optimizer!r}, compile=False, epochs=1)",
        f"train(recipe, {vocabulary.size}, Path({str(tokens)!r}), Path({str(tmp_path)!r}))",
        "sys.exit(bool({'torch._dynamo', 'sympy'} & sys.modules.keys()))",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, cwd=Path(__file__).parents[2])
