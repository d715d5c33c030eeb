"""Text that YAML or JSON readers disagree on, and the place that a mistake in it is given."""

from __future__ import annotations

import json
from typing import Any

import pytest

from statebridge.errors import ExperimentError
from statebridge.experiment.reading.given import read_experiment
from tests.bridge.experiment.refusal import PLAIN, parsed, refusal

SWEEP = PLAIN.replace("layer: 1}", "layer: 1}\nseeds: [1]")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("seeds: [042, 7]", "042 is octal to some readers of YAML; write 42"),
        ("seeds: [0123]", "write 123"),
        ("limit: 010", "write 10"),
        ("limit: 1:30", "1:30 is a number of base 60"),
        ("decoding: {repetition_penalty: 1:30.5}", "1:30.5 is a number of base 60"),
    ],
)
def test_numbers_that_yaml_1_1_reads_otherwise(field: str, words: str) -> None:
    found = refusal(PLAIN + field + "\n")
    assert found.startswith(", line 6, column ")
    assert words in found


def test_plain_numbers_are_read_as_they_are_written() -> None:
    experiment = parsed(
        PLAIN + "seeds: [0, 42]\nlimit: 1_000\ndecoding: {repetition_penalty: 1e0}\n"
    )
    assert experiment.seeds == (0, 42)
    assert experiment.limit == 1000
    assert experiment.decoding.repetition_penalty == 1.0


def test_a_date_is_a_name() -> None:
    assert parsed(PLAIN.replace("name: mine", "name: 2026-01-02")).name == "2026-01-02"


def test_a_merged_mapping_is_read() -> None:
    text = PLAIN.replace("sender: {", "sender: &m {").replace(
        "receiver: {model: ./receiver, layer: 1}", "receiver: {<<: *m, layer: 0.7}"
    )
    experiment = parsed(text)
    assert experiment.receiver.model == experiment.sender.model
    assert experiment.receiver.layer == 0.7


def test_json_with_a_sign_of_two_parts_is_read() -> None:
    fields = json.loads(json.dumps(read_experiment(_fields(name="x")).model_dump(mode="json")))
    text = json.dumps({**_fields(), "name": "sent \U0001f600"}, indent=1)
    assert "\\ud83d" in text
    assert parsed(text).name == "sent \U0001f600"
    assert fields["name"] == "x"


def test_half_of_a_sign_is_refused() -> None:
    found = refusal('{"name": "sent \\ud83d"}')
    assert "name: give whole characters (it holds half of a surrogate pair)" in found


def test_a_mistake_in_json_has_its_line() -> None:
    text = json.dumps({**_fields(), "limit": 0}, indent=1)
    line = text[: text.index('"limit"')].count("\n") + 1
    assert refusal(text).startswith(f", line {line}: limit: give a number of at least 1")
    assert "field 'name' is given twice" in refusal('{"name": "a", "name": "b"}')


def test_a_mistake_in_fields_names_no_line() -> None:
    with pytest.raises(ExperimentError) as caught:
        read_experiment({**_fields(), "limit": 0})
    assert str(caught.value) == "experiment: limit: give a number of at least 1, not 0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit": 0}, " with limit=0: limit: give a number of at least 1, not 0"),
        (
            {"decoding.max_new_tokens": 0},
            " with decoding.max_new_tokens=0: decoding.max_new_tokens: give a number of at least 1",
        ),
        ({"execution": "ray"}, " with execution='ray': execution: give fields (executor, path, "),
        ({"limt": 3}, " with limt=3: limt: unknown field; did you mean limit?"),
        ({"decodng.sample": 3}, " with decodng.sample=3: decodng: unknown field; did you"),
        # Each would be right alone; a third change has no part in it.
        (
            {"sender.model": "./a", "limit": 2, "sender.revision": "x"},
            " with sender.model='./a', sender.revision='x': sender: revision goes with a model",
        ),
        # A field of a section that only the changes make.
        ({"layer_search.rows": 2}, " with layer_search.rows=2: layer_search."),
    ],
)
def test_a_mistake_in_a_change_is_not_laid_to_a_line(changes: dict[str, Any], message: str) -> None:
    assert refusal(PLAIN, changes).startswith(message)


def test_a_mistake_of_the_file_keeps_its_line_beside_a_change() -> None:
    assert refusal(PLAIN + "rng: x\n", {"limit": 3}).startswith(", line 6: rng: unknown rng")


def test_a_mistake_under_the_earlier_name_is_named_by_it() -> None:
    text = PLAIN + "sweep:\n  sender_layers: [0, yes]\n  receiver_layers: [1]\n"
    assert refusal(text).startswith(", line 7: sweep.sender_layers.1: give a relative depth")
    text = PLAIN + "sweep:\n  sender_layer: [0]\n"
    assert "sweep.sender_layer: unknown field; did you mean sender_layers" in refusal(text)


def test_both_names_of_the_layer_search_are_refused() -> None:
    both = "sweep: {sender_layers: [0, 1], pairs: same}\nlayer_search: {sender_layers: [0]}\n"
    assert refusal(PLAIN + both).startswith(", line 6: sweep: is the earlier name of layer_search")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("prompts: {task: '{context} A:'}", "prompts.task: has no {question}, so that every row"),
        ("prompts: {question_only: 'A:'}", "prompts.question_only: has no {question}"),
        ("prompts: {relay_sender: 'Facts:'}", "prompts.relay_sender: has no {context}"),
        ("prompts: {relay_receiver: 'Q: {question}'}", "prompts.relay_receiver: has no {relay}"),
        ("prompts: {sender: 'A:'}", "prompts.sender: has no {context} and no {question}"),
    ],
)
def test_a_template_without_what_it_is_for_is_refused(field: str, message: str) -> None:
    assert message in refusal(PLAIN + field + "\n")


def _fields(**changes: Any) -> dict[str, Any]:
    return {
        "name": "mine",
        "sender": {"model": "a", "layer": 8},
        "receiver": {"model": "b", "layer": -1},
        "dataset": {"path": "rows.jsonl"},
        "conditions": ["no_inject"],
        **changes,
    }
