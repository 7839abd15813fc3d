"""What bundled recipes trained before there was a choice of optimizers and schedules, they train still: bit for bit.

The older formulas of batches, learning rate and optimizer are written out here and step a model of their own.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from firstwords.identity import identity_settings
from firstwords.model.llama import Llama
from firstwords.model.loss import summed_cross_entropy
from firstwords.model.products import products_by_onednn
from firstwords.recipe import Recipe, bundled_names
from firstwords.tokens.batches import TokenSequence, flat_batches
from firstwords.tokens.encoding import TokenFile
from firstwords.tokens.tokenizer import Vocabulary
from firstwords.training.loop import train

SMALL = {
    "model.hidden": "32", "model.layers": "2", "model.heads": "2", "model.intermediate": "48", "tokens.context": "64",
    "model.positions": "64", "training.warmup-steps": "3", "training.max-steps": "9", "training.batch-size": "4",
    "training.device": "cpu", "training.precision": "fp32", "training.accumulation": "2",
}  # fmt: skip


def older_rows(file: TokenFile, recipe: Recipe, batch: int) -> list[list[TokenSequence]]:
    """The rows of a batch, all of one size but an epoch's last."""
    context, lines = recipe.tokens.context, recipe.tokens.examples == "lines"
    rows_per_epoch = file.facts.examples if lines else (file.facts.tokens - 1) // context
    size = recipe.training.batch_size
    epoch, number = divmod(batch, -(-rows_per_epoch // size))
    order = np.random.default_rng((recipe.seed, epoch)).permutation(file.facts.examples)
    rows: list[list[TokenSequence]] = []
    for row in range(number * size, min((number + 1) * size, rows_per_epoch)):
        if lines:
            rows.append([TokenSequence(np.asarray(file.example(order[row])), int(order[row]))])
            continue
        stream = [(int(example), ids) for example in order for ids in file.example(example)]
        part = stream[row * context : (row + 1) * context + 1]
        cut: dict[int, list[int]] = {}
        for example, ids in part:
            cut.setdefault(example, []).append(int(ids))
        rows.append([TokenSequence(np.array(ids), example) for example, ids in cut.items()])
    return rows


def older_rate(step: int, steps: int, recipe: Recipe) -> float:
    settings = recipe.training
    if step < settings.warmup_steps:
        return settings.peak_lr * step / settings.warmup_steps
    share = 0.5 * (1 + math.cos(math.pi * (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps)))
    return settings.peak_lr * (settings.final_lr_share + (1 - settings.final_lr_share) * share)


@products_by_onednn()
def older_training(recipe: Recipe, vocabulary: int, tokens: Path, steps: int) -> dict[str, torch.Tensor]:
    settings, file = recipe.training, TokenFile(tokens, "train")
    model = Llama(recipe.model, vocabulary, seed=recipe.seed).train()
    decayed, plain = [], []
    for name, weight in model.named_parameters():
        decays = weight.dim() == 2 and (settings.decay_embeddings or "embedding" not in name)
        (decayed if decays else plain).append(weight)
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True,
    )  # fmt: skip
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = older_rate(step, steps, recipe)
        torch.manual_seed((recipe.seed * 1_000_003 + step) % 2**63)
        taken = range(step * settings.accumulation, (step + 1) * settings.accumulation)
        found = [sequence for batch in taken for row in older_rows(file, recipe, batch) for sequence in row]
        found.sort(key=lambda sequence: -len(sequence.ids))
        kept = [sequence for sequence in found if len(sequence.ids) > 1]
        over_tokens = settings.loss_mean_over == "tokens"
        divisor = sum(len(s.ids) for s in found) if over_tokens else sum(len(s.ids) - 1 for s in kept)
        for flat in flat_batches(kept, 4_096):
            hidden = model.hidden(flat.ids_N, flat.layout)
            (summed_cross_entropy(hidden, model.unembedding.weight, flat.targets_N) / divisor).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or math.inf)
        optimizer.step()
        optimizer.zero_grad()
    return {name: weight.detach() for name, weight in model.named_parameters()}


CASES = [(name, "false") for name in bundled_names()] + [("model-a", "true"), ("quickstart", "true")]


@pytest.mark.parametrize(("name", "decay_embeddings"), CASES)
def test_a_bundled_recipe_trains_as_before(
    name: str, decay_embeddings: str, tokens: Path, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    recipe = Recipe.load(name).override(SMALL | {"training.decay-embeddings": decay_embeddings})
    result = train(recipe, vocabulary.size, tokens, tmp_path)
    expected = older_training(recipe, vocabulary.size, tokens, result.steps)
    weights = load_file(tmp_path / "checkpoints" / "last" / "model.safetensors")
    assert result.steps >= 5
    assert weights.keys() == expected.keys()
    for key, weight in weights.items():
        assert torch.equal(weight, expected[key]), key


OLDER_TRAINING_KEYS = {
    "epochs", "max-steps", "batch-size", "accumulation", "peak-lr", "warmup-steps", "schedule", "decay-share",
    "final-lr-share", "beta1", "beta2", "eps", "weight-decay", "decay-embeddings", "clip-norm", "loss-mean-over",
    "precision", "eval-every-steps", "checkpoint-words",
}  # fmt: skip


@pytest.mark.parametrize("name", bundled_names())
def test_a_bundled_recipe_is_the_run_that_it_was(name: str) -> None:
    assert identity_settings(Recipe.load(name))["training"].keys() <= OLDER_TRAINING_KEYS


def test_other_steps_are_another_run() -> None:
    card = Recipe.load("model-a")
    exact = card.override({"training.whole-steps-per-epoch": "false"})
    assert identity_settings(exact)["training"]["whole-steps-per-epoch"] is False
    assert identity_settings(exact) != identity_settings(card)


def test_both_names_of_a_schedule_are_one_run_and_a_choice_is_another() -> None:
    plain = Recipe.load("quickstart")
    older = plain.override({"training.schedule": "constant-decay"})
    newer = plain.override({"training.schedule": "warmup-stable-decay"})
    assert older == newer
    assert identity_settings(older) == identity_settings(newer)
    assert identity_settings(newer)["training"]["schedule"] == "constant-decay", "as older runs recorded it"
    for key, value in (
        ("optimizer", "muon"), ("z-loss", "1e-4"), ("ema-decay", "0.99"), ("weight-decay-norms", "0.1"),
        ("batch-size-schedule", "[[8, 0.5]]"), ("context-schedule", "[[8, 0.5]]"),
    ):  # fmt: skip
        changed = plain.override({f"training.{key}": value})
        assert identity_settings(changed)["training"][key] == changed.to_values()["training"][key]
        assert identity_settings(changed) != identity_settings(plain)
    kept = plain.override({"training.ema-decay": "0.99"})
    assert identity_settings(kept.override({"training.select": "ema"})) == identity_settings(kept)
