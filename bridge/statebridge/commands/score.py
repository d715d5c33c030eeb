"""`statebridge score`: scores of committed rows or published files."""

from __future__ import annotations

import json

from rich.console import Console

from statebridge.commands.options import AsJson, Sources
from statebridge.commands.score_table import condition_scores, print_empty_cells, print_scores


def score(sources: Sources, as_json: AsJson = False) -> None:
    """Print each condition's scores; ± is the standard deviation over seeds."""
    from statebridge.results.sources import read_sources

    results = read_sources(sources)
    scores = condition_scores(results)
    if as_json:
        print(
            json.dumps(
                [
                    {
                        "condition": score.condition,
                        "direction": score.direction,
                        "seeds": list(score.seeds),
                        "rows": list(score.n_rows),
                        "missing_predictions": score.missing_predictions,
                        "means": {
                            measure: {"mean": mean.mean, "sd": mean.sd, "runs": mean.runs}
                            for measure, mean in score.means.items()
                        },
                    }
                    for score in scores
                ]
            )
        )
        return
    print_scores(scores, Console())
    print_empty_cells(results, Console(stderr=True))
    for cell in results.cells:
        if not cell.complete:
            Console(stderr=True).print(
                f"note: cell {cell.name} is incomplete ({len(cell.lanes)} rows so far)",
                highlight=False,
            )
