"""How fast a small LLaMA trains: `python benchmarks/training.py --model model-b [--rows packed|lines] [--data DIR]`.

Four ways to make the same optimizer steps on the same batches, each in a process of its own that waits for its turn, so
that a slow spell of the machine meets all of them:

  cards      Hugging Face's Trainer as the cards used it: float32, gradient checkpointing
  trainer    Trainer at its best: bf16 where the device has it, no checkpointing, fused AdamW
  compiled   a plain loop around transformers' model with torch.compile, in the same type
  firstwords ours

Rows are packed (512 tokens, random ids, 16 a batch) or the cards' own lines (Model A's text in DIR/cards; padded to the
context for all but firstwords). The learning rate is the recipe's peak from the first step on, for all of them, so that
losses can be compared. Told are medians over the rounds, and of packed rows the share that a step reaches of what the
device's products reach by themselves, in the type of those at their best. JSON on stdout. --preload LIBRARY is given to
all of them by LD_PRELOAD, as for tcmalloc. --set changes a setting of the recipe for all of them. --device cuda
measures on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PEERS = ("cards", "trainer", "compiled", "firstwords")
PACKED = {"context": 512, "batch": 16, "accumulation": 1}
A_LONG_TRAINING = 10**12
"""Tokens; ours prepares itself as for one."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("--model", default="model-b", help="bundled recipe that gives shape, batch and optimizer")
    found.add_argument("--rows", choices=("packed", "lines"), default="packed")
    found.add_argument("--data", type=Path, help="folder with cards/ for --rows lines")
    found.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    found.add_argument("--rounds", type=int, default=5)
    found.add_argument("--steps", type=int, default=3, help="optimizer steps a turn")
    found.add_argument("--device", default="cpu")
    found.add_argument("--batch", type=int, help="packed rows a step, instead of 16")
    found.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in model.layers=4")
    found.add_argument("--preload", help="library that every process loads first")
    found.add_argument("--worker", choices=PEERS, help=argparse.SUPPRESS)
    return found


def main() -> None:
    """Start a process for each way, let them take turns, print the medians."""
    given = parser().parse_args()
    if given.worker:
        work(given)
        return
    found = {
        "model": given.model,
        "set": given.set,
        "rows": given.rows,
        "device": given.device,
        "preload": given.preload,
        "rounds": given.rounds,
        "steps_a_turn": given.steps,
        "threads": os.cpu_count(),
    }
    found |= measure(sys.argv[1:], given)
    print(json.dumps(found | (utilization(given, found) if given.rows == "packed" else {}), indent=1))


def measure(words: list[str], given: argparse.Namespace) -> dict[str, Any]:
    """Let the peers take turns; words: the options that their processes get, beside `--worker`."""
    workers = {peer: Worker(peer, words, given.preload) for peer in given.peers}
    seconds: dict[str, list[float]] = {peer: [] for peer in given.peers}
    tokens: dict[str, int] = {}
    for turn in range(given.rounds + 1):
        for peer, worker in workers.items():
            told = worker.turn()
            if turn:  # the first warms up: compilers and caches
                seconds[peer].append(told["seconds"] / given.steps)
                tokens[peer] = told["tokens"] // given.steps
            taken = told["seconds"] / given.steps
            print(f"{turn} {peer}: {taken:.3f} s a step, loss {told['loss']:.3f}", file=sys.stderr, flush=True)
    return summary(seconds, tokens, {peer: worker.stop() for peer, worker in workers.items()})


def summary(seconds: dict[str, list[float]], tokens: dict[str, int], peaks: dict[str, int]) -> dict[str, Any]:
    """Medians, spreads and ratios to every peer, round by round."""
    found: dict[str, Any] = {}
    for peer, taken in seconds.items():
        found[peer] = {
            "seconds_a_step": round(statistics.median(taken), 4),
            "spread": [round(min(taken), 4), round(max(taken), 4)],
            "tokens_a_second": round(tokens[peer] / statistics.median(taken)),
            "peak_memory_mib": peaks[peer],
        }
    if "firstwords" in seconds:
        for peer, taken in seconds.items():
            if peer != "firstwords":
                ratios = [theirs / ours for theirs, ours in zip(taken, seconds["firstwords"], strict=True)]
                found[f"firstwords against {peer}"] = {
                    "ratio": round(statistics.median(ratios), 2),
                    "spread": [round(min(ratios), 2), round(max(ratios), 2)],
                }
    return found


def utilization(given: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    """Floating-point operations a second that every way makes use of, beside those of products of large matrices."""
    import torch

    from firstwords.launch.doctor import product_rate
    from firstwords.model.cost import training_flops_per_token

    recipe = recipe_of(given)
    kind = torch.bfloat16 if in_bf16(recipe) else torch.float32
    # The machine has slow moments; its rate is what it can do.
    rate = max(product_rate(given.device, kind) for _ in range(5))
    of_a_token = training_flops_per_token(recipe.model, recipe.tokenizer.vocabulary + 2, recipe.tokens.context)
    flops = {peer: of_a_token * found[peer]["tokens_a_second"] for peer in given.peers}
    return {"product_rate": rate, "utilization": {peer: round(one / rate, 3) for peer, one in flops.items()}}


class Worker:
    """A process that makes some steps whenever it is its turn."""

    def __init__(self, peer: str, words: list[str], preload: str | None) -> None:
        environment = dict(os.environ) | ({"LD_PRELOAD": preload} if preload else {})
        command = [sys.executable, __file__, *words, "--worker", peer]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, bufsize=1
        )

    def turn(self) -> dict[str, Any]:
        """Let it make its steps."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("go\n")
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told

    def stop(self) -> int:
        """End it; returns its peak memory in MiB."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("stop\n")
        peak = int(self.process.stdout.readline())
        self.process.wait()
        return peak


# ---- inside a worker ----


class Turns:
    """Counts steps, and waits for the next turn after every few of them."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.left, self.tokens, self.started = given, 0, 0, 0.0

    def step_begins(self) -> bool:
        """Whether to go on; waits until it is this process's turn."""
        if self.left == 0:
            if sys.stdin.readline().strip() != "go":
                return False
            self.left, self.tokens, self.started = self.given.steps, 0, time.perf_counter()
        return True

    def step_ends(self, tokens: int, loss: float) -> None:
        """Count a step; after the last of a turn, say how long it took."""
        self.left -= 1
        self.tokens += tokens
        if self.left == 0:
            if self.given.device == "cuda":
                import torch

                torch.cuda.synchronize()
            told = {"seconds": time.perf_counter() - self.started, "tokens": self.tokens, "loss": loss}
            print(json.dumps(told), file=self.given.answers, flush=True)


def work(given: argparse.Namespace) -> None:
    """Train in the way that `--worker` names until told to stop."""
    import resource

    # What libraries print must not stand among the answers.
    given.answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    {"cards": hugging_face, "trainer": hugging_face, "compiled": compiled, "firstwords": ours}[given.worker](given)
    if given.device == "cuda":
        import torch

        peak = torch.cuda.max_memory_reserved() // 2**20
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(peak, file=given.answers, flush=True)


def recipe_of(given: argparse.Namespace) -> Any:
    """The recipe whose shape is trained; packed rows have settings of their own."""
    from firstwords.recipe import Recipe

    changes = {"training.device": given.device}
    if given.rows == "packed":
        changes |= {
            "tokens.examples": "packed",
            "tokens.context": str(PACKED["context"]),
            "tokens.cross-documents": "true",
            "training.batch-size": str(given.batch or PACKED["batch"]),
            "training.accumulation": str(PACKED["accumulation"]),
            "training.precision": "auto",  # a card's fp16 is for its own lines
        }
    # All at once: by themselves the rows may be longer than the model's positions.
    return Recipe.load(given.model).override(changes | dict(change.split("=", 1) for change in given.set))


def examples(given: argparse.Namespace, recipe: Any) -> list[np.ndarray]:
    """The rows of all steps, the same for every way: token ids, one more than there are targets when packed."""
    if given.rows == "packed":
        rng = np.random.default_rng(0)
        vocabulary = recipe.tokenizer.vocabulary
        return [rng.integers(0, vocabulary, recipe.tokens.context) for _ in range(512)]
    from tokenizers import Tokenizer

    card = given.model.removeprefix("model-")
    tokenizer = Tokenizer.from_file(str(given.data / "cards" / card / "tokenizer.json"))
    lines = (given.data / "cards" / "a" / "train_A_2MB.txt").read_text("utf-8", errors="replace").split("\n")
    coded = tokenizer.encode_batch([line for line in lines if line.strip()], add_special_tokens=False)
    order = np.random.default_rng(0).permutation(len(coded))
    return [np.array(coded[place].ids[: recipe.tokens.context]) for place in order if len(coded[place].ids) > 1]


def shape_of(given: argparse.Namespace, recipe: Any) -> Any:
    """transformers' model of the recipe's shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = recipe.model
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.tokenizer.vocabulary + 2,
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=shape.intermediate,
            max_position_embeddings=shape.positions,
            tie_word_embeddings=shape.tied_embeddings,
        )
    ).to(given.device)


def in_bf16(recipe: Any) -> bool:
    """Whether those at their best multiply in bf16: where the device does so natively; elsewhere it would be slow."""
    from firstwords.training.devices import choose_device

    return choose_device(recipe.training).precision == "bf16"


def hugging_face(given: argparse.Namespace) -> None:
    """Trainer, as the cards say or at its best."""
    import tempfile

    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    recipe = recipe_of(given)
    rows, settings, best = examples(given, recipe), recipe.training, given.worker == "trainer"
    turns = Turns(given)
    width = recipe.tokens.context

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 10**6

        def __getitem__(self, number: int) -> dict[str, Any]:
            ids = rows[number % len(rows)]
            filler = width - len(ids)  # every line is padded to the context, as in the cards
            return {
                "input_ids": np.pad(ids, (0, filler)),
                "attention_mask": np.pad(np.ones(len(ids), int), (0, filler)),
                "labels": np.pad(ids, (0, filler), constant_values=-100),
            }

    class Waiter(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not turns.step_begins():
                control.should_training_stop = True

        def on_log(self, args: Any, state: Any, control: Any, **given_too: Any) -> None:
            logs = given_too["logs"]
            if "loss" in logs:  # every step; the last line, on the whole run, has none
                count = settings.batch_size * settings.accumulation
                last = state.global_step * count
                tokens = sum(len(rows[number % len(rows)]) for number in range(last - count, last))
                turns.step_ends(tokens, float(logs["loss"]))

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.batch_size,
            gradient_accumulation_steps=settings.accumulation,
            learning_rate=settings.peak_lr,
            lr_scheduler_type="constant",
            adam_beta2=settings.beta2,
            max_grad_norm=settings.clip_norm or 0.0,
            max_steps=100_000,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=given.device == "cpu",
            bf16=best and in_bf16(recipe),
            gradient_checkpointing=not best,
            optim="adamw_torch_fused" if best else "adamw_torch",
            dataloader_num_workers=0,
        )
        InOrder(model=shape_of(given, recipe), args=arguments, train_dataset=Rows(), callbacks=[Waiter()]).train()


def compiled(given: argparse.Namespace) -> None:
    """A plain loop: transformers' model, torch.compile, autocast, fused AdamW."""
    import torch

    recipe = recipe_of(given)
    rows, settings = examples(given, recipe), recipe.training
    model = shape_of(given, recipe)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.peak_lr, weight_decay=0.0, fused=True)
    step_of = torch.compile(model)
    turns, width, place, half = Turns(given), recipe.tokens.context, 0, in_bf16(recipe)
    while turns.step_begins():
        tokens, loss = 0, 0.0
        for _ in range(settings.accumulation):
            batch = [rows[(place + number) % len(rows)] for number in range(settings.batch_size)]
            place += settings.batch_size
            ids = torch.tensor(np.stack([np.pad(row, (0, width - len(row))) for row in batch]), device=given.device)
            kept = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=given.device)
            labels = torch.where(kept.bool(), ids, -100)
            with torch.autocast(given.device, torch.bfloat16, enabled=half):
                found = step_of(input_ids=ids, attention_mask=kept, labels=labels).loss / settings.accumulation
            found.backward()
            loss += float(found.detach())
            tokens += sum(map(len, batch))
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm or 1e9)
        optimizer.step()
        optimizer.zero_grad()
        turns.step_ends(tokens, loss)


def ours(given: argparse.Namespace) -> None:
    """firstwords' own step, on the same rows."""
    import torch

    from firstwords.model.llama import Llama
    from firstwords.model.products import products_by_onednn
    from firstwords.tokens.batches import StepBatch, TokenSequence
    from firstwords.training.compiling import compiled_for, recorded_context
    from firstwords.training.devices import choose_device
    from firstwords.training.micro_batch import micro_tokens_for
    from firstwords.training.optimizers import make_optimizer
    from firstwords.training.step import Gradients, StepLoss, Steps, in_turn, update

    # The mean that the others' losses are.
    recipe = recipe_of(given).override({"training.loss-mean-over": "targets"})
    rows, settings = examples(given, recipe), recipe.training
    device = choose_device(settings)
    device.prepare_training()
    model = Llama(recipe.model, recipe.tokenizer.vocabulary + 2, seed=1).to(device.kind)
    model.gradient_checkpointing = settings.gradient_checkpointing is True
    fusion = compiled_for(model, recipe, A_LONG_TRAINING, device)
    step_loss, optimizer = StepLoss(model), make_optimizer(model, settings)
    scaler, weights = torch.amp.GradScaler(device.kind, enabled=device.scales_loss), [*model.parameters()]

    def batches() -> Iterator[StepBatch]:
        place, count = 0, settings.batch_size * settings.accumulation
        while True:
            chosen = [TokenSequence(rows[(place + number) % len(rows)], number) for number in range(count)]
            place += count
            chosen.sort(key=lambda sequence: -len(sequence.ids))
            tokens = sum(len(sequence.ids) for sequence in chosen)
            yield StepBatch(tuple(chosen), tokens, tokens - count)

    turns, source = Turns(given), batches()
    size = micro_tokens_for(model, recipe, A_LONG_TRAINING, next(batches()), device, fusion=fusion)
    context = recorded_context(model, recipe, A_LONG_TRAINING, device)
    gradients = Gradients(
        step_loss, settings, device, scaler, fusion=fusion, micro_tokens=size, recorded_context=context
    )
    gradients.expect(next(source))
    steps = Steps(
        batch_of=lambda _: next(source),
        rate_of=lambda _: settings.peak_lr,
        seed_of=lambda _: 1,
        gradients=gradients,
        optimizer=optimizer,
        update=lambda: update(weights, optimizer, scaler, settings.clip_norm),
    )
    with products_by_onednn():
        while turns.step_begins():
            # As in a run: a GPU has begun the next step when the loss of one is read.
            for begun, _ in in_turn(range(given.steps), steps.begin, lambda _: not device.leaves_cpu_idle):
                turns.step_ends(begun.batch.tokens, begun.numbers()[0])


if __name__ == "__main__":
    main()
