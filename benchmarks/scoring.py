"""How fast all of BLiMP is scored: `python benchmarks/scoring.py --data DIR [--device cuda]`.

A model of Model B's shape with random weights scores the 67,000 pairs under the `firstwords` protocol, with Model B's
own tokenizer (DIR/cards/b), in float32. With --share, every so many of the pairs of each paradigm are scored only.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from tokenizers import Tokenizer

from firstwords.data.download import cache_folder
from firstwords.evaluation.judging import Evaluation, evaluate_suite
from firstwords.evaluation.pairs import load_suite
from firstwords.evaluation.prefixes import prefix_batches
from firstwords.evaluation.protocols import find_protocol
from firstwords.model.llama import Llama
from firstwords.recipe import Recipe
from firstwords.tokens.tokenizer import Vocabulary


def main() -> None:
    """Score several times, print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with blimp/ and cards/b/tokenizer.json")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="share of each paradigm's pairs")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()

    tokenizer = Tokenizer.from_file(str(given.data / "cards" / "b" / "tokenizer.json"))
    ids = tokenizer.get_vocab()
    vocabulary = Vocabulary(tokenizer, ids["<|endoftext|>"], ids["<|endoftext|>"], ids["<pad>"])
    model = Llama(Recipe.load("model-b").model, vocabulary.size).to(given.device)
    suite = load_suite("blimp", [given.data], cache_folder(), seed=1)
    suite = replace(suite, pairs=suite.pairs[:: round(1 / given.share)])

    sequences, _ = find_protocol("firstwords").sequences(
        vocabulary, sorted({sentence for pair in suite.pairs for sentence in (pair.good, pair.bad)})
    )
    nodes = sum(len(batch.ids_N) for batch in prefix_batches([tuple(ids) for ids in sequences], 1_024))
    seconds = []
    for repeat in range(given.repeats):
        if given.device != "cpu":
            torch.cuda.synchronize()
        started, used = time.perf_counter(), time.process_time()
        result: Evaluation = evaluate_suite(model, vocabulary, suite, "firstwords", add_bos=False)
        seconds.append(time.perf_counter() - started)
        used = time.process_time() - used
        print(f"{repeat + 1}: {seconds[-1]:.1f} s, {used:.1f} s of processors' time", file=sys.stderr, flush=True)
    print(
        json.dumps(
            {
                "pairs": len(suite.pairs),
                "sentences": len(sequences),
                "tokens_read": sum(len(ids) - 1 for ids in sequences),
                "tokens_computed": nodes,
                "device": given.device,
                "threads": torch.get_num_threads(),
                "repeats": given.repeats,
                "seconds_median": round(statistics.median(seconds), 2),
                "seconds_spread": [round(min(seconds), 2), round(max(seconds), 2)],
                "pairs_per_second": round(len(suite.pairs) / statistics.median(seconds), 1),
                "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "accuracy": result.overall.accuracy,
                "interval": [result.overall.low, result.overall.high],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
