"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from statebridge.errors import ExperimentError

if TYPE_CHECKING:
    from statebridge.experiment import Experiment

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
Dataset = Annotated[
    Path | None,
    typer.Option(
        help="JSONL rows that published files are about: contexts, questions, strata.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or cuda:N; the file's choice, or what is there, if not given."),
]
Executor = Annotated[
    str | None,
    typer.Option(help="in_process (this process, the default) or ray.", show_default=False),
]
Workers = Annotated[
    str | None,
    typer.Option(help="Actors of executor ray, or auto for as many as there is room for."),
]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster, HOST:PORT or auto; this machine alone if not given."),
]
Limit = Annotated[int | None, typer.Option(help="Run the first rows only.", min=1)]
MaxLanes = Annotated[
    int | None, typer.Option(help="Lanes decoded together; sized from memory if not given.")
]
NoDecode = Annotated[
    bool, typer.Option("--no-decode", help="Measure log-probability, rank and KL; no text.")
]
Remote = Annotated[
    str | None,
    typer.Option(help="local (nnsight's serialisation, run here), ndif, or a URL."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field of the file, such as dataset.path=rows.jsonl; may be repeated. "
        "Paths are relative to where you are.",
        show_default=False,
    ),
]


def executor_changes(
    executor: str | None, workers: str | None, address: str | None
) -> dict[str, Any]:
    """Return the options about the executor as overrides of an experiment file."""
    count = int(workers) if workers is not None and workers.isdecimal() else workers
    return {
        "execution.executor": executor,
        "execution.workers": count,
        "execution.address": address,
    }


def read_declared(file: Path, changes: list[str] | None, given: Mapping[str, Any]) -> Experiment:
    """Return a file's experiment, changed as `read_changes` reads it."""
    from statebridge.experiment import load_experiment

    return load_experiment(file, read_changes(changes, given))


_PATHS = frozenset({"path", "model"})


def read_changes(
    changes: list[str] | None, given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return `--set` options as overrides of an experiment file, values read as YAML.

    Args:
        given: Values of other options by field, which win; None for one not given.

    Raises:
        ExperimentError: An option is not FIELD=VALUE.
    """
    # Not with the file: `--help` needs no pydantic.
    from statebridge.experiment.reading.yaml_text import read_yaml

    found: dict[str, Any] = {}
    for change in changes or []:
        field, equals, text = change.partition("=")
        if not equals or not field:
            raise ExperimentError(
                f"--set {change}: not FIELD=VALUE; give such as decoding.max_new_tokens=32"
            )
        value, _ = read_yaml(text, f"--set {change}")
        # In a file a relative path is relative to the file; here to the working directory.
        last = field.rsplit(".", 1)[-1]
        # `execution.path` is a word: `shared` or `plain`.
        is_path = field != "execution.path" and (last == "path" or field.startswith("translators."))
        local = isinstance(value, str) and (is_path or value.startswith((".", "~")))
        if (last in _PATHS or last.isdecimal()) and local:
            value = str(Path(value).expanduser().resolve())
        found[field] = value
    return found | {field: value for field, value in (given or {}).items() if value is not None}


def read_layers(text: str | None) -> list[int | float | str] | None:
    """Return the layers of a list such as `0.25,0.5,8`; None where none is given.

    Raises:
        ExperimentError: The text is not such a list.
    """
    # Not with the file: `--help` needs no pydantic.
    from statebridge.experiment.reading.yaml_text import read_yaml

    if text is None:
        return None
    wrong = ExperimentError(f"layers {text!r}: give a list such as 0.25,0.5,8")
    try:
        layers, _ = read_yaml(f"[{text}]", "layers")
    except ExperimentError:
        raise wrong from None
    if not isinstance(layers, list) or not layers:
        raise wrong
    if not all(isinstance(layer, int | float | str) for layer in layers):
        raise wrong
    if any(isinstance(layer, bool) for layer in layers):
        raise wrong
    return layers
