"""Where an optimizer step of a GPU goes: `python benchmarks/gpu_step.py [--model model-b] [--rows packed|lines]`.

The same steps in four ways: kernels launched one by one or recorded as CUDA graphs, chains as they are written or in
kernels of their own (`compiled`). Of each: seconds of a step (median and spread), tokens and floating-point operations
a second, the share of what products of large matrices reach on the device, peak memory, and with `--kernels N` the N
kernels that take longest. Lines have lengths like those of the cards' text: lognormal, 18 tokens in the middle. Token
ids are random.
Prints JSON. `--device cpu` tries the script on small shapes (`--set model.layers=2`): nothing is recorded there.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from firstwords.launch.doctor import product_rate
from firstwords.model.cost import training_flops_per_token
from firstwords.model.llama import Llama
from firstwords.recipe import Recipe
from firstwords.tokens.batches import StepBatch, TokenSequence
from firstwords.training.compiling import compiled_for, recorded_context
from firstwords.training.devices import Device, choose_device
from firstwords.training.optimizers import make_optimizer
from firstwords.training.step import Gradients, StepLoss, Steps, in_turn, update
from training import A_LONG_TRAINING, recipe_of

BATCHES = 8
"""Different batches that steps go through."""


def main() -> None:
    """Measure the ways, print what they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="model-b")
    parser.add_argument("--rows", choices=("packed", "lines"), default="packed")
    parser.add_argument("--batch", type=int, default=64, help="packed rows of 512 a step")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--kernels", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    recipe = recipe_of(given)
    device = choose_device(recipe.training)
    rate = product_rate(device.kind, device.dtype)
    ways = [(compiles, records) for compiles in (True, False) for records in (True, False)]
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.kind == "cuda" else "cpu",
        "precision": device.precision,
        "product_rate": rate,
        "ways": [],
    }
    for way in ways:
        if device.kind == "cuda" or not way[1]:
            found["ways"].append(measure(given, recipe, device, rate, *way))
            gc.collect()
            device.give_memory_back()
    print(json.dumps(found, indent=1))


def batches_of(recipe: Recipe) -> list[StepBatch]:
    """Some steps of random ids."""
    rng = np.random.default_rng(0)
    rows, context = recipe.training.batch_size * recipe.training.accumulation, recipe.tokens.context
    found = []
    for _ in range(BATCHES):
        lengths = [context + 1] * rows
        if recipe.tokens.examples == "lines":
            lengths = sorted(rng.lognormal(np.log(18), 0.6, rows).clip(2, context).astype(int).tolist(), reverse=True)
        ids = [rng.integers(0, recipe.tokenizer.vocabulary, length) for length in lengths]
        sequences = tuple(TokenSequence(row, number) for number, row in enumerate(ids))
        found.append(StepBatch(sequences, sum(lengths), sum(lengths) - rows))
    return found


def measure(
    given: argparse.Namespace, recipe: Recipe, device: Device, rate: float, compiles: bool, records: bool
) -> dict[str, Any]:
    """One way to make the steps."""
    vocabulary = recipe.tokenizer.vocabulary + 2
    device.prepare_training()
    batches = batches_of(recipe)
    model = Llama(recipe.model, vocabulary, seed=1).to(device.kind)
    started = time.perf_counter()
    fusion = compiled_for(model, recipe, A_LONG_TRAINING, device, say=say) if compiles else None
    compiling = time.perf_counter() - started
    step_loss, optimizer = StepLoss(model), make_optimizer(model, recipe.training)
    scaler, weights = torch.amp.GradScaler(device.kind, enabled=device.scales_loss), [*model.parameters()]
    context = recorded_context(model, recipe, A_LONG_TRAINING, device) if records else None
    gradients = Gradients(
        *(step_loss, recipe.training, device, scaler),
        say=say,
        fusion=fusion,
        micro_tokens=2**16,
        recorded_context=context,
    )
    if device.kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    steps = Steps(
        batch_of=lambda number: batches[number % len(batches)],
        rate_of=lambda number: recipe.training.peak_lr,
        seed_of=lambda number: number,
        gradients=gradients,
        optimizer=optimizer,
        update=lambda: update(weights, optimizer, scaler, recipe.training.clip_norm),
    )
    losses: list[float] = []

    def seconds_of(count: int) -> list[float]:
        """Between the numbers of a step and those of the next, as a run reads them."""
        read_at = []
        for begun, _ in in_turn(range(count), steps.begin, lambda _: not device.leaves_cpu_idle):
            losses.append(begun.numbers()[0])
            read_at.append(time.perf_counter())
        return [after - before for before, after in pairwise(read_at)]

    started = time.perf_counter()
    gradients.expect(max(batches, key=lambda batch: batch.tokens))
    seconds_of(len(batches))  # kernels and graphs are made
    first = time.perf_counter() - started
    taken = seconds_of(given.steps + 1)
    second = statistics.median(taken)
    targets = statistics.fmean(batch.targets for batch in batches)
    mean_length = targets / len(batches[0].sequences)
    flops = training_flops_per_token(recipe.model, vocabulary, mean_length) * targets / second
    return {
        "compiled": fusion is not None,
        "recorded": records,
        "compile_seconds": round(compiling, 1),
        "first_steps_seconds": round(first, 1),
        "seconds_a_step": second,
        "spread": [min(taken), max(taken)],
        "tokens_a_second": round(targets / second),
        "flops_a_second": flops,
        "of_the_product_rate": round(flops / rate, 3),
        "peak_memory_mib": device.peak_memory_bytes() // 2**20,
        "losses": [losses[0], losses[-1]],
    } | (kernels(seconds_of, given.kernels) if given.kernels and device.kind == "cuda" else {})


def say(line: str) -> None:
    """What a way says of itself, as that it could not be recorded."""
    print(line, file=sys.stderr)


def kernels(make_steps: Any, most: int) -> dict[str, Any]:
    """What the device does in two steps, longest first: microseconds and calls a step, and of all together."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        make_steps(2)
        torch.cuda.synchronize()
    longest = sorted(profile.key_averages(), key=lambda one: -one.self_device_time_total)
    return {
        "microseconds_of_kernels": sum(one.self_device_time_total for one in longest) / 2,
        "calls_of_kernels": sum(one.count for one in longest) / 2,
        "kernels": [
            {"microseconds": one.self_device_time_total / 2, "calls": one.count / 2, "kernel": one.key[:160]}
            for one in longest[:most]
        ],
    }


if __name__ == "__main__":
    main()
