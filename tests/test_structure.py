"""The house rules that a machine can check: imports run one way, rooms stay small, `--help` loads nothing heavy."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "firstwords"

# A room may import those before it, never those after it.
ORDER = [
    "errors",
    "budget",
    "machine",
    "settings",
    "recipe",
    "run_folder",
    "reporter",
    "data",
    "corpus",
    "identity",
    "tokens",
    "model",
    "training",
    "evaluation",
    "report",
    "models",
    "assessment",
    "tests_ahead",
    "pipeline",
    "launch",
    "publishing",
    "web",
    "__init__",
    "cli",
    "__main__",
]
KNOWN_ENTANGLED = {("tokens", "model")}
"""Flat batches are built for the model's layout: tokens.batches imports it where it makes tensors."""


def room_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """Rooms that a file imports when it runs; imports for type checkers do not count."""
    rooms = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node not in skipped:
            parts = node.module.split(".")
            if parts[0] == "firstwords":
                rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return rooms


def test_every_room_has_its_place() -> None:
    assert {room_of(path) for path in SOURCE.rglob("*.py")} <= set(ORDER)


def test_imports_run_one_way() -> None:
    wrong = [
        f"{path.relative_to(SOURCE)} imports {room}"
        for path in SOURCE.rglob("*.py")
        for room in imports_of(path) & set(ORDER)
        if ORDER.index(room) > ORDER.index(room_of(path)) and (room_of(path), room) not in KNOWN_ENTANGLED
    ]
    assert wrong == []


def test_training_and_evaluation_do_not_know_each_other_and_report_trains_nothing() -> None:
    for room, forbidden in (
        ("training", {"evaluation"}),
        ("evaluation", {"training"}),
        ("report", {"training", "model"}),
        ("web", {"training", "corpus", "pipeline", "launch"}),
    ):
        for path in (SOURCE / room).rglob("*.py"):
            assert not imports_of(path) & forbidden, path


def test_files_stay_small() -> None:
    large = {
        str(path.relative_to(SOURCE)): lines
        for path in SOURCE.rglob("*.py")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > 420
    }
    assert large == {}
