"""The test sets of the BabyLM Challenge 2026, strict tracks, each as its evaluation pipeline scores it.

Against 2025 the WUG tests are gone and Global PIQA is new; EWoK compares contexts, and entity tracking leaves out the
questions that have an option of "nothing". Sentences are scored as in 2025.
Source: github.com/babylm-org/babylm-eval, folder strict.
"""

from __future__ import annotations

from firstwords.evaluation.tasks.collection import Collection, Member, pairs

_SENTENCES, _QUESTIONS = "babylm-2025", "babylm-2026"

COLLECTION = Collection(
    name="babylm-2026",
    title="BabyLM Challenge 2026",
    citation="Choshen et al. 2026, BabyLM Turns 4: Call for Papers for the 2026 BabyLM Workshop, arXiv:2602.20092",
    full=(
        pairs("blimp-filtered", _SENTENCES),
        pairs("supplement", _SENTENCES),
        pairs("ewok-2026", _SENTENCES),
        pairs("comps", _SENTENCES),
        Member("entity-tracking", _QUESTIONS),
        Member("global-piqa-parallel", _QUESTIONS),
        Member("global-piqa-nonparallel", _QUESTIONS),
        Member("reading-times", _SENTENCES),
    ),
    fast=(
        pairs("blimp-fast", _SENTENCES),
        pairs("supplement-fast", _SENTENCES),
        pairs("ewok-2026-fast", _SENTENCES),
        Member("entity-tracking-fast", _QUESTIONS),
        Member("global-piqa-parallel", _QUESTIONS),
        Member("global-piqa-nonparallel", _QUESTIONS),
        Member("reading-times", _SENTENCES),
    ),
)
