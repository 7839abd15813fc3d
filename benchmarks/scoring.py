"""How fast minimal pairs are scored, beside lm-eval, minicons and the formula of the BabyLM pipeline of 2025.

    python benchmarks/scoring.py --data DIR                      # four paradigms, some minutes a round on two cores
    python benchmarks/scoring.py --data DIR --every 1            # all 67,000 pairs
    python benchmarks/scoring.py --data DIR --every 1 --device cuda

DIR holds blimp/ and cards/b/tokenizer.json. One Hugging Face folder is made: Model B's shape with random weights, and
its tokenizer. Each contender opens that folder in a process of its own and scores the same pairs in float32:

    firstwords      protocols firstwords, blimp and lm-eval in one pass
    lm-eval         its own blimp scoring; the best of some batch sizes
    minicons        sequence_score, good and bad sentences of some pairs at a time, in the order of the files; the best
                    of some batch sizes
    babylm-2025     the formula of that pipeline as a plain loop: order of the files, batches of 64, all logits

The best batch sizes are found first, on up to 300 pairs, as medians of three rounds. `auto` of lm-eval is none of them:
it takes the largest that fits into memory, up to 64, after five passes that try it. Then come rounds, in each of which
every contender runs once. `seconds` is from the opened model to the accuracies, `load_seconds` what opening takes;
programs are imported and the pairs read before either. Told are medians and the whole spread, and ratios within rounds.
Beside the times stand the most memory that each process held, and whether the accuracies of every paradigm are ours
under the protocol of that name. Prints JSON, and a line in words to stderr.

Paradigms are taken whole, as within one many sentences begin alike, which we make use of: `tokens` says how many there
are to compute, and how many are left when beginnings are shared, of the pairs taken and of all of BLiMP.

Model B's tokenizer takes spaces away from both ends of a text, so that our three protocols read each sentence alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

CONTENDERS = ("firstwords", "lm-eval", "minicons", "babylm-2025")
PEERS = ("lm-eval", "minicons")
BATCHES: dict[str, dict[str, list[int]]] = {
    "cpu": {"lm-eval": [4, 8, 16, 32, 64, 128], "minicons": [4, 8, 16, 32, 64, 128]},
    "cuda": {"lm-eval": [64, 256, 1024, 2048], "minicons": [64, 256, 1024, 2048]},
}
TUNED_ON = 300
"""Pairs on which batch sizes are tried."""
TUNING_ROUNDS = 3
"""Times that each is; medians count."""

Pairs = dict[str, list[tuple[str, str]]]
"""Good and bad sentences of each paradigm."""


@dataclass(slots=True)
class Job:
    """One contender's work in one process. accuracies: what it finds, by protocol and paradigm."""

    folder: Path
    place: Path
    pairs: Pairs
    device: str
    load_seconds: float = 0.0
    accuracies: dict[str, dict[str, float]] = field(default_factory=dict)

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """Time what opening the model takes."""
        started = time.perf_counter()
        yield
        self.synchronize()
        self.load_seconds = time.perf_counter() - started

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device == "cuda":
            import torch

            torch.cuda.synchronize()

    def judge(self, protocol: str, scores: Sequence[tuple[float, float]], tie: float) -> None:
        """Accuracy of each paradigm from the scores of good and bad, in the order of the pairs."""
        rest = iter(scores)
        self.accuracies[protocol] = {}
        for uid, pairs in self.pairs.items():
            own = [next(rest) for _ in pairs]
            right = sum(1.0 if good > bad else tie * (good == bad) for good, bad in own)
            self.accuracies[protocol][uid] = right / len(own)


Run = Callable[[int | None], None]


def firstwords_job(job: Job, check: bool) -> Run:
    """Ours. check: score under the protocols of the others too, for comparison (not for times)."""
    import scipy.special  # imported with the others: statistics would where they first need it  # noqa: F401

    from firstwords.cli.main import collect_seldom
    from firstwords.evaluation.judging import evaluate_suite
    from firstwords.evaluation.pairs import own_suite
    from firstwords.models import open_subject

    collect_seldom()  # as the command does
    # A suite is read from files, as users do; its name is the folder's.
    suite = own_suite(job.place / "pairs")
    protocols = ("minicons", "babylm-2025") if check else ("firstwords", "blimp", "lm-eval")
    with job.loading():
        subject = open_subject(str(job.folder), workspace=job.place, device=job.device)

    def run(_batch: int | None) -> None:
        for result in evaluate_suite(subject, suite, protocols):
            parts = result.accuracies.paradigms
            job.accuracies[result.protocol.name] = {uid: part.accuracy for uid, part in parts.items()}

    return run


def lm_eval_job(job: Job, _check: bool) -> Run:
    """lm-eval with the settings of its own blimp tasks, on local files."""
    import lm_eval
    import yaml
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager, get_task_dict

    template = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks" / "blimp" / "_template_yaml").read_text())
    tasks, cache = job.place / "tasks", job.place / "cache"
    tasks.mkdir(exist_ok=True)
    for uid in job.pairs:
        files = {"data_files": str(job.place / "pairs" / f"{uid}.jsonl"), "cache_dir": str(cache)}
        local = {"task": f"local_{uid}", "dataset_path": "json", "dataset_kwargs": files}
        (tasks / f"{uid}.yaml").write_text(yaml.safe_dump(template | local))
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    known: Any = get_task_dict([f"local_{uid}" for uid in job.pairs], manager)
    with job.loading():
        model: Any = HFLM(pretrained=str(job.folder), device=job.device, dtype="float32")

    def run(batch: int | None) -> None:
        # The batch size is the object's; the weights are taken over.
        sized = HFLM(pretrained=model.model, tokenizer=model.tokenizer, device=job.device, batch_size=batch)
        found: Any = lm_eval.evaluate(sized, known, bootstrap_iters=0, log_samples=False)
        job.accuracies["lm-eval"] = {uid: found["results"][f"local_{uid}"]["acc,none"] for uid in job.pairs}

    return run


def minicons_job(job: Job, _check: bool) -> Run:
    """sequence_score of minicons with its defaults."""
    from minicons.scorer import IncrementalLMScorer

    both = [pair for pairs in job.pairs.values() for pair in pairs]
    with job.loading():
        scorer: Any = IncrementalLMScorer(str(job.folder), job.device)

    def run(batch: int | None) -> None:
        assert batch is not None
        scores: list[tuple[float, float]] = []
        for start in range(0, len(both), batch):
            good, bad = zip(*both[start : start + batch], strict=True)
            scores += zip(scorer.sequence_score(list(good)), scorer.sequence_score(list(bad)), strict=True)
        job.judge("minicons", scores, tie=0.5)

    return run


def babylm_2025_job(job: Job, _check: bool) -> Run:
    """The pipeline's formula: a text with its special tokens; those of some character are scored but for the first."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    both = [pair for pairs in job.pairs.values() for pair in pairs]
    with job.loading():
        tokenizer: Any = AutoTokenizer.from_pretrained(job.folder, padding_side="right")
        found: Any = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32)
        model = found.to(job.device).eval()

    @torch.no_grad()
    def score(sentences: Sequence[str]) -> list[float]:
        coded = tokenizer(list(sentences), padding=True, return_offsets_mapping=True, return_tensors="pt")
        ends = coded["offset_mapping"][:, :, 1] > coded["offset_mapping"][:, :1, 0]
        scored = (ends & coded["attention_mask"].bool())[:, 1:].to(job.device)
        ids, mask = coded["input_ids"].to(job.device), coded["attention_mask"].to(job.device)
        logits = model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1]).logits
        log_probs = logits.log_softmax(-1).gather(2, ids[:, 1:, None])[:, :, 0]
        return (log_probs * scored).sum(1).tolist()

    def run(batch: int | None) -> None:
        assert batch is not None
        scores: list[tuple[float, float]] = []
        for start in range(0, len(both), batch):
            good, bad = zip(*both[start : start + batch], strict=True)
            scores += zip(score(good), score(bad), strict=True)
        job.judge("babylm-2025", scores, tie=1.0)

    return run


JOBS: dict[str, Callable[[Job, bool], Run]] = {
    "firstwords": firstwords_job,
    "lm-eval": lm_eval_job,
    "minicons": minicons_job,
    "babylm-2025": babylm_2025_job,
}


def work(given: argparse.Namespace) -> None:
    """What one process does: open the model and score, once with each of the batch sizes. Prints JSON."""
    import torch

    torch.set_num_threads(given.threads)
    place = given.place
    job = Job(place / "model", place, json.loads((place / "pairs.json").read_text()), given.device)
    run = JOBS[given.work](job, given.check)
    tuned = json.loads(given.batches)
    if len(tuned) > 1:
        # The first run of a process is slower than the others.
        run(tuned[0])
    taken: dict[str, list[float]] = {}
    # A slow spell of the machine must not choose the batch size.
    for batch in tuned * (TUNING_ROUNDS if len(tuned) > 1 else 1):
        started = time.perf_counter()
        try:
            run(batch)
        except torch.OutOfMemoryError:
            continue
        job.synchronize()
        taken.setdefault(json.dumps(batch), []).append(time.perf_counter() - started)
    seconds = {batch: statistics.median(of_batch) for batch, of_batch in taken.items()}
    found = {
        "seconds": seconds,
        "load_seconds": job.load_seconds,
        "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "device_memory_mib": torch.cuda.max_memory_reserved() // 2**20 if given.device == "cuda" else None,
        "accuracies": job.accuracies,
    }
    print("\n" + json.dumps(found))


def process(name: str, place: Path, batches: Sequence[int | None], given: argparse.Namespace, *more: str) -> Any:
    """One contender in a process of its own; what it found."""
    command = [sys.executable, __file__, "--work", name, "--place", str(place), "--batches", json.dumps(list(batches))]
    command += ["--device", given.device, "--threads", str(given.threads), *more]
    quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    environment = os.environ | quiet | {"OMP_NUM_THREADS": str(given.threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def make_folder(data: Path, folder: Path) -> None:
    """Model B's shape with random weights and its tokenizer, as others load it."""
    from tokenizers import Tokenizer

    from firstwords.model.hub import save_folder
    from firstwords.model.llama import Llama
    from firstwords.recipe import Recipe
    from firstwords.tokens.tokenizer import Vocabulary

    recipe = Recipe.load("model-b")
    names = {f"{kind}_token": getattr(recipe.tokenizer, kind) for kind in ("bos", "eos", "pad")}
    tokenizer = Tokenizer.from_file(str(data / "cards" / "b" / "tokenizer.json"))
    bos, eos, pad = (tokenizer.token_to_id(name) or 0 for name in names.values())
    vocabulary = Vocabulary(tokenizer, bos, eos, pad)
    with tempfile.TemporaryDirectory() as made:
        shutil.copyfile(data / "cards" / "b" / "tokenizer.json", Path(made) / "tokenizer.json")
        config = names | {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": recipe.model.positions}
        (Path(made) / "tokenizer_config.json").write_text(json.dumps(config))
        folder.mkdir(parents=True)
        save_folder(Llama(recipe.model, vocabulary.size, seed=1), vocabulary, Path(made), folder)


def write_pairs(pairs: Pairs, place: Path) -> int:
    """The pairs as every contender reads them; how many they are."""
    (place / "pairs").mkdir(parents=True)
    (place / "pairs.json").write_text(json.dumps(pairs))
    for uid, own in pairs.items():
        rows = [{"sentence_good": good, "sentence_bad": bad, "UID": uid} for good, bad in own]
        (place / "pairs" / f"{uid}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return sum(map(len, pairs.values()))


def tokens_of(pairs: Pairs, folder: Path) -> dict[str, int]:
    """Tokens that predict another: of all sentences one by one, and where every shared beginning counts once."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    sentences = [sentence for own in pairs.values() for pair in own for sentence in pair]
    # Every sentence stands after BOS.
    rows = [(-1, *coded.ids[:-1]) for coded in tokenizer.encode_batch(sentences, add_special_tokens=False)]
    beginnings = {row[:end] for row in rows for end in range(1, len(row) + 1)}
    return {"one by one": sum(map(len, rows)), "shared": len(beginnings)}


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Median and both ends."""
    return {
        "median": round(statistics.median(values), digits),
        "least": round(min(values), digits),
        "most": round(max(values), digits),
    }


def tell(text: str) -> None:
    """A remark on what is under way."""
    print(text, file=sys.stderr, flush=True)


def best_batches(place: Path, given: argparse.Namespace) -> tuple[dict[str, int | None], dict[str, Any]]:
    """The fastest batch size of each contender that has a choice, and what each took."""
    best: dict[str, int | None] = {"firstwords": None, "babylm-2025": 64}
    tried: dict[str, Any] = {}
    for name in PEERS:
        tried[name] = process(name, place, BATCHES[given.device][name], given)["seconds"]
        best[name] = json.loads(min(tried[name], key=tried[name].__getitem__))
        tell(f"{name}: batch {best[name]} is the fastest of {', '.join(tried[name])}")
    return best, tried


def compared(ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Whether accuracies are alike, by protocol: the largest difference of a paradigm, and the mean of both."""
    return {
        protocol: {
            "largest_difference": max(abs(ours[protocol][uid] - found) for uid, found in own.items()),
            "ours": statistics.fmean(ours[protocol].values()),
            "theirs": statistics.fmean(own.values()),
        }
        for protocol, own in theirs.items()
    }


def benchmark(given: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Make the folder and the pairs, find batch sizes, run the rounds."""
    from firstwords.data.download import cache_folder
    from firstwords.evaluation.pairs import load_suite

    everything: Pairs = {}
    for pair in load_suite("blimp", [given.data], cache_folder()).pairs:
        everything.setdefault(pair.uid, []).append((pair.good, pair.bad))
    pairs = dict(list(everything.items())[given.every // 2 :: given.every])
    all_of, some = place / "all", place / "some"
    make_folder(given.data, all_of / "model")
    some.mkdir()
    (some / "model").symlink_to(all_of / "model")
    count = write_pairs(pairs, all_of)
    each = max(1, TUNED_ON // len(pairs))
    write_pairs({uid: own[:: max(1, len(own) // each)][:each] for uid, own in pairs.items()}, some)
    best, tried = best_batches(some, given)

    rounds: list[dict[str, Any]] = []
    for number in range(given.repeats):
        # Whoever is first meets a cooler machine: take turns.
        turn = CONTENDERS[number % len(CONTENDERS) :] + CONTENDERS[: number % len(CONTENDERS)]
        rounds.append({name: process(name, all_of, [best[name]], given) for name in turn})
        taken = {name: next(iter(rounds[-1][name]["seconds"].values())) for name in CONTENDERS}
        tell(f"round {number + 1}: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in taken.items()))
    checked = process("firstwords", all_of, [None], given, "--check")

    seconds = {name: [next(iter(one[name]["seconds"].values())) for one in rounds] for name in CONTENDERS}
    first = rounds[0]
    ours = first["firstwords"]["accuracies"] | checked["accuracies"]
    faster = [min(both) for both in zip(*(seconds[name] for name in PEERS), strict=True)]
    return {
        "pairs": count,
        "paradigms": list(pairs),
        "tokens": {"taken": tokens_of(pairs, all_of / "model"), "all": tokens_of(everything, all_of / "model")},
        "repeats": given.repeats,
        "device": given.device,
        "threads": given.threads,
        "versions": {name: version(name) for name in ("torch", "transformers", "lm-eval", "minicons")},
        "batch_sizes": best,
        "batch_sizes_tried_seconds": tried,
        "contenders": {
            name: {
                "seconds": spread(seconds[name]),
                "load_seconds": spread([one[name]["load_seconds"] for one in rounds]),
                "memory_mib": spread([one[name]["memory_mib"] for one in rounds], 0),
                "device_memory_mib": max((one[name]["device_memory_mib"] or 0 for one in rounds), default=0) or None,
                "times_ours": spread([a / b for a, b in zip(seconds[name], seconds["firstwords"], strict=True)]),
            }
            for name in CONTENDERS
        },
        "faster_of_lm_eval_and_minicons_times_ours": spread(
            [a / b for a, b in zip(faster, seconds["firstwords"], strict=True)]
        ),
        "accuracies": {name: compared(ours, first[name]["accuracies"]) for name in CONTENDERS[1:]},
    }


def in_words(found: dict[str, Any]) -> str:
    """The result as one says it."""
    parts = []
    for name, one in found["contenders"].items():
        batch = found["batch_sizes"][name]
        sized = f" (batch {batch})" if batch else ""
        took = one["seconds"]
        parts.append(
            f"{name}{sized} {took['median']} s [{took['least']}, {took['most']}], "
            f"{one['memory_mib']['median']:.0f} MiB, {one['times_ours']['median']} times ours"
        )
    ratio = found["faster_of_lm_eval_and_minicons_times_ours"]
    worst = max(value["largest_difference"] for one in found["accuracies"].values() for value in one.values())
    return (
        f"{found['pairs']:,} pairs on {found['device']}, {found['threads']} threads, median of {found['repeats']}: "
        + "; ".join(parts)
        + f". firstwords is {ratio['median']} times [{ratio['least']}, {ratio['most']}] as fast as the faster of "
        f"lm-eval and minicons. Accuracies of a paradigm differ by {100 * worst:.2f} points at most."
    )


def main() -> None:
    """Read the options; be one contender's process, or run them all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with blimp/ and cards/b/tokenizer.json")
    parser.add_argument("--repeats", type=int, default=5, help="rounds")
    parser.add_argument("--every", type=int, default=16, help="every so many of the 67 paradigms")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    for internal in ("--work", "--batches"):
        parser.add_argument(internal, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given)
        return
    if given.data is None:
        parser.error("--data is needed: a folder with blimp/ and cards/b/tokenizer.json")
    with tempfile.TemporaryDirectory() as place:
        found = benchmark(given, Path(place))
    print(json.dumps(found, indent=1))
    tell(in_words(found))


if __name__ == "__main__":
    main()
