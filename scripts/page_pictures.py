"""Draw the pictures of docs/pages.md and docs/report.md.

`python scripts/page_pictures.py RUN... --out FOLDER`. Needs Playwright and a Chromium on the path.
Pictures are of a light page, 1100 pixels wide, and of a report's first screen, 1280 times 800.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import uvicorn
from playwright.sync_api import Page, sync_playwright

from statebridge.pages.local_server import LocalServer
from statebridge.pages.run_folders import RunFolders
from statebridge.pages.site import write_site
from statebridge.report import write_report
from statebridge.results.read_results import read_sources
from statebridge_server.api.app import create_app
from statebridge_server.settings import fixed_settings

WIDTH, HEIGHT = 1100, 760


def draw(runs: list[Path], out: Path, chromium: str) -> list[Path]:
    """Write the pictures into a folder; return the files.

    Args:
        runs: Run directories; the first is shown by itself.
        out: The folder.
        chromium: The browser's program.
    """
    folders = RunFolders(runs)
    server = LocalServer(folders)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(f"{server.url}experiments/{folders.names()[0]}")
        page.locator(".chart").first.wait_for()
        files = [_picture(page, out / "pages-experiment.png")]
        site = write_site(runs, Path(folder), title="Channels of the small pair", figures=False)
        page.goto(site.as_uri())
        files.append(_picture(page, out / "pages-site.png"))
        (report,) = write_report(
            read_sources(runs[:1]), Path(folder) / "report", formats=("html",), figures=False
        )
        files.append(_editor(page, Path(folder) / "data", out / "pages-submit.png"))
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(report.as_uri())
        answer = page.locator("#answer").bounding_box()
        assert answer is not None
        files.append(out / "report.png")
        end = min(answer["y"] + answer["height"] + 16, 800)
        page.screenshot(path=files[-1], clip={"x": 0, "y": 0, "width": 1280, "height": end})
        browser.close()
    server.shutdown()
    server.server_close()
    return files


def _editor(page: Page, data: Path, file: Path) -> Path:
    """Draw the editor of a server without workers: a mistake, completions, the check."""
    pair = {"sender": {"model": "example/sender"}, "receiver": {"model": "example/receiver"}}
    app = create_app(fixed_settings({"data": data, "pairs": {"small": pair}}))
    served = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=served.run, args=([listener],))
    thread.start()
    page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/submit")
    page.locator("form[data-ready]").wait_for()
    field = page.get_by_label("Experiment file")
    field.fill(field.input_value().replace("seeds:", "sedes:") + "dtype: ")
    page.locator(".lines .wrong").first.wait_for()
    field.press("Control+End")
    field.press("Control+Space")
    _picture(page, file)
    page.goto("about:blank")
    served.should_exit = True
    thread.join()
    app.state.server.database.close()
    return file


def _picture(page: Page, file: Path) -> Path:
    page.screenshot(path=file, clip={"x": 0, "y": 0, "width": WIDTH, "height": HEIGHT})
    return file


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    given = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        parser.exit(3, "error: no Chromium is on the path\n")
    for written in draw(given.runs, given.out, program):
        print(written)
