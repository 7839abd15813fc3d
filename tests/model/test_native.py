"""The compiled loops give what PyTorch's operations give."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from firstwords.model import built
from firstwords.model.llama import Llama
from firstwords.model.native import NativeLoops, native_loops
from firstwords.settings import ModelSettings


@pytest.fixture
def loops() -> NativeLoops:
    found = native_loops()
    if found is None:
        pytest.skip("there is no C++ compiler that works here")
    return found


def test_there_are_loops_where_there_is_a_compiler() -> None:
    if not Path("/proc/self/maps").exists() or shutil.which("g++") is None:
        pytest.skip("loops are compiled by g++ on Linux")
    assert native_loops() is not None


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(2, 2, 64), (4, 2, 6), (6, 1, 32), (1, 1, 2), (2, 1, 128)])
@pytest.mark.parametrize("branching", [0.0, 0.3, 1.0])
def test_attention_goes_along_the_tree(
    loops: NativeLoops, heads: int, kv_heads: int, size: int, branching: float
) -> None:
    positions = walk_through_a_tree(200, branching)
    shape = ModelSettings(hidden=heads * size, heads=heads, kv_heads=kv_heads, layers=1, intermediate=8, positions=300)
    model = Llama(shape, 10)
    qkv_NX = torch.randn(len(positions), (heads + 2 * kv_heads) * size, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([attended_alone(model, qkv_NX, positions, node) for node in range(len(positions))])
    places = torch.tensor(positions)
    found = loops.attend_along_tree(qkv_NX, model.rotation(places), places, heads)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def walk_through_a_tree(nodes: int, branching: float) -> list[int]:
    """Places of nodes; with `branching` 0 they are one long text, with 1 the next one starts anywhere on the way."""
    chance = random.Random(5)
    places = [0]
    while len(places) < nodes:
        leaves_way = chance.random() < branching
        places.append(chance.randint(0, places[-1] + 1) if leaves_way else places[-1] + 1)
    return places


def attended_alone(model: Llama, qkv_NX: Tensor, positions: list[int], node: int) -> Tensor:
    """A node's output where the text that leads to it is the only one."""
    way = [node]
    for before in reversed(range(node)):
        if positions[before] == positions[way[-1]] - 1:
            way.append(before)
    way.reverse()
    assert [positions[one] for one in way] == list(range(len(way)))
    attention = model.blocks[0].attention
    heads, kv_heads, size = attention.heads, attention.kv_heads, attention.head_size
    q_THE, k_TKE, v_TKE = qkv_NX[way].unflatten(1, (-1, size)).split((heads, kv_heads, kv_heads), dim=1)
    cosines, sines = model.rotation(torch.arange(len(way)))

    def rotated(x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * cosines + torch.cat((-second, first), dim=-1) * sines

    q_HTE, k_KTE, v_KTE = (x.transpose(0, 1)[None] for x in (rotated(q_THE), rotated(k_TKE), v_TKE))
    out_HTE = F.scaled_dot_product_attention(q_HTE, k_KTE, v_KTE, is_causal=True, enable_gqa=True)[0]
    return out_HTE[:, -1].flatten()


@pytest.mark.parametrize("width", [1, 7, 16, 100])
def test_swiglu(loops: NativeLoops, width: int) -> None:
    gate_up_NX = 10 * torch.randn(33, 2 * width, generator=torch.Generator().manual_seed(2))
    gate_up_NX[0, :width] = 1e4
    gate_up_NX[1, :width] = -1e4
    gate_NF, up_NF = gate_up_NX.chunk(2, dim=1)
    torch.testing.assert_close(loops.swiglu(gate_up_NX), F.silu(gate_NF) * up_NF, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("width", [1, 5, 31, 64, 1_400])
@pytest.mark.parametrize("scale", [0.01, 1.0, 50.0])
def test_sums_of_exponentials(loops: NativeLoops, width: int, scale: float) -> None:
    logits_rv = scale * torch.randn(40, width, generator=torch.Generator().manual_seed(3)) - 200
    expected = logits_rv.double().logsumexp(dim=1)
    torch.testing.assert_close(loops.log_sums_(logits_rv).double(), expected, atol=2e-5, rtol=1e-6)


def test_nans_are_handed_on(loops: NativeLoops) -> None:
    for place in range(40):
        row_1v = torch.zeros(1, 40)
        row_1v[0, place] = torch.nan
        assert loops.log_sums_(row_1v.clone()).isnan().all()
        assert loops.swiglu(row_1v).isnan().any()
    assert loops.log_sums_(torch.full((1, 9), torch.inf)).isnan().all()


def test_code_is_made_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loops: NativeLoops) -> None:
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path))
    assert native_loops.__wrapped__() is not None
    (made,) = (tmp_path / "native").iterdir()
    monkeypatch.setattr(built, "_build", lambda *_: pytest.fail("it was there"))
    assert native_loops.__wrapped__() is not None
    assert list((tmp_path / "native").iterdir()) == [made]


def test_damaged_code_is_made_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loops: NativeLoops) -> None:
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "good"))
    assert native_loops.__wrapped__() is not None
    (made,) = (tmp_path / "good" / "native").iterdir()
    damaged = tmp_path / "bad" / "native" / made.name
    damaged.parent.mkdir(parents=True)
    damaged.touch()  # as after a loss of power
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "bad"))
    assert native_loops.__wrapped__() is not None
    assert damaged.stat().st_size == made.stat().st_size


@pytest.mark.parametrize("compiler", ["#!/bin/sh\nexit 1\n", '#!/bin/sh\n[ "$1" = --version ]\n'])
def test_a_compiler_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: str) -> None:
    broken = tmp_path / "c++"
    broken.write_text(compiler)
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "cache"))
    assert native_loops.__wrapped__() is None
    assert not list((tmp_path / "cache").glob("native/*"))


def test_without_room_for_code_there_are_no_loops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FIRSTWORDS_CACHE", str(tmp_path / "file"))
    assert native_loops.__wrapped__() is None
