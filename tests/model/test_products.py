from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from firstwords.model.attention import Layout, attend
from firstwords.model.products import products_as_usual, products_by_onednn


def test_products_by_onednn_are_of_float32() -> None:
    generator = torch.Generator().manual_seed(3)
    left, right = (torch.randn(300, 300, generator=generator) for _ in range(2))
    with products_by_onednn():
        found = left @ right
    exact = left.double() @ right.double()
    assert float((found - exact).abs().max() / exact.abs().max()) < 1e-5


def test_what_was_set_before_holds_afterwards_and_after_an_error_too() -> None:
    before = torch.get_float32_matmul_precision()
    with products_by_onednn(), products_as_usual():
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ValueError, match="within"), products_by_onednn():
        raise ValueError("within")
    assert torch.get_float32_matmul_precision() == before


def test_fused_attention_multiplies_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    fused, seen = F.scaled_dot_product_attention, []

    def watched(*args: object, **options: object) -> torch.Tensor:
        seen.append(torch.get_float32_matmul_precision())
        return fused(*args, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    q_NHE = torch.randn(12, 2, 8)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.no_grad():
            attend(q_NHE, q_NHE, q_NHE, Layout.of([5, 7]))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen and set(seen) == {"highest"}
