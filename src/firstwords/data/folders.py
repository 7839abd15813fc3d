"""Searching the folders that a user names with `--data`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from firstwords.errors import FirstwordsError

DEPTH = 3
"""How many levels of sub-folders of a `--data` folder are looked into."""


def find(names: Sequence[str], data_folders: Sequence[Path]) -> Path | None:
    """The first file or folder that has one of `names`, or None.

    names: the best name first; one that ends in "/" means a folder, any other a file.
    The first of `data_folders` that has any of the names wins. Within it the search goes level by level in sorted
    order, so the shallowest find is taken whatever order the file system lists entries in; last of all, a folder that
    is asked for may be the `--data` folder itself. Raises FirstwordsError for a folder that does not exist.
    """
    check(data_folders)
    for data_folder in data_folders:
        for folder in _folders_within(data_folder):
            for name in names:
                found = folder / name
                if found.is_dir() if name.endswith("/") else found.is_file():
                    return found
        if data_folder.resolve().name + "/" in names:
            return data_folder
    return None


def file_names(data_folders: Sequence[Path]) -> list[str]:
    """Names of all files that `find` can find, for did-you-mean."""
    return sorted({entry.name for top in data_folders for folder in _folders_within(top) for entry in _entries(folder)})


def check(data_folders: Sequence[Path]) -> None:
    """Raise FirstwordsError for the first of `data_folders` that is not there or is no folder."""
    for folder in data_folders:
        if not folder.is_dir():
            problem = "is not a folder" if folder.exists() else "does not exist"
            raise FirstwordsError(
                f"the data folder {folder} {problem}",
                where=f"--data {folder}",
                do="correct the path given with --data or in $FIRSTWORDS_DATA",
            )


def _folders_within(top: Path) -> Iterator[Path]:
    """`top` and its sub-folders down to DEPTH, breadth first, sorted, hidden ones left out."""
    level = [top]
    for _ in range(DEPTH + 1):
        yield from level
        level = [entry for folder in level for entry in _entries(folder) if entry.is_dir()]


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except PermissionError:
        # A locked sub-folder beside the texts is no reason not to find them.
        return []
