"""Bits of messages: by hand, without rows that are no control, per kilobyte and operation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from statebridge.experiment.presets import CONDITIONS
from statebridge.records import ResultSet
from statebridge.stats import Settings, compare, message_bits
from statebridge.stats.comparison import MessageBits
from statebridge.stats.inference.intervals import clustered_interval
from tests.bridge.results.made_costs import METHODS, made_costs
from tests.bridge.stats.tables import measured, results

QUICK = Settings(stratify_by=())
NAT = math.log(2)
ROWS = 40


def private(channel: list[float], other: list[float]) -> ResultSet:
    """A private channel and its control over a floor of -4 bits, by row in bits."""
    return results(
        measured("question_only", "gold_logprob", [-4 * NAT] * len(channel)),
        measured("private_last", "gold_logprob", [v * NAT for v in channel], 42),
        measured("private_last_shuffled", "gold_logprob", [v * NAT for v in other], 42),
    )


def of(found: list[MessageBits], condition: str) -> MessageBits:
    return next(one for one in found if one.condition == condition)


def test_bits_are_above_the_floor_and_above_another_row() -> None:
    spread = np.linspace(-1, 1, ROWS)
    made = private((spread - 1).tolist(), (2 * spread - 5).tolist())
    channel = of(message_bits(made, QUICK), "private_last")
    assert channel.floor == "question_only"
    assert channel.bits.value == pytest.approx(3)
    assert channel.control == "private_last_shuffled"
    assert channel.own is not None
    assert channel.own.value == pytest.approx(4)
    control = of(message_bits(made, QUICK), "private_last_shuffled")
    assert control.bits.value == pytest.approx(-1)
    assert control.own is None


def test_the_interval_is_that_of_the_row_deltas_in_bits() -> None:
    spread = np.linspace(-1, 2, ROWS)
    (channel, _) = message_bits(private(spread.tolist(), [0.0] * ROWS), QUICK)
    # The subtraction in nats rounds: the same to 9 digits.
    expected = clustered_interval(spread + 4, bounded=False)
    assert channel.bits.interval is not None
    assert expected is not None
    assert channel.bits.interval.low == pytest.approx(expected.low, rel=1e-9)
    assert channel.bits.interval.high == pytest.approx(expected.high, rel=1e-9)


def test_rows_that_got_no_other_answer_have_no_part_of_the_row() -> None:
    made = private([0.0] * 10 + [-2.0] * 10, [0.0] * 10 + [-3.0] * 10)
    control = made.cells[2]
    ids = [lane.row_id for lane in control.lanes]
    control.lanes[9] = replace(control.lanes[9], donor_row_id=ids[9], donor_self_fallback=True)
    control.same_answer_donors = frozenset(ids[:9])
    own = of(message_bits(made, QUICK), "private_last").own
    assert own is not None
    assert (own.value, own.n_rows) == (pytest.approx(1), 10)


def test_rows_that_a_control_lacks_have_no_part_of_the_row() -> None:
    made = private([-1.0] * 12, [-3.0] * 12)
    made.cells[2].lanes = made.cells[2].lanes[:7]
    channel = of(message_bits(made, QUICK), "private_last")
    assert (channel.bits.n_rows, channel.own and channel.own.n_rows) == (12, 7)


def test_unseen_rows_have_bits_of_their_own() -> None:
    made = private([-1.0] * 10 + [-5.0] * 10, [-4.0] * 20)
    channel = made.cells[1]
    channel.row_facts = {
        "answer_seen": {
            lane.row_id: "yes" if place < 10 else "no" for place, lane in enumerate(channel.lanes)
        }
    }
    found = of(message_bits(made, QUICK), "private_last")
    assert found.unseen is not None
    assert found.unseen_own is not None
    assert (found.unseen.value, found.unseen.n_rows) == (pytest.approx(-1), 10)
    assert found.unseen_own.value == pytest.approx(-1)
    assert of(message_bits(made, QUICK), "private_last_shuffled").unseen is None


def priced() -> ResultSet:
    made = made_costs(METHODS)
    for cell in made.cells:
        raised = 0.0 if cell.condition.is_baseline and cell.condition.private else 3 * NAT
        cell.lanes = [replace(lane, gold_logprob=-5 + raised) for lane in cell.lanes]
    return made


def test_bits_per_kilobyte_and_operation_follow_from_the_costs() -> None:
    found = message_bits(priced(), QUICK)
    state = of(found, "activation_replace")
    assert state.sent_bytes == 24 * 2  # one state of width 24 in bfloat16
    assert state.per_kilobyte is not None
    assert state.per_kilobyte.value == pytest.approx(3 / 0.048)
    assert state.per_gigaflop is not None
    assert state.gigaflop is not None
    assert state.per_gigaflop.mean == pytest.approx(3 / state.gigaflop)
    text = of(found, "private_relay")
    assert text.sent_bytes == len("héllo".encode())
    assert text.per_kilobyte is not None
    assert text.per_kilobyte.value == pytest.approx(3 / 0.006)
    skyline = of(found, "skyline")
    assert (skyline.sent_bytes, skyline.per_kilobyte) == (None, None)
    assert skyline.per_gigaflop is not None
    # A control is sent by no one: it has bits and no price.
    assert of(found, "private_last_zero").per_gigaflop is None


def test_a_comparison_holds_the_bits_of_its_settings() -> None:
    made = private([-1.0, -2.0, -3.0], [-4.0, -5.0, -4.0])
    assert compare(made, settings=QUICK).bits == tuple(message_bits(made, QUICK))
    assert compare(made, "question_only", settings=QUICK).bits == ()
    assert compare(made, metrics=["gold_logprob"], mode="published").bits == ()


def test_rows_without_a_log_probability_have_no_bits() -> None:
    floor, channel = CONDITIONS["question_only"], CONDITIONS["private_last"]
    made = made_costs([floor, channel])
    assert message_bits(made, QUICK) == []


def test_a_median_that_most_rows_share_has_a_mean_beside_it() -> None:
    made = private([-4.0] * 30 + [1.0] * 10, [-4.0] * ROWS)
    channel = of(message_bits(made, QUICK), "private_last")
    assert (channel.bits.value, channel.bits.interval) == (0.0, None)
    assert channel.bits.mean == pytest.approx(5 / 4)


def test_a_mean_for_each_kilobyte_is_a_ratio_of_means() -> None:
    made = priced()
    for cell in made.cells:
        if cell.condition.name == "private_relay":
            first = replace(cell.lanes[0], gold_logprob=cell.lanes[0].gold_logprob + 6 * NAT)
            cell.lanes = [first, *cell.lanes[1:]]
            rows = len(cell.lanes)
    found = of(message_bits(made, QUICK), "private_relay").per_kilobyte
    assert found is not None
    assert found.mean == pytest.approx((3 + 6 / rows) / 0.006)
    assert found.value == pytest.approx(3 / 0.006) or rows < 3


def test_cells_without_a_twin_have_no_rows_part() -> None:
    made = results(
        measured("question_only", "gold_logprob", [-3.0, -2.0]),
        measured("nl_relay", "gold_logprob", [-1.0, -2.0]),
    )
    (relay,) = message_bits(made, QUICK)
    assert (relay.condition, relay.control, relay.own) == ("nl_relay", None, None)
