"""The templates' environment, the files beside it, and a policy that lets a page ask for nothing.

A page extends `base.html.jinja` and uses the macros of `parts.html.jinja` (tables, figures, folds).
A report puts `base.css` and `page.js` into itself; a server serves them as files.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from statebridge.figures.channels import chart_ticks, line_text, point_text
from statebridge.figures.wording import value_text
from statebridge.tables.table import Range, Spread, Value, printed_value


def page_environment(anchors: Mapping[str, str] | None = None) -> Environment:
    """Return the templates' environment: everything escaped, nothing left undefined.

    `anchors` are the names and terms that the filter `named` links; see `namer`.
    """
    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tojson_text"] = lambda text: json.dumps(text, ensure_ascii=False)
    environment.filters["printed"] = printed_value
    environment.filters["sort_key"] = sort_key
    environment.filters["slug"] = slug
    environment.filters["named"] = namer(anchors or {})
    environment.filters |= {
        "place": lambda value, chart: f"{100 * chart.place(value):.2f}",
        "value_text": lambda value, chart: value_text(chart.metric, value),
        "point_text": point_text,
        "line_text": line_text,
        "side": lambda point: point.side,
        "ticks": chart_ticks,
    }
    return environment


def asset(name: str) -> str:
    """Return the text of a file of this package: a template, `base.css`, `page.js`, ..."""
    return resources.files("statebridge.report.page").joinpath(name).read_text(encoding="utf-8")


def page_policy(style: str, *scripts: str) -> str:
    """Return the policy of a page in one file: this style, these scripts, inline images."""
    hashes = " ".join(map(_source_hash, scripts)) or "'none'"
    return (
        f"default-src 'none'; style-src {_source_hash(style)}; script-src {hashes}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source_hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def data_url(svg: bytes) -> str:
    """Return a figure as a data URL: an image has ids and styles of its own, and no script."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode('ascii')}"


def slug(title: str) -> str:
    """Return the id of a part that is linked to by its title: `table-scores-by-condition`."""
    return f"table-{re.sub('[^a-z0-9_]+', '-', title.lower()).strip('-')}"


def sort_key(value: Value) -> str:
    """Return the number that a cell of a table is sorted by; text as it is, nothing for None."""
    if isinstance(value, Spread):
        return repr(value.mean)
    if isinstance(value, Range):
        return repr((value.low + value.high) / 2)
    return "" if value is None else str(value)


def namer(anchors: Mapping[str, str]) -> Callable[[str], Markup]:
    """Return a filter that links names and terms in a text to the elements that explain them.

    Args:
        anchors: Name or term to the id of its element. A name is linked wherever it is a word of
            its own, a longer name before a shorter one.
    """
    if not anchors:
        return escape
    listed = sorted(anchors, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w./-])(?:{'|'.join(map(re.escape, listed))})(?![\w-])")

    def marked(text: str) -> Markup:
        parts, end = [], 0
        # Each once, where it comes first.
        first = {found[0]: found for found in reversed(list(pattern.finditer(text)))}
        for found in sorted(first.values(), key=re.Match.start):
            link = f'<a class="term" href="#{escape(anchors[found[0]])}">{escape(found[0])}</a>'
            parts += [escape(text[end : found.start()]), Markup(link)]  # noqa: S704 - escaped
            end = found.end()
        return Markup("").join([*parts, escape(text[end:])])

    return marked
