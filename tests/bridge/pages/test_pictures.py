"""The pictures of docs/pages.md and docs/report.md, drawn from runs in a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.bridge.pages.made_runs import made_run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.mark.slow
@pytest.mark.chromium
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_script_draws_a_run_and_a_site(tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    from scripts.page_pictures import draw

    assert CHROMIUM is not None
    runs = [made_run(tmp_path / name, right=right) for name, right in (("a", 9), ("b", 4))]
    files = draw(runs, tmp_path / "figures", CHROMIUM)
    assert [file.name for file in files] == [
        "pages-experiment.png",
        "pages-site.png",
        "pages-submit.png",
        "report.png",
    ]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")
        assert 10_000 < file.stat().st_size < 200_000
