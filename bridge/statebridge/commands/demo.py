"""`statebridge demo`: the published experiment on a small pair, with nothing downloaded."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from statebridge.commands.engine_extra import need_engine
from statebridge.commands.progress import progress_bars
from statebridge.commands.score_table import condition_scores, print_scores

ROWS = 48


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="Keep the run directory here; a temporary one if not given."),
    ] = None,
) -> None:
    """Run every published condition on a small pair with random weights, and score it."""
    need_engine()
    console = Console()
    console.print(
        "The pair of this demo has random weights: it knows nothing, so no condition answers "
        "anything. What it shows is the apparatus: every published condition and control, run, "
        "committed and scored. Only the last three columns tell the conditions apart.\n",
        highlight=False,
    )
    if out is not None:
        _run(out, console)
        return
    with tempfile.TemporaryDirectory(prefix="statebridge-demo-") as folder:
        _run(Path(folder) / "run", console)


def _run(out: Path, console: Console) -> None:
    from statebridge.demo.random_pair import build_random_pair
    from statebridge.engine.run import run_experiment
    from statebridge.results.rundir import read_run
    from statebridge.spec import Experiment

    with tempfile.TemporaryDirectory(prefix="statebridge-pair-") as folder:
        models = build_random_pair(Path(folder))
        experiment = Experiment.model_validate(
            {
                "name": "demo",
                "sender": {"model": str(models["sender"]), "layer": 0.67},
                "receiver": {"model": str(models["receiver"]), "layer": 0.67},
                "dataset": {"generate": {"rows": ROWS, "hops": [2], "distractors": 1}},
                "translators": {
                    "fit": {"kind": "ridge", "corpus": {"generate": {"rows": 200, "seed": 1}}}
                },
                "conditions": "published",
            }
        )
        with progress_bars() as progress:
            summary = run_experiment(experiment, out, progress=progress)
    print_scores(condition_scores(read_run(out)), console)
    console.print(
        f"\n{summary.lanes} lanes ({ROWS} rows in {len(read_run(out).cells)} cells) in "
        f"{summary.seconds:.1f} s",
        highlight=False,
    )
