"""Every setting of an experiment: frozen, typed, named in TOML as in the code (with hyphens).

`Recipe.load("model-b")` reads a bundled recipe, `Recipe.load("my.toml")` a file of one's own;
`recipe.override({"training.peak-lr": "1e-3"})` gives a changed copy, `recipe.to_toml()` the whole.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import tomli_w
from pydantic import BaseModel, Field, ValidationError, model_validator

from firstwords.errors import FirstwordsError, did_you_mean
from firstwords.settings import (
    CorpusSettings,
    EvaluationSettings,
    ExportSettings,
    ModelSettings,
    Settings,
    SourceSettings,
    TokenizerSettings,
    TokenSettings,
    TrainingSettings,
)

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""Of recipes and runs, which are folders of that name."""


class Recipe(Settings):
    """One experiment, complete. The same recipe on the same text and machine gives the same model."""

    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
    """Names the run folder: letters, digits, '.', '_' and '-'."""
    description: str = ""
    """One line for `firstwords recipes` and the model card."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """All randomness comes from it."""
    corpus: CorpusSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    tokens: TokenSettings = TokenSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    export: ExportSettings = ExportSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tokens.context > self.model.positions:
            raise ValueError(
                f"tokens.context ({self.tokens.context}) is longer than model.positions ({self.model.positions})"
            )
        return self

    @classmethod
    def load(cls, name_or_path: str | Path) -> Recipe:
        """Read a bundled recipe by name or a TOML file by path.

        Raises FirstwordsError for a recipe that is not there, is no TOML, or has a wrong or unknown key.
        """
        name = str(name_or_path)
        if name.endswith(".toml") or "/" in name:
            path = Path(name)
            if not path.is_file():
                raise FirstwordsError(
                    f"there is no recipe file {name}",
                    where=str(path.absolute()),
                    do="check the path; `firstwords recipes` lists the bundled ones",
                )
            return cls.parse(path.read_bytes(), origin=name)
        if name not in bundled_names():
            hint = did_you_mean(name, bundled_names())
            raise FirstwordsError(
                f"there is no bundled recipe '{name}'",
                where="bundled: " + ", ".join(bundled_names()),
                do=hint or "name one of them, or a file that ends in .toml",
            )
        return cls.parse(_bundled_folder().joinpath(f"{name}.toml").read_bytes(), origin=f"{name}.toml")

    @classmethod
    def parse(cls, toml: bytes, origin: str) -> Recipe:
        """A recipe from the bytes of its TOML; `origin` names it in errors."""
        try:
            values = tomllib.loads(toml.decode("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise FirstwordsError(
                f"the recipe is no valid TOML: {error}", where=origin, do="correct the file at that place"
            ) from None
        return cls.build(values, origin)

    @classmethod
    def build(cls, values: Mapping[str, Any], origin: str) -> Recipe:
        """A recipe from nested values; every problem becomes one FirstwordsError that names the key."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _explain(error, origin) from None

    def override(self, settings: Mapping[str, str], origin: str = "the command line") -> Recipe:
        """A copy with dotted keys set from text, as in {"training.peak-lr": "1e-3"}.

        A value is read as TOML where it is valid TOML (numbers, booleans, lists), else as plain text.
        """
        values = self.to_values()
        for key, text in settings.items():
            if not _is_setting(key):
                raise _unknown_key(key, origin)
            *groups, last = key.replace("_", "-").split(".") if "sources." not in key else _source_key(key)
            group = values
            for name in groups:
                group = group.setdefault(name, {})
                if not isinstance(group, dict):
                    raise _unknown_key(key, origin)
            group[last] = _read_value(text)
        return Recipe.build(values, origin)

    def to_values(self) -> dict[str, Any]:
        """Nested plain values with hyphenated keys; settings that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_toml(self) -> str:
        """The complete recipe, defaults included."""
        return tomli_w.dumps(self.to_values())


def bundled_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(
        path.name.removesuffix(".toml") for path in _bundled_folder().iterdir() if path.name.endswith(".toml")
    )


def json_schema() -> dict[str, Any]:
    """JSON schema of a recipe, for editors that check TOML."""
    return Recipe.model_json_schema(by_alias=True)


def setting_keys() -> list[str]:
    """Every dotted key of a recipe; a source's name is written `<source>`."""
    return list(_keys_of(Recipe, ""))


def _is_setting(key: str) -> bool:
    """Whether a dotted key, with hyphens or underscores, names a setting or a whole source."""
    if re.fullmatch(r"corpus\.sources\.[^.]+", key):
        return True
    return re.sub(r"^corpus\.sources\..+\.", "corpus.sources.<source>.", key).replace("_", "-") in setting_keys()


def _keys_of(group: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in group.model_fields.items():
        key = prefix + (field.alias or name)
        inner = field.annotation
        if name == "sources":
            yield from _keys_of(SourceSettings, key + ".<source>.")
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _keys_of(inner, key + ".")
        else:
            yield key


def _bundled_folder() -> Any:
    return resources.files("firstwords").joinpath("recipes")


def _source_key(key: str) -> list[str]:
    """`corpus.sources.simple_wiki.document_bytes` -> parts; the source's own name keeps its underscores."""
    head, _, rest = key.partition("sources.")
    name, _, setting = rest.partition(".")
    return [*head.replace("_", "-").strip(".").split("."), "sources", name, setting.replace("_", "-")]


def _read_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _unknown_key(key: str, origin: str) -> FirstwordsError:
    hint = did_you_mean(key, setting_keys()) or did_you_mean(
        key.rpartition(".")[2], [known.rpartition(".")[2] for known in setting_keys()]
    )
    return FirstwordsError(
        f"a recipe has no setting '{key}'",
        where=origin,
        do=hint or "`firstwords schema` lists every setting",
    )


def _explain(error: ValidationError, origin: str) -> FirstwordsError:
    first = error.errors(include_url=False)[0]
    # pydantic's path also names the branches of a union ("int", "tuple[...]"); no key of a recipe looks like that.
    parts = [str(part) for part in first["loc"] if not re.search(r"[\[\]()]|^(int|str|bool|none|float)$", str(part))]
    key = ".".join(parts)
    if first["type"] == "extra_forbidden":
        return _unknown_key(key, origin)
    if first["type"] == "missing":
        return FirstwordsError(f"the recipe lacks the setting '{key}'", where=origin, do=f"add {key}")
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
    return FirstwordsError(
        f"{key or 'the recipe'}: {message[0].lower() + message[1:]}{given}",
        where=f"{key} in {origin}" if key else origin,
        do=_field_doc(parts) or "correct the setting",
    )


def _field_doc(parts: list[str]) -> str | None:
    """What a setting means, from where it is defined."""
    group: Any = Recipe
    doc = None
    for part in parts:
        if group is SourceSettings or not hasattr(group, "model_fields"):
            fields = getattr(group, "model_fields", {})
        else:
            fields = group.model_fields
        field = fields.get(part.replace("-", "_"))
        if field is None:
            group = SourceSettings
            continue
        doc = field.description
        args = [arg for arg in (field.annotation, *get_args(field.annotation)) if isinstance(arg, type)]
        group = next((arg for arg in args if issubclass(arg, BaseModel)), None)
    return doc
