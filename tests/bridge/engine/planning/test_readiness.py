"""`statebridge doctor` finds in prompts, before the run, what the run itself would find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.engine.doctor.readiness import DoctorCheck, check_readiness
from statebridge.engine.layer_search.search import run_layer_search
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import StatebridgeError
from statebridge.experiment import Experiment, parse_experiment
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

LONG = "What is " + "the place of " * 30 + "it?"
ROWS = [
    {"id": "a", "context": "Mei lives in Oslo.", "question": "Where is Mei?", "answer": "Oslo"},
    {"id": "b", "context": "Ada is here.", "question": "Where is Ada?", "answer": "here"},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pair")
    shape: dict[str, Any] = {"layers": 2, "hidden": 16, "heads": 2, "end_share": 0}
    for seed, name in enumerate(("sender", "receiver")):
        save_pair_folder(tiny_neox(seed, **shape), tiny_tokenizer(), made / name)
    return made


def declared(folder: Path, **fields: Any) -> Experiment:
    rows = fields.pop("rows", ROWS)
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    whole = {
        "name": "tiny",
        "sender": {"model": str(folder / "sender"), "layer": 1},
        "receiver": {"model": str(folder / "receiver"), "layer": 1},
        "dataset": {"path": str(file)},
        "seeds": [1],
        "decoding": {"max_new_tokens": 3, "relay_max_new_tokens": 3},
        **fields,
    }
    return parse_experiment(json.dumps(whole))


def prompts(experiment: Experiment) -> DoctorCheck:
    checks = {check.what: check for check in check_readiness(experiment)}
    assert checks["layers"].ready
    return checks["prompts"]


RAW = {"name": "raw", "source": "sender"}
LAST = RAW | {"positions": "last", "source_positions": "last", "prompt": "question_only"}
LONG_ROWS = [ROWS[0] | {"question": LONG}, ROWS[1]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"conditions": ["no_inject"], "decoding": {"max_new_tokens": 9000}}, "context window"),
        (
            {"conditions": ["no_inject"], "decoding": {"max_prompt_tokens": 12}},
            "decoding.truncate: context",
        ),
        (
            {"conditions": [LAST], "rows": LONG_ROWS, "decoding": {"max_new_tokens": 9000}},
            "context window",
        ),
        (
            {
                "conditions": ["nl_relay"],
                "decoding": {"max_new_tokens": 3, "relay_max_new_tokens": 9000},
            },
            "context window",
        ),
        (
            {
                "conditions": [{"name": "talk", "source": "none", "prompt": "debate", "rounds": 2}],
                "decoding": {"max_prompt_tokens": 30, "relay_max_new_tokens": 20},
            },
            "cannot be cut at 30",
        ),
        ({"conditions": [RAW], "prompts": {"sender": "{context}"}}, "position by position"),
        ({"conditions": [RAW | {"positions": [900], "source_positions": "last"}]}, "900"),
        (
            {"conditions": [RAW | {"prompt": "question_only"}]},
            "does not see the context",
        ),
        (
            {
                "conditions": [LAST | {"positions": "question", "source_positions": "question"}],
                "prompts": {"sender": "Q: {question}\nContext: {context}"},
            },
            "no question to write at",
        ),
    ],
)
def test_the_doctor_refuses_what_the_run_refuses(
    fields: dict[str, Any], words: str, folder: Path, tmp_path: Path
) -> None:
    experiment = declared(folder, **fields)
    with pytest.raises(StatebridgeError, match=words) as caught:
        run_experiment(experiment, tmp_path / "run")
    found = prompts(experiment)
    assert not found.ready
    # A run names a folder's model by the folder alone.
    assert found.detail.replace(f"{folder}/", "") == str(caught.value)


def test_it_says_how_long_each_prompt_in_use_is(folder: Path) -> None:
    debate = {"name": "talk", "source": "none", "prompt": "debate", "rounds": 2}
    found = prompts(
        declared(folder, conditions=["no_inject", "nl_relay", LAST, debate], sender_checks=True)
    )
    assert found.ready, found.detail
    task, question, relay, *others = found.detail.split("; ")
    assert [part.split(":")[0] for part in (task, question, relay)] == [
        "task",
        "question_only",
        "relay, to the sender",
    ]
    assert others == ["debate: room for every round", "sender_checks: answers fit the sender"]


def test_a_layer_that_is_not_there_is_one_mistake(folder: Path) -> None:
    experiment = declared(
        folder, conditions=["no_inject"], receiver={"model": str(folder / "receiver"), "layer": 9}
    )
    assert [check.what for check in check_readiness(experiment) if not check.ready] == ["layers"]


# ---------------------------------------------------------------- whatever else a run refuses


def missing(experiment: Experiment, out: Path | None = None) -> dict[str, str]:
    """The checks that are not ready, with their details."""
    checks = [check for check in check_readiness(experiment, out) if not check.ready]
    assert len({check.what for check in checks}) == len(checks)
    return {check.what: check.detail for check in checks}


TRANSLATED = {"conditions": ["no_inject", "replace"]}
CORPUS = {"generate": {"rows": 40, "seed": 9}, "max_tokens": 40}


FEW = {"generate": {"rows": 12, "seed": 9}, "max_tokens": 1}


def fitted(**fit: Any) -> dict[str, Any]:
    return {**TRANSLATED, "translators": {"fit": {"corpus": CORPUS, **fit}}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "what", "words"),
    [
        ({"rows": [ROWS[0] | {"scoring": "exactly"}]}, "dataset", "exactly"),
        (fitted(kind="low_rank", rank=17), "translators", "rank 17 is above 16"),
        (
            {
                **TRANSLATED,
                "translators": {"fit": {"kind": "ridge", "corpus": FEW}},
            },
            "translators",
            "positions, but a map from width 16 to 16 of kind ridge needs at least 17",
        ),
        (
            fitted(causal={"rows": {"generate": {"rows": 9, "seed": 8}}}),
            "translators",
            "prompt tokens of sender are more than decoding.max_prompt_tokens (256)",
        ),
        (fitted(training={"warmup_steps": 10**6}), "translators", "within warmup_steps 1000000"),
        (
            {"conditions": ["no_inject"], "sender": {"model": "sender", "layer": 0}},
            "sender",
            "is a folder here, and reads as the id of a model on the hub; write ./sender",
        ),
        (
            {
                "conditions": ["no_inject", RAW],
                "layer_search": {"sender_layers": [0, 9], "receiver_layers": [1]},
                "rows": [ROWS[0] | {"id": str(n)} for n in range(60)],
            },
            "layers",
            "layer_search.sender_layers: layer 9 of sender is out of range",
        ),
        (
            {
                "conditions": ["no_inject", RAW],
                "layer_search": {"sender_layers": [0, 1], "receiver_layers": [1]},
            },
            "dataset",
            "and each needs 10; run more rows",
        ),
    ],
)
def test_the_doctor_makes_every_check_of_the_run(
    fields: dict[str, Any],
    what: str,
    words: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    experiment = declared(folder, **({"conditions": ["no_inject"]} | fields))
    found = missing(experiment)
    assert list(found) == [what]
    assert words in found[what]
    carry_out = run_layer_search if experiment.layer_search else run_experiment
    with pytest.raises(StatebridgeError) as caught:
        carry_out(experiment, tmp_path / "run")
    assert words in str(caught.value)
    assert not list(tmp_path.glob("run/translators/*"))


def test_all_mistakes_are_found_at_once(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    experiment = declared(
        folder,
        conditions=["no_inject", {"name": "k", "source": "zero", "channel": "wire"}],
        rows=[ROWS[0] | {"scoring": "exactly"}],
        sender={"model": str(folder / "nowhere"), "layer": 0},
        execution={"device": "cuda:7"},
    )
    found = missing(experiment, tmp_path)
    assert list(found) == ["names", "dataset", "sender", "device", "disk"]
    assert "unknown channel 'wire'" in found["names"]
    assert "holds notes.txt and no manifest.json" in found["disk"]


def test_an_unknown_channel_is_one_mistake(folder: Path) -> None:
    condition = {"name": "k", "source": "zero", "channel": "wire"}
    assert list(missing(declared(folder, conditions=["no_inject", condition]))) == ["names"]


@pytest.mark.slow
def test_another_run_in_the_directory_is_found(folder: Path, tmp_path: Path) -> None:
    run_experiment(declared(folder, conditions=["no_inject"]), tmp_path)
    assert missing(declared(folder, conditions=["no_inject"], limit=1), tmp_path) == {}
    other = declared(folder, conditions=["no_inject"], decoding={"max_new_tokens": 4})
    assert "was started with another experiment.decoding" in missing(other, tmp_path)["disk"]


@pytest.mark.slow
def test_the_time_has_fits_texts_and_controls(folder: Path) -> None:
    experiment = declared(
        folder,
        **fitted(kind="ridge") | {"conditions": ["no_inject", "replace", "nl_relay"]},
        positive_control={"rows": 2},
        sender_checks=True,
    )
    checks = {check.what: check for check in check_readiness(experiment)}
    parts = checks["time"].detail.partition("(rough): ")[2]
    words = ("fits", "texts", "rows", "sender checks", "positive control")
    assert [part.rsplit(" ", 2)[0] for part in parts.split(", ")] == list(words)
    assert checks["taught pair"].detail == "in place"


def test_cautions_are_ready_and_say_so(folder: Path) -> None:
    checks = list(check_readiness(declared(folder, conditions=["no_inject"], limit=9)))
    assert [check.detail for check in checks if check.is_caution] == [
        "limit is 9, and the dataset has 2 rows: all of them run."
    ]
    assert all(check.ready for check in checks)
