"""The same-model control of a run, and what the report makes of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.planning.positive_control import (
    control_experiment,
    control_pair,
    taught_experiment,
)
from statebridge.engine.run_experiment import run_experiment
from statebridge.experiment.experiment import Experiment
from statebridge.models.loading import load_model
from statebridge.models.pair import Pair, declared_pair
from statebridge.records import ResultSet
from statebridge.report.words.positive_control import positive_control_view, positive_control_views
from statebridge.results.run_results import read_run
from tests.bridge.stats.tables import SEEDS, cell, results
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

ROWS = 60


def declared(folder: Path, **fields: Any) -> Experiment:
    tokenizer = tiny_tokenizer()
    for name, (seed, hidden) in {"sender": (1, 24), "receiver": (2, 32)}.items():
        model = tiny_neox(seed=seed, layers=3, hidden=hidden, heads=4)
        save_pair_folder(model, tokenizer, folder / name)
    return Experiment.model_validate(
        {
            "name": "x",
            "sender": {"model": str(folder / "sender"), "layer": 1},
            "receiver": {"model": str(folder / "receiver"), "layer": -1},
            "dataset": {"generate": {"rows": 12, "hops": [2], "distractors": 1}},
            "conditions": ["no_inject", "zero_replacement"],
            "seeds": [1, 2],
            "decoding": {"max_new_tokens": 3, "max_prompt_tokens": 400},
            "positive_control": {"rows": 8},
            **fields,
        }
    )


@pytest.mark.slow
def test_a_run_keeps_its_control_beside_its_rows(tmp_path: Path) -> None:
    experiment = declared(tmp_path)
    run_experiment(experiment, tmp_path / "run")
    control = read_run(tmp_path / "run").positive_control
    assert control is not None
    assert control.manifest is not None
    pair = control.manifest["pair"]
    assert pair["sender"]["weights_sha256"] == pair["receiver"]["weights_sha256"]
    assert pair["sender"]["layer"] == pair["receiver"]["layer"] == 2
    assert {len(found.lanes) for found in control.cells} == {8}
    # After the last block the state of the last token is all that the next token depends on, so
    # the channel gives the skyline's distribution whole.
    channel, skyline = control.cell("activation_replace"), control.cell("skyline")
    assert channel is not None
    assert skyline is not None
    for own, best in zip(channel.lanes, skyline.lanes, strict=True):
        assert own.gold_rank == best.gold_rank
        assert own.token_ids is not None
        assert best.token_ids is not None
        assert own.token_ids[0] == best.token_ids[0]
    again = run_experiment(experiment, tmp_path / "run")
    assert again.resumed_lanes == again.lanes


def test_the_control_has_the_rows_and_no_control_of_its_own(tmp_path: Path) -> None:
    experiment = declared(tmp_path, sender_checks=False, limit=5)
    control = control_experiment(experiment)
    assert control.limit == 5
    assert control.positive_control is None
    assert control.sender == experiment.receiver
    assert {c.name for c in control.resolved_conditions} >= {"question_only", "skyline"}


def test_a_control_is_on_the_device_of_the_receiver(tmp_path: Path) -> None:
    apart = {"device": "cpu", "sender_device": "cuda:1"}
    control = control_experiment(declared(tmp_path, execution=apart))
    receiver = load_model(control.receiver, device="cpu")
    taken = declared_pair(control, control_pair(Pair(receiver, receiver)))
    assert (str(taken.sender.device), str(taken.receiver.device)) == ("cpu", "cpu")
    with pytest.raises(ValueError, match="declares no positive control"):
        control_experiment(control)


@pytest.mark.slow
def test_the_taught_pair_transfers_beside_a_pair_that_cannot(tmp_path: Path) -> None:
    run_experiment(declared(tmp_path, positive_control={"rows": 24}), tmp_path / "run")
    found = read_run(tmp_path / "run")
    assert found.taught_pair is not None
    assert {len(held.lanes) for held in found.taught_pair.cells} == {24}
    own, taught = positive_control_views(found)
    # A receiver of random weights has no answer to give, and the report states it.
    assert own.detected is None
    assert "nothing to detect" in own.headline
    assert taught.detected is True
    assert "The taught pair" in taught.headline
    share = re.search(r"private_last (\d+) % \[", taught.findings[0])
    assert share is not None
    # 96 % over 200 rows; one row in 24 is four points.
    assert int(share[1]) >= 80


def test_the_taught_pair_can_be_left_out_and_is_never_remote(tmp_path: Path) -> None:
    left_out = declared(tmp_path, positive_control={"rows": 8, "taught_pair": False})
    assert taught_experiment(left_out, "cpu") is None
    assert taught_experiment(declared(tmp_path, remote="local"), "cpu") is None
    none = Experiment.model_validate(left_out.model_dump() | {"positive_control": None})
    assert taught_experiment(none, "cpu") is None


def controlled(channel: int, shuffled: int, skyline: int = 50) -> ResultSet:
    def right(count: int) -> list[int]:
        return [1] * count + [0] * (ROWS - count)

    found = results(cell("no_inject", right(5)))
    found.positive_control = results(
        cell("question_only", right(5)),
        cell("skyline", right(skyline)),
        cell("activation_replace", right(channel)),
        *[cell("activation_replace_shuffled", right(shuffled), seed) for seed in SEEDS],
    )
    return found


def test_transfer_that_is_there_is_detected() -> None:
    view = positive_control_view(controlled(channel=40, shuffled=5))
    assert view.detected is True
    assert "detected transfer where transfer exists" in view.headline
    assert "activation_replace 78 % [" in view.findings[0]


@pytest.mark.parametrize(("channel", "shuffled"), [(5, 5), (40, 40)])
def test_nothing_gained_or_gained_by_any_state_is_no_detection(channel: int, shuffled: int) -> None:
    view = positive_control_view(controlled(channel, shuffled))
    assert view.detected is False
    assert "transfer was not detected" in view.headline


def test_without_a_gap_there_is_nothing_to_detect() -> None:
    view = positive_control_view(controlled(channel=40, shuffled=5, skyline=6))
    assert view.detected is None
    assert "nothing to detect by word-boundary containment, since skyline is not" in view.headline


def test_one_declared_metric_decides_the_control() -> None:
    # The log-probability of the gold answer is clearly higher; no text is right.
    found = controlled(channel=5, shuffled=5)
    assert found.positive_control is not None
    for made in found.positive_control.cells:
        shown = -1.0 if made.condition.name in ("skyline", "activation_replace") else -9.0
        made.lanes = [
            replace(lane, gold_logprob=shown + 0.01 * i) for i, lane in enumerate(made.lanes)
        ]
    view = positive_control_view(found)
    assert view.detected is False
    assert "by word-boundary containment" in view.headline


def test_a_run_without_a_control_says_so() -> None:
    view = positive_control_view(results(cell("no_inject", [1, 0])))
    assert view.detected is None
    assert "No positive control was run" in view.headline
