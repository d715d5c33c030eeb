"""`statebridge init`: write a first experiment file, with comments."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from statebridge.errors import EnvironmentFault, InputError, nearest

_SETTINGS = {
    "private": "the sender alone reads the context; the receiver reads the question",
    "shared": "both read the context and the question (arXiv 2606.03280)",
}
_PRESETS = {"private": "private-strict", "shared": "published-strict"}


def init(
    file: Annotated[Path, typer.Argument(help="The file to write.")] = Path("experiment.yaml"),
    sender: Annotated[
        str | None, typer.Option(help="Hub id or folder of the sender.", show_default=False)
    ] = None,
    receiver: Annotated[
        str | None, typer.Option(help="Hub id or folder of the receiver.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="File of rows (JSONL, CSV or Parquet), or a task whose rows are generated.",
            show_default=False,
        ),
    ] = None,
    setting: Annotated[
        str | None, typer.Option(help="private or shared.", show_default=False)
    ] = None,
) -> None:
    """Ask for a pair, rows and a setting, and write an experiment file with comments.

    What an option gives is not asked; without a terminal the defaults are taken. Paths are
    relative to where you are.
    """
    if file.exists():
        raise InputError(f"{file}: is there already; give another name")
    sender = sender or _asked("Sender (hub id or folder)", "EleutherAI/pythia-160m")
    receiver = receiver or _asked("Receiver (hub id or folder)", "EleutherAI/pythia-410m")
    dataset = dataset or _asked("Rows (a file, or a task whose rows are generated)", "multihop")
    if setting is None:
        meanings = "; ".join(f"{name}: {meaning}" for name, meaning in _SETTINGS.items())
        setting = _asked(f"Setting ({meanings})", "private")
    if setting not in _SETTINGS:
        raise InputError(f"--setting {setting}: no such setting; {nearest(setting, _SETTINGS)}")
    from statebridge.experiment import parse_experiment

    sender, receiver, dataset = _model(file, sender), _model(file, receiver), _rows(file, dataset)
    text = _text(file.stem, sender, receiver, dataset, setting)
    parse_experiment(text, where=str(file), folder=file.resolve().parent)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"{file}: cannot be written: {error.strerror}") from error
    print(f"{file} is written. Next:\n  statebridge doctor {file}")
    print(f"  statebridge run {file} --out runs/{file.stem}")


def _asked(question: str, default: str) -> str:
    if not sys.stdin.isatty():
        return default
    return str(typer.prompt(question, default=default, err=True))


def _model(file: Path, given: str) -> str:
    """Return a hub id, or a folder as the experiment file names it."""
    return os.path.join(".", _from(file, given)) if given.startswith(".") else given


def _rows(file: Path, given: str) -> str:
    """Return a task, a data set of the hub, or a file as the experiment file names it."""
    from statebridge.experiment.dataset import HUB, TASKS

    if given in TASKS or given.startswith(HUB):
        return given
    if not Path(given).expanduser().is_file():
        raise InputError(
            f"--dataset {given}: no such file, and no task whose rows are generated; "
            f"{nearest(given, TASKS.names())}"
        )
    return _from(file, given)


def _from(file: Path, given: str) -> str:
    """Return a path that is relative to where the user is as one relative to a file's folder."""
    if given.startswith("~") or Path(given).is_absolute():
        return given
    return os.path.relpath(Path(given).resolve(), file.resolve().parent)


def _text(name: str, sender: str, receiver: str, dataset: str, setting: str) -> str:
    from statebridge.experiment.dataset import TASKS

    if dataset in TASKS:
        rows = f"""  # Rows are made here. A file of yours instead: path: rows.jsonl, a row a line,
  # with the fields id, context, question and answer.
  generate: {{task: {dataset}, rows: 200, seed: 0}}"""
    else:
        rows = f"""  # One row a line, with the fields id, context, question and answer.
  path: {_yaml(dataset)}"""
    return f"""# Does the sender pass the receiver anything through its states?
# `statebridge schema` prints every field, `statebridge ls` every name that may be used.
name: {_yaml(name)}
# A layer is a share of the depth (0.67), or the number of a block from 0.
sender:   {{model: {_yaml(sender)}, layer: 0.67}}
receiver: {{model: {_yaml(receiver)}, layer: 0.67}}
dataset:
{rows}
# The map from the sender's states to the receiver's, fitted on other generated text.
translators:
  fit:
    kind: ridge
    corpus: {{generate: {{rows: 2000, seed: 1}}}}
# {setting.capitalize()} setting: {_SETTINGS[setting]}.
# A preset is a list of conditions, with the controls that a claim needs.
conditions: {_PRESETS[setting]}
seeds: [42, 123, 456]
decoding: {{max_new_tokens: 32}}
"""


def _yaml(text: str) -> str:
    """Return a text as YAML reads it back."""
    plain = text.replace("/", "").replace("-", "").replace("_", "").replace(".", "")
    return text if plain.isalnum() and text[0].isalpha() else json.dumps(text, ensure_ascii=False)
