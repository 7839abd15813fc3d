"""The processes that train one model together: each reads its share of every batch, their gradients are averaged.

torchrun starts them and tells each its RANK among WORLD_SIZE. Every process has the whole model
(DistributedDataParallel), or where the weights are sharded a part of each weight (FSDP2). Either way a step ends with
the weights that one process would give, but for the order of sums.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from firstwords.training.devices import Device
    from firstwords.training.step import StepLoss

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: one of them may be writing a large model to a slow disk."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def leads(self) -> bool:
        """Whether this process writes files and tells the user."""
        return self.rank == 0

    def read_later(self, device: Device, loss: Tensor, norm: Tensor, *wishes: bool) -> Callable[[], tuple[float, ...]]:
        """The loss summed over all processes, the norm, and how many have each wish; scalars, as `device.read_later`.

        The sum is told to the device now, and so comes before all that it is told from now on.
        """
        if self.size == 1:
            read = device.read_later(loss, norm)
            return lambda: (*read(), *wishes)
        given = [loss.detach().to(self.device), *(torch.full((), wish, device=self.device) for wish in wishes)]
        together = torch.stack([number.double() for number in given])
        torch.distributed.all_reduce(together)
        return device.read_later(together[0], norm, *together[1:])

    def summed(self, *values: float) -> tuple[float, ...]:
        """The sum of each value over all processes."""
        if self.size == 1:
            return values
        together = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(together)
        return tuple(together.tolist())

    def any(self, wish: bool) -> bool:
        """Whether any process wants it: all go the same way."""
        return self.summed(wish)[0] > 0

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            torch.distributed.barrier()

    def seed(self, seed: int, step: int) -> int:
        """Of the dropout of one step: a pure function of its arguments and this process's rank."""
        return (seed * 1_000_003 + step + (self.rank << 40)) % 2**63


ALONE = Processes()
"""One process that trains by itself."""


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the other processes that torchrun has started, if it has, and leave them at the end."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(int(os.environ["RANK"]), size, device)
    finally:
        torch.distributed.destroy_process_group()


def share(step_loss: StepLoss, processes: Processes, *, sharded: bool) -> nn.Module:
    """The module whose gradients are averaged over the processes; of one process, `step_loss` itself.

    sharded: each process holds a part of every weight, and of its gradient and the optimizer's state.
    """
    if processes.size == 1:
        return step_loss
    if not sharded:
        return nn.parallel.DistributedDataParallel(step_loss, gradient_as_bucket_view=True)
    from torch.distributed.fsdp import fully_shard

    # Each block is gathered when its turn comes; what is outside of them is gathered for the whole step.
    for block in step_loss.model.blocks:
        fully_shard(block)
    fully_shard(step_loss)  # in place
    return step_loss


def is_sharded(module: nn.Module) -> bool:
    """Whether the module's weights are spread over the processes."""
    return any(_is_spread(weight) for weight in module.parameters())


@contextmanager
def gradients_kept_back(module: nn.Module, *, until_next: bool) -> Iterator[None]:
    """While `until_next`, gradients of this pass are only added up; the next pass averages them over the processes."""
    if isinstance(module, nn.parallel.DistributedDataParallel):
        with module.no_sync() if until_next else nullcontext():
            yield
        return
    if averages_when := getattr(module, "set_requires_gradient_sync", None):  # FSDP2 gives it to its modules
        averages_when(not until_next)
    yield


@contextmanager
def whole_weights(module: nn.Module) -> Iterator[None]:
    """While it lasts the model can be used in any way: all of its weights are gathered in every process."""
    parts: list[Any] = [part for part in module.modules() if hasattr(part, "unshard")] if is_sharded(module) else []
    for part in parts:
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor whole, on every process, all of which call it; what is not spread is returned as it is."""
    return {name: whole(tensor.detach()) for name, tensor in tensors.items()}


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be spread over the processes, whole."""
    spread: Any = tensor
    return spread.full_tensor() if _is_spread(tensor) else tensor


def like(value: Tensor, model: Tensor) -> Tensor:
    """A whole tensor, spread over the processes as `model` is, if it is and has the same shape."""
    if not _is_spread(model) or value.shape != model.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    spread: Any = model
    return distribute_tensor(value.to(spread.device), spread.device_mesh, spread.placements)


def _is_spread(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")
