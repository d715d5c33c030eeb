"""Templates into pages: everything escaped, no inline script or style, one security policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined

if TYPE_CHECKING:
    from statebridge.tables import Column


class StaticFile(NamedTuple):
    """A file of the package that pages load."""

    media_type: str
    content: bytes


def _file(path: str) -> str:
    """Return a file of the library; the report's package itself is slow to import."""
    return resources.files("statebridge").joinpath(path).read_text(encoding="utf-8")


def _named(stem: str, ending: str, text: str) -> str:
    """Return a name that changes with the content, so that a browser may keep the file."""
    return f"{stem}-{hashlib.sha256(text.encode('utf-8')).hexdigest()[:12]}.{ending}"


_style = _file("report/page/base.css") + _file("pages/pages.css")
_script = _file("report/page/page.js") + _file("pages/pages.js") + _file("pages/editor.js")

STYLE, SCRIPT = _named("pages", "css", _style), _named("pages", "js", _script)
STATIC: Mapping[str, StaticFile] = MappingProxyType(
    {
        STYLE: StaticFile("text/css; charset=utf-8", _style.encode("utf-8")),
        SCRIPT: StaticFile("text/javascript; charset=utf-8", _script.encode("utf-8")),
    }
)
"""Style and script of the pages, by name below `/static/`."""

SECURITY_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        # No inline script or style: text that got into a page as markup could still do nothing.
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        # With `no-referrer` a browser would send `Origin: null` with a form.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
)
"""Headers of every page."""


class NavItem(NamedTuple):
    """A page in the head of every page."""

    label: str
    path: str
    """Below the root, without a slash in front."""


def static_headers() -> dict[str, str]:
    """Return the headers of a static file, whose name changes with its content."""
    return {
        "Cache-Control": "public, max-age=31536000, immutable",
        "X-Content-Type-Options": "nosniff",
    }


REPORT_POLICY = "sandbox allow-scripts allow-downloads"
"""Policy of a report, which has a script of its own: it runs in an origin of its own, without
cookies, and can ask nothing of the server."""


_WITH_TABLES = frozenset({"compare", "experiment_scores", "site", "translator"})
"""Templates that use the report's macros. Their first rendering loads scipy and matplotlib, so a
server renders them on a thread."""


def render(template: str, *, static: str = "/static/", **values: Any) -> bytes:
    """Return a page, or a part of one, UTF-8.

    Args:
        template: Name of a file of this package without `.html.jinja`.
        static: Address of the folder with style and script.
        values: What it shows; a value that it needs and is not given is an error.
    """
    environment = _with_tables() if template in _WITH_TABLES else _light()
    page = environment.get_template(f"{template}.html.jinja")
    text = page.render(style=STYLE, script=SCRIPT, static=static, **values)
    # A model's text may hold half a surrogate pair. Written `\ud83d`, it is what JSON calls it.
    return text.encode("utf-8", "backslashreplace")


def _template(name: str) -> str | None:
    for folder in ("pages/templates", "report/page"):
        with suppress(FileNotFoundError):
            return _file(f"{folder}/{name}")
    return None


@lru_cache
def _light() -> Environment:
    return Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@lru_cache
def _with_tables() -> Environment:
    from statebridge.report.page.environment import page_environment  # noqa: PLC0415

    environment = page_environment().overlay(loader=FunctionLoader(_template))
    environment.tests["below"] = _is_below
    return environment


def _is_below(column: Column) -> bool:
    """Whether a compact table shows a column small, below the value before it."""
    return column.kind == "range" or column.name in ("role", "pair")
