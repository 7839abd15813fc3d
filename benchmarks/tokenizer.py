"""How fast a tokenizer is learnt and a text encoded: `python benchmarks/tokenizer.py --data DIR`.

Two ways make the same from the same text, in turns, each in a process of its own:

  hugging face   the cards' way and run_clm.py's: `tokenizers` learns from the file, the tokenizer is opened by
                 transformers, and `datasets` maps it over the lines, a thousand at a time, into Arrow files
  firstwords     the stages `tokenizer` and `tokens` of a run: the same, and fertility, counts and checksums

Text is that of simple_wiki and open_subtitles under DIR, repeated and salted to the size asked for, or without --data
that of the built-in grammar. Told are seconds to learn, seconds to encode, megabytes a second, and the most memory that
a process held. Both find the same ids, or the benchmark says so and fails. Prints JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("hugging face", "firstwords")
CONTEXT = 512


def main() -> None:
    """Write the text, let the ways take turns, print the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with text/simple_wiki.train and text/open_subtitles.train")
    parser.add_argument("--megabytes", type=float, default=20, help="size of the text")
    parser.add_argument("--vocabulary", type=int, default=16_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.way:
        print(json.dumps({"hugging face": hugging_face, "firstwords": ours}[given.way](given)))
        return
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        size = write_text(place / "train.txt", given)
        rounds = [{way: process(way, place, given) for way in WAYS} for _ in range(given.rounds)]
    print(json.dumps({"text_mb": round(size / 1e6, 1)} | summary(rounds, size, given), indent=1))


def write_text(path: Path, given: argparse.Namespace) -> int:
    """Lines until the size is reached; returns the bytes written."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for line in real_lines(given.data) if given.data else generated_lines():
            written += len(line.encode())
            if written > given.megabytes * 1e6:
                break
            file.write(line)
    return path.stat().st_size


def real_lines(data: Path) -> Iterator[str]:
    """Lines of encyclopedia and subtitles in turns; a copy's number stands at the end of each line."""
    texts = [(data / "text" / f"{name}.train").read_text("utf-8") for name in ("simple_wiki", "open_subtitles")]
    for copy in count():
        for pair in zip(*(text.splitlines() for text in texts), strict=False):
            yield from (f"{line} {copy}\n" if copy else f"{line}\n" for line in pair if line.strip())


def generated_lines() -> Iterator[str]:
    """Text of the built-in grammar, documents without end."""
    from firstwords.corpus import grammar

    documents = list(islice(grammar.documents(grammar.REGISTERS[0], 1), 5_000))
    for copy in count():
        yield from (f"{document} {copy}\n" for document in documents)


def process(way: str, place: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One way in a process of its own."""
    words = [sys.executable, __file__, "--way", way, "--place", str(place), "--vocabulary", str(given.vocabulary)]
    quiet = {"HF_DATASETS_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    done = subprocess.run(words, env=dict(os.environ) | quiet, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    told = f"{way}: learnt in {found['learn']:.1f} s, encoded in {found['encode']:.1f} s"
    print(told, file=sys.stderr, flush=True)
    return found


def summary(rounds: list[dict[str, dict[str, Any]]], size: int, given: argparse.Namespace) -> dict[str, Any]:
    """Medians and spreads, and ratios round by round."""
    if len({one[way]["ids"] for one in rounds for way in WAYS}) > 1:
        raise SystemExit("the two ways do not find the same token ids")
    found: dict[str, Any] = {
        "vocabulary": given.vocabulary,
        "rounds": given.rounds,
        "threads": len(os.sched_getaffinity(0)),
    }
    for way in WAYS:
        of_way = {name: [one[way][name] for one in rounds] for name in ("learn", "encode", "memory_mib")}
        found[way] = {
            "learn_seconds": spread(of_way["learn"]),
            "encode_seconds": spread(of_way["encode"]),
            "encode_mb_per_second": round(size / 1e6 / statistics.median(of_way["encode"]), 1),
            "memory_mib": round(statistics.median(of_way["memory_mib"])),
        }
    for name in ("learn", "encode"):
        ratios = [one["hugging face"][name] / one["firstwords"][name] for one in rounds]
        found[f"{name}: firstwords against hugging face"] = spread(ratios)
    return found


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median": round(statistics.median(values), 2),
        "least": round(min(values), 2),
        "most": round(max(values), 2),
    }


def told(learn: float, encode: float, ids: Iterable[np.ndarray]) -> dict[str, Any]:
    """What a process says at its end. ids: of all lines, in order."""
    digest = hashlib.sha256()
    for some in ids:
        digest.update(some.astype(np.uint32).tobytes())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"learn": learn, "encode": encode, "ids": digest.hexdigest(), "memory_mib": memory}


def hugging_face(given: argparse.Namespace) -> dict[str, Any]:
    """`tokenizers`, transformers and `datasets` as their examples put them together."""
    import datasets
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    datasets.disable_progress_bars()
    text = str(given.place / "train.txt")
    started = time.perf_counter()
    learnt = ByteLevelBPETokenizer()
    learnt.train([text], vocab_size=given.vocabulary, min_frequency=2, show_progress=False)
    learn = time.perf_counter() - started
    learnt.save(str(given.place / "peer.json"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(given.place / "peer.json"))
    with tempfile.TemporaryDirectory(dir=given.place) as cache:
        started = time.perf_counter()
        lines: Any = datasets.load_dataset("text", data_files=text, cache_dir=cache)["train"]
        coded = lines.map(lambda some: tokenizer(some["text"]), batched=True, remove_columns=["text"])
        encode = time.perf_counter() - started
        return told(learn, encode, (np.array(one["input_ids"]) for one in coded))


def ours(given: argparse.Namespace) -> dict[str, Any]:
    """The functions of the stages `tokenizer` and `tokens`."""
    from firstwords.settings import TokenizerSettings, TokenSettings
    from firstwords.tokens.encoding import TokenFile, encode_corpus
    from firstwords.tokens.tokenizer import Vocabulary, learn_tokenizer

    tokens = TokenSettings.model_validate({"examples": "lines", "context": CONTEXT, "add-bos": False, "add-eos": False})
    settings = TokenizerSettings(vocabulary=given.vocabulary, min_frequency=2, all_bytes=True, normalizer=())
    with tempfile.TemporaryDirectory(dir=given.place) as name:
        folder = Path(name)
        (folder / "train.txt").symlink_to(given.place / "train.txt")
        (folder / "dev.txt").write_text("A dev text must not be empty.\n")
        started = time.perf_counter()
        learn_tokenizer(settings, tokens, folder / "train.txt", folder / "tokenizer", max_length=CONTEXT)
        learn = time.perf_counter() - started
        vocabulary = Vocabulary.load(folder / "tokenizer")
        started = time.perf_counter()
        encode_corpus(folder, tokens, vocabulary, folder)
        encode = time.perf_counter() - started
        return told(learn, encode, [TokenFile(folder, "train").ids])


if __name__ == "__main__":
    main()
