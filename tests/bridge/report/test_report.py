"""The report's files: complete, self-contained, safe with hostile text, the same every time."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from statebridge.audit import audit, read_reading_sheet, write_reading_sheet
from statebridge.errors import EnvironmentFault, ResultError
from statebridge.experiment.conditions import UnknownCondition
from statebridge.papers.linear_translation.expectation import published_expectation
from statebridge.records import DatasetRow, ResultSet
from statebridge.report import write_report
from statebridge.report.report_files import Format
from statebridge.report.sections.comparison import score_view
from statebridge.stats import Settings, compare
from statebridge.validation import Expectation, validate
from tests.bridge.figures.made_run import made_run
from tests.bridge.report.contradictions import unlinked
from tests.bridge.report.hostile import HOSTILE, hostile_results
from tests.shared_data import SHARED, needs_shared

QUICK = Settings(permutations=99, stratify_by=("hops",))


class Page(HTMLParser):
    """The elements of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self._open = ""
        source = path.read_text(encoding="utf-8")
        self.feed(source)
        self.close()
        self.text = unlinked(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.inside:
            self.inside[self._open][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def run() -> ResultSet:
    return made_run(rows=12)


@pytest.fixture(scope="module")
def folder(run: ResultSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "made" / "here"
    make_report(run, out)
    return out


def make_report(run: ResultSet, out: Path, formats: Sequence[Format] = ("html", "md")) -> None:
    # One metric: fewer panels to draw.
    metrics = ["word_boundary_contains"]
    comparison = compare(run, ["no_inject", "nl_relay"], metrics=metrics, settings=QUICK)
    command = "statebridge report run --out here"
    write_report(run, out, formats=formats, comparison=comparison, command=command)


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(folder / "report.html")


def quick(results: ResultSet, out: Path, **more: Any) -> Page:
    """An HTML report that spends no time on its intervals."""
    if "comparison" not in more:
        # Published files hold no rows, so nothing that rows could be divided by.
        quick_settings = QUICK if results.dataset else QUICK.model_copy(update={"stratify_by": ()})
        more["comparison"] = compare(results, "no_inject", settings=quick_settings)
    (path,) = write_report(results, out, formats=("html",), figures=False, **more)
    return Page(path)


@pytest.mark.slow
def test_writes_what_it_says(run: ResultSet, folder: Path) -> None:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert {"report.html", "report.md", "figures/channels.svg", "figures/forest.svg"} <= set(names)
    assert not [name for name in names if name.endswith((".pdf", ".png"))]
    assert not [name for name in names if name.endswith(".tmp")]


def test_html_holds_every_part_under_a_heading(page: Page) -> None:
    parts = [*page.all("section"), *page.all("details")]
    ids = [str(attributes["id"]) for attributes in parts if "id" in attributes]
    assert ids == [
        "answer",
        "believing",
        "rows",
        "verdict",
        "all-channels",
        "figures",
        "scores",
        "comparison",
        "validation",
        "audit",
        "experiment",
        "glossary",
    ]
    links = {attributes["href"] for attributes in page.all("a")}
    assert {f"#{name}" for name in ids if name != "all-channels"} <= links
    assert len(page.all("h1")) == 1
    assert page.all("html") == [{"lang": "en"}]


def test_the_answer_comes_first(page: Page, folder: Path) -> None:
    assert page.text.index('class="sentence"') < page.text.index('id="believing"')
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert markdown.index("## Shared setting") < markdown.index("## Verdict")


def test_html_asks_for_nothing_outside_itself(page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:image/svg+xml;base64,")), tag
    assert not page.all("link")
    assert not page.all("iframe")
    assert "@import" not in page.inside["style"][0]
    assert "url(" not in page.inside["style"][0]


def test_policy_allows_only_this_script_and_this_style(page: Page) -> None:
    (policy,) = [a["content"] for a in page.all("meta") if "http-equiv" in a]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in policy

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    scripts = [
        text
        for text, attributes in zip(page.inside["script"], page.all("script"), strict=True)
        if attributes.get("type") is None
    ]
    assert rules["script-src"] == " ".join(map(digest, scripts))
    assert rules["style-src"] == " ".join(map(digest, page.inside["style"]))
    inline = [a for _, a in page.tags if "style" in a or any(name.startswith("on") for name in a)]
    assert not inline


def test_every_control_has_a_label_and_every_picture_words(page: Page) -> None:
    labelled = {attributes["for"] for attributes in page.all("label")}
    controls = [*page.all("select"), *page.all("input")]
    assert {attributes["id"] for attributes in controls} == labelled
    assert len(page.all("img")) > 5
    for attributes in page.all("img"):
        assert "n = " in str(attributes["alt"])
    for attributes in page.all("th"):
        assert attributes["scope"] in ("col", "row")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_says_how_to_reproduce(page: Page, folder: Path) -> None:
    for text in (page.text, (folder / "report.md").read_text(encoding="utf-8")):
        # The folder that the second command reads.
        assert "statebridge run experiment.json --out run\n" in text
        assert "statebridge report run --out here" in text


def test_a_run_is_validated_against_its_own_plan(
    run: ResultSet, tmp_path: Path, page: Page
) -> None:
    assert "cells of made are there without a blocking finding" in page.text
    short = replace(run, cells=run.cells[:-1])
    broken = quick(short, tmp_path)
    assert "Validation did not pass" in broken.text
    assert "shuffled_translation/seed456" in broken.text


@pytest.mark.slow
def test_published_files_are_not_validated_unless_asked(run: ResultSet, tmp_path: Path) -> None:
    published = replace(run, manifest=None, dataset={})
    page = quick(published, tmp_path)
    assert "These results were not validated for this report." in page.text
    assert "context and question are not shown" in page.text
    assert "published files hold no experiment" in page.text
    expectation = Expectation.from_cells([("no_inject", None)], 12)
    asked = quick(published, tmp_path, validation=validate(published, expectation))
    assert "Validation passed: 1 of 1 cells" in asked.text
    refused = validate(published, published_expectation())
    assert "Validation did not pass" in quick(published, tmp_path, validation=refused).text


def test_readers_agreement_is_told(run: ResultSet, tmp_path: Path) -> None:
    found = audit(run)
    sheet = tmp_path / "sheet.csv"
    write_reading_sheet(found, sheet, n=4)
    filled = sheet.read_text(encoding="utf-8-sig").splitlines()
    filled[1:] = [re.sub(r",,$", ",verbose_correct,", line) for line in filled[1:]]
    sheet.write_text("\n".join(filled), encoding="utf-8")
    page = quick(run, tmp_path, audit=found, agreement=read_reading_sheet(sheet))
    assert re.search(r"automatic and \S+sheet\.csv agree in \d of 4 rows", page.text)


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    # The page holds every figure; tests/bridge/figures/test_drawing.py has the other formats.
    make_report(made_run(rows=12), tmp_path, formats=("html",))
    assert (tmp_path / "report.html").read_bytes() == (folder / "report.html").read_bytes()


def test_the_same_results_give_the_same_text(tmp_path: Path) -> None:
    for name in ("a", "b"):
        comparison = compare(made_run(rows=4), "no_inject", settings=QUICK)
        write_report(made_run(rows=4), tmp_path / name, comparison=comparison, figures=False)
    for form in ("report.html", "report.md"):
        assert (tmp_path / "a" / form).read_bytes() == (tmp_path / "b" / form).read_bytes()


def test_progress_is_shown_stage_by_stage(run: ResultSet, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    quick(run, tmp_path, progress=lambda *step: steps.append(step))
    assert steps == [("compare", 0, 2), ("compare", 1, 2), ("compare", 2, 2)]


def test_figures_can_be_left_out(run: ResultSet, tmp_path: Path) -> None:
    page = quick(run, tmp_path)
    assert not page.all("img")
    assert "Figures were left out of this report." in page.text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    page = quick(hostile_results(), tmp_path)
    assert len(page.all("script")) == 3
    # Hostile text is in the data, where no `<` can, and nowhere else.
    outside = page.text.replace(page.inside["script"][0], "")
    assert "alert(1)" not in outside
    data = json.loads(page.inside["script"][0])
    assert set(HOSTILE) <= set(data["texts"])
    assert data["rows"][0]["context"] == HOSTILE[0]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = made_run(["no_inject", "additive"], rows=6, seeds=(1,))
    name = "<img src=x onerror=alert(1)>|`*_"
    run.cells = [replace(c, condition=UnknownCondition(name)) if c.seed else c for c in run.cells]
    run = replace(run, manifest=None)
    written = write_report(
        run,
        tmp_path,
        title="</title><script>alert(1)</script>",
        comparison=compare(run, settings=QUICK),
        figures=False,
    )
    page = Page(written[0])
    assert len(page.all("script")) == 3
    assert page.inside["title"][:1] == ["</title><script>alert(1)</script>"]
    assert not [a for a in page.all("img") if "onerror" in a]
    markdown = written[1].read_text(encoding="utf-8")
    assert "<img" not in markdown
    assert "<script" not in markdown
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    widths = {len(re.findall(r"(?<!\\)\|", row)) for row in rows if "img" in row}
    assert len(widths) > 0
    for row in rows:
        assert row.endswith("|")


def test_markdown_shows_pictures_that_are_there(folder: Path) -> None:
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown)
    assert len(pictures) > 5
    for picture in pictures:
        assert (folder / picture).is_file()


def test_published_mode_shows_its_tables_and_judges_by_clusters(
    run: ResultSet, tmp_path: Path
) -> None:
    published = compare(run, "no_inject", mode="published", settings=QUICK)
    page = quick(run, tmp_path, comparison=published)
    assert "percentile bootstrap over rows and seeds pooled, as published" in page.text
    assert "the verdict, the strata and the failure chain rest on intervals clustered" in page.text
    assert "No verdict" not in page.text


@pytest.mark.slow
def test_a_comparison_with_another_baseline_gets_its_verdict(
    run: ResultSet, tmp_path: Path
) -> None:
    with_relay = compare(run, "nl_relay", settings=QUICK)
    page = quick(run, tmp_path, comparison=with_relay)
    assert "Word-boundary containment against nl_relay" in page.text
    assert "No verdict" not in page.text


def test_an_unfinished_run_is_reported_as_such(run: ResultSet, tmp_path: Path) -> None:
    cells = [
        replace(c, complete=False, lanes=c.lanes[: 4 if c.condition.name == "nl_relay" else 8])
        for c in run.cells
    ]
    (path,) = write_report(replace(run, cells=cells), tmp_path, formats=("html",), figures=False)
    assert (
        f"The run is not finished: {len(cells)} of {len(cells)} cells lack rows" in Page(path).text
    )


def test_without_a_baseline_there_is_still_a_report(run: ResultSet, tmp_path: Path) -> None:
    alone = replace(run, cells=[c for c in run.cells if c.condition.name == "replace"])
    (path,) = write_report(alone, tmp_path, formats=("html",), figures=False)
    page = Page(path)
    assert "No verdict: the results hold no run without injection" in page.text
    assert "There was no baseline to compare with." in page.text


def test_without_predictions_there_is_still_a_report(tmp_path: Path) -> None:
    page = quick(made_run(rows=12, decoded=False), tmp_path)
    assert "No row has a prediction (a run without decoding)" in page.text
    assert "Gold log-probability (nats) against no_inject" in page.text


def test_cells_that_lost_every_row_are_left_out(run: ResultSet, tmp_path: Path) -> None:
    cells = [*run.cells[:4], replace(run.cells[-1], lanes=[])]
    page = quick(
        replace(run, cells=cells),
        tmp_path,
        comparison=compare(replace(run, cells=cells[:4]), settings=QUICK),
    )
    assert "No row is left in shuffled_translation/seed456" in page.text


def test_a_dataset_gives_published_rows_their_context(run: ResultSet, tmp_path: Path) -> None:
    published = replace(run, manifest=None, dataset={})
    page = quick(published, tmp_path, dataset=list(run.dataset.values()))
    assert "context and question are not shown" not in page.text
    assert json.loads(page.inside["script"][0])["rows"][0]["context"] == "Context 0."


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"formats": ("pdf",)}, "unknown report format 'pdf'; known: html, md"),
        ({"formats": ()}, "no report format was given"),
        ({"figure_formats": ("gif",)}, "unknown figure format 'gif'; known: svg, pdf, png"),
        (
            {"dataset": [DatasetRow("row000", "c", "q", "another")]},
            "row 'row000' of the dataset has the answer 'another', but 'gold0'",
        ),
        ({"dataset": [DatasetRow("x", "c", "q", "a")]}, "holds no row of the results"),
    ],
)
def test_refuses_what_is_wrong(
    run: ResultSet, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ResultError, match=re.escape(problem)):
        write_report(run, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_refuses_results_without_rows(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no cell holds a row"):
        write_report(ResultSet([]), tmp_path)


@pytest.mark.slow
def test_refuses_a_folder_that_is_a_file(run: ResultSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    comparison = compare(run, settings=QUICK)
    with pytest.raises(EnvironmentFault, match="cannot be made"):
        write_report(run, tmp_path / "file", comparison=comparison, figures=False)


@needs_shared
@pytest.mark.slow
def test_the_published_files_with_their_dataset(tmp_path: Path) -> None:
    from statebridge.results.read_results import read_sources

    results = read_sources([SHARED / "published"], dataset=SHARED / "multihop" / "clean_eval.jsonl")
    html, markdown = write_report(results, tmp_path)[:2]
    assert html.stat().st_size < 5_000_000
    text = markdown.read_text(encoding="utf-8")
    assert "| additive | channel under test | 3 | 396 | 0.0926 ± 0.0073 | 0.1094 ± 0.0081 |" in text
    data = json.loads(Page(html).inside["script"][0])
    assert data["rows"][0]["question"].startswith("What continent is the country")


def test_two_scales_of_a_divergence_are_named_beside_it() -> None:
    shared = made_run(rows=6, seeds=(42,))
    private = made_run(("no_inject", "question_only", "private_last"), rows=6, seeds=(42,))
    notes = [" ".join(score_view(run).notes) for run in (shared, private)]
    assert ["no common scale" in note for note in notes] == [False, True]
