"""The pages in a real browser: submit, watch, cancel, resume, compare, find a row, sign out."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.bridge.report.chromium import AXE
from tests.server.conftest import tiny_experiment
from tests.server.pages.browser_client import Site
from tests.server.running_server import RunningServer, eventually

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

SERIOUS = """() => axe.run().then((found) => found.violations
  .filter((each) => ["serious", "critical"].includes(each.impact))
  .map((each) => `${each.id}: ${each.nodes.map((node) => node.html).slice(0, 3).join(" ")}`))"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Pages with keys behind a socket; no worker runs anything."""
    made = Site(tmp_path, host="127.0.0.1")
    config = uvicorn.Config(made.app, log_config=None, lifespan="off", ws="none")
    served = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=served.run, args=([listener],))
    thread.start()
    made.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    yield made
    made.server.stopping.set()
    served.should_exit = True
    thread.join()
    made.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Here and not above: every process that collects tests would load it.
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


def opened(browser: Any, url: str) -> Any:
    """Return a page of a browser of its own, which keeps what it complains of."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    page.on(
        "console",
        lambda line: page.complaints.append(line.text) if line.type == "error" else None,
    )
    page.goto(url)
    return page


def sign_in(page: Any, token: str) -> None:
    page.get_by_label("Key").fill(token)
    page.get_by_role("button", name="Sign in").click()


def check_widths(page: Any) -> None:
    """Check that nothing is cut at any width, and with axe-core where it is there."""
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate(CUT) == [], f"{page.url} at {width} px"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if AXE is not None:
        page.evaluate(Path(AXE).read_text(encoding="utf-8"))
        assert page.evaluate(SERIOUS) == [], page.url


def submit(page: Any, experiment: dict[str, Any]) -> None:
    """Submit from the page; the check comes while the text is typed, the doctor's on a click."""
    page.get_by_role("link", name="Submit").click()
    editor = page.get_by_label("Experiment file")
    editor.fill(json.dumps(experiment | {"seeds": "x"}))
    page.locator(".checks .failed").wait_for()
    assert page.get_by_role("button", name="Queue it").count() == 0
    editor.fill(json.dumps(experiment, indent=1))
    page.locator(".checks .passed").first.wait_for()
    assert page.get_by_role("button", name="Queue it").count() == 0
    page.get_by_role("button", name="Check").click()
    page.get_by_text("The doctor looks at it").wait_for()
    page.get_by_role("button", name="Queue it").wait_for()
    assert "translators" in page.inner_text("#answer")
    check_widths(page)
    page.get_by_role("button", name="Queue it").click()
    page.get_by_role("heading", name=experiment["name"], level=1).wait_for()


def committed(page: Any) -> int:
    """Return the committed lanes that the page shows."""
    return int(page.locator("main progress").get_attribute("value"))


def state(page: Any, wanted: str) -> None:
    """Wait until the page shows a state by itself, without being loaded again."""
    page.locator("main .state", has_text=wanted).wait_for()


def test_submit_watch_cancel_resume_compare_find(
    server: RunningServer, browser: Any, tmp_path: Path
) -> None:
    page = opened(browser, server.url)
    conditions = ["no_inject", "replace", "shuffled_translation"]
    small = {"conditions": conditions, "seeds": [42]}
    submit(page, tiny_experiment(rows=6, name=HOSTILE, **small))
    first = page.url
    state(page, "done")
    page.get_by_role("group", name="Shared setting").wait_for()
    assert "started by a worker" in page.inner_text(".log")
    check_widths(page)

    # One that lasts: watched, cancelled, resumed.
    lasting = tiny_experiment(rows=200, name="two", execution={"max_lanes": 20}, **small)
    with server.client() as client:
        queued = client.post("/v1/experiments", json=lasting).json()["id"]
    page.goto(f"{server.url}/experiments/{queued}")
    eventually(lambda: committed(page) > 0, "the first group")
    page.get_by_role("button", name="Cancel").click()
    state(page, "cancelled")
    before = committed(page)
    assert 0 < before < 600
    page.get_by_text("The verdict comes with the last row").wait_for()
    page.get_by_role("button", name="Resume").click()
    eventually(lambda: committed(page) > before, "a group after the resumption")
    page.get_by_role("button", name="Cancel").click()
    state(page, "cancelled")

    page.get_by_role("link", name="Experiments").click()
    page.get_by_label(f"Compare {HOSTILE}").check()
    page.get_by_label("Compare two").check()
    check_widths(page)
    page.get_by_role("button", name="Compare the ticked ones").click()
    page.get_by_role("heading", name="Side by side").wait_for()
    assert page.get_by_role("table").count() >= 2
    check_widths(page)

    for name in ("Pairs", "Datasets", "Translators"):
        page.get_by_role("link", name=name, exact=True).click()
        page.get_by_role("heading", name=name, level=1).wait_for()
        check_widths(page)
    page.get_by_role("table").get_by_role("link").first.click()
    page.get_by_role("heading", name="Quality on positions").wait_for()
    check_widths(page)
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"id": "a", "context": "c", "question": "q", "answer": "x"}\n')
    page.get_by_role("link", name="Datasets", exact=True).click()
    page.get_by_label("JSON Lines").set_input_files(rows)
    # The table shows before the reload is over, and a reload that is under way aborts a `goto`.
    with page.expect_navigation():
        page.get_by_role("button", name="Upload").click()
    page.get_by_role("table", name="Datasets").wait_for()

    # The report finds a row.
    page.goto(f"{first}/report#rows")
    page.get_by_label("Rows that pass the filters").get_by_role("option").nth(2).click()
    assert page.get_by_role("region", name="Selected row").inner_text().strip()
    assert page.complaints == []


def test_sign_in_see_only_your_own_and_sign_out(site: Site, browser: Any) -> None:
    (ann_id, ann), (_, ben) = site.key("ann"), site.key("ben")
    experiment = f"{site.url}/experiments/{site.job(ann_id, HOSTILE)}"
    page = opened(browser, experiment)
    check_widths(page)
    sign_in(page, ann)
    page.get_by_role("heading", name=HOSTILE).wait_for()
    assert page.url == experiment
    page.get_by_role("button", name="Cancel").click()
    state(page, "cancelled")

    other = opened(browser, site.url)
    sign_in(other, ben)
    assert "There is no experiment yet" in other.inner_text("main")
    assert other.complaints == []
    assert other.goto(experiment).status == 404
    assert "Not Found" in other.inner_text("h1")

    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("heading", name="Sign in").wait_for()
    page.goto(experiment)
    page.get_by_role("heading", name="Sign in").wait_for()
    assert page.complaints == []


def offered(page: Any, text: str) -> list[str]:
    """Return what the editor offers at the end of a text."""
    editor = page.get_by_label("Experiment file")
    editor.fill(text)
    editor.press("Control+End")
    editor.press("Control+Space")
    return list(page.locator("#completions:visible li b").all_inner_texts())


def test_the_editor_completes_explains_and_marks(site: Site, browser: Any) -> None:
    _, token = site.key("ann")
    page = opened(browser, f"{site.url}/submit")
    sign_in(page, token)
    page.locator("form[data-ready]").wait_for()
    editor = page.get_by_label("Experiment file")

    # Keys and values in block and flow YAML, and in JSON; what is there already is not offered.
    assert "name" not in offered(page, "name: x\n")
    assert offered(page, "name: x\ndeco") == ["decoding", "decode"]
    assert offered(page, "dtype: ") == ["float32", "float64", "bfloat16", "float16"]
    assert offered(page, "sender:\n  model: ") == ["example/sender"]
    assert offered(page, "sender: {model: a, la") == ["layer"]
    assert offered(page, "decode: ") == ["true", "false"]
    assert offered(page, "conditions:\n- published\n- priv")[0] == "private"
    assert "shuffled" in offered(page, "conditions:\n  - name: mine\n    source: ")
    assert "low_rank" in offered(page, "translators:\n  fit:\n    # a comment: here\n    kind: ")
    assert offered(page, '{"name": "x", "sender": {"mod') == ["model"]
    assert offered(page, '{"dtype": "bf') == ["bfloat16"]
    assert offered(page, "# a comm") == []

    offered(page, "name: x\ndeco")
    editor.press("ArrowDown")
    editor.press("Enter")
    assert editor.input_value() == "name: x\ndecode: "
    editor.press("Control+z")
    assert editor.input_value() == "name: x\ndeco"
    offered(page, '{"dtype": "bf')
    editor.press("Tab")
    assert editor.input_value() == '{"dtype": "bfloat16"'

    # A field's meaning, at the caret and under the pointer.
    editor.fill("name: x\ndecoding: {max_new_tokens: 8}\n")
    editor.press("ArrowUp")
    page.locator(".help", has_text="decoding: ").wait_for()
    editor.hover(position={"x": 130, "y": 40})
    page.wait_for_function("document.querySelector('textarea').title.startsWith('decoding.max')")

    # Mistakes at their lines; a click leads there.
    page.locator(".lines .wrong", has_text="2").wait_for(state="detached")
    editor.fill(EDITED)
    for line, problem in (("3", "unknown field"), ("8", "give a whole number")):
        mark = page.locator(".lines .wrong", has_text=line)
        assert problem in mark.get_attribute("title")
    page.locator(".checks [data-line='8']").click()
    assert page.evaluate("getSelection().toString()") == "limit: many"
    check_widths(page)
    assert page.complaints == []


EDITED = """name: x
sender:
  modl: example/sender
  layer: 1
receiver: {model: example/receiver, layer: 1}
dataset: {generate: {rows: 4}}
seeds: [1]
limit: many
"""
