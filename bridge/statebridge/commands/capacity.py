"""`statebridge capacity`: bits that each channel of an experiment carries in one use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import AsJson, Device, ExperimentFile, Set, read_changes
from statebridge.errors import InputError


def capacity(
    file: ExperimentFile,
    out: Annotated[Path, typer.Option(help="Run directory; an earlier one there goes on.")],
    symbols: Annotated[
        str, typer.Option(help="Numbers of symbols, 2 to 1,024, with commas.")
    ] = "2,4,8,16,32,64",
    rows: Annotated[
        int, typer.Option(help="Rows for each number; every symbol gets one at least.", min=1)
    ] = 200,
    device: Device = None,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Measure how many bits each channel of an experiment carries in one use.

    The sender reads which one of K symbols it is, the receiver is asked for it. The experiment's
    conditions run over such rows; its run directory gets capacity.json, .md, .svg, .pdf and .png.
    """
    from statebridge.actions import capacity as measure
    from statebridge.commands.printing import print_table
    from statebridge.data.files import atomic_writer
    from statebridge.figures import capacity_curve, save_figure
    from statebridge.tables import capacity_table, write_table

    try:
        counts = [int(part) for part in symbols.split(",")]
    except ValueError:
        raise InputError(f"--symbols {symbols}: give numbers such as 2,8,32") from None
    overrides = read_changes(changes, {"execution.device": device})
    found = measure(file, out, overrides, symbols=counts, rows=rows, progress=not as_json)
    with atomic_writer(out / "capacity.json") as stream:
        stream.write(found.model_dump_json(indent=1).encode("utf-8") + b"\n")
    table = capacity_table(found)
    write_table(table, out / "capacity.md")
    save_figure(capacity_curve(found), out / "capacity")
    if as_json:
        print(found.model_dump_json())
        return
    print_table(table)
    print(f"\nwritten to {out}: capacity.json, capacity.md and the curve")
