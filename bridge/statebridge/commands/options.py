"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ExperimentFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="Experiment file, YAML or JSON.", show_default=False)
]
Sources = Annotated[
    list[Path],
    typer.Argument(
        metavar="SOURCE...",
        help="Run directories, published result files (h1_*.json), or folders of them.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script to read.")]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or cuda:N; the file's choice, or what is there, if not given."),
]
Remote = Annotated[
    str | None,
    typer.Option(help="local (nnsight's serialisation, run here), ndif, or a URL."),
]
