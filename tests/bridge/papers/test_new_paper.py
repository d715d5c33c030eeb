"""A new paper is a new folder: its parts are found, and no other file changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

STREAMS = """
from statebridge.experiment.random_streams import STREAMS

class Backwards:
    answers_apart = False

    def donors(self, groups, row_ids, seed, answers):
        return {index: group[-1 - place] for group in groups for place, index in enumerate(group)}

    def noise_seed(self, seed, row_id):
        return None

STREAMS.add("backwards")(Backwards())
"""
COMPARISON = """
from statebridge.stats.comparison import MODES, ComparisonMode

MODES.add("nothing")(ComparisonMode((), lambda pairs, settings: []))
"""
PROGRAM = """
import sys
import statebridge.papers
statebridge.papers.__path__.append(sys.argv[1])
from statebridge.channels.inputs.draws import choose_donors
from statebridge.experiment.experiment import Experiment
from statebridge.stats.comparison import MODES
print(choose_donors([5, 5, 7, 5], ["a", "b", "c", "d"], 0, "backwards").of_row)
print(Experiment.model_json_schema()["properties"]["rng"]["enum"])
print(MODES.names())
"""


@pytest.mark.slow
def test_a_folder_adds_a_stream_and_a_comparison_mode(tmp_path: Path) -> None:
    paper = tmp_path / "new_paper"
    paper.mkdir()
    (paper / "__init__.py").touch()
    (paper / "streams.py").write_text(STREAMS)
    (paper / "comparison.py").write_text(COMPARISON)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == [
        "(3, 1, 2, 0)",
        "['per-row', 'derangement', 'published', 'backwards']",
        "('clustered', 'published', 'nothing')",
    ], done.stderr
