"""`statebridge site`: files that compare validated runs, each condition with its report."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from statebridge.commands import main
from statebridge.errors import ResultError
from statebridge.pages.site import write_site
from tests.bridge.pages.made_runs import made_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    made_run(tmp_path / "runs" / "one", right=4)
    made_run(tmp_path / "runs" / "two", layer=2, right=9)
    return tmp_path / "runs"


def test_conditions_are_ranked_and_linked(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "site"
    line = ["statebridge", "site", str(runs), "--out", str(out), "--title", "Ours", "--no-figures"]
    monkeypatch.setattr(sys, "argv", line)
    main()
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    page = (out / "index.html").read_text("utf-8")
    links = [part.split('"')[0] for part in page.split('scope="row" class="words"><a href="')[1:]]
    # The run with more right answers first; controls and floors after all channels.
    assert links[:2] == ["runs/two/report.html", "runs/one/report.html"]
    assert len(links) == 6
    for link in set(links):
        assert (out / link).is_file()
    assert "questions: 12 rows" in page
    assert "<h1>Ours</h1>" in page


def test_hashes_versions_and_validation_are_shown(runs: Path, tmp_path: Path) -> None:
    page = write_site([runs], tmp_path / "site", figures=False).read_text("utf-8")
    for name in ("manifest.json", "dataset.jsonl", "rows.jsonl"):
        content = (runs / "one" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() in page
    copied = tmp_path / "site" / "runs" / "one" / "manifest.json"
    assert copied.read_bytes() == (runs / "one" / "manifest.json").read_bytes()
    assert f"SHA-256 {'ab' * 32}" in page
    assert "torch 2.8" in page
    assert "3 of 3 cells pass" in page


@pytest.mark.slow
def test_the_same_runs_give_the_same_files(runs: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_site([runs], tmp_path / name, figures=False)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_run_that_validation_refuses_is_named(runs: Path, tmp_path: Path) -> None:
    made_run(tmp_path / "runs" / "three", done=7)
    with pytest.raises(ResultError, match=r"three: holds 7 rows, not 12"):
        write_site([runs], tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_markup_of_a_run_stays_text_on_the_site(tmp_path: Path) -> None:
    made_run(tmp_path / "<b>run", hostile=True)
    page = write_site([tmp_path / "<b>run"], tmp_path / "site", figures=False).read_text("utf-8")
    assert "<script>alert" not in page
    assert "<b>run" not in page
    assert (tmp_path / "site" / "runs" / "-b-run" / "report.html").is_file()
