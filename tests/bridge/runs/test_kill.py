"""Processes that are killed, truly: `kill -9` at any moment, and the same bytes in the end."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import yaml

from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment import load_experiment
from statebridge.runs.directory import MANIFEST, ROWS, read_manifest, whole_groups
from tests.bridge.runs.forked import forked
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

GROUPS = 200
COMMITTING = f"""
import random
from statebridge.records import LaneResult
from statebridge.runs.directory import lane_line, open_run

def act(path):
    draw = random.Random(0)
    lanes = [draw.randint(1, 40) for _ in range({GROUPS})]
    with open_run(path) as run:
        for group in range(run.committed_groups(lanes), len(lanes)):
            draw = random.Random(group)
            run.commit(
                lane_line(group, "cell", LaneResult(str(i), "x" * draw.randint(0, 3000), None))
                for i in range(lanes[group])
            )
            print(group, flush=True)
"""


def _lanes() -> list[int]:
    draw = random.Random(0)
    return [draw.randint(1, 40) for _ in range(GROUPS)]


@pytest.mark.slow
def test_killed_again_and_again_while_committing(tmp_path: Path) -> None:
    undisturbed, path = tmp_path / "undisturbed", tmp_path / "killed"
    draw = random.Random(7)
    killed = 0
    with forked(COMMITTING, "act(sys.argv[1])", tmp_path / "errors") as child:
        child.start(undisturbed)
        assert len(list(child.lines())) == GROUPS
        while True:
            child.start(path)
            stop = draw.randint(1, 50)
            for number, _ in enumerate(child.lines()):
                if number == stop:
                    time.sleep(draw.random() / 200)  # somewhere within the next commits
                    child.kill()
            if child.code == 0:
                break
            assert child.code == -signal.SIGKILL, (tmp_path / "errors").read_text()
            killed += 1
    assert killed >= 3
    assert (path / ROWS).read_bytes() == (undisturbed / ROWS).read_bytes()
    assert whole_groups(path / ROWS, _lanes())[0] == GROUPS


EXPERIMENT = {
    "name": "killed",
    "sender": {"model": "./sender", "layer": 0.67},
    "receiver": {"model": "./receiver", "layer": 0.67},
    "dataset": {"generate": {"rows": 40, "seed": 3}},
    "translators": {
        "fit": {"kind": "ridge", "corpus": {"generate": {"rows": 120, "seed": 5}, "max_tokens": 64}}
    },
    "conditions": "published-strict",
    "seeds": [42, 7],
    "decoding": {"max_new_tokens": 12, "relay_max_new_tokens": 12, "max_prompt_tokens": 400},
    "execution": {"device": "cpu", "max_lanes": 40},
}


COMMAND = """
from statebridge.commands import main
import statebridge.engine.run_experiment

def act():
    sys.stdout = open(os.devnull, "w")
    main()
"""


@pytest.mark.slow
def test_a_command_killed_at_random_ends_with_the_same_rows(tmp_path: Path) -> None:
    for name, seed, hidden in (("sender", 1, 24), ("receiver", 2, 32)):
        model = tiny_neox(seed, layers=3, hidden=hidden, heads=2)
        save_pair_folder(model, tiny_tokenizer(), tmp_path / name)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    run_experiment(load_experiment(tmp_path / "mine.yaml"), tmp_path / "undisturbed")
    expected = (tmp_path / "undisturbed" / ROWS).read_bytes()

    out = tmp_path / "killed"
    draw = random.Random(11)
    half = len(expected) // 2
    # While it fits and as it has fitted; then twice among the rows.
    moments = [("translators", 0), (MANIFEST, 0)]
    moments += [(ROWS, draw.randint(1, half)), (ROWS, draw.randint(half, half + half // 2))]
    with forked(COMMAND, "act()", tmp_path / "errors") as child:
        for name, size in moments:
            child.start("run", tmp_path / "mine.yaml", "--out", out)
            while child.alive():
                if (out / name).exists() and (out / name).stat().st_size >= size:
                    child.kill()
                    break
                time.sleep(0.005)
            assert not list(child.lines())
            assert child.code == -signal.SIGKILL, (name, size)
            if name == ROWS:  # as a write that was not finished; a line is longer than that
                os.truncate(out / ROWS, (out / ROWS).stat().st_size - draw.randint(1, 60))
        child.start("run", tmp_path / "mine.yaml", "--out", out)
        assert not list(child.lines())
        assert child.code == 0, (tmp_path / "errors").read_text()
    assert (out / ROWS).read_bytes() == expected
    manifests = [read_manifest(tmp_path / name) for name in ("undisturbed", "killed")]
    for manifest in manifests:
        assert manifest is not None
        del manifest["created_at"]
    assert manifests[0] == manifests[1]
    left = {path.name for path in out.iterdir()}
    assert left == {path.name for path in (tmp_path / "undisturbed").iterdir()}
    assert not [name for name in left if name.endswith(".tmp")]
    assert MANIFEST in left
    assert os.listdir(out / "translators")
