"""A recipe as TOML for people to edit: every setting, with its meaning from where it is defined."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

import tomli_w
from pydantic import BaseModel

from firstwords.recipe import Recipe

_WIDTH = 118


def annotated_toml(recipe: Recipe) -> str:
    """The complete recipe with a comment above every setting; settings without a value are commented out."""
    return "\n".join(_group(recipe, "")).strip() + "\n"


def _group(group: BaseModel, path: str) -> Iterator[str]:
    """Lines of a table: its own settings first, as TOML asks for, then the tables within it."""
    inner: list[tuple[str, BaseModel]] = []
    if path:
        yield f"\n[{path}]"
    values = group.model_dump(mode="json", by_alias=True)
    for name, field in type(group).model_fields.items():
        key, value = field.alias or name, getattr(group, name)
        if isinstance(value, BaseModel):
            inner.append((key, value))
        elif isinstance(value, Mapping):
            inner += [(f"{key}.{_bare(item)}", settings) for item, settings in value.items()]
        else:
            yield from textwrap.wrap(
                " ".join((field.description or "").split()), _WIDTH, initial_indent="# ", subsequent_indent="# "
            )
            yield f"# {key} =" if value is None else tomli_w.dumps({key: values[key]}).strip()
    for key, settings in inner:
        yield from _group(settings, f"{path}.{key}" if path else key)


def _bare(name: str) -> str:
    """A source's name as a TOML key, quoted where it must be."""
    return tomli_w.dumps({name: 0}).rpartition(" = ")[0]
