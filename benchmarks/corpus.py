"""How fast a corpus is made and how much memory it takes: `python benchmarks/corpus.py --data DIR`.

Text is read, cleaned with rules as in the bundled recipes, told from duplicates and mixed, on one core; each repeat
is a process of its own. With --data, the text is that of simple_wiki, bnc_spoken and open_subtitles under DIR,
repeated and salted (so that nothing is a duplicate) to the size asked for; without it, that of the built-in grammar.
Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from firstwords.corpus import grammar
from firstwords.corpus.mixing import make_corpus
from firstwords.corpus.sources import resolve_sources
from firstwords.run_folder import atomic_folder
from firstwords.settings import CorpusSettings

SOURCES: dict[str, dict[str, object]] = {
    "simple_wiki": {
        "documents": "blank-lines",
        "rules": ("mojibake", "control-characters", "wiki-headings", "wiki-markup", "wiki-furniture", "whitespace"),
    },
    "bnc_spoken": {
        "documents": "lines",
        "rules": ("mojibake", "control-characters", "speaker-codes", "spoken-annotations", "whitespace"),
    },
    "open_subtitles": {
        "documents": "lines",
        "rules": (
            *("mojibake", "control-characters", "subtitle-timing", "subtitle-credits", "subtitle-markup"),
            "whitespace",
        ),
    },
}
_LONG_LINE_CHARACTERS = 60


def main() -> None:
    """Build the text, mix it several times, print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with simple_wiki, bnc_spoken and open_subtitles")
    parser.add_argument("--megabytes", type=int, default=100, help="size of all sources together")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--wiki-only", action="store_true", help="one source: many short documents, the slowest to handle"
    )
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        print(json.dumps(_mix_once(given.once)))
        return
    names = ["simple_wiki"] if given.wiki_only else list(SOURCES)
    with tempfile.TemporaryDirectory(prefix="firstwords-benchmark-") as name:
        folder = Path(name)
        for source in names:
            _build(source, given.data, given.megabytes * 10**6 // len(names), folder / f"{source}.txt")
        command = [sys.executable, __file__, "--once", name]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(given.repeats)
        ]
    speeds = [run["input_mb"] / run["seconds"] for run in runs]
    report = {
        "text": "built-in grammar" if given.data is None else f"{', '.join(names)} under {given.data}, repeated",
        "input_mb": runs[0]["input_mb"],
        "documents_taken": runs[0]["documents"],
        "repeats": given.repeats,
        "mb_per_second": {
            "median": round(statistics.median(speeds), 1),
            "lowest": round(min(speeds), 1),
            "highest": round(max(speeds), 1),
        },
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
    }
    print(json.dumps(report, indent=1))


def _mix_once(folder: Path) -> dict[str, float]:
    """Make the corpus of the sources in `folder`; the time is that of `make_corpus` alone."""
    here = {name: settings for name, settings in SOURCES.items() if (folder / f"{name}.txt").exists()}
    input_bytes = sum((folder / f"{name}.txt").stat().st_size for name in here)
    settings = CorpusSettings.model_validate(
        {"sources": here, "budget": f"{input_bytes * 3 // 4} B", "dev-budget": "1MB", "short-sources": "accept"}
    )
    sources = resolve_sources(settings, [folder], folder)
    with atomic_folder(folder / "corpus") as target:
        started = time.perf_counter()
        report = make_corpus(settings, sources, None, 1, target)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_bytes = peak if sys.platform == "darwin" else peak * 1024
    return {
        "input_mb": round(input_bytes / 1e6, 1),
        "documents": report["train"]["documents"] + report["dev"]["documents"],
        "seconds": seconds,
        "peak_memory_mb": round(peak_bytes / 1e6),
    }


def _build(source: str, data: Path | None, size_bytes: int, target: Path) -> None:
    """Write text until it has `size_bytes`."""
    written = 0
    with target.open("w", encoding="utf-8") as file:
        for line in _real_lines(source, data) if data else _generated_lines(source):
            written += len(line.encode())
            if written > size_bytes:
                return
            file.write(line)


def _real_lines(source: str, data: Path) -> Iterator[str]:
    settings = CorpusSettings.model_validate({"sources": {source: {}}, "budget": "1B", "dev-budget": "1B"})
    path = resolve_sources(settings, [data], data)[source].files[0].path
    lines = path.read_text(encoding="utf-8").splitlines()
    for copy in count():
        for line in lines:
            yield f"{line} {copy}\n" if len(line) > _LONG_LINE_CHARACTERS else line + "\n"


def _generated_lines(source: str) -> Iterator[str]:
    register = dict(zip(SOURCES, grammar.REGISTERS, strict=True))[source]
    documents = list(islice(grammar.documents(register, 1), 2000))
    for copy in count():
        for document in documents:
            yield f"{document} {copy}\n\n"


if __name__ == "__main__":
    main()
