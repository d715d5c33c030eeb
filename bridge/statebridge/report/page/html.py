"""The report as one HTML file that asks nothing of any network, and as Markdown."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from statebridge.figures import Drawing
from statebridge.report.content import ReportContent
from statebridge.report.page.rows import browser_data, embedded_json
from statebridge.report.sections.splits import with_splits
from statebridge.report.words.verdict import RULE, verdict_heading
from statebridge.tables import Table, to_markdown
from statebridge.tables.formats import escape_markdown
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
    style, script = asset("base.css"), asset("rows.js")
    environment = page_environment()
    page = environment.from_string(asset("report.html.jinja")).render(
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
        row_data=Markup(embedded_json(browser_data(with_splits(content.results)))),  # noqa: S704
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
    return resources.files("statebridge.report.page").joinpath(name).read_text(encoding="utf-8")


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


def markdown_report(content: ReportContent, images: Mapping[str, str]) -> bytes:
    """Return the report, UTF-8.

    Args:
        content: What to say.
        images: Name of a drawing to the address of its picture, relative to the report.
    """
    parts = [
        f"# {escape_markdown(content.title)}",
        escape_markdown(content.subtitle),
        *_verdict_parts(content),
        "## Scores",
        *table_parts(content.scores),
        *_comparison_parts(content),
        *figure_parts(content.drawings, content.not_drawn, images),
        "## Validation",
        escape_markdown(content.validation),
        *table_parts(content.findings),
        "## Metric-disagreement audit",
        *(table_parts(content.audit) or [escape_markdown(f"No audit: {content.audit_note}.")]),
        *map(escape_markdown, content.agreement),
        *_experiment_parts(content),
        "## Rows",
        "The rows can be read side by side in the HTML form of this report.",
    ]
    return ("\n\n".join(parts) + "\n").encode("utf-8", "backslashreplace")


def _verdict_parts(content: ReportContent) -> list[str]:
    parts = ["## Verdict"]
    for verdict in content.verdicts:
        if len(content.verdicts) > 1:
            parts.append(f"### {verdict_heading(verdict)}")
        parts.append(f"**{escape_markdown(verdict.headline)}**")
        if content.validation_passed is False:
            parts.append("Validation did not pass: read the findings before using any number.")
        parts += list_parts(verdict.findings)
        if verdict.cautions:
            parts += ["### Before believing this", *list_parts(verdict.cautions)]
    parts.append("### Positive control")
    for control in content.positive_controls:
        parts += [escape_markdown(control.headline), *list_parts(control.findings)]
    return [*parts, escape_markdown(RULE)]


def _comparison_parts(content: ReportContent) -> list[str]:
    parts = ["## Comparison"]
    if not content.differences:
        parts.append("There was no baseline to compare with.")
    views = [
        *content.differences,
        content.splits,
        content.chain,
        *content.other_differences,
        *content.strata,
    ]
    for view in views:
        parts += table_parts(view)
    if content.sender is not None:
        parts += ["### Is what is sent used there?", *list_parts(content.sender.sentences)]
        parts += table_parts(content.sender.table)
    elif content.sender_not_checked:
        parts += ["### Is what is sent used there?", escape_markdown(content.sender_not_checked)]
    if content.cost is not None:
        parts += ["### What the methods cost", *list_parts(content.cost.sentences)]
        parts += table_parts(content.cost.table)
    parts += table_parts(content.bits)
    if content.comparison_notes:
        parts += ["### Notes on the comparison", *list_parts(content.comparison_notes)]
    return parts


def figure_parts(
    drawings: Sequence[Drawing], not_drawn: Sequence[Drawing], images: Mapping[str, str]
) -> list[str]:
    """Return the section of figures, paragraph by paragraph."""
    parts = ["## Figures"]
    for drawing in drawings:
        title = escape_markdown(drawing.title)
        parts += [
            f"### {title}",
            f"![{title}]({images[drawing.name]})",
            escape_markdown(drawing.caption),
        ]
    if len(parts) == 1 and not not_drawn:
        parts.append("Figures were left out of this report.")
    absent = [f"{drawing.title}: {drawing.reason}." for drawing in not_drawn]
    return [*parts, "### Not drawn", *list_parts(absent)] if absent else parts


def _experiment_parts(content: ReportContent) -> list[str]:
    view = content.experiment
    parts = ["## Experiment as resolved"]
    parts += [
        "\n".join(
            f"- **{escape_markdown(name)}**: {escape_markdown(value)}" for name, value in view.facts
        )
    ]
    parts += table_parts(view.conditions)
    if view.prompts:
        parts += ["### Prompts", fenced("\n\n".join(f"{k}:\n{v}" for k, v in view.prompts))]
    parts.append("### How to reproduce")
    if view.experiment_json:
        parts.append("Save the experiment below as `experiment.json`, then:")
    if view.steps:
        parts.append(fenced("\n".join(view.steps)))
    else:
        parts.append("The command that made this report was not recorded.")
    if view.experiment_json:
        parts.append(fenced(view.experiment_json, "json"))
    return parts


def table_parts(table: Table | None) -> list[str]:
    """Return a table as one paragraph, where there is one."""
    return [] if table is None else [to_markdown(table).rstrip("\n")]


def list_parts(sentences: Iterable[str]) -> list[str]:
    """Return sentences as one list, where there are any."""
    items = [f"- {escape_markdown(sentence)}" for sentence in sentences]
    return ["\n".join(items)] if items else []


def fenced(text: str, language: str = "") -> str:
    """Return text in a fence longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
