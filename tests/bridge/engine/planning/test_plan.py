"""A plan is plain data: it travels without models, and says the same where it arrives."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from statebridge.data import generate_multihop
from statebridge.engine.executors.in_process import open_path
from statebridge.runs.plan import Plan
from tests.bridge.engine.tiny_experiment import (
    EngineRun,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)

CONDITIONS = ["no_inject", "replace", "shuffled_translation", "same_norm_random", "nl_relay"]

READ_WITHOUT_TORCH = """
import pickle, sys
sys.modules["torch"] = None
plan = pickle.loads(open(sys.argv[1], "rb").read())
print(sum(plan.lane_counts), plan.groups[0].channel, plan.cells[1].condition.role)
"""


def _run() -> EngineRun:
    rows = generate_multihop(5, seed=3)
    translators = {42: random_translator(24, 32, seed=42)}
    return run_engine(
        engine_pair(neox_pair()),
        rows,
        translators,
        max_lanes=10,
        conditions=CONDITIONS,
        decoding={"max_new_tokens": 3, "relay_max_new_tokens": 3},
    )


def test_a_plan_that_was_sent_runs_to_the_same_results() -> None:
    done = _run()
    sent: Plan = pickle.loads(pickle.dumps(done.workload.plan))
    assert sent == done.workload.plan
    path = open_path(replace(done.workload, plan=sent))
    found = {
        (cell.name, lane.row_id): lane for group in sent.groups for cell, _, lane in path.run(group)
    }
    assert found == done.rows


@pytest.mark.slow
def test_a_plan_is_read_without_torch(tmp_path: Path) -> None:
    plan = _run().workload.plan
    file = tmp_path / "plan.pickle"
    file.write_bytes(pickle.dumps(plan))
    done = subprocess.run(
        [sys.executable, "-c", READ_WITHOUT_TORCH, file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(sum(plan.lane_counts)), "states", "channel"], done.stderr
