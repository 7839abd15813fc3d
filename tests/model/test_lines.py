"""Attention by the loops for short sequences: its values and gradients, beside the same in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.model import lines
from firstwords.model.attention import AttentionGroup, Layout, RaggedGroup, attend
from firstwords.model.lines import LONGEST_LINE, attend_in_lines, attends_in_lines

LENGTHS = [64, 33, 17, 16, 15, 5, 4, 3, 1, 1]


@pytest.fixture(autouse=True)
def loops() -> None:
    if not attends_in_lines(torch.float32):
        pytest.skip("there is no C++ compiler that works here")


def made(heads: int, kv_heads: int, size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Queries and keys side by side, as the model has them, and values."""
    generator = torch.Generator().manual_seed(heads + size)
    shapes = (sum(LENGTHS), heads + kv_heads, size), (sum(LENGTHS), kv_heads, size)
    qk_NHE, v_NKE = (torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes)
    return qk_NHE, v_NKE


def exactly(qk_NHE: Tensor, v_NKE: Tensor, heads: int) -> tuple[Tensor, list[Tensor]]:
    """PyTorch's attention of every sequence in float64, and what it is made of."""
    given = [x.detach().double().requires_grad_() for x in (qk_NHE, v_NKE)]
    outs = []
    for qk, v in zip(*(x.split(LENGTHS) for x in given), strict=True):
        q, k = qk[:, :heads], qk[:, heads:]
        parts = (x.transpose(0, 1) for x in (q, k, v))
        outs.append(F.scaled_dot_product_attention(*parts, is_causal=True, enable_gqa=True).transpose(0, 1))
    return torch.cat(outs), given


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize("size", [64, 32, 24, 100, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_attentions(heads: int, kv_heads: int, size: int, dtype: torch.dtype) -> None:
    qk_NHE, v_NKE = made(heads, kv_heads, size, dtype)
    layout = Layout.of(LENGTHS)
    assert [type(group) for group in layout.groups] == [RaggedGroup]
    found = attend(qk_NHE[:, :heads], qk_NHE[:, heads:], v_NKE, layout)
    wanted, given = exactly(qk_NHE, v_NKE, heads)
    assert found.dtype == dtype
    error = 2e-6 if dtype == torch.float32 else 2.0**-8  # half a unit in the last place, of numbers up to 4
    torch.testing.assert_close(found.double(), wanted, atol=error, rtol=2 * error)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(5)).to(dtype)
    grads = torch.autograd.grad(found, (qk_NHE, v_NKE), weights)
    for grad, expected in zip(grads, torch.autograd.grad(wanted, given, weights.double()), strict=True):
        torch.testing.assert_close(grad.double(), expected, atol=4 * error, rtol=4 * error)


def test_nothing_is_seen_of_what_comes_later_or_of_other_lines() -> None:
    qk_NHE, v_NKE = made(2, 2, 64, torch.float32)
    before = attend(qk_NHE[:, :2], qk_NHE[:, 2:], v_NKE, Layout.of(LENGTHS))
    changed = 64 + 20  # in the second line
    with torch.no_grad():
        qk_NHE[changed] = torch.nan
        v_NKE[changed] = torch.nan
    after = attend(qk_NHE[:, :2], qk_NHE[:, 2:], v_NKE, Layout.of(LENGTHS))
    assert torch.equal(before[:changed], after[:changed])
    assert bool(after[changed : 64 + 33].isnan().all())
    assert torch.equal(before[64 + 33 :], after[64 + 33 :])


def test_scores_of_any_size_have_a_softmax() -> None:
    qk_NHE, v_NKE = made(2, 2, 64, torch.float32)
    with torch.no_grad():
        qk_NHE *= 100
    found = attend(qk_NHE[:, :2], qk_NHE[:, 2:], v_NKE, Layout.of(LENGTHS))
    # Scores of tens of thousands are known to some thousandths.
    torch.testing.assert_close(found.double(), exactly(qk_NHE, v_NKE, 2)[0], atol=2e-2, rtol=0)


def test_the_same_bits_whatever_the_number_of_threads() -> None:
    qk_NHE, v_NKE = made(4, 2, 64, torch.bfloat16)

    def found() -> list[Tensor]:
        out = attend(qk_NHE[:, :4], qk_NHE[:, 4:], v_NKE, Layout.of(LENGTHS))
        return [out, *torch.autograd.grad(out.float().square().sum(), (qk_NHE, v_NKE))]

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = found()
    finally:
        torch.set_num_threads(threads)
    for _ in range(5):
        assert all(torch.equal(one, other) for one, other in zip(alone, found(), strict=True))


def test_heads_that_lie_apart_are_read_as_they_are() -> None:
    qk_NHE, v_NKE = made(3, 3, 32, torch.float32)
    apart = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in (qk_NHE[:, :3], qk_NHE[:, 3:], v_NKE)]
    bounds_C = torch.tensor([0, 40, sum(LENGTHS)], dtype=torch.int32)
    joined = attend_in_lines(qk_NHE[:, :3], qk_NHE[:, 3:], v_NKE, bounds_C, sum(LENGTHS))
    assert torch.equal(joined, attend_in_lines(*apart, bounds_C, sum(LENGTHS)))


def test_long_sequences_and_other_types_go_their_own_way() -> None:
    kinds = [type(group) for group in Layout.of([300, LONGEST_LINE, 5]).groups]
    assert kinds == [AttentionGroup, RaggedGroup]
    with torch.no_grad():
        assert [type(group) for group in Layout.of([5, 4]).groups] == [AttentionGroup]
    qk_NHE, v_NKE = (x.detach().double() for x in made(2, 1, 8, torch.float32))
    found = attend(qk_NHE[:, :2], qk_NHE[:, 2:], v_NKE, Layout.of(LENGTHS))
    torch.testing.assert_close(found, exactly(qk_NHE, v_NKE, 2)[0])


def test_without_a_compiler_lines_share_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "_library", lambda: None)
    assert not attends_in_lines(torch.float32)
    assert [type(group) for group in Layout.of([5, 4]).groups] == [AttentionGroup]
