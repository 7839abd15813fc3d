"""The command line's own grammar: dotted recipe keys as flags, and clear words for what cannot be parsed."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from cyclopts import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from firstwords.errors import FirstwordsError, did_you_mean

_DOTTED_FLAG = re.compile(r"--(?P<key>[A-Za-z][\w-]*(?:\.[\w-]+)+)(?:=(?P<value>.*))?", re.DOTALL)


def split_settings(words: Sequence[str], commands: Collection[str]) -> tuple[list[str], dict[str, str]]:
    """Take `--training.peak-lr 1e-3` and `--training.peak-lr=1e-3` out of the words of one of `commands`.

    Returns the other words and the settings. Raises FirstwordsError for a dotted flag without a value.
    """
    if not words or words[0] not in commands:
        return list(words), {}
    rest: list[str] = []
    settings: dict[str, str] = {}
    waiting = iter(words)
    for word in waiting:
        if word == "--":
            return [*rest, word, *waiting], settings
        match = _DOTTED_FLAG.fullmatch(word)
        if match is None:
            rest.append(word)
            continue
        value = match["value"] if match["value"] is not None else next(waiting, None)
        if value is None or (match["value"] is None and value.startswith("--")):
            raise FirstwordsError(
                f"--{match['key']} has no value",
                where=_shown(words),
                do=f"write --{match['key']} VALUE",
            )
        settings[match["key"]] = value
    return rest, settings


def data_folders(given: Sequence[Path]) -> list[Path]:
    """The folders of --data, then those of $FIRSTWORDS_DATA."""
    more = os.environ.get("FIRSTWORDS_DATA", "").split(os.pathsep)
    return [*given, *(Path(folder) for folder in more if folder)]


def unknown_command(words: Sequence[str], known: Sequence[str]) -> FirstwordsError:
    """There is no such command; names the nearest."""
    return FirstwordsError(
        f"there is no command '{words[0]}'",
        where=_shown(words),
        do=did_you_mean(words[0], known) or "`firstwords --help` lists the commands",
    )


def explain(error: CycloptsError, words: Sequence[str], with_settings: str | None) -> FirstwordsError:
    """What a parser's error means to the user.

    with_settings: the command, where it takes recipe keys as flags, so that these are suggested too.
    """
    command = " ".join(["firstwords", *(error.command_chain or ())])
    where = _shown(words)
    help_hint = f"`{command} --help` shows how it is used"
    if isinstance(error, UnknownOptionError):
        flag = error.token.keyword or error.token.value
        names = [name for argument in error.argument_collection for name in argument.names]
        return FirstwordsError(
            f"`{command}` has no option {flag}", where=where, do=_nearest_flag(flag, names, with_settings) or help_hint
        )
    if isinstance(error, UnknownCommandError):
        return FirstwordsError(f"`{command}` has no option {words[0]}", where=where, do=help_hint)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.name
        lack = f"{name} has no value" if name.startswith("-") else f"{name} is missing"
        return FirstwordsError(f"`{command}`: {lack}", where=where, do=help_hint)
    if isinstance(error, CoercionError) and error.token is not None:
        name = error.token.keyword or (error.argument.name if error.argument else "a value")
        kind = {int: "a whole number", float: "a number"}.get(error.target_type or str, "a value it can take")
        return FirstwordsError(f"{name} is {error.token.value!r}, not {kind}", where=where, do=help_hint)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        return FirstwordsError(
            f"`{command}` cannot use {shlex.quote(error.unused_tokens[0])}", where=where, do=help_hint
        )
    return FirstwordsError(str(error), where=where, do=help_hint)


def _nearest_flag(flag: str, names: Sequence[str], with_settings: str | None) -> str | None:
    """The nearest option, or the recipe key whose last part it is."""
    near = did_you_mean(flag, names)
    if near or with_settings is None:
        return near
    from firstwords.recipe import setting_keys

    keys = [f"--{key}" for key in setting_keys()]
    same_end = [key for key in keys if key.endswith("." + flag.removeprefix("--").replace("_", "-"))]
    return f"did you mean '{same_end[0]}'?" if same_end else did_you_mean(flag, keys)


def _shown(words: Sequence[str]) -> str:
    return shlex.join(["firstwords", *words])
