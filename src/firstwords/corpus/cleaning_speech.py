"""Rules of cleaning for speech: transcripts of conversation, CHILDES, and the dialogue of subtitles."""

from __future__ import annotations

import re

from firstwords.corpus.cleaning_rules import Step, WithoutLines, drop_lines, substitute

# ---- transcripts of conversation ----

_SPEAKERS: tuple[Step, ...] = (
    (":\t", re.compile(r"\n(?:\*[A-Z0-9]{1,7}|[A-Z][A-Z0-9]{0,3}):\t+"), "\n"),
    ("\n*", re.compile(r"\n\*[A-Z0-9]{2,7}:[ \t]*"), "\n"),
)


def speaker_codes(text: str) -> str:
    """Removes who speaks from the beginning of each line: `A:` or `*MOT:` with a tab, `*CHI:` with or without."""
    return substitute(text, _SPEAKERS)


_ANNOTATIONS: tuple[Step, ...] = (
    ("[", re.compile(r"\[[^\[\]\n]{0,80}\][ \t]?"), ""),
    ("<", re.compile(r"</?[A-Za-z][^<>\n]{0,80}>[ \t]?"), ""),
    ("&=", re.compile(r"&=[\w:-]+[ \t]?"), ""),
)


def spoken_annotations(text: str) -> str:
    """Removes what the transcriber says and no speaker: `[laughter]`, `[unclear]`, `<gap>`, `&=laughs`."""
    return substitute(text, _ANNOTATIONS)


# ---- CHILDES: codes of the CHAT format (MacWhinney, The CHILDES Project: Tools for Analyzing Talk) ----

_TIERS = re.compile(r"\n(?:%[a-z]{3}\d?:|@[a-z][a-z0-9 ]*(?::|$))", re.MULTILINE)


def childes_tiers(text: str) -> str | WithoutLines:
    """Drops lines that are no speech: headers (`@Begin`, `@Situation:`) and annotation tiers (`%mor:`, `%com:`)."""
    return drop_lines(text, _TIERS, "a header or annotation of CHAT")


_UNINTELLIGIBLE = re.compile(r"(?<![\w@'.])(?:xxx?|yyy?|www)(?![\w'.]*\w)")


def childes_unintelligible(text: str) -> str | WithoutLines:
    """Drops utterances with something not understood or not written down (`xxx`, `yyy`, `www`): they have holes."""
    if "xx" not in text and "yy" not in text and "www" not in text:
        return text
    return drop_lines(text, _UNINTELLIGIBLE, "an utterance not understood or not written down")


_CHILDES: tuple[Step, ...] = (
    ("\x15", re.compile("\x15[^\x15\n]*\x15?"), ""),  # where the utterance is in the recording
    # Speech taken back: `<I want> [//] I need`, `a [/] a dog`. What was said instead follows.
    ("[/", re.compile(r"(?:<[^<>\n]*>|[^\s<>\[\]]+)[ \t]*\[/(?:/|//|-|\?)?\][ \t]*"), ""),
    ("[", re.compile(r"\[[^\[\]\n]*\][ \t]?"), ""),
    ("<", re.compile(r"<([^<>\n]*)>"), r"\1"),
    ("&=", re.compile(r"&=[\w:-]+[ \t]?"), ""),  # laughs, coughs
    ("&-", re.compile(r"&-(?=\w)"), ""),  # fillers (&-um) are words
    ("&", re.compile(r"(?<!\w)&[+~*]?\w[\w:'-]*[ \t]?"), ""),  # fragments of words (&+fr)
    ("(", re.compile(r"\((?:\.{1,3}|\d+(?:[.:]\d*)*)\)[ \t]?"), ""),  # pauses
    ("(", re.compile(r"\(([A-Za-z']+)\)"), r"\1"),  # letters not pronounced: (be)cause
    ("@", re.compile(r"(?<=\w)@[a-z]{1,3}(?:[:$][a-z]+)*"), ""),  # kind of a special form: woof@o
    ("0", re.compile(r"(?:^|(?<=[ \t]))0(?:[A-Za-z']+|(?=[ \t.]|$))[ \t]?", re.MULTILINE), ""),  # words left out: 0is
    # Ends of utterances (trailing off, interrupted, asked) and links to the one before.
    ("+", re.compile(r"\+(?:/{1,2}|\.\.|!)?\?"), "?"),
    ("+", re.compile(r"\+\.{2,3}"), "..."),
    ("+", re.compile(r"\+[\"”]?/{0,2}\."), "."),
    ("+", re.compile(r"(?:^|(?<=[ \t]))\+(?:[<^,+]|[\"“])?[ \t]*", re.MULTILINE), ""),
    ("+", re.compile(r"(?<=\w)\+(?=\w)"), "-"),  # compounds: ice+cream
    ("_", re.compile(r"(?<=\w)_+(?=\w)"), " "),  # names of several words: Winnie_the_Pooh
    # Drawn-out sounds (he:y, no: you); a colon after a longer word is one.
    (":", re.compile(r":(?<=[a-z]:)(?:(?=[a-z])|(?<![a-z]{4}:)(?=[\s.?!,]|$))"), ""),
    ("^", re.compile(r"\^"), ""),  # a halt within a word
    ("↑", re.compile("↑+"), ""),
    ("↓", re.compile("↓+"), ""),
    ("„", re.compile(" *„"), ","),  # a tag question follows
    ("‡", re.compile(" *‡"), ","),  # a vocative stands before
    *((f" {end}", re.compile(f" +(?=[{end}])"), "") for end in ".?!,"),
    ("", re.compile(r"\n[ \t]*[.?!,][.?!, \t]*$", re.MULTILINE), "\n"),  # nothing is left of the utterance
)


def childes_codes(text: str) -> str:
    """Turns CHAT into plain English: no pauses, retracings, events, or marks within words."""
    return substitute(text, _CHILDES)


# ---- subtitles ----

_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?[.,]\d{1,3}"
_TIMING: tuple[Step, ...] = (
    ("-->", re.compile(rf"^(?:\d+[ \t]*\n)?[ \t]*{_CLOCK}[ \t]*-->[ \t]*{_CLOCK}.*(?:\n|\Z)", re.MULTILINE), ""),
    (":", re.compile(r"\n[ \t]*\[?\d{1,2}:\d{2}:\d{2}(?:[.,:]\d{1,3})?\]?[ \t]*"), "\n"),
    ("{", re.compile(r"^\{\d+\}\{\d*\}", re.MULTILINE), ""),
    ("WEBVTT", re.compile(r"^WEBVTT.*(?:\n|\Z)", re.MULTILINE), ""),
)


def subtitle_timing(text: str) -> str:
    """Removes when a subtitle is shown, and its number: `12` above `00:01:02,000 --> 00:01:04,500`, `{250}{310}`."""
    return substitute(text, _TIMING)


_MAKERS = "subtitle[sd]?|subs|caption(?:s|ed|ing)?|(?:re)?sync(?:ed|hro)?|ripped|transcripts?|translat(?:ed|ion)"
_CREDITS = re.compile(
    rf"\n[^\w\n]*(?:(?:{_MAKERS})(?: (?:and|&) \w+)?(?:[ \t]+by\b|[ \t]*:)"
    r"|(?:https?://|www\.)\S+[^\w\n]*$"
    r"|.{0,80}opensubtitles)",
    re.MULTILINE,
)


def subtitle_credits(text: str) -> str | WithoutLines:
    """Drops lines by those who made the subtitles: `Subtitles by ...`, `Sync: ...`, a line that is an address."""
    return drop_lines(text, _CREDITS, "credits of the subtitles")


_SUNG = re.compile(r"^[ \t]*[*#~]+(?![\w*#~])[ \t]*|(?<![\w*#~])[*#~]+[ \t]*$", re.MULTILINE)
_SUBTITLE_MARKUP: tuple[Step, ...] = (
    ("<", re.compile(r"</?[A-Za-z][^<>\n]{0,80}>"), ""),
    ("{", re.compile(r"\{[^{}\n]{0,200}\}"), ""),
    ("\\", re.compile(r"\\[Nnh]"), " "),
    # Sounds for the deaf, stage directions; a bracket left open ends with its line.
    ("[", re.compile(r"\[[^\[\]\n]*(?:\]|$)", re.MULTILINE), ""),
    ("(", re.compile(r"\([^()\n]*(?:\)|$)", re.MULTILINE), ""),
    ("♪", re.compile("[♪♫]+"), ""),
    ("♫", re.compile("♫+"), ""),
    *((mark, _SUNG, "") for mark in "*#~"),
    ("", re.compile(r"\n[ \t]*[-–—‐]+[ \t]*"), "\n"),  # another one speaks
    (":", re.compile(r"\n[ \t]*[A-Z][A-Z.'’-]+(?: [A-Z.'’-]+){0,2}(?: ?#?\d)?:[ \t]*"), "\n"),  # COOPER:
    (" !", re.compile(r"(?<=\w) +(?=!+(?:\s|$))"), ""),
    (" ?", re.compile(r"(?<=\w) +(?=\?+(?:\s|$))"), ""),
)


def subtitle_markup(text: str) -> str:
    """Removes `<i>`, `{\\an8}`, music notes, dashes and names before speech, `[DOOR OPENS]` and `(sighs)`."""
    return substitute(text, _SUBTITLE_MARKUP)
