"""Draw the figure of the README: floor, channels and skyline of the taught pair.

statebridge run experiments/taught-pair.yaml --out runs/taught
python scripts/readme_figure.py runs/taught --out docs/figures
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from statebridge.figures.drawing import Drawing, save_figure
from statebridge.figures.style import BLACK, BLUE, GREY, house_style, label_rows, new_figure
from statebridge.pages.estimates import row_means, score
from statebridge.results.read_results import read_sources

METRIC = "word_boundary_contains"
LINES = (
    ("question_only", "floor: receiver alone", GREY),
    ("private_last_random", "control: random state", GREY),
    ("causal_last_shuffled", "control: another row's state", GREY),
    ("private_last", "channel: fitted map", BLUE),
    ("private_last_matched", "channel: fitted map, receiver's norm", BLUE),
    ("causal_last", "channel: map trained through receiver", BLUE),
    ("skyline", "skyline: receiver reads the context", BLACK),
)
"""Conditions from the lowest bound to the highest, with label and colour."""


def main() -> int:
    """Draw the figure and print the numbers in it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, help="run directory of the taught pair")
    parser.add_argument("--out", type=Path, required=True, help="folder of the figure")
    chosen = parser.parse_args()
    cells = read_sources([chosen.run]).cells
    with house_style():
        figure = new_figure(2.5)
        axes = figure.subplots()
        for place, (condition, _, colour) in enumerate(LINES):
            values = row_means([c for c in cells if c.condition.name == condition], METRIC)
            share, interval, _ = score(values, METRIC)
            if share is None or interval is None:
                print(f"error: {condition} has no value of {METRIC}", file=sys.stderr)
                return 1
            low, high = interval.low, interval.high
            print(f"{condition}: {share:.4f} [{low:.4f}, {high:.4f}]")
            axes.plot([low, high], [place, place], "|-", color=colour, linewidth=1.6)
            axes.plot(share, place, "o", color=colour, markersize=6)
            left = share > 0.9
            axes.annotate(
                f"{100 * share:.1f} %",
                (low if left else high, place),
                xytext=(-7 if left else 7, 0),
                textcoords="offset points",
                ha="right" if left else "left",
                va="center",
            )
        label_rows(axes, [label for _, label, _ in LINES])
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
        axes.grid(axis="x", color="#E6E6E6", linewidth=0.6)
        axes.set_xlabel("questions answered right, with 95 % intervals over rows")
    chosen.out.mkdir(parents=True, exist_ok=True)
    save_figure(
        Drawing("taught-pair", "Taught pair", "", figure),
        chosen.out / "taught-pair",
        formats=("svg",),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
