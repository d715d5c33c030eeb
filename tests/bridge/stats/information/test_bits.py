"""Bits of messages: by hand, without rows that are no control, per kilobyte and operation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from statebridge.experiment.presets import CONDITIONS
from statebridge.records import ResultSet
from statebridge.stats import Settings, compare, message_bits
from statebridge.stats.comparison import Interval, MessageBits
from statebridge.stats.inference.intervals import Floats, clustered_interval
from statebridge.stats.information.bits import ratio_estimate
from tests.bridge.results.made_costs import METHODS, made_costs
from tests.bridge.stats.tables import measured, results

QUICK = Settings(resamples=500, stratify_by=())
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
    expected = clustered_interval(spread + 4, zero_one=False, resamples=500)
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
    assert state.per_gigaflop.value == pytest.approx(3 / state.gigaflop)
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


def test_a_ratio_over_one_price_is_the_interval_divided() -> None:
    bits = np.array([0.5, 2.0, 3.5, 1.0])

    def interval(values: Floats) -> Interval:
        mean = float(values.mean())
        return Interval(low=mean - 1, high=mean + 2, level=0.95, method="studentised_bootstrap")

    found = ratio_estimate(bits, np.full(4, 0.25), interval)
    assert found.value == pytest.approx(7)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == (pytest.approx(6), pytest.approx(9))


def covered(rows: int, samples: int, *, resamples: int) -> float:
    """Share of samples whose interval of bits per kilobyte holds the true ratio.

    Texts of 20 to 400 bytes, of which the longer ones say more; true ratio 2 bits to 0.2 kB.
    """
    draw = np.random.default_rng(5)
    inside = 0
    for _ in range(samples):
        size = draw.gamma(4.0, 0.05, rows)
        bits = 10 * size * draw.gamma(2.0, 0.5, rows) + draw.normal(0, 1, rows)

        def interval(values: Floats) -> Interval | None:
            return clustered_interval(values, zero_one=False, resamples=resamples)

        found = ratio_estimate(bits, size, interval).interval
        assert found is not None
        inside += not found.excludes(10.0)
    return inside / samples


def test_intervals_of_ratios_cover_what_they_say() -> None:
    # 95 %, and three standard errors of 200 samples (1.5 points each).
    assert covered(48, 200, resamples=299) >= 0.95 - 0.046


@pytest.mark.soak
@pytest.mark.parametrize("rows", [32, 64, 200, 1000])
def test_intervals_of_ratios_cover_between_93_and_98_percent(rows: int) -> None:
    assert 0.935 - 0.01 <= covered(rows, 2000, resamples=999) <= 0.975 + 0.01


def test_cells_without_a_twin_have_no_rows_part() -> None:
    made = results(
        measured("question_only", "gold_logprob", [-3.0, -2.0]),
        measured("nl_relay", "gold_logprob", [-1.0, -2.0]),
    )
    (relay,) = message_bits(made, QUICK)
    assert (relay.condition, relay.control, relay.own) == ("nl_relay", None, None)
