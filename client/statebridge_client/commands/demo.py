"""`statebridge demo`: the way of a real study on a small pair, with nothing downloaded."""

# What a command needs is imported when it runs, so that --help stays quick.

from __future__ import annotations

import tempfile
import threading
import time
from contextlib import ExitStack
from importlib import import_module
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

    from statebridge.demo.experiment import ROWS, demo_experiment
    from statebridge.progress import show_progress
    from statebridge_client import Client
    from statebridge_client.local_server import local_server

    console = Console(highlight=False)
    experiment = demo_experiment()
    began = time.monotonic()
    pair = {side: {"model": experiment[side]["model"]} for side in ("sender", "receiver")}
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="statebridge-demo-"))
        with show_progress() as show:
            show("serve", 0, 1)
            # What the report needs takes seconds to import, in which the server starts.
            threading.Thread(target=import_module, args=("statebridge.report",)).start()
            # The experiment is handed in while the server loads the pair.
            server = local_server(Path(folder), {"demo": pair}, loaded=False)
            url = running.enter_context(server)
            client = running.enter_context(Client(url))
            console.print(f"Submitting the experiment to {url}: {ROWS} generated rows")
            show("submit", 0, 1)
            run = client.submit(experiment)
        run.wait()
        from statebridge.commands.printing import print_scores
        from statebridge.report.content import gather
        from statebridge.report.report_files import write_content

        console.print(
            "Scores by condition. In the first ten, the published ones, the receiver reads the "
            "context itself; in the others only the sender does, and question_only and skyline "
            "are what a channel could give at least and at most.",
        )
        print_scores(run, console)
        results = run.results()
    with show_progress() as show:
        content = gather(results, title=run.name, progress=show)
        (report,) = write_content(content, out, ["html"], progress=show)
    for verdict in content.verdicts:
        console.print(f"\n[bold]{verdict.setting}[/bold]\n{verdict.headline}")
        for finding in verdict.findings[:2]:
            console.print(f"  {finding}")
    for control in content.positive_controls:
        console.print(f"\n{control.headline}")
    console.print(f"\nReport: {report}   ({time.monotonic() - began:.0f} s in all)")
