"""What a report shows of the text and the tokenizer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from firstwords.report.charts import token_lengths
from firstwords.report.page_parts import Block, Cell, Table, facts, percent, table, whole
from firstwords.run_folder import RunFolder, read_json

_SAMPLE_BYTES = 700
_DROPS_READ = 200_000
"""Lines of dropped.jsonl that are looked at for samples; the counts are of all."""
_SAMPLES_OF_A_REASON = 2
_MOST_SAMPLES = 24
_LONGEST_TOKENS = 24
_EXAMPLES = 5
_EXAMPLE_CHARACTERS = (40, 140)


def corpus_blocks(run: RunFolder) -> list[Block] | str:
    """Where the text is from, what was left out, and how it reads; a sentence where there is none yet."""
    if run.mark("corpus") is None:
        return "The corpus is not made yet."
    corpus = read_json(run.stage("corpus") / "corpus.json")
    return [
        Block(said=(_size(corpus),), tables=(_sources(corpus),)),
        *_dropped(run, corpus),
        Block(
            "How the training text reads", folded=True, more={"samples": _text_samples(run, list(corpus["sources"]))}
        ),
    ]


def _size(corpus: Mapping[str, Any]) -> str:
    train, dev = corpus["train"], corpus["dev"]
    asked = f" of the {corpus['budget']['text']} that were asked for" if "budget" in corpus else ""
    return (
        f"Training text: {train['words']:,} words in {train['bytes']:,} bytes{asked}. "
        f"Dev text: {dev['words']:,} words in {dev['bytes']:,} bytes. Words are what stands between white space."
    )


def _sources(corpus: Mapping[str, Any]) -> Table:
    sources: Mapping[str, Mapping[str, Any]] = corpus["sources"]
    total = sum(source["train"]["bytes"] for source in sources.values()) or 1
    rows = []
    for name, source in sources.items():
        train, read = source["train"], source.get("read", {})
        rows.append(
            (
                name,
                percent(train["bytes"] / total),
                whole(train["bytes"]),
                whole(train.get("words")),
                whole(train.get("documents")),
                whole(read.get("bytes")),
                source.get("license") or "not stated",
                _origin(source),
            )
        )
    head = ("source", "share, %", "bytes", "words", "documents", "bytes read", "license", "from")
    return table("The sources of the training text", head, rows)


def _origin(source: Mapping[str, Any]) -> str:
    # A path on the machine that trained tells a reader nothing: files are known by their names and checksums.
    origin: str = source["origin"]
    files: Sequence[Mapping[str, Any]] = source.get("files", ())
    if files and "://" not in origin and "hub:" not in origin:
        shown = ", ".join(str(file["name"]) for file in files[:3])
        return f"local: {shown}" + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    return origin


def _dropped(run: RunFolder, corpus: Mapping[str, Any]) -> list[Block]:
    sources: Mapping[str, Mapping[str, Any]] = corpus["sources"]
    title = "What was left out, and why"
    counted = [
        (name, what, reason, whole(count))
        for name, source in sources.items()
        for what in ("documents", "lines")
        for reason, count in source.get("dropped", {}).get(what, {}).items()
    ]
    ruled = [
        (name, rule, whole(after["documents"]), whole(after["bytes"]), whole(after["words"]))
        for name, source in sources.items()
        for rule, after in source.get("after_rules", {}).items()
    ]
    if not counted and not ruled:
        said = "Nothing: " + (
            "raw pieces are mixed as they are." if corpus["mix"] == "chunks" else "no rule and no repeat took any away."
        )
        return [Block(title, said=(said,))]
    tables = []
    if counted:
        tables.append(table("Dropped documents and lines", ("source", "what", "reason", "how many"), counted))
    if ruled:
        head = ("source", "rule", "documents left", "bytes left", "words left")
        tables.append(table("What each rule left, in the order in which they were applied", head, ruled))
    samples = _drop_samples(run)
    found = [Block(title, tables=tuple(tables))]
    if samples:
        found.append(Block("Samples of what was left out", folded=True, more={"drops": samples}))
    return found


def _drop_samples(run: RunFolder) -> list[dict[str, str]]:
    """The first few of each reason and source."""
    seen: Counter[tuple[str, str]] = Counter()
    found: list[dict[str, str]] = []
    path = run.stage("corpus") / "dropped.jsonl"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file):
            if number >= _DROPS_READ or len(found) >= _MOST_SAMPLES:
                break
            drop = json.loads(line)
            key = (str(drop["source"]), str(drop["reason"]))
            seen[key] += 1
            if seen[key] <= _SAMPLES_OF_A_REASON:
                found.append(
                    {name: str(drop.get(name) or "") for name in ("source", "what", "rule", "reason", "place", "text")}
                )
    return found


def _text_samples(run: RunFolder, sources: Sequence[str]) -> list[dict[str, str]]:
    """The beginning of a document from the middle of each source."""
    folder = run.stage("corpus")
    index_D3 = np.load(folder / "train.index.npy", allow_pickle=False)
    found = []
    with (folder / "train.txt").open("rb") as file:
        for number, name in enumerate(sources):
            of_source = index_D3[index_D3[:, 2] == number]
            if not len(of_source):
                continue
            start, end = map(int, of_source[len(of_source) // 2, :2])
            file.seek(start)
            text = file.read(min(end - start, _SAMPLE_BYTES)).decode("utf-8", "replace")
            found.append({"title": name, "text": text + (" …" if end - start > _SAMPLE_BYTES else "")})
    return found


def tokenizer_blocks(run: RunFolder) -> list[Block] | str:
    """How finely it cuts, its longest tokens, and sentences cut into tokens; a sentence where there is none yet."""
    if run.mark("tokenizer") is None:
        return "The tokenizer is not learnt yet."
    from firstwords.tokens.tokenizer import Vocabulary

    folder = run.stage("tokenizer")
    fertility, vocabulary = read_json(folder / "fertility.json"), Vocabulary.load(folder)
    learnt = vocabulary.tokenizer.get_vocab(with_added_tokens=False)
    specials: list[str] = fertility["special_tokens"]
    texts = {number: vocabulary.decode([number]) for token, number in learnt.items() if token not in specials}
    longest = sorted(texts.items(), key=lambda item: (-len(item[1]), item[0]))[:_LONGEST_TOKENS]
    missing = fertility["unencodable_bytes"]
    rows = [
        ("tokens learnt", f"{fertility['vocabulary']:,}"),
        ("special tokens", ", ".join(specials)),
        ("fertility (tokens a word)", f"{fertility['tokens_per_word']:.3f}"),
        ("bytes a token", f"{fertility['bytes_per_token']:.3f}"),
        ("bytes that no token has", f"{missing} of 256" if missing else "none of 256"),
        *_token_counts(run),
    ]
    lengths = Counter(len(text) for text in texts.values() if "�" not in text and text)
    head = ("token", "characters", "number")
    long_rows = [(Cell(f"“{text}”"), whole(len(text)), whole(number)) for number, text in longest]
    return [
        Block(tables=(facts("The tokenizer in numbers", rows),), charts=(token_lengths(lengths),) if lengths else ()),
        Block("Sentences of the dev text, cut into tokens", more={"cut": _cut(run, vocabulary)}),
        Block("The longest tokens", tables=(table("The longest tokens", head, long_rows),), folded=True),
    ]


def _token_counts(run: RunFolder) -> list[tuple[str, str]]:
    mark = run.mark("tokens")
    if mark is None:
        return []
    return [(f"tokens of the {name} text", f"{mark.facts[name]['tokens']:,}") for name in ("train", "dev")]


def _cut(run: RunFolder, vocabulary: Any) -> list[dict[str, Any]]:
    """Lines of the dev text, spread over it, with their tokens' texts; characters of several tokens stay together."""
    path = run.stage("corpus") / "dev.txt"
    if not path.is_file():
        return []
    with path.open("rb") as file:
        lines = [line.strip() for line in file.read(1 << 20).decode("utf-8", "replace").split("\n")]
    least, most = _EXAMPLE_CHARACTERS
    fitting = [line for line in lines if least <= len(line) <= most] or [line[:most] for line in lines if line]
    chosen = list(dict.fromkeys(fitting[:: max(1, len(fitting) // _EXAMPLES)]))[:_EXAMPLES]
    found = []
    for line in chosen:
        coded = vocabulary.tokenizer.encode(line, add_special_tokens=False)
        ends = sorted({last for _, last in coded.offsets} | {len(line)})
        pieces = [line[start:end] for start, end in pairwise([0, *ends]) if end > start]
        words = max(len(line.split()), 1)
        told = f"{len(coded.ids)} tokens, {len(coded.ids) / words:.2f} a word"
        found.append({"pieces": pieces, "told": told})
    return found
