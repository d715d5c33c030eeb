"""Bits of a message: how much it raises the receiver's probability of the gold answer.

For a row with the gold answer g, the *pointwise usable information* of a message m for the
receiver, in the setting whose floor is the receiver alone, is

    bits = log2 p(g | m) - log2 p(g | nothing sent)

(K. Ethayarajh, Y. Choi, S. Swayamdipta, "Understanding dataset difficulty with V-usable
information", ICML 2022, section 2; the mean over rows is the V-information of Y. Xu and others,
ICLR 2020). There the family V is trained for both terms; here it is this one receiver, as it
is. So the bits say what this receiver makes of the message: they may be below zero, and another
reader may make more of it. No interval of a mean of log-probabilities holds for every
distribution, so the mean is given without one, beside the median row with its interval.

A message can raise all likely answers and carry nothing of its row. The part that belongs to the
row is own = log2 p(g | own message) - log2 p(g | another row's message), over the rows whose
other row has another answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set

import numpy as np

from statebridge.errors import ResultError
from statebridge.records import Direction, ResultSet
from statebridge.results.cost import RowCost, condition_costs
from statebridge.stats.comparison import Estimate, MessageBits, Settings
from statebridge.stats.inference.intervals import Floats, clustered_interval
from statebridge.stats.own_row import shuffled_twins, with_another_row
from statebridge.stats.pairing import Pairing
from statebridge.stats.setting import ChannelSetting, channel_settings

MEASURE = "gold_logprob"


def message_bits(results: ResultSet, settings: Settings | None = None) -> list[MessageBits]:
    """Return the bits of every condition's messages, setting by setting.

    Seeds of a row are averaged first. Intervals are of the median row, also of its bits per
    kilobyte and per operation.

    Raises:
        ResultError: Rows cannot be paired (see `Pairing.pair`).
    """
    settings = settings or Settings()
    pairing = Pairing(results)
    costs = _row_costs(results)
    found = []
    for setting in channel_settings(results):
        if not pairing.has_values(setting.direction, setting.floor, MEASURE):
            continue
        for condition in pairing.conditions(setting.direction):
            if condition == setting.floor or condition not in setting.conditions:
                continue
            if pairing.has_values(setting.direction, condition, MEASURE):
                found.append(_of_condition(results, pairing, setting, condition, costs, settings))
    return found


def _row_costs(results: ResultSet) -> dict[str, Mapping[str, RowCost]]:
    try:
        return {cost.condition: cost.by_row for cost in condition_costs(results)}
    except ResultError:  # published files, or nothing decoded: bits without costs
        return {}


def _of_condition(
    results: ResultSet,
    pairing: Pairing,
    setting: ChannelSetting,
    condition: str,
    costs: Mapping[str, Mapping[str, RowCost]],
    settings: Settings,
) -> MessageBits:
    direction, floor = setting.direction, setting.floor
    cells = pairing.cells(direction, condition)
    bits = _bits(pairing, direction, condition, floor)
    control = dict(shuffled_twins(results, setting)).get(condition)
    own = {} if control is None else _own_bits(results, pairing, setting, condition, control)
    answers = cells[0].row_facts.get("answer_seen", {})
    new = {row_id for row_id, label in answers.items() if label == "no"}

    def estimate(values: Mapping[str, float], among: Set[str] | None = None) -> Estimate | None:
        kept = [value for row_id, value in values.items() if among is None or row_id in among]
        return _estimate(np.array(kept), np.ones(len(kept)), settings) if kept else None

    def per(of_row: Callable[[RowCost], float]) -> Estimate | None:
        spent = {row_id: of_row(cost) for row_id, cost in costs.get(condition, {}).items()}
        rows = [row_id for row_id in bits if spent.get(row_id, 0) > 0]
        if not rows:
            return None
        return _estimate(
            np.array([bits[row_id] for row_id in rows]),
            np.array([spent[row_id] for row_id in rows]),
            settings,
        )

    whole = estimate(bits)
    if whole is None:
        raise ResultError(
            f"{condition} against {floor}: no row has a value of {MEASURE} under both"
        )
    sent = _mean(cost.sent_bytes for cost in costs.get(condition, {}).values())
    operations = _mean(cost.operations for cost in costs.get(condition, {}).values())
    return MessageBits(
        direction=direction,
        prompt=setting.prompt,
        condition=condition,
        floor=floor,
        bits=whole,
        control=control,
        own=estimate(own),
        unseen=estimate(bits, new),
        unseen_own=estimate(own, new),
        sent_bytes=sent or None,
        per_kilobyte=per(lambda cost: cost.sent_bytes / 1000),
        gigaflop=None if operations is None else operations / 1e9,
        per_gigaflop=per(lambda cost: cost.operations / 1e9),
    )


def _estimate(bits: Floats, spent: Floats, settings: Settings) -> Estimate:
    """Bits for each unit spent, of the median row and as a ratio of means; both (rows,)."""
    each = bits / spent
    return Estimate(
        value=float(np.median(each)),
        interval=clustered_interval(each, bounded=False, level=settings.level),
        mean=math.fsum(bits) / math.fsum(spent),
        n_rows=len(bits),
    )


def _bits(
    pairing: Pairing,
    direction: Direction,
    condition: str,
    baseline: str,
    rows: Set[str] | None = None,
) -> dict[str, float]:
    paired = pairing.pair(direction, condition, baseline, MEASURE, rows=rows).by_row
    return dict(zip(paired.row_ids, (paired.deltas / math.log(2)).tolist(), strict=True))


def _own_bits(
    results: ResultSet, pairing: Pairing, setting: ChannelSetting, condition: str, control: str
) -> dict[str, float]:
    """Return a row's bits above its control, where that got the state of another answer's row."""
    rows = with_another_row(results, setting.direction, control)
    try:
        return _bits(pairing, setting.direction, condition, control, rows)
    except ResultError:  # no seed or row in common, which a comparison warns of
        return {}


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else None
