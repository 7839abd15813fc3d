"""From sources to a corpus: one training text within a budget, one dev text, and where every byte came from.

By documents, a document goes: `read_documents` -> its source's rules -> told from duplicates -> spool (`intake`) ->
chosen in turn, first for the dev text, then for the training text (`shares`) -> written (`corpus_files`).
By chunks, raw bytes are taken in turn (`chunks`).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from firstwords.budget import Budget
from firstwords.corpus.chunks import mix_chunks
from firstwords.corpus.corpus_files import DropLog, SeenTexts, TextWriter, count_words
from firstwords.corpus.intake import SEPARATOR, SourceIntake, Tally
from firstwords.corpus.shares import Taken, take_in_turn
from firstwords.corpus.sources import ResolvedSource
from firstwords.errors import FirstwordsError
from firstwords.run_folder import atomic_write_json, sha256_of
from firstwords.settings import CorpusSettings

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def make_corpus(
    settings: CorpusSettings, sources: Mapping[str, ResolvedSource], dev_path: Path | None, seed: int, folder: Path
) -> dict[str, Any]:
    """Write train.txt, dev.txt, their indexes, dropped.jsonl and corpus.json into `folder`; gives corpus.json.

    `folder` exists and is empty; where this fails, what it then holds is worthless. `dev_path` is the dev text of its
    own, if the recipe has one. The size of train.txt never exceeds the budget and misses it by less than one document.
    The same seed gives the same files, however the file system lists the sources' files.
    Raises FirstwordsError for a budget that cannot be met, an unknown rule, and a full disk.
    """
    ordered = [sources[name] for name in settings.sources]
    try:
        if settings.mix == "chunks":
            report = _mix_by_chunks(settings, ordered, folder)
        else:
            report = _mix_by_documents(settings, ordered, seed, folder)
        if dev_path is not None:
            report["dev"] = _copy_dev_text(dev_path, folder)
        provenance = {"mix": settings.mix, "order": settings.order, "seed": seed, **report}
        atomic_write_json(folder / "corpus.json", provenance)
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise FirstwordsError(
            "there is no space left for the corpus",
            where=str(folder),
            do="free some space (twice the size of the sources and the budget is enough), or choose another folder",
        ) from error
    return provenance


# ---- by documents ----


def _mix_by_documents(
    settings: CorpusSettings, sources: Sequence[ResolvedSource], seed: int, folder: Path
) -> dict[str, Any]:
    total_weight = sum(source.settings.weight for source in sources)
    budget, dev_budget = settings.budget, settings.dev_budget
    seen = SeenTexts()
    with ExitStack() as stack:
        log = stack.enter_context(closing(DropLog(folder / "dropped.jsonl")))
        intakes = []
        for source in sources:
            intake = SourceIntake(
                source,
                seed=seed,
                order=settings.order,
                unit=budget.unit,
                share=budget.amount * source.settings.weight / total_weight,
                seen=seen,
                log=log,
                folder=folder,
            )
            stack.callback(intake.spool.close)
            intakes.append(intake)
        # The dev text first: it then stays the same when the budget of the training text changes.
        dev = None
        if dev_budget is not None:
            dev = take_in_turn(intakes, dev_budget, "corpus.dev-budget", settings.short_sources)
            for intake in intakes:
                intake.return_set_aside()
        train = take_in_turn(intakes, budget, "corpus.budget", settings.short_sources)

        report = {
            "budget": _asked(budget),
            "short_sources": settings.short_sources,
            "sources": {
                source.name: {
                    **_provenance(source),
                    "documents": source.settings.documents,
                    "rules": list(source.settings.rules),
                    **intake.counts(),
                    "dropped": log.counts(source.name),
                    "train": asdict(_tally(train, number, intake)),
                    **({"dev": asdict(_tally(dev, number, intake))} if dev else {}),
                }
                for number, (source, intake) in enumerate(zip(sources, intakes, strict=True))
            },
            "train": _write(train, intakes, folder, "train"),
        }
        if dev is not None and dev_budget is not None:
            report["dev"] = {"budget": _asked(dev_budget), **_write(dev, intakes, folder, "dev")}
    return report


def _write(taken: Taken, intakes: Sequence[SourceIntake], folder: Path, name: str) -> dict[str, Any]:
    for intake in intakes:
        intake.spool.flush()
    words = 0
    with TextWriter(folder, name) as writer:
        for source, number in zip(taken.sources, taken.documents, strict=True):
            spool = intakes[source].spool
            writer.add(spool.text(number), source, SEPARATOR)
            words += spool.words[number]
    return _text_facts(name, writer, words)


def _tally(taken: Taken, source: int, intake: SourceIntake) -> Tally:
    numbers = np.array(taken.documents, dtype=np.int64)[np.array(taken.sources, dtype=np.int64) == source]
    sizes_bytes = np.frombuffer(intake.spool.sizes_bytes, dtype=np.uint64)
    words = np.frombuffer(intake.spool.words, dtype=np.uint64)
    return Tally(len(numbers), int(sizes_bytes[numbers].sum()), int(words[numbers].sum()))


# ---- by chunks ----


def _mix_by_chunks(settings: CorpusSettings, sources: Sequence[ResolvedSource], folder: Path) -> dict[str, Any]:
    (folder / "dropped.jsonl").touch()
    with TextWriter(folder, "train") as writer:
        given_bytes = mix_chunks(settings, sources, writer)
    return {
        "budget": _asked(settings.budget),
        "short_sources": settings.short_sources,
        "chunk_bytes": settings.chunk_bytes,
        "sources": {
            source.name: {**_provenance(source), "train": {"bytes": size_bytes}}
            for source, size_bytes in zip(sources, given_bytes, strict=True)
        },
        "train": _text_facts("train", writer, count_words(folder / "train.txt")),
    }


# ---- both ----


_FEW_BROKEN = 10
"""Characters that may be broken in a dev text however small it is."""


def _copy_dev_text(path: Path, folder: Path) -> dict[str, Any]:
    """The recipe's own dev text, byte by byte, indexed as one document. The cards' is cut within characters."""
    copy = folder / "dev.txt"
    text = path.read_bytes()
    copy.write_bytes(text)
    size_bytes, words = len(text), count_words(copy)
    broken = text.decode(errors="replace").count("\N{REPLACEMENT CHARACTER}")
    if words == 0 or b"\0" in text or broken > _FEW_BROKEN + size_bytes // 1000:
        what = "is empty" if not text else "has no words" if words == 0 else "is no UTF-8 text"
        raise FirstwordsError(
            f"the dev text {path.name} {what}",
            where=f"corpus.dev-file: {path}",
            do="name another; it is read as it is, so unpack it first if it is packed",
        )
    np.save(folder / "dev.index.npy", np.array([[0, size_bytes, 0]], dtype=np.int64))
    facts = {"documents": 1, "bytes": size_bytes, "words": words, "sha256": sha256_of(copy)}
    return {"from": path.name, "file": copy.name, **facts}


def _provenance(source: ResolvedSource) -> dict[str, Any]:
    return {
        "origin": source.origin,
        "license": source.license,
        "weight": source.settings.weight,
        "files": [{"name": file.path.name, "bytes": file.size_bytes, "sha256": file.sha256} for file in source.files],
    }


def _asked(budget: Budget) -> dict[str, Any]:
    return {"text": budget.text, "amount": budget.amount, "unit": budget.unit}


def _text_facts(name: str, writer: TextWriter, words: int) -> dict[str, Any]:
    """Facts of a text that was written; `bytes` is the size of the file, separators included."""
    return {
        "file": f"{name}.txt",
        "documents": writer.documents,
        "bytes": writer.size_bytes,
        "words": words,
        "sha256": writer.sha256,
    }
