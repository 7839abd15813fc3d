"""Zorro: pairs with words that children know, in text files: odd lines are ungrammatical, even lines grammatical."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from firstwords.errors import FirstwordsError
from firstwords.evaluation.pair_files import read_text
from firstwords.evaluation.pairs import MinimalPair, Suite, complete_files, make_suite
from firstwords.evaluation.tasks.task import Lookup, PairsTask

PARADIGMS = (
    "agreement_determiner_noun-across_1_adjective",
    "agreement_determiner_noun-between_neighbors",
    "agreement_subject_verb-across_prepositional_phrase",
    "agreement_subject_verb-across_relative_clause",
    "agreement_subject_verb-in_question_with_aux",
    "agreement_subject_verb-in_simple_question",
    "anaphor_agreement-pronoun_gender",
    "argument_structure-dropped_argument",
    "argument_structure-swapped_arguments",
    "argument_structure-transitive",
    "binding-principle_a",
    "case-subjective_pronoun",
    "ellipsis-n_bar",
    "filler-gap-wh_question_object",
    "filler-gap-wh_question_subject",
    "irregular-verb",
    "island-effects-adjunct_island",
    "island-effects-coordinate_structure_constraint",
    "local_attractor-in_question_with_aux",
    "npi_licensing-matrix_question",
    "npi_licensing-only_npi_licensor",
    "quantifiers-existential_there",
    "quantifiers-superlative",
)
"""Phenomenon and paradigm, as the files of sentences/babyberta in github.com/phueb/Zorro are called."""

_LICENSE = "as its authors state (github.com/phueb/Zorro)"
_NOTE = "Zorro's sentences are scored as published: in lower case, with a space before each mark."


def _read(lookup: Lookup) -> Suite:
    inner = "sentences/babyberta/"
    folder = lookup.find(
        (f"Zorro/{inner}", f"zorro/{inner}", inner, "zorro/", "Zorro/", "babyberta/"),
        what="Zorro",
        get="take the folder sentences/babyberta of github.com/phueb/Zorro, and name it with --data",
    )
    files = complete_files("zorro", folder, PARADIGMS, ".txt")
    others = sorted(path.name for path in folder.glob("*.txt") if path.stem not in PARADIGMS)
    notes = [f"{len(others)} other files of the folder are left out: {', '.join(others)}"] if others else []
    pairs = [pair for path in files for pair in zorro_pairs(path)]
    return make_suite("zorro", pairs, str(folder), _LICENSE, (_NOTE, *notes))


def zorro_pairs(path: Path) -> Iterator[MinimalPair]:
    """The pairs of one file in Zorro's form; the phenomenon is what stands before the last hyphen of its name.

    Raises FirstwordsError for a blank line among the sentences, and where the last sentence has no partner.
    """
    lines = [line.strip() for line in read_text(path).rstrip().split("\n")]
    if lines == [""]:
        raise FirstwordsError("the file of minimal pairs is empty", where=str(path), do="replace it")
    for number, line in enumerate(lines, start=1):
        if not line:
            raise FirstwordsError(
                "the line is blank, so that odd and even lines no longer pair",
                where=f"{path}:{number}",
                do="take it away: odd lines are ungrammatical, even lines grammatical",
            )
    if len(lines) % 2:
        raise FirstwordsError(
            f"the file has {len(lines)} sentences, so that the last one has no partner",
            where=f"{path}:{len(lines)}",
            do="complete it: odd lines are ungrammatical, even lines grammatical",
        )
    phenomenon = path.stem.rpartition("-")[0] or path.stem
    for number, (bad, good) in enumerate(zip(lines[::2], lines[1::2], strict=True)):
        yield MinimalPair(path.stem, str(number), good, bad, phenomenon, "zorro")


ZORRO = PairsTask(
    name="zorro",
    title="Zorro",
    license=_LICENSE,
    citation="Huebner et al. 2021, BabyBERTa: Learning More Grammar With Small-Scale Child-Directed Language, CoNLL",
    measures="which of two sentences in children's words is grammatical: 23 paradigms of 13 phenomena",
    read=_read,
)
