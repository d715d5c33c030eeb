"""No number of an experiment file may be true or false, which YAML makes of yes, no, on and off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from statebridge.experiment import Experiment
from tests.bridge.experiment.refusal import PLAIN, refusal

FIT = "translators: {fit: {corpus: {generate: {rows: 9}}, training: {epochs: %s}}}\n"


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("limit: true", "limit"),
        ("seeds: [yes]", "seeds.0"),
        ("decoding: {max_new_tokens: on}", "decoding.max_new_tokens"),
        ("decoding: {repetition_penalty: true}", "decoding.repetition_penalty"),
        (FIT % "yes", "translators.fit.training.epochs"),
    ],
)
def test_a_word_for_true_is_no_number(line: str, field: str) -> None:
    message = refusal(f"{PLAIN}{line}\n")
    assert message == f", line 6: {field}: give a number, not true (as YAML reads yes and on)"


def test_a_word_for_false_is_no_number() -> None:
    message = refusal(f"{PLAIN}decoding: {{no_repeat_ngram_size: off}}\n")
    assert message.endswith("give a number, not false (as YAML reads no and off)")


def test_json_is_held_to_the_same() -> None:
    assert "give a number, not true" in refusal(PLAIN, {"limit": True})


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        for part in schema.values():
            yield from _parts(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _parts(part)


def _models(model: type[BaseModel], found: dict[str, type[BaseModel]]) -> None:
    """Collect every model that a model's fields lead to."""
    for part in _parts(model.__pydantic_core_schema__):
        inner = part.get("cls")
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner.__name__ not in found:
            found[inner.__name__] = inner
            _models(inner, found)


def test_every_number_of_every_section_refuses_true() -> None:
    models: dict[str, type[BaseModel]] = {}
    _models(Experiment, models)
    assert {"Experiment", "Decoding", "TrainingSettings", "LayerSearch", "Condition"} <= set(models)
    taking: list[str] = []
    numbers = 0
    for name, model in models.items():
        for field, info in model.model_fields.items():
            # A whole number is tried as an item, too: seeds, hops, positions, betas.
            kind = TypeAdapter(info.rebuild_annotation())
            schema = kind.json_schema()
            if not any(part.get("type") in ("integer", "number") for part in _parts(schema)):
                continue
            numbers += 1
            length = len(schema.get("prefixItems", ())) or 1
            for tried in (True, [True] * length):
                try:
                    read = kind.validate_python(tried)
                except ValidationError:
                    continue
                taking.append(f"{name}.{field}: {tried} is read as {read}")
    assert not taking
    assert numbers > 30
