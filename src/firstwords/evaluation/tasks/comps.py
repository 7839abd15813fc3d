"""COMPS: is a property given to the concept that has it? The property is scored after each of two subjects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from firstwords.evaluation.babylm_counts import count_notes, full_counts
from firstwords.evaluation.pair_files import Row, json_rows
from firstwords.evaluation.pairs import MinimalPair, Suite, complete_files, make_suite
from firstwords.evaluation.tasks.task import Lookup, PairsTask

_FILES = {
    "base": "comps_base",
    "wugs": "comps_wugs",
    "wugs_dist_before": "comps_wugs_dist-before",
    "wugs_dist_in_between": "comps_wugs_dist-in-between",
}
"""The file of each part. `base` asks what is known of concepts; the others, whether a made-up word inherits it."""

_LICENSE = "as its authors state (github.com/kanishkamisra/comps)"


def _read(lookup: Lookup) -> Suite:
    # Any of its files tells the folder, so that a missing one is named.
    folder = lookup.find(
        [f"{stem}.jsonl" for stem in _FILES.values()],
        what="COMPS",
        get="take the folder comps of evaluation_data/full_eval from osf.io/ryjfm, or data/comps of "
        "github.com/kanishkamisra/comps, and name it with --data",
    ).parent
    files = complete_files("comps", folder, list(_FILES.values()))
    pairs = [pair for uid, path in zip(_FILES, files, strict=True) for pair in _pairs(uid, path)]
    notes = count_notes((pair.uid for pair in pairs), full_counts("comps"))
    return make_suite("comps", pairs, str(folder), _LICENSE, notes)


def _pairs(uid: str, path: Path) -> Iterator[MinimalPair]:
    for number, row in enumerate(json_rows(path)):
        yield _pair(uid, str(number), row)


def _pair(uid: str, pair_id: str, row: Row) -> MinimalPair:
    good, bad, phrase = (row.text(key) for key in ("prefix_acceptable", "prefix_unacceptable", "property_phrase"))
    sampled = row.values.get("negative_sample_type")
    return MinimalPair(
        uid=uid,
        pair_id=pair_id,
        good=f"{good} {phrase}",
        bad=f"{bad} {phrase}",
        phenomenon="property_knowledge" if uid == "base" else "property_inheritance",
        field="comps",
        # The space belongs to what is given; a token that begins with it reaches into the phrase and is scored.
        good_given=len(good) + 1,
        bad_given=len(bad) + 1,
        groups=(("negative_sample_type", str(sampled)),) if sampled is not None else (),
    )


COMPS = PairsTask(
    name="comps",
    title="COMPS",
    license=_LICENSE,
    citation="Misra, Rayz & Ettinger 2023, COMPS: Conceptual Minimal Pair Sentences for testing Robust Property "
    "Knowledge and its Inheritance in Pre-trained Language Models, EACL",
    measures="which of two concepts has a property, and whether made-up words inherit it: log p(property | subject)",
    read=_read,
)
