"""What can be downloaded by name: texts (`sources`) and test sets (`suites`), as catalogue.toml lists them."""

from __future__ import annotations

import json
import shutil
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache as remembered
from importlib import resources
from pathlib import Path
from typing import Any

from firstwords.data import folders
from firstwords.data.download import Checksum, Patience, Say, download, hub_download, size_text
from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.run_folder import atomic_write_text


@dataclass(frozen=True, slots=True)
class CatalogueSource:
    """One text that can be downloaded. name: as a recipe writes it, `childes` or `babylm-2026/childes`.

    archive: name of the zip file at `address` that the text is a `member` of. The checksums are of the text itself
    (md5) and of the archive (archive_md5, archive_sha256); those of a `hub:` address are asked of the Hub.
    """

    name: str
    title: str
    license: str
    citation: str
    address: str
    archive: str | None
    member: str
    size_bytes: int | None
    md5: str | None
    archive_md5: str | None
    archive_sha256: str | None
    archive_size_bytes: int | None


@dataclass(frozen=True, slots=True)
class CatalogueSuite:
    """One test set: a folder of JSONL files that is downloaded, or cut from another suite by the ids of its pairs."""

    name: str
    title: str
    license: str
    citation: str
    address: str | None
    size_bytes: int | None
    sha256: Mapping[str, str]
    """SHA-256 of each file by its name without `.jsonl`."""
    subset_of: str | None
    pair_ids: Mapping[str, Sequence[int]]
    """Of a subset: which pairs of each file, in this order."""

    @property
    def folder(self) -> str:
        """Name of the suite's folder, under --data as in the cache: `blimp-fast` is in `blimp_fast`."""
        return self.name.replace("-", "_")


@remembered
def sources() -> dict[str, CatalogueSource]:
    """Every text in the catalogue, by the name a recipe uses."""
    table = _table()
    found = {}
    for collection_name, collection in table["collections"].items():
        for file_name, file in collection["files"].items():
            name = file_name if collection_name == table["default"] else f"{collection_name}/{file_name}"
            found[name] = CatalogueSource(
                name=name,
                title=f"{file_name} of {collection['title']}",
                license=table["licenses"][file_name],
                citation=collection["citation"],
                address=collection["address"] + (f"/{file['path']}" if "path" in file else ""),
                archive=collection.get("archive"),
                member=file.get("member", ""),
                size_bytes=file.get("size_bytes"),
                md5=file.get("md5"),
                archive_md5=collection.get("md5"),
                archive_sha256=collection.get("sha256"),
                archive_size_bytes=collection.get("size_bytes"),
            )
    return found


@remembered
def suites() -> dict[str, CatalogueSuite]:
    """Every test set in the catalogue, by name."""
    return {
        name: CatalogueSuite(
            name=name,
            title=suite["title"],
            license=suite["license"],
            citation=suite["citation"],
            address=suite.get("address"),
            size_bytes=suite.get("size_bytes"),
            sha256=tomllib.loads(_read(suite["checksums"])) if "checksums" in suite else {},
            subset_of=suite.get("subset_of"),
            pair_ids=json.loads(_read(suite["ids"])) if "ids" in suite else {},
        )
        for name, suite in _table()["suites"].items()
    }


def source(name: str) -> CatalogueSource:
    """The text of that name. Raises FirstwordsError, with the nearest name, where there is none."""
    if name not in sources():
        raise _unknown("text", name, sources())
    return sources()[name]


def suite(name: str) -> CatalogueSuite:
    """The test set of that name (`blimp_fast` is `blimp-fast`). Raises FirstwordsError where there is none."""
    name = name.replace("_", "-")
    if name not in suites():
        raise _unknown("test set", name, suites())
    return suites()[name]


def fetch_source(
    wanted: CatalogueSource,
    cache: Path,
    *,
    offline: bool = False,
    say: Say | None = None,
    patience: Patience | None = None,
) -> Path:
    """The file of a text of the catalogue, downloaded into `cache` unless it is there."""
    if wanted.archive is None:
        return hub_download(
            wanted.address,
            cache,
            title=wanted.title,
            license=wanted.license,
            say=say,
            offline=offline,
            patience=patience,
        )
    folder = cache / "archives" / wanted.archive.removesuffix(".zip")
    text = folder / wanted.member
    if text.is_file() and (wanted.md5 is None or Checksum("md5", wanted.md5).matches(text)):
        return text
    archive = download(
        wanted.address,
        folder / wanted.archive,
        md5=wanted.archive_md5,
        sha256=wanted.archive_sha256,
        size_bytes=wanted.archive_size_bytes,
        title=f"{wanted.archive} with {wanted.title}",
        license=wanted.license,
        say=say,
        offline=offline,
        patience=patience,
    )
    return _unpack(archive, wanted, text)


def fetch_suite(
    name: str,
    data_folders: Sequence[Path],
    cache: Path,
    offline: bool = False,
    say: Say | None = None,
    *,
    patience: Patience | None = None,
) -> Path:
    """The folder of a test set: found under --data by its name (`blimp`, `blimp_fast`), else downloaded into `cache`.

    Whatever a user's own folder holds is taken as it is; downloaded files are checked each time.
    Raises FirstwordsError for a name that neither --data nor the catalogue knows, and where a download fails.
    """
    here = folders.find([f"{name.replace('-', '_')}/", f"{name.replace('_', '-')}/"], data_folders)
    if here is not None:
        return here
    wanted = suite(name)
    if wanted.subset_of is None:
        return _download_suite(wanted, cache, offline, say, patience)
    whole = fetch_suite(wanted.subset_of, data_folders, cache, offline, say, patience=patience)
    return _cut_suite(wanted, whole, cache / "suites" / wanted.folder)


def _download_suite(
    wanted: CatalogueSuite, cache: Path, offline: bool, say: Say | None, patience: Patience | None
) -> Path:
    folder = cache / "suites" / wanted.folder
    missing = [name for name in wanted.sha256 if not (folder / f"{name}.jsonl").is_file()]
    if missing and say and not offline:
        size = size_text(wanted.size_bytes or 0)
        say(f"downloading {wanted.title} ({size} in all) from {wanted.address}; license: {wanted.license}")
    for name, sha256 in wanted.sha256.items():
        download(
            f"{wanted.address}/{name}.jsonl",
            folder / f"{name}.jsonl",
            sha256=sha256,
            title=f"{wanted.name}: {name}.jsonl",
            license=wanted.license,
            offline=offline,
            patience=patience,
        )
    return folder


def _cut_suite(wanted: CatalogueSuite, whole: Path, folder: Path) -> Path:
    """Write the files of a subset from those of the whole suite, each line as the subset's publisher has it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, pair_ids in wanted.pair_ids.items():
        path = whole / f"{name}.jsonl"
        try:
            rows = {int(row["pairID"]): row for row in map(json.loads, path.read_text("utf-8").splitlines())}
            text = "".join(json.dumps(_subset_row(rows[number], number)) + "\n" for number in pair_ids)
        except (OSError, ValueError, KeyError) as error:
            raise FirstwordsError(
                f"{wanted.name} cannot be cut from {wanted.subset_of}: {path.name} is not as published ({error!r})",
                where=str(path),
                do=f"give a folder with the whole of {wanted.subset_of}, or {wanted.folder} itself, with --data",
            ) from None
        # Written only where it differs, so that another run that reads the same cache is never disturbed.
        cut = folder / path.name
        if not cut.is_file() or cut.read_text("utf-8") != text:
            atomic_write_text(cut, text)
    return folder


_SUBSET_KEYS = (
    "sentence_good",
    "sentence_bad",
    "field",
    "linguistics_term",
    "UID",
    "simple_LM_method",
    "one_prefix_method",
    "two_prefix_method",
    "lexically_identical",
)


def _subset_row(row: dict[str, Any], number: int) -> dict[str, Any]:
    # As the publisher of the fast set writes a pair: no words for the prefix methods, and the id as a number.
    return {**{key: row[key] for key in _SUBSET_KEYS}, "pair_id": number}


def _unpack(archive: Path, wanted: CatalogueSource, text: Path) -> Path:
    """Write one member of a downloaded zip file beside it, checked, under its own name."""
    partial = text.with_name(f".{text.name}.part")
    try:
        with zipfile.ZipFile(archive) as zipped:
            inside = [name for name in sorted(zipped.namelist()) if name.rpartition("/")[2] == wanted.member]
            with zipped.open(inside[0]) as compressed, partial.open("wb") as plain:
                shutil.copyfileobj(compressed, plain, 1 << 20)
    except (zipfile.BadZipFile, IndexError) as error:
        raise FirstwordsError(
            f"{archive.name} has no readable {wanted.member}: {error}",
            where=str(archive),
            do="delete that file, so that it is downloaded again",
        ) from None
    except OSError as error:
        raise FirstwordsError(
            f"cannot unpack {wanted.member}: {error.strerror or error}",
            where=str(text.parent),
            do="make room there, or keep downloads elsewhere with $FIRSTWORDS_CACHE",
        ) from None
    if wanted.md5 and not Checksum("md5", wanted.md5).matches(partial):
        partial.unlink()
        raise FirstwordsError(
            f"{wanted.member} in {archive.name} is not the published text (its md5 differs)",
            where=str(archive),
            do="delete that file, so that it is downloaded again",
        )
    return partial.replace(text)


def _unknown(kind: str, name: str, known: Mapping[str, object]) -> FirstwordsError:
    return FirstwordsError(
        f"the catalogue has no {kind} '{name}'",
        where="it has: " + ", ".join(known),
        do=did_you_mean(name, known) or f"name one of them, or give a folder that has '{name}' with --data",
    )


@remembered
def _table() -> dict[str, Any]:
    return tomllib.loads(_read("catalogue.toml"))


def _read(name: str) -> str:
    return resources.files("firstwords.data").joinpath(name).read_text("utf-8")
