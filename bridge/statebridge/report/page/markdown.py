"""The report as Markdown: the same content, and pictures beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from statebridge.figures import Drawing
from statebridge.report.content import ReportContent
from statebridge.report.words.verdict import RULE, verdict_heading
from statebridge.tables import Table, to_markdown
from statebridge.tables.formats import escape_markdown


def markdown_report(content: ReportContent, images: Mapping[str, str]) -> bytes:
    """Return the report, UTF-8.

    Args:
        content: What to say.
        images: Name of a drawing to the address of its picture, relative to the report.
    """
    parts = [
        f"# {escape_markdown(content.title)}",
        " · ".join(f"{name}: {escape_markdown(value)}" for name, value in content.head),
        *_answer_parts(content, images),
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


def _answer_parts(content: ReportContent, images: Mapping[str, str]) -> list[str]:
    parts = []
    for heading, one in content.answers:
        numbers = [f"{number.value} {number.ends} {number.label}" for number in one.numbers]
        sentence = escape_markdown(one.sentence)
        parts += [f"## {heading}", f"**{one.outcome.capitalize()}.** {sentence}"]
        parts += list_parts(numbers)
    for drawing in content.drawings:
        if drawing.name == "channels":
            parts.append(f"![{escape_markdown(drawing.title)}]({images[drawing.name]})")
            parts.append(escape_markdown(drawing.caption))
    return parts


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
        if drawing.name == "channels":  # above, with the answers
            continue
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
