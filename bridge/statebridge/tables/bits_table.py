"""The table of bits: what each channel's messages say to the receiver, and at what price."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.errors import ResultError
from statebridge.experiment.conditions import Prompt
from statebridge.results.by_condition import reading_order
from statebridge.stats.comparison import Estimate, MessageBits
from statebridge.tables.table import Column, Range, Table, Value

SETTINGS: dict[Prompt, str] = {
    "task": "shared",
    "question_only": "private",
    "placeholder": "private, placeholders",
}
"""Name of a setting by the receiver's prompt."""


def bits_table(found: Sequence[MessageBits]) -> Table:
    """Return one row for each condition of each setting.

    Raises:
        ResultError: There is none.
    """
    if not found:
        raise ResultError("no condition has a gold log-probability beside that of its floor")
    places = reading_order(one.condition for one in found)
    settings = list(dict.fromkeys((one.direction, one.prompt) for one in found))
    ordered = sorted(
        found,
        key=lambda one: (settings.index((one.direction, one.prompt)), places.index(one.condition)),
    )
    split = any(one.unseen is not None for one in found)
    own = any(one.own is not None for one in found)
    sent = any(one.per_kilobyte is not None for one in found)
    counted = any(one.per_gigaflop is not None for one in found)
    columns = (
        Column("direction", "direction", printed=len({one.direction for one in found}) > 1),
        Column("setting", "setting", printed=len(settings) > 1),
        Column("condition", "condition"),
        Column("floor", "floor", printed=False),
        Column("rows", "rows", "integer"),
        Column("bits_mean", "bits a message, mean", "number", "signed", digits=3),
        *_estimate("bits", "median row"),
        Column("control", "another row's", printed=False),
        *_estimate("own", "of the row", printed=own),
        Column("unseen_rows", "unseen rows", "integer", printed=split),
        *_estimate("unseen", "bits, unseen rows", printed=split),
        *_estimate("unseen_own", "of the row, unseen rows", printed=split and own),
        Column("bytes", "bytes sent", "number", digits=0, printed=sent),
        *_estimate("per_kilobyte", "bits/kB", printed=sent),
        Column("gflop", "GFLOP", "number", printed=counted),
        *_estimate("per_gflop", "bits/GFLOP", printed=counted),
    )
    level = next((e.interval.level for one in found for e in [one.bits] if e.interval), 0.95)
    notes = [
        f"Bits: log2 p(gold | message) less log2 p(gold | the floor of the setting, "
        f"{' or '.join(dict.fromkeys(one.floor for one in ordered))}), each row's seeds averaged "
        "first. Below 0: the message makes the gold answer less likely than nothing does. All "
        f"columns but the first mean are of the median row, with {100 * level:g} % intervals: no "
        "interval of a mean of log-probabilities holds for every distribution.",
        "Of the row: less another row's message, over the rows whose other row has another answer. "
        "Only this part is content.",
    ]
    if split:
        notes.append("Unseen rows: their answers were not among those that the map was trained on.")
    if sent or counted:
        notes.append(
            "Per kB (1,000 bytes sent) and per 10⁹ operations of both models (exact count, with a "
            "cache)."
        )
    return Table(
        title="Bits: usable information of a message",
        columns=columns,
        rows=tuple(_row(one) for one in ordered),
        notes=tuple(notes),
    )


def _estimate(name: str, header: str, *, printed: bool = True) -> tuple[Column, Column]:
    return (
        Column(name, header, "number", "signed", digits=3, printed=printed),
        Column(f"{name}_interval", "interval", "range", "signed", digits=3, printed=printed),
    )


def _row(one: MessageBits) -> tuple[Value, ...]:
    return (
        one.direction,
        SETTINGS.get(one.prompt, one.prompt),
        one.condition,
        one.floor,
        one.bits.n_rows,
        one.bits.mean,
        *_values(one.bits),
        one.control,
        *_values(one.own),
        None if one.unseen is None else one.unseen.n_rows,
        *_values(one.unseen),
        *_values(one.unseen_own),
        one.sent_bytes,
        *_values(one.per_kilobyte),
        one.gigaflop,
        *_values(one.per_gigaflop),
    )


def _values(estimate: Estimate | None) -> tuple[float | None, Range | None]:
    if estimate is None:
        return None, None
    return estimate.value, Range.of(estimate.interval)
