"""A batch's way on another device than the CPU: PyTorch's `meta`, which computes no value, and mixes with no other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from firstwords.model.attention import Layout
from firstwords.model.generation import generate
from firstwords.model.llama import Llama
from firstwords.settings import ModelSettings
from firstwords.tokens.batches import TokenSequence, flat
from firstwords.tokens.tokenizer import Vocabulary


@pytest.fixture(autouse=True)
def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` has none, and cannot be asked."""
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _kind: False)


SHAPE = ModelSettings(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=48, positions=64)


@pytest.mark.parametrize("lengths", [(20, 18, 9, 5, 3, 2), (33, 33, 33), (2,), (40, 2, 2)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step(lengths: tuple[int, ...], checkpointing: bool) -> None:
    model = Llama(SHAPE, 90).to("meta")
    model.gradient_checkpointing = checkpointing
    batch = flat([TokenSequence(np.arange(length), 0) for length in lengths], "meta")
    F.cross_entropy(model.train()(batch.ids_N, batch.layout), batch.targets_N).backward()
    assert all(weight.grad is not None and weight.grad.is_meta for weight in model.parameters())


def test_a_text_is_made_until_its_first_token_is_read(vocabulary: Vocabulary) -> None:
    with pytest.raises(NotImplementedError, match="no data"):
        generate(Llama(SHAPE, vocabulary.size).to("meta"), vocabulary, "The cat", add_bos=True)


def test_devices_do_not_mix() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        Llama(SHAPE, 90).to("meta").hidden(torch.zeros(3, dtype=torch.int64, device="meta"), Layout.of([3]))


def test_lines_of_any_length_attend_in_one_call_while_they_are_few() -> None:
    few, many = Layout.of([60, 30, 7, 2], "meta"), Layout.of([600] * 50 + [3] * 50, "meta")
    assert [(group.rows, group.width) for group in few.groups] == [(4, 60)]
    assert [(group.rows, group.width) for group in many.groups] == [(50, 600), (50, 3)]
