"""Messages in front of a prompt through nnsight's serialisation: rows equal those here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from statebridge.channels.fused import empty_fuser
from statebridge.channels.messages.key_value_maps import empty_map
from statebridge.engine.executors.plain_path import remote_jobs
from statebridge.engine.fitting.key_value_fit import check_key_value_fit
from statebridge.errors import StatebridgeError, TranslatorError
from statebridge.experiment.translator_settings import FuserSettings, KeyValueSettings
from statebridge.models.hosts import Here
from statebridge.models.pair import Pair
from statebridge.translators import Translator
from tests.bridge.channels.prepended import ROWS, declared, pair_of
from tests.bridge.engine.fake_host import remote_pair
from tests.bridge.engine.tiny_experiment import EngineRun, dataset_rows, engine_pair, run_engine

URL = "http://fake.example"
KEY_VALUES = [
    declared("all"),
    declared("shuffled", source="shuffled_sender", lone_rows="nearest"),
]
CHANNELS: Mapping[str, list[dict[str, Any]]] = {
    "keys and values": KEY_VALUES,
    "mapped": [declared("mapped", source="translated")],
    "fused": [
        {"name": "my_fused", "source": "translated", "site": "kv", "operator": "fuse"},
    ],
    "latent steps": [
        declared("both", rollout={"steps": 2}),
        declared("latents", rollout={"steps": 2, "keep": "latents"}, reposition="rotate"),
    ],
    "several senders": [declared("chain", senders={"count": 2, "topology": "chain"})],
    "soft tokens": [
        declared(name, site="embedding", soft_tokens=soft)
        for name, soft in (
            ("vocab", {"by": "vocab"}),
            ("cipher", {"by": "cipher", "steps": 2}),
            ("text", {"by": "text", "steps": 2, "deltas": {"layers": [1]}}),
            ("final", {"by": "text", "steps": 2, "deltas": {"layers": [1, -1], "last": "final"}}),
        )
    ],
}


def _translators(name: str, pair: Pair) -> dict[int, Translator]:
    """A map of random weights, where the channel has one."""
    if name not in ("mapped", "fused"):
        return {}
    made = (
        empty_map(pair, KeyValueSettings(sources=1))
        if name == "mapped"
        else empty_fuser(pair, FuserSettings(hidden_dim=8))
    )
    generator, weights = torch.Generator().manual_seed(1), made.weights()
    for part, values in weights.items():
        if part != "chosen":  # the blocks that are read
            weights[part] = 0.3 * torch.randn(values.shape, generator=generator)
    made.set_weights(weights, where="test")
    return {42: made.requires_grad_(False)}


def _run(name: str, pair: Pair, **fields: Any) -> EngineRun:
    fields = {"conditions": CHANNELS[name], "decoding": {"max_new_tokens": 2}} | fields
    translators = _translators(name, pair)
    fields |= {} if translators else {"seeds": [42]}
    return run_engine(pair, dataset_rows(ROWS[3:5]), translators, rng="published", **fields)


@pytest.mark.parametrize("name", CHANNELS)
def test_rows_equal_those_here(name: str) -> None:
    oracle = pair_of("llama")
    here = _run(name, engine_pair(oracle), execution={"path": "plain"})
    pair, sender, receiver = remote_pair(oracle)
    there = _run(name, pair, remote=URL)
    assert there.rows == here.rows
    assert all(row.message_positions for row in here.rows.values())
    # Both models are probed, and tables of vectors come once.
    tables = 2 * (name in ("latent steps", "soft tokens"))
    assert sender.jobs + receiver.jobs <= 2 + tables + remote_jobs(there.workload.plan)
    for host in (sender, receiver):
        assert not {word.split(".")[0] for word in host.names} & {"statebridge", "tests"}


@pytest.mark.soak
@pytest.mark.parametrize("family", ["neox", "qwen3", "gemma3"])
def test_every_family_gives_the_same_keys_there(family: str) -> None:
    oracle, fields = pair_of(family), {"conditions": [*KEY_VALUES, *CHANNELS["latent steps"]]}
    here = _run("keys and values", engine_pair(oracle), execution={"path": "plain"}, **fields)
    there = _run("keys and values", remote_pair(oracle)[0], remote=URL, **fields)
    assert there.rows == here.rows


@pytest.mark.slow
def test_local_simulation_gives_the_same_rows() -> None:
    oracle = pair_of("llama")
    here = _run("latent steps", engine_pair(oracle), execution={"path": "plain"})
    simulated = engine_pair(oracle, host=Here(simulated=True))
    assert _run("latent steps", simulated, remote="local").rows == here.rows


def test_maps_of_caches_are_fitted_where_the_receiver_is() -> None:
    pair, _, _ = remote_pair(pair_of("llama"))
    with pytest.raises(TranslatorError, match="attention of tiny-receiver, whose weights are else"):
        check_key_value_fit(pair, KeyValueSettings(), 10_000)


SOME_LAYERS = [declared("middle", layers={"share": 0.5, "by": "middle"})]


def test_some_layers_need_the_receiver_here() -> None:
    oracle = pair_of("llama")
    pair, _, host = remote_pair(oracle)
    jobs = host.jobs
    with pytest.raises(StatebridgeError, match=r"my_middle: a remote receiver .*layers: all"):
        _run("keys and values", pair, conditions=SOME_LAYERS, remote=URL)
    assert host.jobs == jobs
    local = engine_pair(oracle)
    here = _run("keys and values", local, conditions=SOME_LAYERS, execution={"path": "plain"})
    sides = {"sender": {"model": "tiny-sender", "layer": 1, "remote": URL}}
    half = _run(
        "keys and values", Pair(pair.sender, local.receiver), conditions=SOME_LAYERS, **sides
    )
    assert half.rows == here.rows
