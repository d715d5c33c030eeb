"""A key changes with everything that the lane's result depends on, and with nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.planning.prepare import prepare
from statebridge.engine.reuse.lane_key import LaneKeys
from statebridge.models.pair import Pair
from statebridge.models.weights import weights_sha256
from statebridge.records import DatasetRow
from statebridge.translators import Translator
from tests.bridge.channels.prepended import pair_of
from tests.bridge.engine.reuse_runs import experiment_of, tiny_pair
from tests.bridge.engine.tiny_experiment import engine_pair, random_translator
from tests.tiny_models import tiny_padded_tokenizer

CONDITIONS = [
    "no_inject",
    "replace",
    "b_to_b_self_inject",
    "same_norm_random",
    "shuffled_translation",
    "nl_relay",
    "question_only",
    "activation_replace",
]
EVERYTHING = frozenset(CONDITIONS)
WRITES = frozenset(CONDITIONS) - {"no_inject", "question_only", "nl_relay"}
TRANSLATES = frozenset({"replace", "shuffled_translation"})
READS_SENDER = TRANSLATES | {"activation_replace"}
ASKS_SENDER = READS_SENDER | {"nl_relay"}
WITH_CONTEXT = EVERYTHING - {"question_only"}
NOTHING: frozenset[str] = frozenset()

ROWS = tuple(
    DatasetRow(f"row{i}", context, f"Where is {name}?", answer)
    for i, (context, name, answer) in enumerate(
        [
            ("Bob is in Rome.", "Bob", "Rome"),
            ("Mei is in Oslo.", "Mei", "Oslo"),
            ("Ana is in Lima.", "Ana", "Lima"),
            ("Omar lives near Cairo and works on the train.", "Omar", "Cairo"),
        ]
    )
)
VERSIONS = {"torch": "2", "statebridge": "1"}


@cache
def _pair() -> Pair:
    return tiny_pair()


@cache
def _translator(seed: int) -> Translator:
    return random_translator(16, 24, seed=seed)


@dataclass
class Setting:
    """Parts of a workload; a change replaces one."""

    pair: Pair
    rows: tuple[DatasetRow, ...] = ROWS
    translator: int = 42
    seed: int = 42
    versions: dict[str, str] | None = None
    device: str = "cpu"
    sender_device: str | None = None
    fields: dict[str, Any] | None = None

    def keys(self, row: int = 0) -> dict[str, bytes]:
        """The keys of a row by condition."""
        fields = {"conditions": CONDITIONS, "seeds": [self.seed], **(self.fields or {})}
        experiment = experiment_of({self.seed: Path("x.safetensors")}, **fields)
        translators = {self.seed: _translator(self.translator)}
        workload = prepare(experiment, self.pair, self.rows, translators)
        sides = {"sender": self.pair.sender, "receiver": self.pair.receiver}
        identity = {
            "pair": {n: {"weights_sha256": weights_sha256(m.module)} for n, m in sides.items()},
            "versions": self.versions or VERSIONS,
            "device": self.device,
            "sender_device": self.sender_device,
        }
        keys = LaneKeys(workload, identity)
        assert keys.complete
        return {cell.condition.name: keys.of(cell, row) for cell in workload.plan.cells}


def _fields(**fields: Any) -> Callable[[Setting], None]:
    def change(setting: Setting) -> None:
        setting.fields = fields

    return change


def _row(index: int, **changes: str) -> Callable[[Setting], None]:
    def change(setting: Setting) -> None:
        rows = list(setting.rows)
        rows[index] = replace(rows[index], **changes)
        setting.rows = tuple(rows)

    return change


def _side(side: str, **changes: Any) -> Callable[[Setting], None]:
    def change(setting: Setting) -> None:
        model = getattr(setting.pair, side)
        made = {name: value() if callable(value) else value for name, value in changes.items()}
        setting.pair = replace(setting.pair, **{side: replace(model, **made)})

    return change


def _set(name: str, value: Any) -> Callable[[Setting], None]:
    return lambda setting: setattr(setting, name, value)


def _weights(side: str) -> Callable[[Setting], None]:
    def change(setting: Setting) -> None:
        setting.pair = tiny_pair()
        with torch.no_grad():
            getattr(setting.pair, side).module.gpt_neox.layers[1].mlp.dense_4h_to_h.weight[
                0, 0
            ] += 1e-3

    return change


def _dtype(setting: Setting) -> None:
    setting.pair = tiny_pair()
    for model in (setting.pair.sender, setting.pair.receiver):
        model.module.to(torch.bfloat16)


def _configuration(setting: Setting) -> None:
    setting.pair = tiny_pair()
    config = setting.pair.receiver.module.config
    config.rope_parameters = {**config.rope_parameters, "rope_theta": 5000.0}


CHANGES: dict[str, tuple[Callable[[Setting], None], frozenset[str]]] = {
    "receiver's weights": (_weights("receiver"), EVERYTHING),
    "sender's weights": (_weights("sender"), ASKS_SENDER),
    "receiver's layer": (_side("receiver", layer=1), WRITES),
    "sender's layer": (_side("sender", layer=1), READS_SENDER),
    "same weights, other configuration": (_configuration, EVERYTHING),
    "receiver's tokenizer": (_side("receiver", tokenizer=tiny_padded_tokenizer), EVERYTHING),
    "sender's tokenizer": (_side("sender", tokenizer=tiny_padded_tokenizer), ASKS_SENDER),
    "receiver's end tokens": (_side("receiver", end_ids=(0, 5)), EVERYTHING),
    "dtype": (_dtype, EVERYTHING),
    "translator": (_set("translator", 43), TRANSLATES),
    # The translator is what it was; draws and, under this seed, the donor are others.
    "seed": (_set("seed", 43), frozenset({"same_norm_random", "shuffled_translation"})),
    # Donors of the two may by chance be the same.
    "rng": (
        _fields(rng="published", conditions=["no_inject", "replace", "same_norm_random"]),
        frozenset({"same_norm_random"}),
    ),
    "path": (_fields(execution={"path": "plain"}), EVERYTHING),
    "decode": (_fields(decode=False), EVERYTHING),
    "max_new_tokens": (
        _fields(decoding={"max_new_tokens": 3, "relay_max_new_tokens": 2}),
        EVERYTHING,
    ),
    "relay_max_new_tokens": (
        _fields(decoding={"max_new_tokens": 2, "relay_max_new_tokens": 3}),
        frozenset({"nl_relay"}),
    ),
    "repetition_penalty": (
        _fields(
            decoding={"max_new_tokens": 2, "relay_max_new_tokens": 2, "repetition_penalty": 1.2}
        ),
        EVERYTHING,
    ),
    "no_repeat_ngram_size": (
        _fields(
            decoding={"max_new_tokens": 2, "relay_max_new_tokens": 2, "no_repeat_ngram_size": 2}
        ),
        EVERYTHING,
    ),
    # Cuts no prompt of these, but may cut a relay, which is not known yet.
    "max_prompt_tokens": (
        _fields(decoding={"max_new_tokens": 2, "relay_max_new_tokens": 2, "max_prompt_tokens": 99}),
        frozenset({"nl_relay"}),
    ),
    "prompts.task": (_fields(prompts={"task": "{context}\nQ: {question}\nA:"}), WITH_CONTEXT),
    "prompts.sender": (
        _fields(
            prompts={"sender": "{context}\nQ: {question}\nA:"},
            conditions=["no_inject", "activation_replace"],
        ),
        frozenset({"activation_replace"}),
    ),
    "prompts.question_only": (
        _fields(prompts={"question_only": "{question}\nA:"}),
        frozenset({"question_only", "activation_replace"}),
    ),
    "prompts.relay_sender": (
        _fields(prompts={"relay_sender": "{context}\nFacts:"}),
        frozenset({"nl_relay"}),
    ),
    "prompts.relay_receiver": (
        _fields(prompts={"relay_receiver": "{relay}\n{question}\nA:"}),
        frozenset({"nl_relay"}),
    ),
    "context": (_row(0, context="Bob is in Lima."), WITH_CONTEXT),
    "question": (_row(0, question="Who is in Rome?"), EVERYTHING),
    "gold": (_row(0, answer="Lima"), EVERYTHING),
    "row id": (_row(0, row_id="another"), EVERYTHING),
    "another row": (_row(3, context="Omar lives near Accra and works on the train."), NOTHING),
    "versions": (_set("versions", {**VERSIONS, "torch": "3"}), EVERYTHING),
    "device": (_set("device", "NVIDIA H200"), EVERYTHING),
    "name": (_fields(name="other"), NOTHING),
    "lanes together": (_fields(execution={"max_lanes": 3}), NOTHING),
    "limit": (_fields(limit=2), NOTHING),
    "fewer conditions": (_fields(conditions=["replace", "activation_replace"]), NOTHING),
}


@pytest.mark.slow
@pytest.mark.parametrize("which", CHANGES)
def test_what_changes_a_key(which: str) -> None:
    change, expected = CHANGES[which]
    before = Setting(_pair()).keys()
    setting = Setting(_pair())
    change(setting)
    after = setting.keys()
    changed = {name for name in after if before[name] != after[name]}
    assert changed == expected & after.keys()


def test_every_lane_has_its_own_key() -> None:
    keys = [key for row in range(4) for key in Setting(_pair()).keys(row).values()]
    assert len(set(keys)) == len(keys) == 4 * len(CONDITIONS)
    assert {len(key) for key in keys} == {32}


def test_one_name_for_one_work() -> None:
    strict = {"conditions": ["no_inject", "skyline", "nl_relay", "private_relay"]}
    keys = Setting(_pair(), fields=strict).keys()
    assert keys["no_inject"] == keys["skyline"] != keys["nl_relay"] == keys["private_relay"]
    both = ["shuffled_translation", "shuffled_translation_strict_matched"]
    keys = Setting(_pair(), fields={"conditions": both}).keys()
    assert keys[both[0]] == keys[both[1]]


def test_a_published_draw_depends_on_the_lengths_before_it_alone() -> None:
    random = {"rng": "published", "conditions": ["same_norm_random"]}

    def keys(change: Callable[[Setting], None]) -> list[bytes]:
        setting = Setting(_pair(), fields=random)
        change(setting)
        return [setting.keys(row)["same_norm_random"] for row in range(3)]

    before = keys(lambda _setting: None)
    same_length = keys(_row(1, context="Ana is in Oslo."))
    assert [one == other for one, other in zip(before, same_length, strict=True)] == [
        True,
        False,
        True,
    ]
    longer = keys(_row(1, context="Mei is in Oslo in the city."))
    assert [one == other for one, other in zip(before, longer, strict=True)] == [
        True,
        False,
        False,
    ]


def test_a_key_holds_all_that_makes_a_message() -> None:
    caches = {"source": "sender", "site": "kv", "operator": "append", "prompt": "question_only"}
    vectors = caches | {"site": "embedding"}
    latents = {"steps": 2, "keep": "latents"}
    points: dict[str, dict[str, Any]] = {
        "plain": caches,
        "two": caches | {"rollout": {"steps": 2}},
        "three": caches | {"rollout": {"steps": 3}},
        "identity": caches | {"rollout": {"steps": 2, "by": "identity"}},
        "drawn": caches | {"rollout": {"steps": 2, "by": "random"}},
        "latents": caches | {"rollout": latents},
        "moved": caches | {"rollout": latents, "reposition": "rotate"},
        "vocab": vectors | {"soft_tokens": {"by": "vocab"}},
        "cool": vectors | {"soft_tokens": {"by": "vocab", "temperature": 0.5}},
        "last": vectors | {"soft_tokens": {"by": "vocab"}, "source_positions": "last"},
        "cipher": vectors | {"soft_tokens": {"by": "cipher"}},
        "noise": caches | {"filled_with": "random"},
        "zeros": caches | {"filled_with": "zero"},
        "changes": vectors | {"soft_tokens": {"by": "text", "deltas": {"layers": [1]}}},
        "noisy": vectors
        | {"soft_tokens": {"by": "text", "deltas": {"layers": [1], "of": "random"}}},
    }
    conditions = [{"name": name, **point} for name, point in points.items()]
    pair = engine_pair(pair_of("llama"))
    of_seed = {
        seed: Setting(pair, seed=seed, fields={"conditions": conditions}).keys() for seed in (1, 2)
    }
    assert len(set(of_seed[1].values())) == len(points)
    by_seed = {name for name, key in of_seed[1].items() if key != of_seed[2][name]}
    assert by_seed == {"drawn", "noise", "noisy"}
