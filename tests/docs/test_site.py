"""The documentation builds as a site: no broken link, no address of another host in a page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

import statebridge
import statebridge_client
from statebridge.commands.app import app

ROOT = Path(__file__).resolve().parents[2]
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*?\bsrc\s*=\s*["']?(?P<src>[^"'\s>]+)"""
    r"""|<link\b(?![^>]*rel\s*=\s*["']?canonical)[^>]*?\bhref\s*=\s*["']?(?P<href>[^"'\s>]+)"""
    r"""|url\(\s*["']?(?P<url>[^"')\s]+)""",
    re.IGNORECASE,
)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    places = ["--config-file", str(config), "--site-dir", str(site)]
    command = [*program, *places]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_pages_fetch_nothing_from_other_hosts(site: Path) -> None:
    pages = [*site.rglob("*.html"), *site.rglob("*.css")]
    assert len(pages) > 20
    for page in pages:
        for found in FETCHED.finditer(page.read_text("utf-8")):
            address = found["src"] or found["href"] or found["url"]
            assert not re.match(r"(\w+:)?//", address), f"{page.relative_to(site)}: {address}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "package"), [("statebridge", statebridge), ("client", statebridge_client)]
)
def test_every_public_name_is_in_the_reference(site: Path, page: str, package: ModuleType) -> None:
    text = (site / "api" / f"{page}.html").read_text("utf-8")
    public = [getattr(package, name) for name in package.__all__ if not name.startswith("__")]
    paths = [f"{thing.__module__}.{thing.__qualname__}" for thing in public]
    assert not [path for path in paths if f'id="{path}"' not in text]


def test_the_site_of_the_suite_has_what_it_links_to() -> None:
    suite = ROOT / "docs" / "suite"
    links = re.findall(r'(?:href|src)="([^"#:]+)["#]', (suite / "index.html").read_text("utf-8"))
    assert sum(link.endswith("report.html") for link in links) >= 2
    assert all((suite / link).is_file() for link in links)


@pytest.mark.slow
def test_the_tutorial_shows_its_figures(site: Path) -> None:
    text = (site / "tutorial.html").read_text("utf-8")
    figures = re.findall(r'src="([^"]+\.png)"', text)
    assert figures
    assert all((site / figure).is_file() for figure in figures)


@pytest.mark.slow
def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[away](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text(
        f"INHERIT: {ROOT / 'mkdocs.yml'}\ndocs_dir: docs\nplugins: []\nhooks: []\n"
        "nav:\n  - index.md\n"
    )
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "llms.txt", "tests/README.md"]
)
def test_links_outside_the_site_lead_to_files(name: str) -> None:
    page = ROOT / name
    for target in LINK.findall(page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_llms_txt_leads_to_every_page() -> None:
    text = (ROOT / "llms.txt").read_text("utf-8")
    pages = {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert pages <= set(LINK.findall(text))
    assert re.match(r"# Statebridge\n\n> \S", text)  # the form of llmstxt.org
    commands = re.findall(r"`statebridge (\w+)", text)
    assert set(commands) <= set(typer.main.get_group(app).commands)


def test_the_readme_has_at_most_120_lines() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120
