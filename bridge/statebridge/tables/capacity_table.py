"""The table of `statebridge capacity`: bits in one use, and what a text would need for them."""

from __future__ import annotations

from math import log2

from statebridge.stats.information.capacity import LEVEL, Capacity, ChannelUse
from statebridge.tables.table import Column, Range, Table, Value

NAME_AS_TEXT = "(the name as text)"


def capacity_table(capacity: Capacity) -> Table:
    """Return one row per number of symbols and condition, and one for a text that says the name."""
    rows: list[tuple[Value, ...]] = []
    for place, use in enumerate(capacity.uses):
        rows.append(_row(use))
        following = capacity.uses[place + 1 : place + 2]
        if not following or following[0].symbols != use.symbols:
            rows.append(_name_row(use))
    several = len({use.direction for use in capacity.uses}) > 1
    return Table(
        title="Bits carried in one use",
        columns=(
            Column("symbols", "symbols", "integer"),
            Column("symbol_bits", "bits sent", "number", digits=2, printed=False),
            Column("direction", "direction", printed=several),
            Column("condition", "condition"),
            Column("role", "role", printed=False),
            Column("seeds", "seeds", "integer"),
            Column("rows", "rows", "integer"),
            Column("right", "right", "number", digits=3),
            Column("named", "named", "number", digits=3),
            Column("bits_at_least", "bits at least", "number", digits=2),
            Column("interval", "interval", "range", digits=2),
            Column("bits_estimate", "estimate", "number", digits=2),
            Column("bytes", "bytes", "number", digits=1),
            Column("bits_per_kilobyte", "bits per kB", "number", digits=1),
        ),
        rows=tuple(rows),
        notes=(
            "right, named: shares of rows whose text names the right symbol, any symbol. Bits at "
            f"least: Fano's bound with its {100 * LEVEL:.0f} % interval over rows, which may be "
            "wider than its level needs where fewer than five rows are wrong or name no symbol; "
            "the estimate is shrunken and has no interval "
            "(statebridge.stats.information.channel_bits).",
            "A control sends nothing of its own row, so it has no bytes. Bytes of states are those "
            "of the numbers as they are sent, uncompressed.",
        ),
    )


def _row(use: ChannelUse) -> tuple[Value, ...]:
    return (
        use.symbols,
        log2(use.symbols),
        use.direction,
        use.condition,
        use.role,
        use.seeds,
        use.n_rows,
        use.right,
        use.named,
        use.bits_at_least,
        Range(use.low, use.high),
        use.bits_estimate,
        use.sent_bytes,
        use.bits_per_kilobyte,
    )


def _name_row(use: ChannelUse) -> tuple[Value, ...]:
    bits = log2(use.symbols)
    rate = 1000 * bits / use.name_bytes
    unmeasured = (None, None, None, None, None, bits, None, None, use.name_bytes, rate)
    return (use.symbols, bits, use.direction, NAME_AS_TEXT, *unmeasured)
