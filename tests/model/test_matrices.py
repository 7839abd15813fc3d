"""Products and attention by tiles: beside the same in float64, by the processor's matrix unit and by plain loops."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.model import matrices
from firstwords.model.attention import AttentionGroup, Layout, RaggedGroup, attend
from firstwords.model.built import built_loops
from firstwords.model.llama import Llama
from firstwords.model.loss import summed_cross_entropy
from firstwords.model.matrices import gradient_of_inputs, gradient_of_weight, prepare_tiles, product
from firstwords.settings import ModelSettings, TrainingSettings
from firstwords.training import devices
from firstwords.training.devices import Device, choose_device

HALF = 2.0**-8  # half a unit in the last place of bfloat16, relative


@cache
def emulated(source: Path) -> ctypes.CDLL | None:
    """The same code with plain loops in the place of tiles."""
    return built_loops(source, "-DEMULATED_TILES")


@pytest.fixture(params=["emulated", "amx"], autouse=True)
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepares tiles for the test."""
    if request.param == "emulated":
        monkeypatch.setattr(matrices, "_library", emulated)
    prepare_tiles()
    if not matrices._in_tiles:
        pytest.skip("there is no C++ compiler that works here, or the processor has no matrix unit (AMX)")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_near(found: Tensor, wanted: Tensor, error: float) -> None:
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=error * float(wanted.detach().abs().max()))


SMALL_SHAPES = [(1, 1, 1), (5, 7, 9), (32, 32, 32), (64, 96, 33), (31, 520, 150), (300, 40, 200)]
LONG_SUMS = [(33, 70, 2_100), (2_100, 40, 50), (40, 2_100, 70)]


@pytest.mark.parametrize(("tokens", "inputs", "outputs"), SMALL_SHAPES + LONG_SUMS)
def test_products_are_those_of_float64(tokens: int, inputs: int, outputs: int) -> None:
    x_NI, weight_OI = drawn(tokens, inputs).bfloat16(), drawn(outputs, inputs, seed=1)
    grad_NO = drawn(tokens, outputs, seed=2).bfloat16()
    rounded_OI = weight_OI.bfloat16().double()
    assert_near(product(x_NI, weight_OI), x_NI.double() @ rounded_OI.T, HALF)
    assert_near(gradient_of_inputs(grad_NO, weight_OI), grad_NO.double() @ rounded_OI, HALF)
    # Never rounded to bfloat16.
    found_OI = gradient_of_weight(grad_NO, x_NI)
    assert found_OI.dtype == torch.float32
    assert_near(found_OI, grad_NO.double().T @ x_NI.double(), 1e-5)


def test_a_product_has_the_gradients_of_autograd() -> None:
    x_NI, weight_OI = drawn(40, 24).requires_grad_(), drawn(50, 24, seed=1).requires_grad_()
    grad_NO = drawn(40, 50, seed=2).bfloat16()
    grads = torch.autograd.grad(product(x_NI, weight_OI), (x_NI, weight_OI), grad_NO)
    assert [grad.dtype for grad in grads] == [torch.float32, torch.float32]
    assert_near(grads[0], grad_NO.double() @ weight_OI.detach().bfloat16().double(), 2 * HALF)
    assert_near(grads[1], grad_NO.double().T @ x_NI.detach().bfloat16().double(), 1e-5)


def test_pytorch_is_told_what_the_operators_make() -> None:
    operators, x_NI, weight_OI, grad_NO = torch.ops.firstwords, drawn(40, 24).bfloat16(), drawn(50, 24), drawn(40, 50)
    x_NI.requires_grad_(), weight_OI.requires_grad_()
    torch.library.opcheck(operators.product.default, (x_NI, weight_OI))
    torch.library.opcheck(operators.gradient_of_inputs.default, (grad_NO.bfloat16(), weight_OI.detach()))
    torch.library.opcheck(operators.gradient_of_weight.default, (grad_NO.bfloat16(), x_NI.detach()))


def test_rows_that_lie_apart_or_turned_are_read_as_they_are() -> None:
    wide_NX, weight_OI = drawn(70, 100).bfloat16(), drawn(48, 40, seed=1)
    part_NI = wide_NX[:, 20:60]
    assert torch.equal(product(part_NI, weight_OI), product(part_NI.contiguous(), weight_OI))
    turned_NI = part_NI.T.contiguous().T
    assert torch.equal(product(turned_NI, weight_OI), product(part_NI, weight_OI))
    grad_NO = drawn(70, 48, seed=2).bfloat16()
    assert torch.equal(gradient_of_weight(grad_NO, part_NI), gradient_of_weight(grad_NO, part_NI.contiguous()))


def test_a_nan_is_not_lost() -> None:
    x_NI, weight_OI = drawn(40, 40).bfloat16(), drawn(40, 40)
    x_NI[3, 5] = torch.nan
    found = product(x_NI, weight_OI)
    assert bool(found[3].isnan().all()) and not bool(found[4:].isnan().any())


LENGTHS = [1, 2, 31, 32, 33, 65, 100, 140, 300]


def in_attention(heads: int, kv_heads: int, size: int) -> tuple[Tensor, Tensor]:
    """Queries and keys side by side, as the model has them, and values."""
    qk, v = drawn(sum(LENGTHS), heads + kv_heads, size), drawn(sum(LENGTHS), kv_heads, size, seed=1)
    return qk.bfloat16().requires_grad_(), v.bfloat16().requires_grad_()


def attended(qk_NHE: Tensor, v_NKE: Tensor, heads: int) -> Tensor:
    bounds = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32)
    layout = Layout(torch.zeros(0), (RaggedGroup(sum(LENGTHS), bounds, max(LENGTHS)),))
    return attend(qk_NHE[:, :heads], qk_NHE[:, heads:], v_NKE, layout)


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(2, 2, 64), (4, 2, 24), (3, 1, 100), (1, 1, 2)])
def test_attention_is_that_of_float64(heads: int, kv_heads: int, size: int) -> None:
    given = in_attention(heads, kv_heads, size)
    found = attended(*given, heads)
    assert found.dtype == torch.bfloat16
    exact = [x.detach().double().requires_grad_() for x in given]
    outs = []
    for qk, v in zip(*(x.split(LENGTHS) for x in exact), strict=True):
        parts = (x.transpose(0, 1) for x in (qk[:, :heads], qk[:, heads:], v))
        outs.append(F.scaled_dot_product_attention(*parts, is_causal=True, enable_gqa=True).transpose(0, 1))
    wanted = torch.cat(outs)
    assert_near(found, wanted, HALF)
    grad = drawn(*found.shape, seed=2).bfloat16()
    grads = torch.autograd.grad(found, given, grad), torch.autograd.grad(wanted, exact, grad.double())
    for one, other in zip(*grads, strict=True):
        assert_near(one, other, 2 * HALF)


def test_nothing_is_seen_of_what_comes_later_or_of_other_sequences() -> None:
    qk_NHE, v_NKE = in_attention(2, 2, 64)
    before = attended(qk_NHE, v_NKE, 2)
    first = sum(LENGTHS[:6])
    changed = first + 70  # in the sequence of 100
    with torch.no_grad():
        qk_NHE[changed] += 50
        v_NKE[changed] += 50
    after = attended(qk_NHE, v_NKE, 2)
    assert torch.equal(before[:changed], after[:changed])
    assert not torch.equal(before[changed : first + 100], after[changed : first + 100])
    assert torch.equal(before[first + 100 :], after[first + 100 :])


def test_scores_of_any_size_have_a_softmax() -> None:
    qk_NHE, v_NKE = in_attention(1, 1, 64)
    found = attended(qk_NHE * 300, v_NKE, 1)
    assert bool(found.isfinite().all())
    grads = torch.autograd.grad(found.float().square().sum(), (qk_NHE, v_NKE))
    assert all(bool(grad.isfinite().all()) for grad in grads)


def test_the_same_bits_whatever_the_number_of_threads() -> None:
    x_NI, weight_OI, grad_NO = drawn(200, 70).bfloat16(), drawn(150, 70), drawn(200, 150).bfloat16()
    given = in_attention(4, 2, 64)

    def found() -> list[Tensor]:
        out = attended(*given, 4)
        products = product(x_NI, weight_OI), gradient_of_inputs(grad_NO, weight_OI), gradient_of_weight(grad_NO, x_NI)
        return [*products, out, *torch.autograd.grad(out.float().square().sum(), given)]

    threads = torch.get_num_threads()
    made = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            made.append(found())
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for others in made[1:] for one, other in zip(made[0], others, strict=True))


SMALL = ModelSettings(hidden=64, heads=2, layers=2, intermediate=96, positions=128)


def learnt(model: Llama, ids: Tensor, layout: Layout, precision: str) -> list[Tensor]:
    """The loss of each token's successor, and its gradients."""
    model.zero_grad()
    with Device("cpu", precision).autocast():
        hidden = model.hidden(ids, layout)
        loss = summed_cross_entropy(hidden, model.unembedding.weight, ids.roll(-1)) / len(ids)
    loss.backward()
    return [loss.detach(), *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None)]


def test_a_model_learns_by_tiles_what_it_learns_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [100, 70, 12, 10]
    model, ids = Llama(SMALL, 300, seed=1), torch.arange(sum(lengths)) * 7 % 300
    by_tiles = Layout.of(lengths)
    assert [type(group) for group in by_tiles.groups] == [RaggedGroup, RaggedGroup]
    assert [(group.tokens, group.longest) for group in by_tiles.groups if isinstance(group, RaggedGroup)] == [
        (170, 100),
        (22, 12),
    ]
    called = []
    run = matrices._run
    monkeypatch.setattr(matrices, "_run", lambda source, name, *given: (called.append(name), run(source, name, *given)))
    found = learnt(model, ids, by_tiles, "bf16")
    # Four products a layer and the head's; the same of gradients; attention of the long ones.
    counts = {name: called.count(name) for name in called}
    assert counts == {
        "product": 9,
        "gradient_of_inputs": 9,
        "gradient_of_weight": 9,
        "attend": 2,
        "gradients": 2,
    }
    called.clear()
    wanted = learnt(model, ids, by_tiles, "fp32")
    assert called == []  # float32 stays float32
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).norm()) <= 0.03 * float(other.norm())


def test_layouts_are_made_for_tiles_only_where_they_are_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "_in_tiles", False)
    assert [type(group) for group in Layout.of([300, 100]).groups] == [AttentionGroup] * 2


def test_a_training_in_bfloat16_is_prepared_and_one_in_float32_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "_in_tiles", False)
    for there, precision, wanted in ((True, "fp32", False), (False, "bf16", False), (True, "bf16", True)):
        monkeypatch.setattr(devices, "tiles_are_there", lambda there=there: there)
        choose_device(TrainingSettings(device="cpu", precision=precision)).prepare_training()
        assert matrices._in_tiles == wanted


def test_without_a_compiler_pytorch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrices, "_library", lambda source: None)
    prepare_tiles()
    assert not matrices._in_tiles
    model, ids = Llama(SMALL, 300, seed=1), torch.arange(100)
    assert bool(learnt(model, ids, Layout.of([100]), "bf16")[0].isfinite())
