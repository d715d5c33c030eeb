"""Operations of maps of messages: two for each weight, at each position that meets it."""

from __future__ import annotations

import pytest

from statebridge.cost import map_cost
from statebridge.errors import InputError
from statebridge.translators import Translator

pytest.importorskip("torch", reason="the base install has no engine")


def _matrices(translator: Translator) -> int:
    return sum(w.numel() for name, w in translator.weights().items() if name.endswith("weight"))


def test_maps_of_caches_and_fusers_meet_every_weight_once() -> None:
    options = {"blocks_in": 3, "blocks_out": 4, "sources": 2, "groups": 1}
    made = Translator("kv_ridge", 96, 384, options=options, normalize_input=False)
    assert map_cost("kv_ridge", 96, 384, options).each == 2 * _matrices(made)
    grouped = {"blocks_in": 3, "blocks_out": 3, "sources": 2, "groups": 2}
    made = Translator("kv_ridge", 96, 96, options=grouped, normalize_input=False)
    assert map_cost("kv_ridge", 96, 96, grouped).each == 2 * _matrices(made)
    options = {"hidden_dim": 12, "inner_dim": 10, "blocks_out": 4, "groups": 3}
    made = Translator("fuser", 16, 48, options=options, normalize_input=False)
    assert map_cost("fuser", 16, 48, options).of(5) == 5 * 2 * _matrices(made)


def test_a_resampler_reads_positions_and_makes_vectors() -> None:
    options = {"vectors": 3, "hidden_dim": 12, "groups": 2}
    found = map_cost("resampler", 20, 30, options)
    keys_and_values, attended = 2 * 20 * 12, 2 * 3 * 12
    assert found.each == 2 * (keys_and_values + attended)
    assert found.once == 2 * 3 * (2 * 12 * 12 + 12 * 30)
    assert found.of(7) == 7 * found.each + found.once


def test_a_map_of_states_makes_no_message() -> None:
    with pytest.raises(InputError, match="'affine' makes no message"):
        map_cost("affine", 3, 4, {})
