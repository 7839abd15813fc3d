"""Pages from templates; whatever comes from a run or a request is escaped."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from firstwords.report.page import TEMPLATES as REPORT_TEMPLATES

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Jinja's own filter leaves slashes as they are, and names of runs are one piece of an address.
    environment.filters["urlencode_all"] = lambda text: quote(str(text), safe="")
    return environment


def page(template: str, **values: Any) -> str:
    """A template with its values. room: the address of the page's place in the navigation."""
    return _environment().get_template(f"{template}.html.jinja").render(version=version("firstwords"), **values)


def part(macro: str, *values: Any) -> str:
    """One macro of the parts that pages share, with its values."""
    found = getattr(_environment().get_template("parts.html.jinja").module, macro)
    return str(found(*values))


@cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """The files that pages load, all of them read once, by name: content and media type."""
    paths = [*(_HERE / "static").iterdir(), REPORT_TEMPLATES / "report.css"]
    return {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in paths if path.suffix in _TYPES}
