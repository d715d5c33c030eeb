"""The pages in a real browser: submit, watch, cancel, resume, compare, find a row, sign out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from statebridge_server.store.database import Database
from statebridge_server.store.keys import create_key
from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, eventually, running_server

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.chromium,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
WIDTHS = (360, 768, 1440)
HOSTILE = "one <script>alert(1)</script>"

# Everything visible ends inside of the window, unless a part of the page scrolls by itself.
CUT = """() => {
  const inside = (element) => {
    for (let part = element; part; part = part.parentElement)
      if (["auto", "scroll", "hidden"].includes(getComputedStyle(part).overflowX)) return true;
    return false;
  };
  const skipped = [...document.querySelectorAll(".skip, .skip *")];
  return [...document.body.querySelectorAll("*")].filter((element) => {
    const box = element.getBoundingClientRect();
    if (!box.width || skipped.includes(element) || inside(element)) return false;
    return box.right > innerWidth + 1 || box.left < -1;
  }).map((element) => element.outerHTML.slice(0, 120));
}"""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, pair_settings: dict[str, Any]
) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("walk"), pair_settings) as running:
        yield running


@pytest.fixture(scope="module")
def tokens(server: RunningServer) -> dict[str, str]:
    database = Database(server.database_url)
    made = {name: create_key(database, name, "submit")[0] for name in ("ann", "ben")}
    database.close()
    return made


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


def signed_in(browser: Any, server: RunningServer, token: str) -> Any:
    """Return a page of a browser of its own, signed in; it fails at the first complaint."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(45_000)
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    page.on(
        "console",
        lambda line: page.complaints.append(line.text) if line.type == "error" else None,
    )
    page.goto(server.url)
    page.get_by_label("Key").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Experiments").wait_for()
    return page


def check_widths(page: Any) -> None:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(CUT) == [], f"{page.url} at {width} px"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def submit(page: Any, experiment: dict[str, Any]) -> None:
    """Submit from the page; the check comes while the text is typed."""
    page.get_by_role("link", name="Submit").click()
    editor = page.get_by_label("Experiment file")
    editor.fill(json.dumps(experiment | {"seeds": "x"}))
    page.locator(".checks .failed").wait_for()
    assert page.get_by_role("button", name="Queue it").count() == 0
    editor.fill(json.dumps(experiment, indent=1))
    page.get_by_role("button", name="Queue it").wait_for()
    check_widths(page)
    page.get_by_role("button", name="Queue it").click()
    page.get_by_role("heading", name=experiment["name"], level=1).wait_for()


def committed(page: Any) -> int:
    """Return the committed lanes that the page shows."""
    return int(page.locator("main progress").get_attribute("value"))


def state(page: Any, wanted: str) -> None:
    """Wait until the page shows a state by itself, without being loaded again."""
    page.locator("main .state", has_text=wanted).wait_for()


def test_a_walk_through_the_pages(
    server: RunningServer, tokens: dict[str, str], browser: Any, tmp_path: Path
) -> None:
    ann = signed_in(browser, server, tokens["ann"])
    conditions = ["no_inject", "replace", "shuffled_translation"]
    small = {"conditions": conditions, "seeds": [42]}
    submit(ann, tiny_experiment(rows=6, name=HOSTILE, **small))
    first = ann.url
    state(ann, "done")
    ann.get_by_role("group", name="Shared setting").wait_for()
    assert "started by a worker" in ann.inner_text(".log")
    check_widths(ann)

    # One that lasts: watched, cancelled, and resumed to its end.
    submit(ann, tiny_experiment(rows=400, name="two", execution={"max_lanes": 30}, **small))
    eventually(lambda: committed(ann) > 0, "the first group")
    ann.get_by_text("left", exact=False).first.wait_for()
    ann.get_by_role("button", name="Cancel").click()
    state(ann, "cancelled")
    before = committed(ann)
    assert 0 < before < 1200
    ann.get_by_text("The verdict comes with the last row").wait_for()
    ann.get_by_role("button", name="Resume").click()
    eventually(lambda: committed(ann) > before, "a group after the resumption")
    ann.get_by_role("button", name="Cancel").click()
    state(ann, "cancelled")

    ann.get_by_role("link", name="Experiments").click()
    ann.get_by_label(f"Compare {HOSTILE}").check()
    ann.get_by_label("Compare two").check()
    check_widths(ann)
    ann.get_by_role("button", name="Compare the ticked ones").click()
    ann.get_by_role("heading", name="Side by side").wait_for()
    assert ann.get_by_role("table").count() >= 2
    check_widths(ann)

    for name in ("Pairs", "Translators", "Datasets"):
        ann.get_by_role("link", name=name, exact=True).click()
        ann.get_by_role("heading", name=name, level=1).wait_for()
        check_widths(ann)
    ann.goto(f"{server.url}/translators")
    ann.get_by_role("table").get_by_role("link").first.click()
    ann.get_by_role("heading", name="Quality on positions").wait_for()
    check_widths(ann)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "a", "context": "c", "question": "q", "answer": "x"}\n')
    ann.get_by_role("link", name="Datasets", exact=True).click()
    ann.get_by_label("JSON Lines").set_input_files(rows)
    ann.get_by_role("button", name="Upload").click()
    ann.get_by_role("table", name="Datasets").wait_for()

    # The report finds a row.
    ann.goto(f"{first}/report#rows")
    ann.locator("#row-list li").nth(2).click()
    assert ann.locator("#row-detail").inner_text().strip()

    # Another key sees nothing of it.
    ben = signed_in(browser, server, tokens["ben"])
    assert "There is no experiment yet" in ben.inner_text("main")
    assert ben.complaints == []
    assert ben.goto(first).status == 404
    assert "Not Found" in ben.inner_text("h1")

    ann.goto(first)
    ann.get_by_role("button", name="Sign out").click()
    ann.get_by_role("heading", name="Sign in").wait_for()
    check_widths(ann)
    ann.go_back()
    ann.goto(first)
    ann.get_by_role("heading", name="Sign in").wait_for()
    assert ann.complaints == []
