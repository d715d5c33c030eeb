"""`statebridge demo`: the way of a real study on a small pair, with nothing downloaded."""

# What a command needs is imported when it runs, so that --help stays quick.

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the report; made if needed.")] = Path(
        "statebridge-demo"
    ),
) -> None:
    """Start a server, run the published experiment and a private channel on it, and report.

    The pair is a small one that was taught to answer generated two-hop questions. The server
    listens on this machine only and is stopped at the end.
    """
    from rich.console import Console

    from statebridge.commands.printing import print_scores
    from statebridge.demo.experiment import ROWS, demo_experiment
    from statebridge.report import verdicts
    from statebridge.report.words.positive_control import positive_control_views
    from statebridge.stats import compare
    from statebridge_client import Client
    from statebridge_client.local_server import local_server

    console = Console(highlight=False)
    experiment = demo_experiment()
    began = time.monotonic()
    pair = {side: {"model": experiment[side]["model"]} for side in ("sender", "receiver")}
    with tempfile.TemporaryDirectory(prefix="statebridge-demo-") as folder:
        console.print("Starting a server on this machine ...")
        with local_server(Path(folder), {"demo": pair}) as url, Client(url) as client:
            console.print(f"Submitting the experiment to {url}: {ROWS} generated rows")
            run = client.submit(experiment)
            run.wait()
            console.print(
                "Scores by condition. In the first ten, the published ones, the receiver reads the "
                "context itself; in the others only the sender does, and question_only and skyline "
                "are what a channel could give at least and at most.",
            )
            print_scores(run, console)
            results = run.results()
            out.mkdir(parents=True, exist_ok=True)
            report = run.report(out / "report.html")
    for verdict in verdicts(results, compare(results)):
        console.print(f"\n[bold]{verdict.setting}[/bold]\n{verdict.headline}")
        for finding in verdict.findings[:2]:
            console.print(f"  {finding}")
    for control in positive_control_views(results):
        console.print(f"\n{control.headline}")
    console.print(f"\nReport: {report}   ({time.monotonic() - began:.0f} s in all)")
