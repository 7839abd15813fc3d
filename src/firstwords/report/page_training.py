"""What a report shows of the training and of a run's cost: losses, learning rate, time, memory, energy, machine."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from firstwords.identity import STAGES
from firstwords.report.charts import LossPoint, RatePoint, learning_rate, losses
from firstwords.report.page_parts import Block, Cell, Table, decimal, facts, table, whole
from firstwords.report.terminal import duration
from firstwords.run_folder import RunFolder

_MOST_POINTS = 300
"""Points of a curve: a loss is the mean of the steps since the point before."""
_MOST_DEV_LINES = 15

_CORE_WATTS = (3.0, 12.0)
_BUSY_SHARE = (0.5, 1.0)
_BOARD_WATTS = {
    "h200": 700,
    "h100": 700,
    "a100": 400,
    "v100": 300,
    "l40": 350,
    "l4": 72,
    "t4": 70,
    "a10": 150,
    "p100": 250,
    "4090": 450,
    "3090": 350,
}
"""Most watts of a board, as its maker states them (the larger of its variants), by a part of its name."""
_UNKNOWN_BOARD_WATTS = (100.0, 700.0)
_MPS_WATTS = (10.0, 60.0)


@dataclass(frozen=True, slots=True)
class Steps:
    """metrics.jsonl: the lines of steps with the tokens seen up to each, and the lines of dev losses."""

    steps: list[dict[str, Any]]
    dev: list[dict[str, Any]]

    def mean_loss(self, after: int, upto: int) -> float | None:
        """Mean training loss of the steps after one up to another; None where there is none."""
        first, stop = (bisect_right(self.steps, step, key=itemgetter("step")) for step in (after, upto))
        losses = [step["train_loss"] for step in self.steps[first:stop]]
        return sum(losses) / len(losses) if losses else None


def read_steps(run: RunFolder) -> Steps:
    """What the training wrote down so far; the last line may be half written. OSError where there is nothing."""
    steps: list[dict[str, Any]] = []
    dev: list[dict[str, Any]] = []
    tokens = 0
    with (run.stage("training") / "metrics.jsonl").open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                break
            values = json.loads(line)
            if "dev_loss" in values:
                dev.append(values | {"tokens_seen": tokens})
            else:
                tokens += values["tokens"]
                steps.append(values | {"tokens_seen": tokens})
    return Steps(steps, dev)


def training_blocks(run: RunFolder) -> list[Block] | str:
    """The curves and the dev losses of a training, done or not; a sentence where it has not begun."""
    if not (run.stage("training") / "metrics.jsonl").is_file():
        return "The training has not begun yet."
    found = read_steps(run)
    if not found.steps:
        return "The training has not finished a step yet."
    mark, last = run.mark("training"), found.steps[-1]
    done = (
        f"{last['step']:,} steps, {last['epoch']:.2f} passes over the text, {last['words_seen']:,} words and "
        f"{last['tokens_seen']:,} tokens seen (repeats and special tokens counted)."
    )
    said = done if mark else f"The training is not done yet. So far: {done}"
    train, dev = _train_points(found.steps), [_loss_point(line, line["dev_loss"]) for line in found.dev]
    rates = [RatePoint(line["words_seen"], line["tokens_seen"], line["learning_rate"]) for line in _thin(found.steps)]
    charts = [
        *(losses(train, dev, over) for over in ("words", "tokens")),
        *(learning_rate(rates, over) for over in ("words", "tokens")),
    ]
    note = (
        "A point of the training loss is the mean over the steps since the point before; the dev loss is of the whole "
        "dev text. Both are means over tokens, so they compare models with the same tokenizer only; bits a byte "
        "compare any two on the same text."
    )
    return [Block(said=(said, note), charts=tuple(charts), tables=(_dev_table(found),) if found.dev else ())]


def _loss_point(line: Mapping[str, Any], loss: float) -> LossPoint:
    return LossPoint(line["words_seen"], line["tokens_seen"], loss)


def _train_points(steps: Sequence[Mapping[str, Any]]) -> list[LossPoint]:
    every = -(-len(steps) // _MOST_POINTS)
    groups = [steps[start : start + every] for start in range(0, len(steps), every)]
    return [_loss_point(group[-1], sum(line["train_loss"] for line in group) / len(group)) for group in groups]


def _thin(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most _MOST_POINTS steps, evenly spread, first and last among them."""
    every = -(-len(steps) // _MOST_POINTS)
    return [*steps[:-1:every], steps[-1]]


def _dev_table(found: Steps) -> Table:
    every = -(-len(found.dev) // _MOST_DEV_LINES)
    best = min(found.dev, key=lambda line: line["dev_loss"])
    shown = [line for place, line in enumerate(reversed(found.dev)) if place % every == 0 or line is best][::-1]
    head = ("step", "epoch", "words seen", "tokens seen", "training loss", "dev loss", "dev, bits a byte", "lowest")
    rows, before = [], 0
    for line in shown:
        since, before = found.mean_loss(before, line["step"]), line["step"]
        rows.append(
            (
                whole(line["step"]),
                decimal(line["epoch"], 2),
                whole(line["words_seen"]),
                whole(line["tokens_seen"]),
                decimal(since),
                decimal(line["dev_loss"]),
                decimal(line["dev_bits_per_byte"]),
                "lowest" if line is best else "",
            )
        )
    return table("Losses in nats a token; the training loss is the mean since the line above", head, rows)


# ---- cost ----


def cost_blocks(run: RunFolder) -> list[Block] | str:
    """Time of each stage, memory, energy, machine and versions; a sentence where no stage is done."""
    marks = [mark for stage in STAGES if (mark := run.mark(stage)) is not None]
    if not marks:
        return "No stage is done yet."
    seconds = {mark.stage: _seconds(mark.seconds, mark.facts) for mark in marks}
    rows = [
        (
            mark.stage,
            Cell(duration(seconds[mark.stage]), seconds[mark.stage]),
            mark.finished,
            f"taken over from the run {mark.facts['taken_from']}" if "taken_from" in mark.facts else "",
        )
        for mark in marks
    ]
    stages = table("Time of each stage", ("stage", "time", "finished (UTC)", "remark"), rows)
    training = run.mark("training")
    environment = (training.facts if training else run.facts()).get("environment", {})
    blocks = [Block("Time and memory", tables=(stages, *_speed(training.facts if training else None)))]
    device = str(training.facts["device"]) if training else "cpu"
    blocks.append(Block("Energy, an estimate", said=_energy(seconds, device, environment)))
    return [*blocks, Block("Machine and versions", tables=(_machine(environment, device if training else ""),))]


def _seconds(marked: float, found: Mapping[str, Any]) -> float:
    """A training that was stopped and went on counts all its parts in its facts, and the last one in its mark."""
    own = found.get("seconds")
    return max(marked, own) if isinstance(own, int | float) else marked


def _speed(training: Mapping[str, Any] | None) -> tuple[Table, ...]:
    if training is None:
        return ()
    rows = [
        ("parameters", f"{training['parameters']:,}"),
        ("device and precision", f"{training['device']}, {training['precision']}"),
        ("tokens a second", f"{training['tokens'] / max(training['seconds'], 1e-9):,.0f}"),
        ("most memory held", f"{training['peak_memory_bytes'] / 2**20:,.0f} MiB"),
    ]
    return (facts("The training", rows),)


def energy_watt_hours(
    seconds: Mapping[str, float], device: str, environment: Mapping[str, Any]
) -> tuple[float, float, str]:
    """Lower and upper estimate of the run's energy in watt hours, and the assumptions.

    seconds: by stage. device: what training and evaluation ran on: cpu, cuda or mps. environment: the training's.
    """
    threads = int(environment.get("threads") or 1)
    cores = (_CORE_WATTS[0] * threads, _CORE_WATTS[1] * threads)
    assumed = (
        f"{_CORE_WATTS[0]:g} to {_CORE_WATTS[1]:g} W for each busy processor core, its share of the machine included "
        f"({threads} in training and evaluation, one in the other stages)"
    )
    heavy = cores
    if device == "cuda":
        low, high, board = _board(str(environment.get("cuda") or ""))
        heavy = (low + _CORE_WATTS[0], high + _CORE_WATTS[1])
        assumed = (
            f"{low:g} to {high:g} W for the GPU ({board}) and {_CORE_WATTS[0]:g} to {_CORE_WATTS[1]:g} W for one "
            "processor core beside it, one core in the other stages"
        )
    elif device == "mps":
        heavy = _MPS_WATTS
        assumed = f"{heavy[0]:g} to {heavy[1]:g} W for the whole chip in training and evaluation, one core otherwise"
    watts = {stage: heavy if stage in ("training", "evaluation") else _CORE_WATTS for stage in seconds}
    low, high = (sum(time * watts[stage][end] for stage, time in seconds.items()) / 3600 for end in (0, 1))
    return low, high, assumed


def _board(name: str) -> tuple[float, float, str]:
    for known, watts in _BOARD_WATTS.items():
        if known in name.lower():
            return _BUSY_SHARE[0] * watts, _BUSY_SHARE[1] * watts, f"{name}: half to all of its {watts} W"
    return (*_UNKNOWN_BOARD_WATTS, f"{name or 'unknown'}, of which nothing is assumed")


def _energy(seconds: Mapping[str, float], device: str, environment: Mapping[str, Any]) -> tuple[str, ...]:
    low, high, assumed = energy_watt_hours(seconds, device, environment)
    return (
        f"About {_energy_text(low)} to {_energy_text(high)}.",
        f"Nothing was measured: this is the time of the stages above times {assumed}. Cooling, disks and idle time are "
        "not in it, nor are attempts that were thrown away.",
    )


def _energy_text(watt_hours: float) -> str:
    return f"{watt_hours / 1000:.2g} kWh" if watt_hours >= 1000 else f"{watt_hours:.2g} Wh"


def _machine(environment: Mapping[str, Any], device: str) -> Table:
    rows = [
        ("device", device),
        ("GPU", str(environment.get("cuda") or "")),
        ("threads", str(environment.get("threads") or "")),
        ("machine", str(environment.get("machine") or "")),
        ("system", str(environment.get("system") or "")),
        ("commit of firstwords", str(environment.get("commit") or "")),
        *((name, str(version)) for name, version in environment.get("versions", {}).items()),
    ]
    return facts("What it ran on", rows)
