"""The plain path through nnsight's serialisation: the whole published experiment, elsewhere."""

from __future__ import annotations

import json

import pytest

from statebridge.engine.executors.plain_path import remote_jobs
from statebridge.errors import ExperimentError, RemoteError
from statebridge.experiment import parse_experiment
from statebridge.models.hosts import Here, RemoteHost, find_host
from tests.bridge.engine.fake_host import remote_pair
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    neox_pair,
    random_translator,
    run_engine,
)
from tests.tiny_models import mixed_rows

ROWS = dataset_rows(mixed_rows(10, seed=3))
PUBLISHED = {
    "conditions": "published-strict",
    "decoding": {"max_new_tokens": 8, "relay_max_new_tokens": 8},
}


@pytest.mark.slow
def test_the_published_experiment_runs_on_a_remote_host() -> None:
    oracle = neox_pair()
    translators = {42: random_translator(24, 32, seed=42)}
    here = run_engine(
        engine_pair(oracle), ROWS, translators, execution={"path": "plain"}, **PUBLISHED
    )
    pair, sender, receiver = remote_pair(oracle)
    there = run_engine(pair, ROWS, translators, remote="http://fake.example", **PUBLISHED)
    assert there.rows == here.rows
    # One job per model and purpose: had a trace touched both, one host would be idle.
    assert sender.jobs > 0
    assert receiver.jobs > sender.jobs
    probes = 2
    assert sender.jobs + receiver.jobs == probes + remote_jobs(there.workload.plan)
    for host in (sender, receiver):
        assert "nnsight" in " ".join(host.names)
        assert not {name.split(".")[0] for name in host.names} & {"statebridge", "tests"}


@pytest.mark.slow
def test_local_simulation_gives_the_same_rows() -> None:
    oracle = neox_pair()
    translators = {42: random_translator(24, 32, seed=42)}
    fields = PUBLISHED | {"conditions": ["no_inject", "best_alpha", "nl_relay"]}
    here = run_engine(
        engine_pair(oracle), ROWS[:3], translators, execution={"path": "plain"}, **fields
    )
    simulated = run_engine(
        engine_pair(oracle, host=Here(simulated=True)),
        ROWS[:3],
        translators,
        remote="local",
        **fields,
    )
    assert simulated.rows == here.rows


@pytest.mark.slow
def test_more_logits_than_a_job_may_bring_are_several_jobs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = PUBLISHED | {"conditions": ["no_inject", "zero_replacement"]}
    few, _, receiver = remote_pair(neox_pair())
    together = run_engine(few, ROWS[:3], {}, remote="http://fake.example", **fields)
    monkeypatch.setattr("statebridge.models.traced_model.JOB_BYTES", 1)
    many, _, other = remote_pair(neox_pair())
    apart = run_engine(many, ROWS[:3], {}, remote="http://fake.example", **fields)
    assert apart.rows == together.rows
    assert other.jobs > receiver.jobs


def test_a_host_that_goes_away_is_one_line() -> None:
    pair, _, receiver = remote_pair(neox_pair())
    receiver.refuse_after = receiver.jobs + 2
    with pytest.raises(
        RemoteError, match=r"remote http://fake\.example: model tiny-receiver"
    ) as caught:
        run_engine(pair, ROWS, {}, remote="http://fake.example", conditions=["no_inject"])
    assert "\n" not in str(caught.value)


def test_where_jobs_go() -> None:
    assert find_host(None).job(None) == {}
    assert find_host("local").job(None) == {"remote": "local"}
    assert not find_host("local").remote
    assert find_host("https://host") == RemoteHost("https://host")


def test_the_shared_path_is_refused_remotely() -> None:
    text = """
name: x
sender: {model: a, layer: 1}
receiver: {model: b, layer: 1}
dataset: {path: x.jsonl}
conditions: [no_inject]
remote: ndif
execution: {path: shared}
"""
    with pytest.raises(ExperimentError, match="path plain"):
        parse_experiment(text)
    assert parse_experiment(text.replace("path: shared", "path: auto")).path == "plain"


def test_a_side_may_run_elsewhere() -> None:
    sides = {
        "sender": {"model": "a", "layer": 1, "remote": "https://one.example"},
        "receiver": {"model": "b", "layer": 1},
    }
    rest = {"name": "x", "dataset": {"path": "x.jsonl"}, "conditions": ["no_inject"]}
    half = parse_experiment(json.dumps(sides | rest))
    assert half.remotes == ("https://one.example", None)
    assert half.path == "plain"
    both = parse_experiment(json.dumps(sides | rest | {"remote": "ndif"}))
    assert both.remotes == ("https://one.example", "ndif")
    sides["sender"]["remote"] = "example.org"
    with pytest.raises(ExperimentError, match=r"sender\.remote: give local, ndif, or a URL"):
        parse_experiment(json.dumps(sides | rest))
