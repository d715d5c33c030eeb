"""The printed JSON Schema: whole, valid, and true of the experiment files here."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from statebridge.commands.doctor import schema
from statebridge.experiment import Experiment, load_experiment
from tests.bridge.experiment.refusal import BASE, PLAIN, parsed

REPOSITORY = Path(__file__).resolve().parents[3]
FILES = sorted((REPOSITORY / "experiments").glob("*.yaml"))


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    with redirect_stdout(StringIO()) as shown:
        schema()
    found: dict[str, Any] = json.loads(shown.getvalue())
    return found


@pytest.fixture(scope="module")
def validator(printed: dict[str, Any]) -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(printed)
    return jsonschema.Draft202012Validator(printed)


def _as_json(text: str) -> Any:
    return json.loads(json.dumps(yaml.safe_load(text)))


def test_every_field_is_in_it(printed: dict[str, Any]) -> None:
    assert set(printed["properties"]) == set(Experiment.model_fields)
    assert printed["additionalProperties"] is False
    assert set(printed["required"]) == {"name", "sender", "receiver", "dataset"}
    for definition in printed["$defs"].values():
        assert definition["additionalProperties"] is False


def test_a_fit_stands_in_it_as_it_is_written(printed: dict[str, Any]) -> None:
    (by_kind, _) = printed["properties"]["translators"]["anyOf"]
    files, fit, sets = by_kind["oneOf"]
    one_set = printed["$defs"]["TranslatorSets"]["properties"]["sets"]
    assert sets == {"$ref": "#/$defs/TranslatorSets"}
    assert one_set["minProperties"] == 1
    ((_, of_a_set),) = one_set["patternProperties"].items()
    for one_files, one_fit in ((files, fit), of_a_set["oneOf"]):
        assert one_files["additionalProperties"]["type"] == "string"
        assert one_fit["required"] == ["fit"]
        assert one_fit["properties"] == {"fit": {"$ref": "#/$defs/Fit"}}
        assert one_fit["additionalProperties"] is False


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiments_here_fit_the_schema(path: Path, validator: Any) -> None:
    assert not list(validator.iter_errors(_as_json(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    "change",
    [
        "limt: 3",
        "limit: 0",
        "seeds: []",
        "translators: {fit: {}}",
        "translators: {fit: {corpus: {path: a}}, 42: b}",
        "conditions: [{name: a}]",
        "conditions: [{name: a, source: none, prompt: question}]",
        "conditions: [{name: a, source: zero, positions: first}]",
        "translators: {sets: {}}",
        "translators: {sets: {a: {fit: {}}}}",
        "prompts: {placeholder_token: ''}",
        "decoding: {repetition_penalty: 0}",
    ],
)
def test_the_schema_refuses_what_we_refuse(change: str, validator: Any) -> None:
    assert validator.is_valid(_as_json(PLAIN))
    base = BASE if change.startswith("conditions") else PLAIN
    assert not validator.is_valid(_as_json(f"{base}{change}\n"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_experiments_here_load(path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.resolved_conditions
    # What a manifest records of it reads back as the same experiment.
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment


def test_there_are_experiments_here() -> None:
    assert FILES


def test_the_defaults_are_the_published_protocol() -> None:
    experiment = parsed(BASE + "translators: {42: a, 123: b, 456: c}\n")
    decoding = experiment.decoding
    assert experiment.seeds == (42, 123, 456)
    assert (decoding.max_new_tokens, decoding.relay_max_new_tokens) == (64, 128)
    assert (decoding.repetition_penalty, decoding.no_repeat_ngram_size) == (1.3, 3)
    assert decoding.max_prompt_tokens == 256
    assert experiment.prompts.task == "Context: {context}\nQ: {question}\nA:"
    assert experiment.prompts.to_sender == experiment.prompts.task
    assert experiment.prompts.question_only == "Q: {question}\nA:"
    assert experiment.prompts.placeholder_token is None
    assert experiment.prompts.relay_sender == "{context}\n\nKey facts:"
    assert experiment.prompts.relay_receiver == "{relay}\nQ: {question}\nA:"
    assert (experiment.dtype, experiment.path) == ("float32", "shared")
    assert experiment.rng == "derangement"
    assert experiment.resolved_conditions[0].name == "no_inject"


def test_the_path_follows_from_where_it_runs() -> None:
    assert parsed(PLAIN + "remote: local\n").path == "plain"
    assert parsed(PLAIN + "remote: ndif\nexecution: {path: plain}\n").path == "plain"
    assert parsed(PLAIN + "execution: {path: plain}\n").path == "plain"
    assert parsed(PLAIN).path == "shared"
