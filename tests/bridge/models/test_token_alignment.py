"""Tokens of one model for those of another, one for one."""

from __future__ import annotations

from functools import cache

import pytest

from statebridge.errors import StatebridgeError
from statebridge.models.messages.token_alignment import Alignment, TokenAlignment
from statebridge.models.pair import Pair
from tests.bridge.engine.private_points import PAIRS
from tests.bridge.engine.tiny_experiment import engine_pair
from tests.reference.fused_caches import aligned
from tests.reference.oracle import OraclePair
from tests.tiny_models import mixed_rows, tiny_llama, tiny_tokenizer

TEXTS = [row["context"] for row in mixed_rows(14)]
"""Texts with words that neither tokenizer was trained on, and with characters of several bytes."""


@cache
def _pair() -> Pair:
    """A sender of fewer tokens than its receiver has."""
    return engine_pair(PAIRS["two-tokenizers"][0]().reversed())


@pytest.mark.parametrize("by", ["first", "longest"])
def test_each_token_is_written_alone(by: Alignment) -> None:
    sender, receiver = _pair().sender, _pair().receiver
    alignment = TokenAlignment(sender, receiver, by)
    known, shares = set(sender.tokenizer.get_vocab()), []
    for text in TEXTS:
        ids = receiver.tokenizer(text)["input_ids"]
        assert list(alignment.ids(ids)) == aligned(sender.tokenizer, receiver.tokenizer, ids, by)
        names = receiver.tokenizer.convert_ids_to_tokens(ids)
        expected = sum(name in known for name in names) / len(names)
        shares.append(alignment.one_to_one(ids))
        assert shares[-1] == pytest.approx(expected)
    assert min(shares) < 1
    assert max(shares) > 0.5


def test_the_longest_part_is_another_than_the_first() -> None:
    sender, receiver = _pair().sender, _pair().receiver
    ids = [token for text in TEXTS for token in receiver.tokenizer(text)["input_ids"]]
    first, longest = (TokenAlignment(sender, receiver, by).ids(ids) for by in ("first", "longest"))
    assert first != longest


def test_a_model_is_aligned_with_itself() -> None:
    model = _pair().sender
    ids = model.tokenizer(TEXTS[6])["input_ids"]
    for by in ("ids", "first", "longest"):
        alignment = TokenAlignment(model, model, by)  # type: ignore[arg-type]
        assert alignment.ids(ids) == tuple(ids)
        assert alignment.one_to_one(ids) == 1


def test_special_tokens_meet_by_their_part() -> None:
    sender, receiver = _pair().sender, _pair().receiver
    end = receiver.tokenizer.bos_token_id
    for by in ("first", "longest"):
        alignment = TokenAlignment(sender, receiver, by)  # type: ignore[arg-type]
        assert alignment.ids([end]) == (sender.tokenizer.bos_token_id,)


def test_ids_that_the_sender_lacks_are_refused() -> None:
    pair = engine_pair(OraclePair(tiny_llama(1, vocab=300), tiny_llama(2), 1, 1, tiny_tokenizer()))
    alignment = TokenAlignment(pair.sender, pair.receiver, "ids")
    assert alignment.ids([0, 5, 299]) == (0, 5, 299)
    assert alignment.one_to_one([0, 5, 299]) == 1
    with pytest.raises(StatebridgeError, match="has no token 300 of tiny-receiver"):
        alignment.ids([300])
