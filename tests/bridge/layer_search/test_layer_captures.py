"""Captures for all layers of a sweep in one pass are those of a pass for each."""

from __future__ import annotations

import torch

from statebridge.engine.layer_search.captures import LayerCaptures, SweptModel, swept_pair
from statebridge.models.pair import Pair
from statebridge.models.token_batch import TokenBatch
from tests.bridge.engine.tiny_experiment import engine_pair, neox_pair


def test_one_pass_serves_every_layer() -> None:
    pair = engine_pair(neox_pair())
    swept = swept_pair(pair, [2, 0], [1], 10**8).sender
    assert isinstance(swept, SweptModel)
    batch = TokenBatch.pack([(5, 6, 7, 8), (9, 10)], swept.pad_id)
    for layer in (2, 0, 2):
        assert torch.equal(
            swept.at_layer(layer).capture(batch), pair.sender.at_layer(layer).capture(batch)
        )
    assert (swept.captures.passes, swept.captures.answered) == (1, 2)
    # A layer that the sweep does not read, and another batch, are passes of their own.
    own = swept.at_layer(1).capture(batch)
    assert torch.equal(own, pair.sender.at_layer(1).capture(batch))
    swept.capture(TokenBatch.pack([(9, 10)], swept.pad_id))
    assert swept.captures.passes == 2


def test_what_is_kept_cannot_be_written_to() -> None:
    swept = swept_pair(engine_pair(neox_pair()), [0, 1], [1], 10**8).sender.at_layer(1)
    batch = TokenBatch.pack([(5, 6, 7)], swept.pad_id)
    first = swept.capture(batch)
    expected = first.clone()
    first.zero_()
    assert torch.equal(swept.capture(batch), expected)


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
    swept = swept_pair(Pair(model, model), [0], [3], 10**8)
    assert isinstance(swept.sender, SweptModel)
    assert isinstance(swept.receiver, SweptModel)
    assert swept.sender.captures is swept.receiver.captures
    assert swept.sender.captures.layers == [0, 3]
