from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from statebridge.records import DatasetRow, ResultSet
from statebridge.validation import validate
from statebridge.validation.agreement import decoding_settings
from tests.bridge.validation.findings import found, only
from tests.bridge.validation.made_results import (
    DECODING,
    MODELS,
    expectation_for,
    gold,
    made_cell,
    made_set,
    row_id,
    validated,
)


def test_another_data_hash_than_declared() -> None:
    results = made_set()
    results.cells[3].dataset_sha256 = "b" * 64
    finding = only(validated(results), "data_hash")
    assert finding.cell == "replace/seed42"
    assert finding.reason == "data hash bbbbbbbbbbbb..., not aaaaaaaaaaaa..."


def test_all_of_another_hash_than_declared() -> None:
    results = made_set()
    for cell in results.cells:
        cell.dataset_sha256 = "b" * 64
    assert len(found(validated(results), "data_hash")) == 5


def test_mixed_hashes_are_found_without_a_declared_one() -> None:
    results = made_set()
    results.cells[3].dataset_sha256 = "b" * 64
    expectation = expectation_for(results).model_copy(update={"dataset_sha256": None})
    assert only(validate(results, expectation), "data_hash").cell == "replace/seed42"


@pytest.mark.parametrize(("declared", "severity"), [(True, "blocking"), (False, "warning")])
def test_an_unrecorded_hash(declared: bool, severity: str) -> None:
    results = made_set()
    results.cells[0].dataset_sha256 = None
    expectation = expectation_for(results)
    if not declared:
        expectation = expectation.model_copy(update={"dataset_sha256": None})
    assert only(validate(results, expectation), "data_hash").severity == severity


def test_mixed_decoding_settings() -> None:
    results = made_set()
    results.cells[4].decoding = {**DECODING, "repetition_penalty": 1.0}
    finding = only(validated(results), "decoding")
    assert finding.cell == "replace/seed123"
    assert finding.reason == "repetition_penalty is 1.0, not 1.3"


def test_decoding_that_is_not_the_declared_one() -> None:
    results = made_set()
    report = validate(results, expectation_for(results, decoding={"max_new_tokens": 32}))
    assert [f.reason for f in found(report, "decoding")] == ["max_new_tokens is 64, not 32"] * 5


def test_a_declared_setting_that_is_not_recorded() -> None:
    results = made_set()
    results.cells[0].decoding = {}
    report = validate(results, expectation_for(results, decoding={"max_new_tokens": 64}))
    assert only(report, "decoding").reason == "does not record max_new_tokens (64)"


def test_sampled_text() -> None:
    results = made_set()
    for cell in results.cells:
        cell.decoding = {**cell.decoding, "do_sample": True}
    assert "sampled" in found(validated(results), "decoding")[0].reason


def test_relay_settings_are_asked_of_relays_only() -> None:
    results = made_set()
    assert decoding_settings(results.cells[1])["relay_max_new_tokens"] == 128
    assert "relay_max_new_tokens" not in decoding_settings(results.cells[0])
    declared = {"relay_max_new_tokens": 128}
    assert validate(results, expectation_for(results, decoding=declared)).passed
    results.cells[1].decoding = dict(DECODING)
    report = validate(results, expectation_for(results, decoding=declared))
    assert only(report, "decoding").cell == "nl_relay"


def test_a_setting_that_is_a_list_is_compared_too() -> None:
    results = made_set()
    for cell in results.cells:
        cell.decoding = {**cell.decoding, "eos_token_id": [0, 1]}
    assert validated(results).passed
    results.cells[0].decoding = {**DECODING, "eos_token_id": [0]}
    assert only(validated(results), "decoding").reason == "eos_token_id is [0], not [0, 1]"


@pytest.mark.parametrize(
    ("cell", "models", "reason"),
    [
        (0, {**MODELS, "model_b": "other"}, "receiver is other, not large"),
        (3, {**MODELS, "model_a": "other"}, "sender is other, not small"),
        (3, {**MODELS, "layer_b": "blocks.3"}, "receiver layer is blocks.3, not blocks.16"),
    ],
)
def test_other_models(cell: int, models: dict[str, str], reason: str) -> None:
    results = made_set()
    results.cells[cell].models = models
    assert only(validated(results), "models").reason == reason


def test_what_stood_in_for_the_sender_is_no_other_model() -> None:
    results = made_set()
    results.cells[0].models = {**MODELS, "layer_a": None}
    results.cells[2].models = {**MODELS, "model_a": "large", "layer_a": "blocks.16"}
    assert validated(results).findings == ()


def test_models_of_run_directories() -> None:
    def pair(weights: str) -> dict[str, Any]:
        return {
            side: {"model": side, "layer_path": "blocks.1", "weights_sha256": weights}
            for side in ("sender", "receiver")
        }

    results = made_set()
    for cell in results.cells:
        cell.models = pair("c" * 64)
    assert validated(results).findings == ()
    results.cells[0].models = pair("d" * 64)
    assert "receiver weights is dddd" in only(validated(results), "models").reason


def test_another_gold_answer_than_the_other_cells() -> None:
    results = made_set()
    rows = results.cells[4].lanes
    rows[7] = replace(rows[7], gold="answer8")
    finding = only(validated(results), "gold")
    assert finding.row_ids == (row_id(7),)
    assert "'answer8', not 'answer7'" in finding.reason


def test_another_gold_answer_than_the_dataset() -> None:
    results = made_set()
    results.dataset = {
        row_id(i): DatasetRow(row_id(i), "c", "q", "new" if i == 3 else gold(i)) for i in range(30)
    }
    report = validated(results)
    assert [f.row_ids for f in found(report, "gold")] == [(row_id(3),)] * 5
    assert "differ from the dataset's" in found(report, "gold")[0].reason


def test_an_empty_gold_answer() -> None:
    results = ResultSet([made_cell("no_inject")])
    results.cells[0].lanes[2] = replace(results.cells[0].lanes[2], gold=" ")
    report = validate(results, expectation_for(results))
    assert only(report, "gold").row_ids == (row_id(2),)


def test_a_prompt_of_another_length() -> None:
    results = made_set()
    rows = results.cells[3].lanes
    rows[1] = replace(rows[1], prompt_len_receiver=99, prompt_len_sender=99)
    finding = only(validated(results), "prompt_length")
    assert finding.row_ids == (row_id(1),)
