"""The report as one HTML file that opens from disk and asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from statebridge.report.browser_data import browser_data, embedded_json
from statebridge.report.content import ReportContent
from statebridge.report.wording import RULE, verdict_heading
from statebridge.tables.table import printed_value

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
    style, script = asset("page.css"), asset("row_browser.js")
    environment = page_environment()
    page = environment.from_string(asset("page.html.jinja")).render(
        page=content,
        sections=_SECTIONS,
        verdict_heading=verdict_heading,
        rule=RULE,
        policy=page_policy(style, script),
        images=[data_url(pictures[drawing.name]) for drawing in content.drawings],
        has_dataset=bool(content.results.dataset),
        # These three are the package's own, or escaped by `embedded_json`.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        row_data=Markup(embedded_json(browser_data(content.results))),  # noqa: S704
    )
    # A model's text may hold half a surrogate pair. Written `\ud83d`, it is what JSON calls it.
    return page.encode("utf-8", "backslashreplace")


def page_environment() -> Environment:
    """Return the templates' environment: everything escaped, nothing left undefined."""
    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )
    environment.filters["tojson_text"] = lambda text: json.dumps(text, ensure_ascii=False)
    environment.filters["printed"] = printed_value
    return environment


def asset(name: str) -> str:
    """Return the text of a file of this package."""
    return resources.files("statebridge.report").joinpath(name).read_text(encoding="utf-8")


def page_policy(style: str, script: str) -> str:
    """Return the page's policy: this style, this script and inline images; no network."""
    return (
        f"default-src 'none'; style-src {_source_hash(style)}; script-src {_source_hash(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def data_url(svg: bytes) -> str:
    """Return a figure as a data URL: an image has ids and styles of its own, and no script."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"
