"""The models at work: loaded when they are first asked for, a few kept, and one request at a time.

All work of models is done by one thread. So many requests at once wait for each other in a queue that has an end, and
take no more memory than one.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from firstwords.errors import FirstwordsError
from firstwords.models import open_run
from firstwords.web.refusal import Refusal
from firstwords.web.workspace import Model, Workspace

if TYPE_CHECKING:
    from firstwords.evaluation.own_model import OwnModel

Result = TypeVar("Result")

MOST_MODELS = 4
MOST_WAITING = 128


class Queue:
    """One thread, and a bounded number of requests that wait for it."""

    def __init__(self, name: str, most_waiting: int = MOST_WAITING) -> None:
        """name: of the thread."""
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._most, self._waiting = most_waiting, 0

    async def do(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, which waits for its turn. Raises Refusal where too many wait already."""
        if self._waiting >= self._most:
            raise Refusal(503, "too many requests are waiting", where="this page", do="try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Begin no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Desk:
    """The loaded models of a workspace."""

    def __init__(self, workspace: Workspace, *, most_models: int = MOST_MODELS) -> None:
        """Nothing is loaded yet."""
        self._workspace, self._most = workspace, most_models
        self._loaded: OrderedDict[str, tuple[str, OwnModel]] = OrderedDict()
        self._loading = asyncio.Lock()
        self._loads = Queue("firstwords-load")
        self.work = Queue("firstwords-score")

    def is_loaded(self, model: Model) -> bool:
        """Whether it answers at once."""
        held = self._loaded.get(model.name)
        return held is not None and held[0] == _identity(model)

    async def subject(self, name: str) -> OwnModel:
        """The model of that name, loaded now if need be. Raises Refusal where it is not there or cannot be loaded."""
        model = await asyncio.to_thread(self._workspace.model, name)
        identity = _identity(model)
        # One after the other: loading takes twice a model's memory for a moment.
        async with self._loading:
            held = self._loaded.get(name)
            if held is None or held[0] != identity:
                self._loaded.pop(name, None)
                while len(self._loaded) >= self._most:
                    self._loaded.popitem(last=False)
                held = (identity, await self._loads.do(lambda: _open(model)))
                self._loaded[name] = held
            self._loaded.move_to_end(name)
        return held[1]

    def close(self) -> None:
        """Begin no more work."""
        self._loads.close()
        self.work.close()


def _identity(model: Model) -> str:
    """Changes when the checkpoint is made anew. Empty where its weights are gone."""
    try:
        stat = (model.folder / "model.safetensors").stat()
    except OSError:
        return ""
    return f"{stat.st_ino}:{stat.st_mtime_ns}:{stat.st_size}"


def _open(model: Model) -> OwnModel:
    # On the CPU: a graphics card may be at work on the very run that is looked at.
    try:
        return open_run(model.run, model.checkpoint, device="cpu")  # type: ignore[return-value]
    except FirstwordsError as error:
        raise Refusal(409, f"{model.name} cannot be loaded: {error.what}", where=error.where, do=error.do) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise Refusal(
            409,
            f"{model.name} cannot be loaded: {first_line}",
            where=f"{model.run.name}, checkpoint {model.checkpoint}",
            do="its files are damaged or were removed: choose another model, or run the run again",
        ) from error
