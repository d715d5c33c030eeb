"""A new paper is a new folder: its parts are found, and no other file changes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from statebridge import papers
from statebridge.channels.inputs.draws import choose_donors
from statebridge.experiment.experiment import Experiment
from statebridge.experiment.random_streams import STREAMS
from statebridge.stats.comparison import MODES

STREAM = """
from statebridge.experiment.random_streams import STREAMS

class Backwards:
    answers_apart = False

    def donors(self, groups, row_ids, seed, answers):
        return {index: group[-1 - place] for group in groups for place, index in enumerate(group)}

    def noise_seed(self, seed, row_id):
        return None

STREAMS.add("backwards")(Backwards())
"""
MODE = """
from statebridge.stats.comparison import MODES, ComparisonMode

MODES.add("nothing")(ComparisonMode((), lambda pairs, settings: []))
"""


@pytest.fixture
def not_looked_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Registries as before their first look-up; afterwards as they were."""
    for registry in (STREAMS, MODES):
        registry.names()
        monkeypatch.setattr(registry, "_loaded", False)
        for part in ("_things", "_origins"):
            monkeypatch.setattr(registry, part, {**getattr(registry, part)})
    modules = {*sys.modules}
    yield
    for name in {*sys.modules} - modules:
        if name.startswith("statebridge.papers.new_paper"):
            del sys.modules[name]


@pytest.mark.usefixtures("not_looked_up")
def test_a_folder_adds_a_stream_and_a_comparison_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paper = tmp_path / "new_paper"
    paper.mkdir()
    (paper / "__init__.py").touch()
    (paper / "streams.py").write_text(STREAM)
    (paper / "comparison.py").write_text(MODE)
    monkeypatch.setattr(papers, "__path__", [*papers.__path__, str(tmp_path)])
    donors = choose_donors([5, 5, 7, 5], ["a", "b", "c", "d"], 0, "backwards")
    assert donors.of_row == (3, 1, 2, 0)
    streams = Experiment.model_json_schema()["properties"]["rng"]["enum"]
    assert streams == ["per-row", "derangement", "published", "backwards"]
    assert MODES.names() == ("clustered", "published", "nothing")
