"""BLiMP: all of it, the fast set of BabyLM, and the pairs that BabyLM's filter leaves."""

from __future__ import annotations

from dataclasses import replace

from firstwords.evaluation.babylm_counts import count_notes, fast_counts, full_counts
from firstwords.evaluation.pairs import Suite, catalogue_suite, complete_files, make_suite, read_pairs
from firstwords.evaluation.tasks.task import Lookup, PairsTask

_LICENSE = "CC BY 4.0"
_CITATION = "Warstadt et al. 2020, BLiMP: The Benchmark of Linguistic Minimal Pairs for English, TACL 8"
_FILTER = "filtered by the vocabulary of the BabyLM corpora (Warstadt et al. 2023)"


def _whole(lookup: Lookup) -> Suite:
    return catalogue_suite("blimp", lookup.folders, lookup.cache, lookup.offline, lookup.say)


def _fast(lookup: Lookup) -> Suite:
    suite = catalogue_suite("blimp-fast", lookup.folders, lookup.cache, lookup.offline, lookup.say)
    notes = count_notes((pair.uid for pair in suite.pairs), fast_counts("blimp"))
    return replace(suite, notes=(*suite.notes, *notes))


def _filtered(lookup: Lookup) -> Suite:
    folder = lookup.find(
        ("blimp_filtered/", "blimp-filtered/"),
        what="BLiMP as BabyLM filtered it",
        get="take the folder blimp_filtered of evaluation_data/full_eval from osf.io/ryjfm, and name it with --data",
    )
    official = full_counts("blimp")
    pairs = tuple(read_pairs(complete_files("blimp-filtered", folder, sorted(official))))
    notes = count_notes((pair.uid for pair in pairs), official)
    return make_suite("blimp-filtered", pairs, str(folder), _LICENSE, notes)


BLIMP = PairsTask(
    name="blimp",
    title="BLiMP",
    license=_LICENSE,
    citation=_CITATION,
    measures="which of two sentences is grammatical: 67 paradigms of 12 phenomena, 1,000 pairs each",
    read=_whole,
)
FAST = PairsTask(
    name="blimp-fast",
    title="BLiMP, the fast set of BabyLM 2025",
    license=_LICENSE,
    citation=_CITATION,
    measures="200 pairs of each paradigm of BLiMP, for checkpoints",
    read=_fast,
)
FILTERED = PairsTask(
    name="blimp-filtered",
    title="BLiMP, as BabyLM filtered it",
    license=_LICENSE,
    citation=f"{_CITATION}; {_FILTER}",
    measures="the 59,875 pairs of BLiMP whose words stand in the BabyLM corpora",
    read=_filtered,
)
