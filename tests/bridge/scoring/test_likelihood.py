from __future__ import annotations

from dataclasses import replace

import pytest

from statebridge.records import LaneResult
from statebridge.scoring.likelihood import (
    choice_acc,
    choice_acc_norm,
    gold_logprob_ended,
    gold_logprob_per_byte,
    gold_logprob_per_token,
)

LANE = LaneResult("a", " Zoë ", None, gold_logprob=-6.0, gold_token_count=3)


def test_per_token_and_per_byte() -> None:
    assert gold_logprob_per_token(LANE) == -2
    assert gold_logprob_per_byte(LANE) == -1.5  # ë has two bytes, white space none
    assert gold_logprob_per_token(replace(LANE, gold_token_count=None)) is None
    assert gold_logprob_per_byte(replace(LANE, gold_logprob=None)) is None


def test_the_end_is_a_term_of_its_own() -> None:
    assert gold_logprob_ended(replace(LANE, gold_end_logprob=-0.5)) == -6.5
    assert gold_logprob_ended(LANE) is None


@pytest.mark.parametrize(
    ("options", "chosen", "per_byte"),
    [
        ({"Ada": -7.0}, True, True),
        ({"Ada": -5.0}, False, True),
        # a longer option has a lower sum and a higher mean: -8 / 8 bytes against -6 / 4
        ({"Adelaide": -8.0}, True, False),
        ({"Anna": -5.5}, False, False),
        ({"Zoo!": -6.0}, False, False),  # a tie
        ({"Ada": -7.0, "Bo": -1.0}, False, False),
        ({}, None, None),
        (None, None, None),
    ],
)
def test_the_most_probable_option(
    options: dict[str, float] | None, chosen: bool | None, per_byte: bool | None
) -> None:
    lane = replace(LANE, option_logprobs=options)
    assert choice_acc(lane) is chosen
    assert choice_acc_norm(lane) is per_byte
