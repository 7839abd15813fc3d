"""A workspace with two small real runs, and the page on it: in this process, and as a server with a browser."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from firstwords import pipeline
from firstwords.recipe import Recipe
from tests.report.conftest import TINY

pytest.importorskip("fastapi", reason="the page needs the extra `web`")
from starlette.testclient import TestClient

from firstwords.web.app import make_app

ADDRESS = "http://127.0.0.1:8000"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with `tiny` and `tiny-hot`, which were judged on the same pairs."""
    workspace = tmp_path_factory.mktemp("page") / "runs"
    recipe = Recipe.parse(TINY.encode(), "tiny.toml")
    pipeline.run(recipe, workspace=workspace, offline=True)
    hot = recipe.override({"training.peak-lr": "3e-2"})
    pipeline.run(hot, workspace=workspace, offline=True, name="tiny-hot")
    return workspace


@pytest.fixture
def workspace(two_runs: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    shutil.copytree(two_runs, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def client(two_runs: Path) -> Iterator[TestClient]:
    """The page on the workspace that no test changes."""
    with TestClient(make_app(two_runs), base_url=ADDRESS, raise_server_exceptions=False) as found:
        yield found


@pytest.fixture
def own_client(workspace: Path) -> Iterator[TestClient]:
    """The page on a workspace of the test's own."""
    with TestClient(make_app(workspace), base_url=ADDRESS, raise_server_exceptions=False) as found:
        yield found


def pair(model: str = "tiny", good: str = "The teacher sleeps.", bad: str = "The teacher sleep.") -> dict[str, object]:
    """What the playground asks."""
    return {"model": model, "sentences": [good, bad]}


class Server:
    """`firstwords serve` as a process of its own."""

    def __init__(self, workspace: Path, *more: str) -> None:
        self.workspace = workspace
        command = [sys.executable, "-m", "firstwords", "serve", "--workspace", str(workspace), "--port", "0", *more]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        assert self.address.startswith("http://127.0.0.1:"), self.stop()

    def stop(self) -> str:
        """End it; what it said on stderr."""
        self.process.terminate()
        return self.process.communicate(timeout=20)[1]
