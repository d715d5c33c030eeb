"""Every recipe is followed: its file is written, imported and used by an experiment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.recipe_steps import recipe_steps

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "recipes"
PAGES = sorted(page for page in RECIPES.glob("*.md") if page.name != "index.md")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder for each recipe, in which it has been followed."""
    folders = {page.stem: tmp_path_factory.mktemp(page.stem) for page in PAGES}
    pairs = [f"{page}={folders[page.stem]}" for page in PAGES]
    program = [sys.executable, "-m", "tests.docs.recipe_steps", *pairs]
    subprocess.run(program, check=True, cwd=ROOT)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_following_the_recipe_works(page: Path, folders: dict[str, Path]) -> None:
    folder = folders[page.stem]
    assert (folder / "followed").exists()
    failed = folder / "failed"
    assert not failed.exists(), failed.read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recipe_adds_one_file(page: Path) -> None:
    assert len(recipe_steps(page).files) == 1
