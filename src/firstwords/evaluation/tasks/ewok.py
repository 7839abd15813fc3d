"""EWoK: what follows from a situation? Its authors ask that the data is not handed on, so it is read where it is.

The files are those that BabyLM's script writes (one a domain, every item in both directions): Domain, Context1,
Context2, Target1, Target2, ContextType, ContextDiff, TargetDiff. In 2025 a line asked which of two targets fits its
first context; in 2026 it asks in which of two contexts its first target fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from firstwords.evaluation.babylm_counts import count_notes, fast_counts, full_counts
from firstwords.evaluation.pair_files import Row, json_rows
from firstwords.evaluation.pairs import MinimalPair, Suite, complete_files, make_suite
from firstwords.evaluation.tasks.task import Lookup, PairsTask

_LICENSE = "CC BY 4.0; its authors ask that it is not redistributed in plain text"
_CITATION = "Ivanova et al. 2024, Elements of World Knowledge (EWoK), arXiv:2405.09605"
_GROUPS = {"context_type": "ContextType", "context_contrast": "ContextDiff", "target_contrast": "TargetDiff"}


def _reader(name: str, *, fast: bool, by_context: bool) -> Callable[[Lookup], Suite]:
    """Reads EWoK. by_context: as in 2026, two contexts before one target."""

    def read(lookup: Lookup) -> Suite:
        folder = lookup.find(
            ("ewok_fast/", "ewok-fast/") if fast else ("ewok_filtered/", "ewok-filtered/"),
            what=f"EWoK ('{name}')",
            get="unpack ewok_fast.zip of evaluation_data/fast_eval from osf.io/ryjfm (BabyLM gives the password), and "
            "name the folder with --data"
            if fast
            else "agree to its terms at huggingface.co/datasets/ewok-core/ewok-core-1.0, run BabyLM's script "
            "(evaluation_pipeline.ewok.dl_and_filter), and name its folder ewok_filtered with --data",
        )
        official = fast_counts("ewok") if fast else full_counts("ewok")
        files = complete_files(name, folder, sorted(official))
        pairs = [pair for path in files for pair in _pairs(path, by_context)]
        return make_suite(name, pairs, str(folder), _LICENSE, count_notes((pair.uid for pair in pairs), official))

    return read


def _pairs(path: Path, by_context: bool) -> Iterator[MinimalPair]:
    for number, row in enumerate(json_rows(path)):
        yield _pair(row, str(number), path.stem, by_context)


def _pair(row: Row, pair_id: str, stem: str, by_context: bool) -> MinimalPair:
    context, target = row.text("Context1"), row.text("Target1")
    other_context = row.text("Context2") if by_context else context
    other_target = target if by_context else row.text("Target2")
    return MinimalPair(
        uid=str(row.values.get("Domain", stem)),
        pair_id=pair_id,
        good=f"{context} {target}",
        bad=f"{other_context} {other_target}",
        phenomenon=str(row.values.get("Domain", stem)),
        field="ewok",
        good_given=len(context),
        bad_given=len(other_context),
        groups=tuple((name, str(row.values[key])) for name, key in _GROUPS.items() if row.values.get(key) is not None),
    )


def _task(name: str, title: str, measures: str, *, fast: bool, by_context: bool) -> PairsTask:
    return PairsTask(name, title, _LICENSE, _CITATION, measures, _reader(name, fast=fast, by_context=by_context))


_TARGETS = "which of two sentences follows from a situation: log p(target | context), 11 domains"
_CONTEXTS = "in which of two situations a sentence follows: log p(target | context), 11 domains"

EWOK = _task("ewok", "EWoK, as BabyLM 2025 filtered and scored it", _TARGETS, fast=False, by_context=False)
FAST = _task("ewok-fast", "EWoK, the fast set of BabyLM 2025", _TARGETS, fast=True, by_context=False)
OF_2026 = _task("ewok-2026", "EWoK, as BabyLM 2026 scores it", _CONTEXTS, fast=False, by_context=True)
FAST_OF_2026 = _task("ewok-2026-fast", "EWoK, the fast set of BabyLM 2026", _CONTEXTS, fast=True, by_context=True)
