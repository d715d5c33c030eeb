"""`statebridge view`: run directories in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def view(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Run directories, or folders of them.", show_default=False
        ),
    ],
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8001,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others can read the runs at any but this.")
    ] = "127.0.0.1",
) -> None:
    """Show runs in a browser: progress, scores and reports, side by side, also while they run.

    Nothing is changed, and nothing needs torch. Stop it with Ctrl-C.
    """
    from statebridge.pages.local_server import LocalServer
    from statebridge.pages.run_folders import RunFolders

    server = LocalServer(RunFolders(runs), host, port)
    if not server.loopback:
        typer.echo(f"caution: whoever can reach {host} can read these runs", err=True)
    print(server.url, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
