"""`firstwords serve` as a user starts it."""

from __future__ import annotations

import builtins
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from firstwords.cli import main
from tests.web.conftest import Server


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["serve", *words]) == 2
    text = capsys.readouterr().err
    assert text.startswith("firstwords: ")
    assert "Traceback" not in text
    return text


def test_a_port_that_is_taken_is_one_clear_error(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        text = refusal(capsys, "--port", str(port))
    assert f"port {port} is taken" in text
    assert "do:" in text


def test_hosts_ports_and_folders_that_cannot_be(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "is no port" in refusal(capsys, "--port", "70000")
    assert "no host" in refusal(capsys, "--host", "no such host")
    assert "does not exist" in refusal(capsys, "--data", str(tmp_path / "none"))


def test_a_missing_package_is_named_with_the_cure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **keywords: Any) -> Any:
        if name == "fastapi":
            raise ImportError("No module named 'fastapi'", name="fastapi")
        return real(name, *more, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    text = refusal(capsys, "--port", "0")
    assert "fastapi" in text
    assert "pip install 'firstwords[web]'" in text


def test_it_says_where_it_is_answers_and_ends_when_told_to(two_runs: Path) -> None:
    server = Server(two_runs)
    assert "tiny-hot" in httpx.get(server.address).text
    assert httpx.get(server.address, headers={"host": "evil.example"}).status_code == 403
    with httpx.stream("GET", f"{server.address}api/live") as events:
        lines = events.iter_lines()
        assert any(line == "event: ready" for line in lines)
        # An open page does not keep it from ending.
        server.process.send_signal(signal.SIGINT)
        server.process.wait(timeout=20)
    assert server.process.returncode == 0
    assert "Traceback" not in server.stop()
