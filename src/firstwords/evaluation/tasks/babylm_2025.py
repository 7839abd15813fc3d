"""The test sets of the BabyLM Challenge 2025, text only, each as its evaluation pipeline scores it.

Source: github.com/babylm/evaluation-pipeline-2025 (eval_zero_shot.sh, eval_zero_shot_fast.sh, eval_finetuning.sh).
"""

from __future__ import annotations

from firstwords.evaluation.tasks.collection import Collection, Member, pairs

_PROTOCOL = "babylm-2025"

COLLECTION = Collection(
    name="babylm-2025",
    title="BabyLM Challenge 2025",
    citation="Charpentier et al. 2025, BabyLM Turns 3: Call for papers for the 2025 BabyLM workshop, arXiv:2502.10645",
    full=(
        pairs("blimp-filtered", _PROTOCOL),
        pairs("supplement", _PROTOCOL),
        pairs("ewok", _PROTOCOL),
        pairs("comps", _PROTOCOL),
        Member("entity-tracking", _PROTOCOL),
        Member("wug-adj-nominalization", _PROTOCOL),
        Member("wug-past-tense", _PROTOCOL),
        Member("reading-times", _PROTOCOL),
    ),
    fast=(
        pairs("blimp-fast", _PROTOCOL),
        pairs("supplement-fast", _PROTOCOL),
        pairs("ewok-fast", _PROTOCOL),
        Member("entity-tracking-fast", _PROTOCOL),
        Member("wug-adj-nominalization", _PROTOCOL),
        Member("wug-past-tense", _PROTOCOL),
        Member("reading-times", _PROTOCOL),
        # An age is told over checkpoints, so that the final model alone has none.
        Member("age-of-acquisition", _PROTOCOL),
    ),
)
