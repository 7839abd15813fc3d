"""The command that tells surprisals: of a sentence as a table, of a file as tab-separated lines."""

from __future__ import annotations

import csv
import json as json_format
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Literal, TypeAlias

from cyclopts import Parameter

from firstwords.cli.options import DeviceName, Json, Workspace
from firstwords.cli.printing import print_columns, print_json
from firstwords.errors import FirstwordsError

if TYPE_CHECKING:
    from firstwords.evaluation.subject import Subject
    from firstwords.evaluation.surprisal import Manner, ScoredText, Unit

By: TypeAlias = Literal["word", "token", "char-span"]

_TEXTS_AT_ONCE, _CHARACTERS_AT_ONCE = 2_000, 400_000
"""How much of a file is scored in one call: enough that its batches are full, little enough that results flow."""

_COLUMNS = ("line", "unit", "text", "start", "end", "tokens", "surprisal_bits")


def score(
    model: Annotated[
        str, Parameter(name="MODEL", help="A run, the path of a model's folder, or the name of a model on the Hub.")
    ],
    text: Annotated[str | None, Parameter(name="TEXT", help="What to score; or a file with --file.")] = None,
    /,
    *,
    file: Annotated[
        Path | None,
        Parameter(
            help="Score every line of a UTF-8 text file, `-` for stdin: tab-separated, to stdout.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    paragraphs: Annotated[
        bool, Parameter(help="Texts of the file are what stands between blank lines.", show_default=False)
    ] = False,
    by: Annotated[By, Parameter(help="Whose surprisal is told.")] = "word",
    spans: Annotated[
        str | None, Parameter(help="For --by char-span: 4:8,10:14 are characters 4 to 7 and 10 to 13, from 0 on.")
    ] = None,
    boundary: Annotated[
        Literal["before", "after"],
        Parameter(
            help="What belongs to a word: the space before it (the sum of its tokens, as it is usual), or that it ends "
            "where it ends (the probability of the word, Pimentel & Meister 2024)."
        ),
    ] = "before",
    without_marks: Annotated[
        bool, Parameter(help="Leave the marks around a word out of it; they end words too.", show_default=False)
    ] = False,
    context: Annotated[
        Literal["bos", "bos-or-eos", "tokenizer", "both-sides", "none"] | None,
        Parameter(
            help="What stands before a text: bos-or-eos for causal models and both-sides for masked ones where not "
            "given. With none its first token has no surprisal."
        ),
    ] = None,
    window: Annotated[
        int | None, Parameter(help="Positions that are read at once; as many as the model has where not given.")
    ] = None,
    stride: Annotated[
        int | None, Parameter(help="Tokens by which the window moves over longer texts; half of it where not given.")
    ] = None,
    checkpoint: Annotated[
        str | None, Parameter(help="Of a run: last, best, untrained or words-0001M; the selected one otherwise.")
    ] = None,
    device: DeviceName = "auto",
    allow_code: Annotated[
        bool, Parameter(help="Run Python code that comes with the model.", show_default=False)
    ] = False,
    workspace: Workspace = Path("runs"),
    json: Json = False,
) -> None:
    """Tell how surprising a text's words, tokens or characters are, in bits.

    That is -log2 p(it | what came before it). Characters are counted in the text
    as it was given, whatever the tokenizer makes of it. A text that is longer
    than the model reads is read in windows that overlap: nothing is cut off.
    Masked models tell pseudo-surprisals, given what stands on both sides. With
    --file and --json, every line of the output is the JSON of one text.
    """
    wanted = _Wanted.of(by, spans)
    _check_given(text, file, wanted)
    from firstwords.evaluation.surprisal import Manner
    from firstwords.models import open_subject

    subject = open_subject(model, workspace=workspace, checkpoint=checkpoint, device=device, allow_code=allow_code)
    manner = Manner.of(subject, boundary=boundary, marks=not without_marks)
    manner = replace(manner, window=window, stride=stride)
    manner = replace(manner, context=context) if context is not None else manner
    if text is not None:
        print_text(subject, text, wanted, manner, json=json)
    elif file is not None:
        with nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb") as lines:
            print_file(subject, texts_of(lines, str(file), paragraphs=paragraphs), wanted, manner, json=json)


def _check_given(text: str | None, file: Path | None, wanted: _Wanted) -> None:
    """Refuse what cannot be scored before a model is opened."""
    if (text is None) == (file is None):
        raise FirstwordsError(
            "there is nothing to score" if file is None else "there are a text and a file to score",
            where="TEXT, --file",
            do='give one of them: firstwords score MODEL "The cats sleeps." or firstwords score MODEL --file FILE',
        )
    if file is not None and wanted.spans:
        raise FirstwordsError(
            "spans are places in one text, and a file has many",
            where="--spans, --file",
            do="give one text without --file",
        )
    from firstwords.corpus.reading import is_encodable

    if text is not None and not is_encodable(text):
        raise FirstwordsError("the text is no UTF-8", where="TEXT", do="set the terminal to UTF-8, or use --file")
    if text is not None and not text.strip():
        raise FirstwordsError("the text is empty", where="TEXT", do="give a text with a word in it")


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Which units of a text are told."""

    by: By
    spans: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, by: By, spans: str | None) -> _Wanted:
        """Raises FirstwordsError for spans that cannot be read, or that are missing."""
        if (by == "char-span") != (spans is not None):
            raise FirstwordsError(
                "the spans to score are not given" if spans is None else f"spans are not scored by {by}",
                where="--by, --spans",
                do="give both: --by char-span --spans 4:8,10:14",
            )
        found = []
        for part in (spans or "").split(",") if spans is not None else ():
            start, colon, end = part.strip().partition(":")
            if not (colon and start.isdecimal() and end.isdecimal() and int(start) < int(end)):
                raise FirstwordsError(
                    f"'{part}' is no span", where="--spans", do="write the first character, a colon and the end: 4:8"
                )
            found.append((int(start), int(end)))
        return cls(by, tuple(found))

    def units(self, scored: ScoredText) -> list[Unit]:
        """The units of one text."""
        if self.by == "token":
            return scored.tokens()
        return scored.words() if self.by == "word" else scored.spans(self.spans)


def print_text(subject: Subject, text: str, wanted: _Wanted, manner: Manner, *, json: bool = False) -> None:
    """One text as a table with its total, or as JSON."""
    from firstwords.evaluation.surprisal import score_texts

    (scored,) = score_texts(subject, [text], manner)
    units = wanted.units(scored)
    if json:
        print_json({"model": dict(subject.facts), "statement": manner.statement(subject), **_values(text, units)})
        return
    rows = [("", "start", "end", "tokens", "bits")]
    rows += [(repr(u.text)[1:-1], str(u.start), str(u.end), str(u.tokens), _bits(u.bits, "-", 3)) for u in units]
    known = [unit.bits for unit in units if unit.bits is not None]
    rows.append(("together", "", "", str(sum(unit.tokens for unit in units)), f"{sum(known):.3f}"))
    print_columns(rows, right=range(1, 5))
    print(manner.statement(subject), file=sys.stderr)
    _tell_unknown(len(units) - len(known), sum(not unit.whole for unit in units))


def print_file(
    subject: Subject, texts: Iterable[tuple[int, str]], wanted: _Wanted, manner: Manner, *, json: bool = False
) -> None:
    """Numbered texts as tab-separated lines, or as one JSON object a line; what is scored is printed at once."""
    from firstwords.evaluation.surprisal import score_texts

    writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    if not json:
        writer.writerow(_COLUMNS)
    unknown = over = done = 0
    for chunk in _chunks(texts):
        for (line, text), scored in zip(chunk, score_texts(subject, [text for _, text in chunk], manner), strict=True):
            units = wanted.units(scored)
            unknown += sum(unit.bits is None for unit in units)
            over += sum(not unit.whole for unit in units)
            if json:
                print(json_format.dumps({"line": line, **_values(text, units)}, ensure_ascii=False))
            else:
                writer.writerows(
                    (line, number, unit.text, unit.start, unit.end, unit.tokens, _bits(unit.bits, "", 6))
                    for number, unit in enumerate(units, start=1)
                )
        done += len(chunk)
        sys.stdout.flush()
        if sys.stderr.isatty():
            print(f"\r{done:,} texts scored", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print(manner.statement(subject), file=sys.stderr)
    _tell_unknown(unknown, over)


def texts_of(file: BinaryIO, name: str, *, paragraphs: bool = False) -> Iterator[tuple[int, str]]:
    """Lines, or paragraphs between blank lines, with the number of the line at which each begins; blank ones left out.

    Raises FirstwordsError, naming the line, for what is no UTF-8.
    """
    held: list[str] = []
    began = 0
    for number, raw in enumerate(file, start=1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise FirstwordsError(
                f"the line is no valid UTF-8 (byte {error.start + 1})", where=f"{name}:{number}", do="save it as UTF-8"
            ) from None
        if line.strip():
            if not paragraphs:
                yield number, line
                continue
            began = began if held else number
            held.append(line)
        elif held:
            yield began, "\n".join(held)
            held = []
    if held:
        yield began, "\n".join(held)


def _chunks(texts: Iterable[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    chunk: list[tuple[int, str]] = []
    characters = 0
    try:
        for number, text in texts:
            chunk.append((number, text))
            characters += len(text)
            if len(chunk) == _TEXTS_AT_ONCE or characters >= _CHARACTERS_AT_ONCE:
                yield chunk
                chunk, characters = [], 0
    except FirstwordsError:
        if chunk:  # what stands before a line that cannot be read is scored all the same
            yield chunk
        raise
    if chunk:
        yield chunk


def _values(text: str, units: Iterable[Unit]) -> dict[str, Any]:
    named = [asdict(unit) for unit in units]
    return {"text": text, "units": [{"surprisal_bits": unit.pop("bits"), **unit} for unit in named]}


def _bits(bits: float | None, missing: str, digits: int) -> str:
    return missing if bits is None else f"{bits:.{digits}f}"


def _tell_unknown(unknown: int, over: int) -> None:
    if unknown:
        print(
            f"{unknown:,} units have no surprisal: nothing stands before their first token, or no token is theirs",
            file=sys.stderr,
        )
    if over:
        print(f"{over:,} units end within a token; it is counted where its first letter is", file=sys.stderr)
