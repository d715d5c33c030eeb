"""Named parts: found in packages of ours and through entry points, by name, once."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from statebridge.errors import EnvironmentFault, ExperimentError
from statebridge.registry import Registry

HOST = "registry_under_test"
ADDS = "from registry_under_test import THINGS\nTHINGS.add({name!r})({name!r}.upper)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to import from, with a package `house` and a module that holds its registry."""
    (tmp_path / "house").mkdir()
    (tmp_path / "house" / "__init__.py").touch()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def registry(folder: Path, arguments: str) -> Registry[object]:
    """The registry of a module written into the folder."""
    (folder / f"{HOST}.py").write_text(
        "from statebridge.errors import ExperimentError\n"
        "from statebridge.registry import Registry\n"
        f"THINGS = Registry('thing', error=ExperimentError, {arguments})\n"
    )
    return __import__(HOST).THINGS


def installed(folder: Path, name: str, value: str, group: str = "house.things") -> None:
    """Write the metadata of an installed distribution with one entry point."""
    info = folder / f"{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")


def test_every_module_of_the_package_adds_its_thing(folder: Path) -> None:
    for name in ("one", "two"):
        (folder / "house" / f"{name}.py").write_text(ADDS.format(name=name))
    things = registry(folder, "package='house'")
    assert "house.one" not in sys.modules
    assert things.names() == ("one", "two")
    assert things.get("two")() == "TWO"
    assert len(things.values()) == 2


def test_a_named_module_of_each_sub_package_adds_its_thing(folder: Path) -> None:
    for name in ("first", "second", "third"):
        (folder / "house" / name).mkdir()
        (folder / "house" / name / "__init__.py").touch()
        (folder / "house" / name / "other.py").write_text("raise RuntimeError\n")
    for name in ("first", "third"):
        (folder / "house" / name / "format.py").write_text(ADDS.format(name=name))
    things = registry(folder, "package='house', module='format'")
    assert things.names() == ("first", "third")


def test_entry_points_of_the_group_add_theirs(folder: Path) -> None:
    (folder / "theirs.py").write_text(ADDS.format(name="theirs"))
    installed(folder, "theirs", "theirs")
    installed(folder, "elsewhere", "no_such_module", group="another.group")
    things = registry(folder, "package='house', group='house.things'")
    assert "theirs" in things
    assert things.names() == ("theirs",)


def test_a_broken_entry_point_is_named(folder: Path) -> None:
    (folder / "broken.py").write_text("raise ValueError('half written')\n")
    installed(folder, "broken", "broken")
    things = registry(folder, "group='house.things'")
    with pytest.raises(EnvironmentFault, match=r"thing .broken.*: half written"):
        things.names()


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    things: Registry[object] = Registry("thing", error=ExperimentError)
    things.add("clustered")(object())
    with pytest.raises(ExperimentError, match="unknown thing 'cluster'; did you mean clustered"):
        things.get("cluster")
    assert "cluster" not in things


def test_a_part_of_the_users_own_is_said_to_need_its_file(folder: Path) -> None:
    things = registry(folder, "group='house.things'")
    with pytest.raises(ExperimentError, match="one of your own needs --plugin FILE before"):
        things.get("mine")


def test_a_name_is_given_once() -> None:
    things: Registry[object] = Registry("thing", error=ExperimentError)
    things.add("one")(Path("a"))
    with pytest.raises(ExperimentError, match=f"thing 'one' is there already, from {__name__};"):
        things.add("one")(Path("b"))
    assert things.get("one") == Path("a")


def test_a_name_of_ours_is_kept_whichever_came_first() -> None:
    things: Registry[object] = Registry("thing", error=ExperimentError)
    things.add("one")(Path("a"))
    words = f"from statebridge.registry; give that of {__name__} another name"
    with pytest.raises(ExperimentError, match=words):
        things.add("one")(Registry)


def test_a_definition_that_runs_again_replaces_itself() -> None:
    things: Registry[object] = Registry("thing")

    def define(value: int) -> None:
        @things.add("one")
        def thing() -> int:
            return value

    define(1)
    define(2)
    assert things.get("one")() == 2  # type: ignore[operator]
