"""Where the text comes from: local files and archives, the folders of --data, the Hub, the web, the built-in grammar.

`resolve_sources` finds every source of a recipe, downloading what is not here; `read_documents` and `read_chunks` read
what was found, always in the same order.
"""

from __future__ import annotations

import difflib
import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from firstwords.corpus import reading
from firstwords.data import catalogue, folders
from firstwords.data.download import Patience, Say, download, file_name_of, hub_download
from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.run_folder import sha256_of
from firstwords.settings import CorpusSettings, SourceSettings

_SUFFIXES = (".train", ".train.txt", ".txt", ".jsonl")
"""How a source's file may be called under --data, the best first."""


@dataclass(frozen=True, slots=True)
class Document:
    """One piece of text. place: file and first line, as in `simple_wiki.train:120`."""

    text: str
    source: str
    place: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that a source is read from."""

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class ResolvedSource:
    """A source whose text is at hand. files: in reading order, none for the built-in grammar. origin: for people."""

    name: str
    settings: SourceSettings
    files: tuple[SourceFile, ...]
    license: str | None
    origin: str


@dataclass(frozen=True, slots=True)
class _Places:
    """Where sources are looked for, and how downloads go."""

    data_folders: Sequence[Path]
    cache: Path
    offline: bool
    say: Say | None
    patience: Patience | None


def resolve_sources(
    settings: CorpusSettings,
    data_folders: Sequence[Path],
    cache: Path,
    *,
    offline: bool = False,
    say: Say | None = None,
    patience: Patience | None = None,
) -> dict[str, ResolvedSource]:
    """Every source of the recipe with its files, in the order of the recipe.

    data_folders: the folders of --data. cache: where downloads are kept. say: takes a line of progress for a person.
    A source without `at`, or with `at = "catalogue:<name>"`, is looked for by its own name under --data, then in the
    catalogue. Raises FirstwordsError, naming the recipe's key, for what is missing, empty or has another checksum.
    """
    folders.check(data_folders)
    places = _Places(data_folders, cache, offline, say, patience)
    return {name: _resolve(name, source, places) for name, source in settings.sources.items()}


def read_documents(source: ResolvedSource, seed: int) -> Iterator[Document]:
    """The documents of a source, file after file, in constant memory; endless for the built-in grammar.

    seed: what the built-in grammar generates from; files do not depend on it.
    Raises FirstwordsError, naming file and line, for text that is empty, binary, not UTF-8 or broken JSONL.
    """
    register = _register(source.settings.at)
    if register is not None:
        from firstwords.corpus import grammar

        for number, text in enumerate(grammar.documents(register, seed), 1):
            yield Document(text, source.name, f"{source.settings.at}:{number}")
    settings = source.settings
    for file in source.files:
        found = reading.documents(file.path, settings.documents, settings.document_bytes, settings.text_key)
        for text, place in found:
            yield Document(text, source.name, place)


def read_chunks(source: ResolvedSource, chunk_bytes: int) -> Iterator[bytes]:
    """The raw bytes of a source, its files one after the other, in chunks of `chunk_bytes`; the last may be smaller."""
    if not source.files:
        raise FirstwordsError(
            f"{source.origin} makes documents, not raw bytes",
            where=_key(source.name),
            do='use mix = "documents" for it',
        )
    held = b""
    for file in source.files:
        for block in reading.raw_blocks(file.path):
            held += block
            whole_bytes = len(held) - len(held) % chunk_bytes
            for start in range(0, whole_bytes, chunk_bytes):
                yield held[start : start + chunk_bytes]
            held = held[whole_bytes:]
    if held:
        yield held


def _resolve(name: str, settings: SourceSettings, places: _Places) -> ResolvedSource:
    at = settings.at
    if at is None or at.startswith("catalogue:"):
        return _by_name(name, settings, places)
    register = _register(at)
    if register is not None:
        return _from_grammar(name, settings, register)
    if at.startswith("hub:"):
        path = hub_download(
            at,
            places.cache,
            sha256=settings.sha256,
            license=settings.license,
            say=places.say,
            offline=places.offline,
            patience=places.patience,
        )
        return _resolved(name, settings, [path], settings.license, at)
    if at.startswith(("http://", "https://")):
        path = download(
            at,
            places.cache / "web" / hashlib.sha256(at.encode()).hexdigest()[:16] / file_name_of(at),
            sha256=settings.sha256,
            license=settings.license,
            say=places.say,
            offline=places.offline,
            patience=places.patience,
        )
        return _resolved(name, settings, [path], settings.license, at)
    if re.match(r"[a-z][a-z0-9+.-]*://", at):
        raise FirstwordsError(
            f"'{at}' is an address of an unknown kind",
            where=_key(name, "at"),
            do="write a path, an http(s) address, hub:owner/repo/file or grammar:<register>",
        )
    return _from_path(name, settings, at)


def _by_name(name: str, settings: SourceSettings, places: _Places) -> ResolvedSource:
    """A source found under --data by its name, else in the catalogue."""
    listed_as = (settings.at or "").removeprefix("catalogue:") or name
    known = catalogue.sources().get(listed_as)
    if known is None and settings.at is not None:
        known = catalogue.source(listed_as)  # raises, with the nearest name
    license = settings.license or (known.license if known else None)
    candidates = [f"{name}{suffix}{packed}" for suffix in _SUFFIXES for packed in ("", ".gz")]
    candidates += [f"{name}.zip", f"{name}/"]
    here = folders.find(candidates, places.data_folders)
    if here is not None:
        files = _texts_in(here, name) if here.is_dir() else [here]
        return _resolved(name, settings, files, license, str(here))
    searched = ", ".join(map(str, places.data_folders)) or "no folder (none was given with --data)"
    where = f"{_key(name)}; looked for {name}.train, {name}.txt, {name}.jsonl, {name}.zip, {name}/ in {searched}"
    if known is None:
        raise FirstwordsError(
            f"the source '{name}' was not found",
            where=where,
            do=_nearest(name, places.data_folders)
            or f"say where it is with {_key(name, 'at')}, or give its folder with --data",
        )
    try:
        path = catalogue.fetch_source(
            known, places.cache, offline=places.offline, say=places.say, patience=places.patience
        )
    except FirstwordsError as error:
        raise FirstwordsError(
            f"the source '{name}' is not under --data, and {error.what}",
            where=f"{where}; then {error.where}",
            do=_nearest(name, places.data_folders) or error.do,
        ) from None
    return _resolved(name, settings, [path], license, f"{known.title}, {known.address}")


def _nearest(name: str, data_folders: Sequence[Path]) -> str | None:
    """Did you mean that file? Of those under --data, by their names without suffixes."""
    stems = {file.partition(".")[0]: file for file in folders.file_names(data_folders)}
    near = difflib.get_close_matches(name, stems, n=1)
    if not near:
        return None
    at = _key(name, "at")
    return f"did you mean '{near[0]}'? There is {stems[near[0]]}; name the source so, or give that file as {at}"


def _from_grammar(name: str, settings: SourceSettings, register: str) -> ResolvedSource:
    from firstwords.corpus import grammar

    if register not in grammar.REGISTERS:
        raise FirstwordsError(
            f"the built-in grammar has no register '{register}'",
            where=_key(name, "at"),
            do=did_you_mean(register, grammar.REGISTERS) or f"name one of {', '.join(grammar.REGISTERS)}",
        )
    license = settings.license or "MIT (generated by firstwords)"
    return ResolvedSource(name, settings, (), license, f"built-in grammar, register {register} (artificial text)")


def _register(at: str | None) -> str | None:
    return at.removeprefix("grammar:") if at is not None and at.startswith("grammar:") else None


def _from_path(name: str, settings: SourceSettings, at: str) -> ResolvedSource:
    path = Path(at).expanduser()
    if path.is_dir():
        return _resolved(name, settings, _texts_in(path, name), settings.license, str(path))
    if path.is_file():
        return _resolved(name, settings, [path], settings.license, str(path))
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207 (absolute patterns too)
    files = sorted((match for match in matches if match.is_file()), key=Path.as_posix)
    if not files:
        neighbours = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FirstwordsError(
            f"the source '{name}' is not there: no file, folder or pattern {at} in {Path.cwd()}",
            where=f'{_key(name, "at")} = "{at}"',
            do=did_you_mean(path.name, neighbours) or "correct the path; it starts from the current folder",
        )
    return _resolved(name, settings, files, settings.license, at)


def _texts_in(folder: Path, name: str) -> list[Path]:
    """Every text and archive under a folder, sorted by its path, hidden ones left out."""
    found = []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        wanted = reading.is_text_name(path.name) or path.suffix.lower() == ".zip"
        if wanted and path.is_file() and not any(part.startswith(".") for part in parts):
            found.append((parts, path))
    if not found:
        raise FirstwordsError(
            f"the folder of the source '{name}' has no text",
            where=str(folder),
            do=f"put files there that end in {', '.join(reading.TEXT_SUFFIXES)}, .gz or .zip",
        )
    return [path for _, path in sorted(found)]


def _resolved(
    name: str, settings: SourceSettings, paths: Sequence[Path], license: str | None, origin: str
) -> ResolvedSource:
    files = tuple(_source_file(path, name) for path in paths)
    if settings.sha256 and [file.sha256 for file in files] != [settings.sha256.lower()]:
        held = f"its sha256 is {files[0].sha256}" if len(files) == 1 else f"it is {len(files)} files"
        raise FirstwordsError(
            f"the source '{name}' is not the text that the recipe names: {held}",
            where=f"{_key(name, 'sha256')}; {origin}",
            do="give that text, or correct or remove sha256",
        )
    return ResolvedSource(name, settings, files, license, origin)


def _source_file(path: Path, name: str) -> SourceFile:
    try:
        size_bytes = path.stat().st_size
        sha256 = sha256_of(path)
    except OSError as error:
        raise FirstwordsError(
            f"{path.name} cannot be read: {error.strerror or error}",
            where=f"{_key(name)}: {path}",
            do="check its permissions",
        ) from None
    if size_bytes == 0:
        raise FirstwordsError(
            f"{path.name} is empty", where=f"{_key(name)}: {path}", do="give a file with text, or leave it out"
        )
    return SourceFile(path, size_bytes, sha256)


def _key(name: str, setting: str | None = None) -> str:
    return f"corpus.sources.{name}" + (f".{setting}" if setting else "")
