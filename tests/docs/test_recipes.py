"""Every recipe is followed: its file is written, imported and used by an experiment."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from statebridge.commands import main
from statebridge.demo.experiment import taught_control_fields
from statebridge.registry import registries
from tests.docs.recipe_steps import follow, recipe_steps

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ROOT / "docs" / "recipes"
PAGES = sorted(page for page in RECIPES.glob("*.md") if page.name != "index.md")


@pytest.fixture
def added_for_now(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take back, after the test, what it has added to the registries and the table of families."""
    pytest.importorskip("torch", reason="it runs models")
    from statebridge.models.families import FAMILIES

    for registry in registries():
        registry.names()  # loaded before the copy is made
        monkeypatch.setattr(registry, "_things", {**registry._things})
        monkeypatch.setattr(registry, "_origins", {**registry._origins})
    families, modules = {*FAMILIES}, {*sys.modules}
    yield
    for name in {*FAMILIES} - families:
        del FAMILIES[name]
    for page in PAGES:
        for name in recipe_steps(page).files:
            if (module := name.removesuffix(".py")) not in modules:
                sys.modules.pop(module, None)


@pytest.mark.slow
@pytest.mark.usefixtures("added_for_now")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_following_the_recipe_works(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    follow(page, tmp_path)


@pytest.mark.usefixtures("added_for_now")
def test_the_commands_of_the_index_take_a_recipes_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
