"""`firstwords doctor` names what is wrong with a machine, and what mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from firstwords.launch import doctor
from firstwords.launch.doctor import Finding, examine, product_rate


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PRODUCT_SECONDS", 0.01)
    monkeypatch.setattr(doctor, "_PRODUCT_ROWS", 64)


def found(about: str, findings: list[Finding]) -> Finding:
    return next(finding for finding in findings if finding.about == about)


def test_a_product_rate_is_counted_in_operations() -> None:
    rate = product_rate("cpu", torch.float32)
    assert 1e8 < rate < 1e14


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setattr(doctor, "_LOW_DISK", 1e18)
    monkeypatch.setattr(doctor, "_PACKAGES", {"report": (("no_such_package",), "charts")})
    findings = examine(tmp_path / "not" / "there", [tmp_path / "nowhere", tmp_path])
    assert found("compiler", findings).state == "slow"
    assert found("waiting", findings).state == "slow"
    assert found("disk", findings).found.endswith(f"free in {tmp_path}")
    assert found("disk", findings).state == found("report", findings).state == "missing"
    assert [(item.state, item.found) for item in findings if item.about == "data"] == [
        ("missing", f"{tmp_path / 'nowhere'} is not there"),
        ("good", str(tmp_path)),
    ]
    assert all(finding.do for finding in findings if finding.state != "good")


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="there is one core")
def test_the_command_says_that_cores_lie_idle(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "firstwords", "doctor", "--workspace", str(tmp_path)]
    told = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True).stdout
    threads = next(finding for finding in json.loads(told) if finding["about"] == "threads")
    assert threads["state"] == "slow" and "OMP_NUM_THREADS" in threads["do"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "what to do" in shown and "unset OMP_NUM_THREADS" in shown
