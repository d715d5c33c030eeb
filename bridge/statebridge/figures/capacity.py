"""Bits carried in one use, over the number of symbols."""

from __future__ import annotations

from math import log2

from statebridge.figures.drawing import Drawing
from statebridge.figures.style import GREY, house_style, literal, new_figure, series_styles
from statebridge.figures.wording import rows_text
from statebridge.records import Direction
from statebridge.results.by_condition import row_label
from statebridge.stats.information.capacity import LEVEL, Capacity, ChannelUse


def capacity_curve(capacity: Capacity) -> Drawing:
    """Draw the bits that each condition carries at least over the bits that the symbols hold."""
    lines: dict[tuple[Direction, str], list[ChannelUse]] = {}
    for use in capacity.uses:
        lines.setdefault((use.direction, use.condition), []).append(use)
    both = len({direction for direction, _ in lines}) > 1
    counts = sorted({use.symbols for use in capacity.uses})
    styles = series_styles(condition for _, condition in lines)
    with house_style():
        figure = new_figure(3.4 + 0.09 * len(lines))
        axes = figure.subplots()
        sent = [log2(count) for count in counts]
        axes.plot([0, *sent], [0, *sent], color=GREY, linewidth=0.9, linestyle=(0, (2, 2)))
        axes.annotate("all that is sent", (sent[-1], sent[-1]), ha="right", va="bottom", fontsize=7)
        for (direction, condition), uses in lines.items():
            style = styles[condition]
            for use in uses:
                ends = [use.low, use.high]
                axes.plot([log2(use.symbols)] * 2, ends, "_-", color=style.colour, linewidth=1)
            axes.plot(
                [log2(use.symbols) for use in uses],
                [use.bits_at_least for use in uses],
                color=style.colour,
                marker=style.marker,
                markersize=4.5,
                linestyle=style.dash,
                label=literal(row_label(condition, direction, both=both)),
            )
        axes.set_xticks(sent, [f"{count:,}" for count in counts])
        axes.set_xlabel("symbols")
        axes.set_ylabel("bits in one use, at least")
        axes.grid(color="#E6E6E6", linewidth=0.6)
        figure.legend(loc="outside lower center", ncols=3)
    caption = (
        "Bits that one use of each condition carries at least of which symbol was sent (Fano's "
        f"bound, with {100 * LEVEL:.0f} % intervals over rows), over the number of symbols; the "
        "dashed grey line is all that is sent, log2 of their number; "
        f"{rows_text(use.n_rows for use in capacity.uses)} for each number."
    )
    return Drawing("capacity", "Bits carried in one use", caption, figure)
