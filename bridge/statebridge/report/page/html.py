"""The report as one HTML file that asks nothing of any network."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from statebridge.figures.channels import chart_caption
from statebridge.report.content import ReportContent
from statebridge.report.page.environment import asset, data_url, page_environment, page_policy
from statebridge.report.page.rows import browser_data, embedded_json
from statebridge.report.sections.splits import with_splits
from statebridge.report.words.glossary import TERMS
from statebridge.report.words.verdict import RULE, verdict_heading

QUESTION = "Does the receiver answer better with what the sender sends it?"

_SECTIONS = (
    ("#answer", "Answer"),
    ("#believing", "Before believing this"),
    ("#rows", "Rows"),
    ("#verdict", "Verdict"),
    ("#figures", "Figures"),
    ("#scores", "Scores"),
    ("#comparison", "Comparison"),
    ("#validation", "Validation"),
    ("#audit", "Audit"),
    ("#experiment", "Experiment"),
    ("#glossary", "Glossary"),
)


def html_report(content: ReportContent, pictures: Mapping[str, bytes]) -> bytes:
    """Return the page, UTF-8.

    Args:
        content: What to say.
        pictures: Name of a drawing to its SVG.
    """
    style = asset("base.css") + asset("report.css")
    script, row_script = asset("page.js"), asset("rows.js")
    anchors = {name: f"condition-{place}" for place, (name, _) in enumerate(content.names)}
    anchors |= {term: f"term-{place}" for place, term in enumerate(TERMS) if term not in anchors}
    charts = [one.chart for _, one in content.answers if one.chart is not None]
    environment = page_environment(anchors)
    page = environment.get_template("report.html.jinja").render(
        page=content,
        question=QUESTION,
        sections=_SECTIONS,
        anchors=anchors,
        terms=[pair for pair in TERMS.items() if pair[0] in anchors],
        verdict_heading=verdict_heading,
        cautions=dict.fromkeys(c for verdict in content.verdicts for c in verdict.cautions),
        rule=RULE,
        chart_note=chart_caption(charts) if charts else "",
        more_tables=(
            ("By the other metrics", content.other_differences),
            ("Bits of each channel's messages", [content.bits] if content.bits else []),
            ("By stratum, with the interaction", content.strata),
        ),
        policy=page_policy(style, script, row_script),
        images={name: data_url(picture) for name, picture in pictures.items()},
        has_dataset=bool(content.results.dataset),
        # These are the package's own, or escaped by `embedded_json`.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        row_script=Markup(row_script),  # noqa: S704
        row_browser=Markup(asset("rows.html.jinja")),  # noqa: S704
        row_data=Markup(embedded_json(browser_data(with_splits(content.results)))),  # noqa: S704
    )
    # A model's text may hold half a surrogate pair. Written `\\ud83d`, it is what JSON calls it.
    return page.encode("utf-8", "backslashreplace")
