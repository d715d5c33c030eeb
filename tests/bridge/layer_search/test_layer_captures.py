"""Captures for all layers of a layer search in one pass are those of a pass for each."""

from __future__ import annotations

import torch

from statebridge.engine.layer_captures import LayerCaptures, SearchedModel, searched_pair
from statebridge.models.pair import Pair
from statebridge.models.token_batch import TokenBatch
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair


def test_one_pass_serves_every_layer() -> None:
    pair = engine_pair(neox_pair())
    searched = searched_pair(pair, [2, 0], [1], 10**8).sender
    assert isinstance(searched, SearchedModel)
    batch = TokenBatch.pack([(5, 6, 7, 8), (9, 10)], searched.pad_id)
    for layer in (2, 0, 2):
        assert torch.equal(
            searched.at_layer(layer).capture(batch), pair.sender.at_layer(layer).capture(batch)
        )
    assert (searched.captures.passes, searched.captures.answered) == (1, 2)
    # A layer that the layer search does not read, and another batch, are passes of their own.
    own = searched.at_layer(1).capture(batch)
    assert torch.equal(own, pair.sender.at_layer(1).capture(batch))
    searched.capture(TokenBatch.pack([(9, 10)], searched.pad_id))
    assert searched.captures.passes == 2


def test_what_is_kept_cannot_be_written_to() -> None:
    searched = searched_pair(engine_pair(neox_pair()), [0, 1], [1], 10**8).sender.at_layer(1)
    batch = TokenBatch.pack([(5, 6, 7)], searched.pad_id)
    first = searched.capture(batch)
    expected = first.clone()
    first.zero_()
    assert torch.equal(searched.capture(batch), expected)


def test_no_more_is_kept_than_there_is_room_for() -> None:
    pair = engine_pair(neox_pair())
    batch = TokenBatch.pack([(5, 6, 7)], pair.sender.pad_id)
    needed = 2 * 3 * pair.sender.width * 4
    for budget, passes in ((needed, 1), (needed - 1, 0)):
        captures = LayerCaptures([0, 1], budget)
        found = captures.states(pair.sender.at_layer(1), batch)
        assert captures.passes == passes
        assert (found is None) == (passes == 0)


def test_a_model_paired_with_itself_is_read_once() -> None:
    model = engine_pair(neox_pair()).receiver
    searched = searched_pair(Pair(model, model), [0], [3], 10**8)
    assert isinstance(searched.sender, SearchedModel)
    assert isinstance(searched.receiver, SearchedModel)
    assert searched.sender.captures is searched.receiver.captures
    assert searched.sender.captures.layers == [0, 3]
