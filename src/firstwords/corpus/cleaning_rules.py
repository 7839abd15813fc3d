"""Rules of cleaning for written text (any text, wiki articles, books), and what all rules are made of.

A rule is a pure function: it takes the text of a document and gives it back cleaner, or says why it is not wanted.
Applied twice, a rule does no more than applied once. Rules change only what they find, so most cost one fast search.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Drop:
    """A rule's answer when the whole document is not wanted."""

    reason: str


@dataclass(frozen=True, slots=True)
class WithoutLines:
    """A rule's answer when some lines are not wanted: the text that is left, and the lines that it lost."""

    text: str
    reason: str
    lines: tuple[str, ...]


Rule = Callable[[str], str | Drop | WithoutLines]
Step = tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]
"""A mark that stands wherever the pattern matches (the cheap test), the pattern, and what takes its place."""


def substitute(text: str, steps: tuple[Step, ...]) -> str:
    """`text` after all steps, again and again until none finds anything (marks are often nested).

    For the steps a line begins with its "\\n", the first one too: to look for a character is many times as fast as to
    look for `^`.
    """
    start = lines = "\n" + text
    while True:
        before = lines
        for mark, pattern, replacement in steps:
            if mark in lines:
                lines = pattern.sub(replacement, lines)
        if lines == before:
            return text if lines == start else lines[1:]


def drop_lines(text: str, pattern: re.Pattern[str], reason: str) -> str | WithoutLines:
    """`text` without the lines in which the pattern is found: it begins with "\\n" and looks for small letters only."""
    if not pattern.search("\n" + text.lower()):
        return text
    kept: list[str] = []
    dropped: list[str] = []
    for line in text.split("\n"):
        (dropped if pattern.search("\n" + line.lower()) else kept).append(line)
    return WithoutLines("\n".join(kept), reason, tuple(dropped)) if dropped else text


# ---- any text ----

# UTF-8 read as cp1252 (`Ã©` for `é`): one of the letters Â to ô, then a sign that there stands for a byte 0x80 to 0xBF.
# Looked for in the bytes, where all of them begin with the same one, which is many times as fast.
_BROKEN = re.compile(rb"\xc3[\x82-\xb4](?:\xc2[\x80-\xbf]|[\xc5\xc6\xcb][\x80-\xbf]|\xe2[\x80\x82\x84][\x80-\xbf])")


def mojibake(text: str) -> str:
    """Repairs letters garbled by a wrong decoding (`cafÃ©`), line by line, with ftfy where a line looks like it."""
    if text.isascii() or not _looks_broken(text):
        return text
    import ftfy

    def repair(line: str) -> str:
        while _looks_broken(line) and (better := ftfy.fix_encoding(line)) != line:
            line = better
        return line

    return "\n".join(map(repair, text.split("\n")))


def _looks_broken(text: str) -> bool:
    return _BROKEN.search(text.encode()) is not None


_LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# C0 and C1 controls but tab and newline, soft hyphen, zero-width and direction marks, the replacement character.
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\ufeff\ufffd]+")


def control_characters(text: str) -> str:
    """Removes characters that show nothing or stand for a lost one (`\\ufffd`); every line end becomes a newline."""
    if text.replace("\n", "").replace("\t", "").isprintable() and "\ufffd" not in text:
        return text
    return _CONTROLS.sub("", _LINE_ENDS.sub("\n", text))


def whitespace(text: str) -> str:
    """One space between words, none at the ends of lines, no blank lines: a blank line then always ends a document."""
    tidy_lines = "\n" not in text or not (" \n" in text or "\n " in text or "\n\n" in text)
    # No space but " " counts as printable.
    if tidy_lines and "  " not in text and text == text.strip() and text.replace("\n", "").isprintable():
        return text
    return "\n".join(tidy for line in text.split("\n") if (tidy := " ".join(line.split())))


# ---- wiki articles ----

_HEADINGS: tuple[Step, ...] = (
    ("=", re.compile(r"\n[ \t]*=(?: ?=)*[ \t]*([^=\n]*?)[ \t]*=(?: ?=)*[ \t]*$", re.MULTILINE), r"\n\1"),
)


def wiki_headings(text: str) -> str:
    """`= = = Title = = =` and `== Section ==` lose their signs; the words stay, for they say what the text is about."""
    return substitute(text, _HEADINGS)


_TAGS = (
    "br|hr|ref|references|poem|small|big|sub|sup|nowiki|onlyinclude|noinclude|includeonly|math|code|div|span|center"
    "|blockquote|gallery|table|tr|td|th"
)
_NOTES = r"update|edit|citation needed|clarification needed|dubious|when\?|who\?|which\?|by whom\?|note \d+|\d{1,3}"
_NESTED = r"[^\[\]]*(?:\[\[[^\[\]]*\]\][^\[\]]*)*"
_MARKUP: tuple[Step, ...] = (
    ("&", re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);"), lambda match: html.unescape(match[0])),
    ("{", re.compile(r"\{\{[^{}]*\}\}"), ""),
    ("<", re.compile(r"<!--.*?-->|<ref\b[^<>]*/>|<ref\b[^<>]*>[^<]*</ref\s*>", re.DOTALL | re.IGNORECASE), ""),
    ("<", re.compile(rf"<\s*/?\s*(?:{_TAGS})\b[^<>]*>", re.IGNORECASE), " "),
    ("[", re.compile(rf"\[\[(?:File|Image|Category|[a-z]{{2,3}}):{_NESTED}\]\]?", re.IGNORECASE), ""),
    ("[", re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]"), r"\1"),
    ("[", re.compile(rf"(?:\[ ?)?\[(?:{_NOTES})\]+", re.IGNORECASE), ""),
    ("[", re.compile(r"\[\["), ""),
    ("]", re.compile(r"\]\]"), ""),
    ("''", re.compile(r"'{2,}"), ""),
    ("_", re.compile(r"__[A-Z]{3,}__"), ""),
    ("\n*", re.compile(r"\n\*+[ \t]*"), "\n"),
    # What a removed pronunciation or foreign name leaves behind: "Moudon (; ) is", "Goethe (, born 1749)".
    ("(", re.compile(r"\([\s,;:\]]+"), "("),
    *((before + ")", re.compile(r"[ ,;:]+\)"), ")") for before in " ,;:"),
    ("()", re.compile(r"[ \t]?\(\)"), ""),
    (" ,", re.compile(r"[ \t]+,"), ","),
    (" ;", re.compile(r"[ \t]+;"), ";"),
)


def wiki_markup(text: str) -> str:
    """Removes templates, references, tags, link brackets, bold marks, entities and the empty brackets they leave."""
    return substitute(text, _MARKUP)


_FURNITURE = re.compile(
    r"\n[ \t=]*(?:references|notes|sources|gallery|related pages|other websites|other pages|see also|external links"
    r"|further reading|bibliography|footnotes)[.:]?[ \t=]*$"
    r"|\n[ \t]*(?:\{?\||#?if:|thumb\||https?://\S+$)",
    re.MULTILINE,
)


def wiki_furniture(text: str) -> str | WithoutLines:
    """Drops lines that belong to the page and not to the article: `References.`, `Other websites.`, rows of tables."""
    return drop_lines(text, _FURNITURE, "page furniture of a wiki")


STUB_WORDS = 25
"""An article of fewer words, its title counted, is a stub: mostly `X is a village in Y`."""


def wiki_stubs(text: str) -> str | Drop:
    """Drops articles of fewer than 25 words: a title with one stereotyped sentence teaches little."""
    return Drop(f"a stub of fewer than {STUB_WORDS} words") if len(text.split(None, STUB_WORDS)) < STUB_WORDS else text


# ---- books ----

_BOOK_BEGINS = re.compile(
    r"^[ \t]*(?:\*{3} ?START OF (?:THE|THIS) PROJECT GUTENBERG|\*END\*? ?THE SMALL PRINT).*$",
    re.MULTILINE | re.IGNORECASE,
)
_BOOK_ENDS = re.compile(
    r"^[ \t]*(?:\*{3} ?END OF (?:THE|THIS) PROJECT GUTENBERG|END OF (?:THE )?PROJECT GUTENBERG).*$",
    re.MULTILINE | re.IGNORECASE,
)


def gutenberg_boilerplate(text: str) -> str | WithoutLines:
    """Cuts a book to what stands between Project Gutenberg's START and END lines: the rest is header and licence."""
    if "gutenberg" not in text and "GUTENBERG" not in text and "Gutenberg" not in text:
        return text
    begins = list(_BOOK_BEGINS.finditer(text))
    start = begins[-1].end() if begins else 0
    end = _BOOK_ENDS.search(text, start)
    stop = end.start() if end else len(text)
    if start == 0 and stop == len(text):
        return text
    outside = tuple(part.strip("\n") for part in (text[:start], text[stop:]) if part.strip())
    return WithoutLines(text[start:stop].strip("\n"), "Project Gutenberg's header or licence", outside)


_NOTICES = re.compile(
    r"\n.{0,200}(?:project gutenberg|gutenberg\.(?:org|net)|distributed proofread|pgdp\.net)"
    r"|\n[^\w\n]*(?:(?:transcriber|proofreader)(?:['’]?s['’]?)? notes?\b"
    r"|(?:this )?e-?(?:text|book) (?:was )?(?:prepared|produced|created|scanned)\b"
    r"|(?:produced|transcribed|scanned|digitized) by \w)"
    r"|\n= = = pg\d+ = = =$",
    re.MULTILINE,
)


def gutenberg_notices(text: str) -> str | WithoutLines:
    """Drops lines about the making of the electronic text: Project Gutenberg, `Produced by`, transcriber's notes."""
    return drop_lines(text, _NOTICES, "about the making of the electronic book")


_BOOK_MARKUP: tuple[Step, ...] = (
    # Captions, side notes and page marks; a caption may run over lines.
    ("[", re.compile(r"\[(?:Illustration|Sidenote|Transcriber['’]s note)\b[^\[\]]{0,2000}\]", re.IGNORECASE), ""),
    ("[", re.compile(r"\[(?:(?:pg|page|p)\.? ?)?\d{1,4}\]|\[(?:pg|page|p)\.? ?[ivxlc]{1,7}\]", re.IGNORECASE), ""),
    ("{", re.compile(r"\{(?:(?:pg|page|p)\.? ?)?(?:\d{1,4}|[ivxlc]{1,7})\}", re.IGNORECASE), ""),
    ("_", re.compile(r"(?<![^\W_])_([^_]{1,1000})_(?![^\W_])"), r"\1"),
    # Lines of asterisks, dashes or signs between sections, and the frames of printed notices.
    ("", re.compile(r"\n[ \t]*[*=+|~#_-][*=+|~#_ \t-]{2,}$", re.MULTILINE), "\n"),
)


def gutenberg_markup(text: str) -> str:
    """Removes `_italics_` marks, page and footnote numbers, `[Illustration: ...]` and lines of asterisks or dashes."""
    return substitute(text, _BOOK_MARKUP)
