"""Every recipe is followed: its file is written, imported and used by an experiment."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from statebridge.commands import main
from statebridge.demo.experiment import taught_control_fields
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


def test_the_commands_of_the_index_take_a_recipes_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch", reason="it runs models")
    (name, text), *_ = recipe_steps(RECIPES / "source.md").files.items()
    (tmp_path / name).write_text(text, "utf-8")
    fields = taught_control_fields(rows=2) | {"name": "opposite", "decode": False}
    fields["conditions"] = ["no_inject", {"name": "mine", "source": "opposite"}]
    (tmp_path / "experiment.yaml").write_text(json.dumps(fields), "utf-8")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```sh\n(.*?)```", (RECIPES / "index.md").read_text("utf-8"), re.DOTALL)
    for line in block.splitlines():
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        main()
    printed = capsys.readouterr().out
    assert "opposite  The row's translated states in the opposite direction" in printed
    assert "mine" in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_recipe_adds_one_file(page: Path) -> None:
    assert len(recipe_steps(page).files) == 1
