"""The report as one HTML file that opens from disk and asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from statebridge.report.browser_data import browser_data, embedded_json
from statebridge.report.content import ReportContent
from statebridge.report.wording import DIRECTIONS, RULE
from statebridge.tables.printed_value import printed_value

_SECTIONS = (
    ("verdict", "Verdict"),
    ("scores", "Scores"),
    ("comparison", "Comparison"),
    ("figures", "Figures"),
    ("validation", "Validation"),
    ("audit", "Audit"),
    ("experiment", "Experiment"),
    ("rows", "Rows"),
)


def html_report(content: ReportContent, pictures: Mapping[str, bytes]) -> bytes:
    """Return the page, UTF-8.

    Args:
        content: What to say.
        pictures: Name of a drawing to its SVG.
    """
    style, script = _asset("page.css"), _asset("row_browser.js")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=False, keep_trailing_newline=True
    )
    environment.filters["tojson_text"] = lambda text: json.dumps(text, ensure_ascii=False)
    environment.filters["printed"] = printed_value
    page = environment.from_string(_asset("page.html.jinja")).render(
        page=content,
        sections=_SECTIONS,
        directions=DIRECTIONS,
        rule=RULE,
        policy=_policy(style, script),
        images=[_data_url(pictures[drawing.name]) for drawing in content.drawings],
        has_dataset=bool(content.results.dataset),
        # These three are the package's own, or escaped by `embedded_json`.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        row_data=Markup(embedded_json(browser_data(content.results))),  # noqa: S704
    )
    # A model's text may hold half a surrogate pair. Written `\ud83d`, it is what JSON calls it.
    return page.encode("utf-8", "backslashreplace")


def _asset(name: str) -> str:
    return resources.files("statebridge.report").joinpath(name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Allow this style, this script and inline images; nothing may be fetched or sent."""
    return (
        f"default-src 'none'; style-src {_source_hash(style)}; script-src {_source_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _data_url(svg: bytes) -> str:
    """A figure as a data URL: an image has ids and styles of its own, and runs no script."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"
