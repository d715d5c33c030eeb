"""How long the statistics take: 25 cells of 396 rows, 3 metrics, 2 baselines.

    OMP_NUM_THREADS=1 python benchmarks/comparison.py

The cells have the names, seeds and sizes of the published set with its extras (383 rows for
the strict control); their texts are made here, with rows that differ under every metric, so
that no bootstrap is skipped. Times are wall-clock seconds, best of three.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

from statebridge.experiment.presets import named_condition
from statebridge.records import CellResult, DatasetRow, LaneResult, ResultSet
from statebridge.stats import Mode, compare

ROWS = 396
STRICT_ROWS = 383
DETERMINISTIC = ("no_inject", "nl_relay", "b_to_b_self_inject", "zero_replacement")
SEEDED = (
    "additive",
    "replace",
    "scale_corrected",
    "best_alpha",
    "same_norm_random",
    "shuffled_translation",
    "shuffled_translation_strict_matched",
)
SEEDS = (42, 123, 456)
METRICS = ("word_boundary_contains", "legacy_contains", "normalized_exact_match")


def synthetic_results() -> ResultSet:
    """The 25 cells, the same at every call."""
    draw = random.Random(0)
    rows = [f"mh_clean_{index:06}" for index in range(ROWS)]
    dataset = {
        row_id: DatasetRow(
            row_id,
            "",
            "",
            f"word{row_id}",
            {
                "hops": draw.choice((2, 3, 4)),
                "domain_inferred": draw.choice(("geography", "history", "science", "other")),
                "answer_type": draw.choice(("entity", "number", "phrase")),
            },
        )
        for row_id in rows
    }
    lengths = {row_id: draw.randint(30, 89) for row_id in rows}
    cells = []
    for condition in (*DETERMINISTIC, *SEEDED):
        for seed in SEEDS if condition in SEEDED else (None,):
            strict = condition.endswith("strict_matched")
            kept = rows[:STRICT_ROWS] if strict else rows
            cells.append(
                CellResult(
                    condition=named_condition(condition),
                    seed=seed,
                    direction="fwd",
                    lanes=[
                        LaneResult(
                            row_id,
                            dataset[row_id].answer,
                            _prediction(dataset[row_id].answer, draw),
                            prompt_len_receiver=lengths[row_id],
                        )
                        for row_id in kept
                    ],
                    source=Path("synthetic"),
                    excluded_rows=ROWS - STRICT_ROWS if strict else None,
                )
            )
    return ResultSet(cells, dataset)


def _prediction(answer: str, draw: random.Random) -> str:
    chance = draw.random()
    if chance < 0.03:
        return answer
    if chance < 0.09:
        return f"It may be that {answer} is meant here. " + "More text follows on this. " * 8
    if chance < 0.11:
        return f"The {answer}s of old. " + "More text follows on this. " * 8
    return "The text is about something else. " * 8


def best_of_three(results: ResultSet, mode: Mode) -> float:
    """Seconds of the quickest of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        compare(results, ("no_inject", "nl_relay"), metrics=METRICS, mode=mode)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print one line per mode."""
    results = synthetic_results()
    print(f"{len(results.cells)} cells, {len(METRICS)} metrics, 2 baselines")
    limits: dict[Mode, int] = {"published": 5, "clustered": 6}
    for mode, limit in limits.items():
        seconds = best_of_three(results, mode)
        print(f"{mode:>10}: {seconds:5.2f} s (wanted: under {limit} s on 2 cores)")


if __name__ == "__main__":
    main()
