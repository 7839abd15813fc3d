"""The cleaning rules by name, as a recipe calls them.

The rules themselves stand in `cleaning_rules` (any text, wiki articles, books) and `cleaning_speech` (conversation,
CHILDES, subtitles).
"""

from __future__ import annotations

from collections.abc import Sequence

from firstwords.corpus import cleaning_rules as written
from firstwords.corpus import cleaning_speech as speech
from firstwords.corpus.cleaning_rules import Drop, Rule, WithoutLines
from firstwords.errors import FirstwordsError, did_you_mean

__all__ = ["RULES", "Drop", "Rule", "WithoutLines", "find_rules"]

RULES: dict[str, Rule] = {
    "mojibake": written.mojibake,
    "control-characters": written.control_characters,
    "whitespace": written.whitespace,
    "wiki-headings": written.wiki_headings,
    "wiki-markup": written.wiki_markup,
    "wiki-furniture": written.wiki_furniture,
    "wiki-stubs": written.wiki_stubs,
    "gutenberg-boilerplate": written.gutenberg_boilerplate,
    "gutenberg-notices": written.gutenberg_notices,
    "gutenberg-markup": written.gutenberg_markup,
    "speaker-codes": speech.speaker_codes,
    "spoken-annotations": speech.spoken_annotations,
    "childes-tiers": speech.childes_tiers,
    "childes-unintelligible": speech.childes_unintelligible,
    "childes-codes": speech.childes_codes,
    "subtitle-timing": speech.subtitle_timing,
    "subtitle-credits": speech.subtitle_credits,
    "subtitle-markup": speech.subtitle_markup,
}


def find_rules(names: Sequence[str], source: str) -> dict[str, Rule]:
    """The rules of a source by name, in its order.

    Raises FirstwordsError for a name that no rule has, or one named twice.
    """
    where = f"corpus.sources.{source}.rules"
    for position, name in enumerate(names):
        if name not in RULES:
            raise FirstwordsError(
                f"there is no cleaning rule '{name}'",
                where=where,
                do=did_you_mean(name, RULES) or "name one of: " + ", ".join(RULES),
            )
        if name in names[:position]:
            raise FirstwordsError(f"the cleaning rule '{name}' is named twice", where=where, do="name it once")
    return {name: RULES[name] for name in names}
