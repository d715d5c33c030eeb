"""`statebridge layer-profile`: what each layer of both models holds of the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statebridge.actions import need_engine
from statebridge.commands.options import (
    AsJson,
    Device,
    ExperimentFile,
    Set,
    read_declared,
    read_layers,
)
from statebridge.commands.similarity import Layers
from statebridge.progress import show_progress


def layer_profile(
    file: ExperimentFile,
    sender_layers: Layers = None,
    receiver_layers: Layers = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for layer_profile.json and .md.", show_default=False),
    ] = None,
    device: Device = None,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Probe and patch the last state of the prompt at each layer of sender and receiver.

    A linear probe, on held-out rows, bounds what an affine map of a state could bring; patches
    with another row's state say where the model uses it.
    """
    from statebridge.commands.printing import print_table

    experiment = read_declared(file, changes, {"execution.device": device})
    ours, theirs = read_layers(sender_layers), read_layers(receiver_layers)
    need_engine()
    from statebridge.data.files import atomic_writer, make_folder
    from statebridge.engine.sender_checks.profile import layer_profile as profiled
    from statebridge.models.pair import declared_pair
    from statebridge.tables.formats import write_table
    from statebridge.tables.profile_table import profile_table
    from statebridge.tasks.declared_rows import resolve_dataset

    rows, _ = resolve_dataset(experiment.dataset)
    if out is not None:
        make_folder(out)
    with show_progress(quiet=as_json) as progress:
        pair = declared_pair(experiment, progress=progress)
        found = profiled(experiment, pair, rows, ours, theirs, progress)
    table = profile_table(found)
    if out is not None:
        with atomic_writer(out / "layer_profile.json") as stream:
            stream.write(found.model_dump_json(indent=1).encode("utf-8") + b"\n")
        write_table(table, out / "layer_profile.md")
    if as_json:
        print(found.model_dump_json())
        return
    print_table(table)
    if out is not None:
        print(f"layer_profile.json and .md written to {out}")
