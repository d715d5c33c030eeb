"""The report in a real browser: rows, filters, keys, hostile text, narrow windows, print."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from statebridge.records import ResultSet
from statebridge.report import write_report
from statebridge.report.page.rows import browser_data, embedded_json
from statebridge.scoring import word_boundary_contains
from statebridge.stats import Settings, compare
from tests.bridge.figures.made_run import SEEDS, made_run
from tests.bridge.report.chromium import AXE, BINARY, Browser, axe_findings, running_browser
from tests.bridge.report.hostile import HOSTILE, hostile_results

pytestmark = [
    pytest.mark.chromium,
    pytest.mark.skipif(BINARY is None, reason="no Chromium browser is installed"),
]

ROWS = 130
"""More than the list takes at once."""
QUICK = Settings(permutations=99, stratify_by=())


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


def report(results: ResultSet, folder: Path, **more: Any) -> Path:
    comparison = compare(results, "no_inject", settings=QUICK)
    more = {"figures": False, "comparison": comparison, **more}
    (path,) = write_report(results, folder, formats=("html",), **more)
    return path


@pytest.fixture(scope="module")
def run() -> ResultSet:
    return made_run(rows=ROWS)


@pytest.fixture(scope="module")
def path(run: ResultSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(run, tmp_path_factory.mktemp("report"))


@pytest.fixture(autouse=True)
def desktop(browser: Browser) -> None:
    browser.size(1300, 900)


def count(browser: Browser) -> str:
    return str(browser.value("document.getElementById('row-count').textContent"))


def shown_row(browser: Browser) -> str:
    return str(browser.value("document.querySelector('#row-detail h3').textContent"))


def right(results: ResultSet, condition: str, seed: int | None = None) -> dict[str, bool]:
    cell = results.cell(condition, seed)
    assert cell is not None
    return {r.row_id: word_boundary_contains(r.prediction or "", r.gold) for r in cell.lanes}


def test_opens_from_disk_without_asking_for_anything(browser: Browser, path: Path) -> None:
    browser.open(path)
    assert browser.value("document.documentElement.dataset.rowBrowser") == "ready"
    assert browser.complaints() == []
    assert browser.requests() == [path.as_uri()]
    assert (
        browser.value("getComputedStyle(document.querySelector('.sentence .badge')).fontWeight")
        == "600"
    )
    assert count(browser) == f"{ROWS} of {ROWS} rows"


@pytest.mark.slow
def test_figures_are_painted_under_the_policy(browser: Browser, tmp_path: Path) -> None:
    small = made_run(["no_inject", "replace"], rows=4)
    page = report(small, tmp_path, figures=True)
    browser.open(page)
    widths = browser.value(
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(widths) >= 5
    assert min(widths) > 100
    assert browser.complaints() == []


def test_a_row_is_shown_with_its_first_difference_marked(
    browser: Browser, path: Path, run: ResultSet
) -> None:
    browser.open(path, "#row=row007")
    assert shown_row(browser) == "row007"
    given = browser.value("document.querySelector('.given').innerText")
    assert "Context 7." in given
    assert "Question 7?" in given
    assert "gold7" in given
    cards = browser.value(
        "[...document.querySelectorAll('.card')].map(c => [c.dataset.cell,"
        " c.querySelector('.text').textContent, c.querySelector('mark')?.textContent ?? null,"
        " c.querySelector('.note').textContent])"
    )
    assert len(cards) == len(run.cells)
    plain = run.cell("no_inject")
    assert plain is not None
    baseline = plain.lanes[7].prediction or ""
    for (label, text, mark, note), cell in zip(cards, run.cells, strict=True):
        assert label == (
            cell.condition.name if cell.seed is None else f"{cell.condition.name}, seed {cell.seed}"
        )
        assert text == cell.lanes[7].prediction
        if cell is plain:
            assert mark is None
        elif text == baseline:
            assert mark is None
            assert note.startswith("same text as no_inject")
        else:
            place = next(k for k, (a, b) in enumerate(zip(text, baseline, strict=False)) if a != b)
            assert text[place:].startswith(mark)
            assert note.startswith(f"differs from no_inject at character {place + 1}")


def test_a_text_that_ends_early_is_marked_at_its_end(browser: Browser, tmp_path: Path) -> None:
    run = made_run(["no_inject", "replace"], rows=1, seeds=(1,))
    for cell, text in zip(run.cells, ("it is a 🙂 gold0", "it is a 😀"), strict=True):
        cell.lanes = [replace(cell.lanes[0], prediction=text)]
    browser.open(report(run, tmp_path / "a"))
    # The two faces share their first half; the mark takes the whole one.
    assert browser.value("document.querySelector('mark').textContent") == "😀"
    run.cells[1].lanes = [replace(run.cells[1].lanes[0], prediction="it is")]
    browser.open(report(run, tmp_path / "b"))
    assert browser.value("document.querySelector('mark').textContent") == "[ends here]"


@pytest.mark.parametrize(
    ("condition", "seeded", "outcome"),
    [
        ("replace", True, "gained"),
        ("replace", True, "lost"),
        ("nl_relay", False, "tied"),
        ("replace", True, "right"),
        ("replace", True, "wrong"),
    ],
)
def test_filters_by_condition_and_outcome(
    browser: Browser, path: Path, run: ResultSet, condition: str, seeded: bool, outcome: str
) -> None:
    browser.open(path, f"#condition={condition}&outcome={outcome}")
    base = right(run, "no_inject")
    seeds = [right(run, condition, seed) for seed in (SEEDS if seeded else (None,))]
    tests = {
        "gained": lambda row: any(s[row] and not base[row] for s in seeds),
        "lost": lambda row: any(base[row] and not s[row] for s in seeds),
        "tied": lambda row: any(s[row] == base[row] for s in seeds),
        "right": lambda row: any(s[row] and base[row] for s in seeds),
        "wrong": lambda row: any(not s[row] and not base[row] for s in seeds),
    }
    wanted = [row for row in base if tests[outcome](row)]
    assert 0 < len(wanted) < ROWS
    assert count(browser) == f"{len(wanted)} of {ROWS} rows"
    assert shown_row(browser) == wanted[0]


def test_filters_by_attribute_text_and_change(browser: Browser, path: Path, run: ResultSet) -> None:
    browser.open(path, "#attr.hops=3")
    hops = [row for row in run.dataset.values() if row.attributes["hops"] == 3]
    assert count(browser) == f"{len(hops)} of {ROWS} rows"
    browser.open(path, "#q=question+12")
    assert count(browser) == f"11 of {ROWS} rows"  # 12, and 120 to 129
    browser.open(path, "#condition=b_to_b_self_inject&outcome=changed")
    assert count(browser) == f"0 of {ROWS} rows"
    assert "No row passes" in browser.value("document.getElementById('row-detail').textContent")
    browser.open(path, "#condition=b_to_b_self_inject&outcome=same")
    assert count(browser) == f"{ROWS} of {ROWS} rows"


def test_controls_filter_and_the_address_keeps_them(browser: Browser, path: Path) -> None:
    browser.open(path)
    browser.value(
        "(() => { const c = document.getElementById('filter-condition'); c.value = 'additive';"
        " c.dispatchEvent(new Event('change')); })()"
    )
    browser.value("document.getElementById('filter-text').focus()")
    browser.type_text("Question 5?")
    assert count(browser) == f"1 of {ROWS} rows"
    assert shown_row(browser) == "row005"
    fragment = browser.value("location.hash")
    assert fragment == "#row=row005&condition=additive&q=Question+5%3F"
    browser.open(path, fragment)
    assert count(browser) == f"1 of {ROWS} rows"
    browser.value("document.querySelector('#row-filters button[type=reset]').click()")
    browser.value("new Promise(done => setTimeout(done, 50))")
    assert count(browser) == f"{ROWS} of {ROWS} rows"
    assert shown_row(browser) == "row005"


def test_only_the_chosen_condition_and_its_baseline(browser: Browser, path: Path) -> None:
    browser.open(path, "#condition=replace&only=1")
    labels = browser.value("[...document.querySelectorAll('.card')].map(c => c.dataset.cell)")
    assert labels == ["no_inject", "replace, seed 42", "replace, seed 123", "replace, seed 456"]


def test_keys_move_through_a_list_that_grows_as_needed(browser: Browser, path: Path) -> None:
    browser.open(path)
    items = "document.getElementById('row-window').children.length"
    assert 10 < browser.value(items) < 60
    browser.value("document.getElementById('row-list').focus()")
    for key, row in (
        ("ArrowDown", "row001"),
        ("PageDown", "row011"),
        ("ArrowUp", "row010"),
        ("End", f"row{ROWS - 1}"),
        ("ArrowDown", f"row{ROWS - 1}"),
        ("Home", "row000"),
    ):
        browser.press(key)
        assert shown_row(browser) == row
    assert 10 < browser.value(items) < 60
    active = browser.value(
        "document.getElementById(document.getElementById('row-list')"
        ".getAttribute('aria-activedescendant')).getAttribute('aria-selected')"
    )
    assert active == "true"
    browser.value("document.getElementById('row-next').click()")
    assert shown_row(browser) == "row001"


def test_each_token_of_the_answer_has_its_probability(browser: Browser, tmp_path: Path) -> None:
    run = made_run(["no_inject", "replace"], rows=3, seeds=(1,))
    tokens = ((" Rio<b>", -0.5 * math.log(2)), ("né", -4 * math.log(2)))
    one = run.cells[1]
    run.cells[1] = replace(one, lanes=[replace(row, gold_tokens=tokens) for row in one.lanes])
    browser.open(report(run, tmp_path), "#row=row001")
    shown = browser.value(
        "[...document.querySelectorAll('.tokens li')].map("
        "(item) => [item.querySelector('.token').textContent,"
        " item.querySelector('meter').value.toFixed(2), item.querySelector('small').textContent])"
    )
    assert shown == [[" Rio<b>", "-0.50", "−0.5"], ["né", "-4.00", "−4.0"]]


def test_hostile_text_is_shown_and_does_nothing(browser: Browser, tmp_path: Path) -> None:
    page = report(hostile_results(), tmp_path)
    for number, text in enumerate(HOSTILE):
        browser.open(page, f"#row=row{number:04}")
        assert browser.complaints() == []
        assert browser.requests() == [page.as_uri()]
        assert browser.value("document.querySelectorAll('script').length") == 3
        assert browser.value("document.querySelectorAll('#rows img, #rows svg').length") == 0
        shown = browser.value("document.querySelector('.context').textContent.isWellFormed()")
        if "\ud83d" in text:
            assert shown is False
        else:
            assert browser.value("document.querySelector('.context').textContent") == text
    browser.open(page, "#row=<img src=x onerror=alert(1)>&condition=<b>&attr.hops=9&metric=x")
    assert browser.complaints() == []
    assert count(browser) == f"{len(HOSTILE)} of {len(HOSTILE)} rows"


def test_text_has_contrast_in_light_and_dark(browser: Browser, path: Path) -> None:
    # WCAG 2.2, 1.4.3: at least 4.5 to 1.
    measure = """(() => {
      const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
        .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
      const paper = (e) => { for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor;
        if (!/, 0\\)$/.test(c)) return c; } return 'rgb(255, 255, 255)'; };
      return ['p', 'a', 'td', 'th', '.note', '.headline', '.cautions li', '.mark', 'mark',
        '.card small', 'label', 'option', '#row-list .item[aria-selected=true] .row-question']
        .flatMap(s =>
        [...document.querySelectorAll(s)].slice(0, 200).map(e => {
          const [a, b] = [light(getComputedStyle(e).color), light(paper(e))];
          return [s, (Math.max(a, b) + .05) / (Math.min(a, b) + .05)]; })); })()"""
    for scheme in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.send("Emulation.setEmulatedMedia", features=features)
        browser.open(path, "#condition=replace")
        found = browser.value(measure)
        assert len({selector for selector, _ in found}) >= 12
        assert [one for one in found if one[1] < 4.5] == []
    browser.send("Emulation.setEmulatedMedia", features=[])


def test_prints_everything_folded_and_no_controls(browser: Browser, path: Path) -> None:
    browser.open(path)
    browser.value(
        "addEventListener('beforeprint', () => { window.folded ="
        " document.querySelectorAll('details:not([open], .unprinted)').length; })"
    )
    assert browser.value("document.querySelectorAll('details:not([open])').length") > 0
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 2
    assert browser.value("window.folded") == 0
    browser.send("Emulation.setEmulatedMedia", media="print")
    hidden = "getComputedStyle(document.getElementById('row-filters')).display"
    assert browser.value(hidden) == "none"
    browser.send("Emulation.setEmulatedMedia", media="")


@pytest.mark.slow
def test_a_full_published_sized_report_is_small_and_quick(browser: Browser, tmp_path: Path) -> None:
    conditions = [
        "no_inject", "nl_relay", "b_to_b_self_inject", "zero_replacement", "additive", "replace",
        "scale_corrected", "best_alpha", "same_norm_random", "shuffled_translation",
        "shuffled_translation_strict_matched",
    ]  # fmt: skip
    run = made_run(conditions, rows=396)
    for cell in run.cells:
        cell.lanes = [
            # As long as 64 tokens of English, and no two alike.
            replace(row, prediction=f"{cell.name} {row.row_id} {'about so many words ' * 13}")
            for row in cell.lanes
        ]
    assert len(run.cells) == 25
    page = report(run, tmp_path)
    assert page.stat().st_size < 6_000_000
    browser.open(page)
    assert browser.value("document.querySelectorAll('*').length") < 6_000
    seconds = browser.value(
        "(() => { const t = performance.now(); const q = document.getElementById('filter-text');"
        " q.value = 'row0'; q.dispatchEvent(new Event('input'));"
        " return (performance.now() - t) / 1000; })()"
    )
    # A tenth of a second is felt as at once; ten times that for a shared machine.
    assert seconds < 1.0


def test_two_clicks_find_a_row_that_a_channel_wins(
    browser: Browser, path: Path, run: ResultSet
) -> None:
    browser.open(path)
    browser.value("document.querySelector('#row-shortcuts button').click()")
    label = str(browser.value("document.querySelector('#row-shortcuts button').textContent"))
    condition, number = label.split(maxsplit=1)[0], label.split()[2]
    assert count(browser).startswith(f"{number} of")
    assert f"condition={condition}&outcome=gained" in browser.value("location.hash")
    base = right(run, "no_inject")
    seeds = [right(run, condition, seed) for seed in SEEDS]
    assert shown_row(browser) == next(r for r in base if not base[r] and any(s[r] for s in seeds))


def test_rows_are_compared_between_any_two_conditions_and_seeds(
    browser: Browser, path: Path, run: ResultSet
) -> None:
    browser.open(path, "#condition=replace&against=scale_corrected&seed=123&outcome=gained")
    one, other = right(run, "replace", 123), right(run, "scale_corrected", 123)
    wanted = [row for row in one if one[row] and not other[row]]
    assert count(browser) == f"{len(wanted)} of {ROWS} rows"


def test_rows_are_ordered_by_the_bits_that_a_condition_wins(
    browser: Browser, path: Path, run: ResultSet
) -> None:
    browser.open(path, "#condition=replace&seed=42&order=down")
    here, there = run.cell("replace", 42), run.cell("no_inject")
    assert here is not None
    assert there is not None
    change = {
        a.row_id: (a.gold_logprob or 0) - (b.gold_logprob or 0)
        for a, b in zip(here.lanes, there.lanes, strict=True)
    }
    assert shown_row(browser) == min(change, key=lambda row: change[row])
    shown = str(browser.value("document.querySelector('#row-list .bits').textContent"))
    assert shown == f"{min(change.values()) / np.log(2):.1f} bits".replace("-", "\u2212")


@pytest.mark.slow
def test_twenty_thousand_rows_stay_fluid(browser: Browser, tmp_path: Path) -> None:
    run = made_run(["no_inject", "replace"], rows=200, seeds=(1,))
    for cell in run.cells:
        cell.lanes = [
            replace(row, row_id=f"row{100 * place + k:05}")
            for k in range(100)
            for place, row in enumerate(cell.lanes)
        ]
        cell.lanes.sort(key=lambda row: row.row_id)
    page = tmp_path / "report.html"
    page.write_bytes(report(made_run(rows=2), tmp_path / "small").read_bytes())
    data = embedded_json(browser_data(replace(run, dataset={}, manifest=None)))
    text = page.read_text("utf-8")
    start = text.index('id="row-data">') + len('id="row-data">')
    page.write_text(text[:start] + data + text[text.index("</script>", start) :], "utf-8")
    browser.open(page)
    assert count(browser) == "20000 of 20000 rows"
    seconds = browser.value(
        "(() => { const t = performance.now(); const q = document.getElementById('filter-text');"
        " q.value = 'row01'; q.dispatchEvent(new Event('input'));"
        " document.getElementById('row-list').scrollTop = 1e5;"
        " return (performance.now() - t) / 1000; })()"
    )
    assert count(browser) == "1000 of 20000 rows"
    # As above: ten times what is felt as at once.
    assert seconds < 1.0
    assert browser.value("document.getElementById('row-window').children.length") < 60


def test_terms_are_explained_and_folds_open_by_a_link(browser: Browser, path: Path) -> None:
    browser.open(path)
    browser.value("document.querySelector('a.term').focus()")
    shown = "[...document.querySelectorAll('#tip:not([hidden])')].map(t => t.textContent)"
    assert len(browser.value(shown)[0]) > 20
    browser.open(path, "#scores")
    assert browser.value("document.getElementById('scores').open") is True
    assert browser.value("document.getElementById('audit').open") is False


def test_tables_sort_by_their_heads(browser: Browser, path: Path) -> None:
    browser.open(path, "#scores")
    click = "document.querySelectorAll('#scores thead button')[4].click()"
    column = (
        "[...document.querySelectorAll('#scores tbody tr')].map(r => r.cells[4].dataset.sort)"
        ".filter(v => v !== undefined).map(Number)"
    )
    own = browser.value(column)
    browser.value(click)
    assert browser.value(column) == sorted(own, reverse=True)
    browser.value(click)
    assert browser.value(column) == sorted(own)
    browser.value(click)
    assert browser.value(column) == own


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_width_cuts_the_page(browser: Browser, path: Path, width: int) -> None:
    browser.size(width, 900)
    browser.open(path)
    browser.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.value("document.documentElement.scrollWidth") <= width


def test_the_answer_is_on_the_first_screen(browser: Browser, path: Path) -> None:
    browser.size(1280, 800)
    browser.open(path)
    bottom = browser.value("document.getElementById('answer').getBoundingClientRect().bottom")
    assert bottom <= 800


@pytest.mark.skipif(AXE is None, reason="STATEBRIDGE_AXE names no axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, path: Path, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.send("Emulation.setEmulatedMedia", features=features)
    browser.open(path)
    assert axe_findings(browser) == []
    browser.send("Emulation.setEmulatedMedia", features=[])
