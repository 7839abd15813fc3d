"""The BLiMP supplement of BabyLM: dialogue and question pairs, scored as whole texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from firstwords.evaluation.babylm_counts import count_notes, fast_counts, full_counts
from firstwords.evaluation.pairs import Suite, complete_files, make_suite, read_pairs
from firstwords.evaluation.tasks.task import Lookup, PairsTask

_LICENSE = "as BabyLM distributes it"
_CITATION = "Warstadt et al. 2023, Findings of the BabyLM Challenge, CoNLL"


def _full(lookup: Lookup) -> Suite:
    return _read("supplement", lookup, ("supplement_filtered/", "supplement-filtered/"), full_counts)


def _fast(lookup: Lookup) -> Suite:
    return _read("supplement-fast", lookup, ("supplement_fast/", "supplement-fast/"), fast_counts)


def _read(name: str, lookup: Lookup, folders: Sequence[str], counts: Callable[[str], Mapping[str, int]]) -> Suite:
    part = "full_eval" if name == "supplement" else "fast_eval"
    folder = lookup.find(
        folders,
        what=f"the BLiMP supplement ('{name}')",
        get=f"take {folders[0].rstrip('/')} of evaluation_data/{part} from osf.io/ryjfm, and name it with --data",
    )
    official = counts("blimp_supplement")
    files = complete_files(name, folder, sorted(official))
    pairs = tuple(replace(pair, field="supplement") for pair in read_pairs(files))
    return make_suite(name, pairs, str(folder), _LICENSE, count_notes((pair.uid for pair in pairs), official))


SUPPLEMENT = PairsTask(
    name="supplement",
    title="the BLiMP supplement of BabyLM",
    license=_LICENSE,
    citation=_CITATION,
    measures="which of two texts fits: hypernyms, answers to questions (easy and tricky), questions with auxiliaries, "
    "turns of a dialogue",
    read=_full,
)
FAST = PairsTask(
    name="supplement-fast",
    title="the BLiMP supplement, the fast set of BabyLM 2025",
    license=_LICENSE,
    citation=_CITATION,
    measures="50 pairs of each part of the supplement, for checkpoints",
    read=_fast,
)
