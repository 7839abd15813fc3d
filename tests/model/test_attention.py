"""Attention in blocks is attention: its values and its gradients, whatever the lengths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from firstwords.model import attention
from firstwords.model.attention import AttentionGroup, Layout, attend

LENGTHS = [11, 10, 7, 3, 2, 1, 1]


@pytest.fixture(autouse=True, params=[0, 12, 128], ids=["rows of their own", "some shared", "all in one row"])
def several_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layouts of machines without a compiler; test_lines.py has the loops."""
    monkeypatch.setattr(attention, "QUERY_BLOCK", 4)
    monkeypatch.setattr(attention, "_CHUNK_SCORES", 40)
    monkeypatch.setattr(attention, "_SHARED_WIDTH", request.param)
    monkeypatch.setattr(attention, "LONGEST_LINE", request.param // 2)
    monkeypatch.setattr(attention, "lines_are_learnt", lambda: False)


@pytest.mark.parametrize("lengths", [LENGTHS, [3] * 50, [200, 64, 64, 63, 2, 1, 64], [1], [128, 65]])
def test_every_token_has_a_place_and_rows_are_no_wider_than_they_need_be(lengths: list[int]) -> None:
    groups = Layout.of(lengths).groups
    assert sum(group.tokens for group in groups) == sum(lengths)
    for group in groups:
        assert isinstance(group, AttentionGroup)
        places = group.rows * group.width
        assert group.width <= max(*lengths, attention._SHARED_WIDTH)
        if group.scatter_n is not None:
            assert len(set(group.scatter_n.tolist())) == group.tokens <= places
        else:
            assert group.tokens == places


def made(heads: int, kv_heads: int, count: int = sum(LENGTHS)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    shapes = [(count, heads, 4), (count, kv_heads, 4), (count, kv_heads, 4)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_each_sequence_attends_to_itself_as_pytorch_says(heads: int, kv_heads: int) -> None:
    given = made(heads, kv_heads)
    ours = attend(*given, Layout.of(LENGTHS))
    parts = zip(*(x.split(LENGTHS) for x in given), strict=True)
    theirs = torch.cat(
        [
            F.scaled_dot_product_attention(*(x.transpose(0, 1) for x in part), is_causal=True, enable_gqa=True)
            for part in parts
        ],
        dim=1,
    ).transpose(0, 1)
    assert torch.allclose(ours, theirs, atol=1e-12)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = torch.autograd.grad((theirs * weights).sum(), given)
    for found, wanted in zip(torch.autograd.grad((ours * weights).sum(), given), expected, strict=True):
        assert torch.allclose(found, wanted, atol=1e-12)


def test_the_gradient_is_that_of_the_values() -> None:
    assert torch.autograd.gradcheck(lambda *given: attend(*given, Layout.of([6, 5, 3])), made(2, 2, 14))


def test_bfloat16_errs_by_its_own_rounding_alone() -> None:
    exact = made(4, 4)
    rough = [x.detach().bfloat16().requires_grad_() for x in exact]
    found, wanted = (attend(*given, Layout.of(LENGTHS)) for given in (rough, exact))
    assert found.dtype == torch.bfloat16
    assert float((found - wanted).detach().abs().max()) < 0.05
    grads = (torch.autograd.grad(out.square().sum(), given) for out, given in ((found, rough), (wanted, exact)))
    for grad, expected in zip(*grads, strict=True):
        assert float((grad - expected).abs().max()) < 0.03 * float(expected.abs().max())
