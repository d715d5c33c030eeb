"""The experiment as resolved: what ran, on what, and how to run it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statebridge.experiment.conditions import Condition
from statebridge.figures.wording import joined, plain, seeds_text
from statebridge.records import CellResult, ResultSet
from statebridge.results.by_condition import ConditionCells, condition_cells
from statebridge.tables import Column, Table
from statebridge.tables.condition_words import condition_words
from statebridge.tables.table import Value

Fact = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ExperimentView:
    """Facts that a reader needs to judge the experiment and to repeat it."""

    facts: tuple[Fact, ...]
    conditions: Table
    prompts: tuple[Fact, ...]
    experiment_json: str | None
    """The experiment file that gives this run again; None for published files."""
    steps: tuple[str, ...]
    """How to reproduce the results and this report, one command or sentence each."""


def head_facts(results: ResultSet) -> tuple[Fact, ...]:
    """Return pair, dataset and date of the results, as far as they are known, for the head."""
    manifest, cells = results.manifest, results.cells
    rows = len({lane.row_id for cell in cells for lane in cell.lanes})
    seeds = seeds_text(cell.seed for cell in cells)
    if manifest is None:
        models = _distinct(_settings(cell.models) for cell in _using_both(cells))
        given = [("models", models), ("rows", f"{rows}, {seeds}")]
        return tuple((name, value) for name, value in given if value)
    facts = [(side, _short_model(manifest["pair"][side])) for side in ("sender", "receiver")]
    facts.append(("dataset", f"{_dataset(manifest['experiment'].get('dataset'))}, {rows} rows"))
    facts.append(("seeds", seeds.removeprefix("seeds ")))
    facts.append(("date", str(manifest.get("created_at", ""))[:10]))
    return tuple((name, value) for name, value in facts if value)


def _short_model(block: Mapping[str, Any]) -> str:
    name = str(block["model"]).rstrip("/").rpartition("/")[2]
    return f"{name}, layer {block['layer']} of {block['blocks']}"


def _dataset(declared: Mapping[str, Any] | None) -> str:
    """Name of the dataset: of its file, or of the task that made it."""
    if not declared:
        return "dataset"
    made = declared.get("generate")
    if made:
        return f"generated ({made.get('task', 'multihop')}, seed {made.get('seed', 0)})"
    return Path(str(declared.get("path"))).name


def experiment_view(results: ResultSet, command: str | None) -> ExperimentView:
    """Return the experiment of a run directory's manifest, or what published files record."""
    manifest = results.manifest
    experiment = None if manifest is None else manifest["experiment"]
    facts = _run_facts(manifest) if manifest is not None else _file_facts(results)
    prompts = () if experiment is None else tuple(experiment.get("prompts", {}).items())
    return ExperimentView(
        facts=tuple(facts),
        conditions=_conditions(results),
        prompts=prompts,
        experiment_json=None
        if experiment is None
        else json.dumps(experiment, indent=2, ensure_ascii=False),
        steps=tuple(_steps(manifest, command, _run_folder(results, command))),
    )


def _run_facts(manifest: Mapping[str, Any]) -> list[Fact]:
    experiment = manifest["experiment"]
    facts = [("name", str(experiment["name"])), ("direction", str(experiment["direction"]))]
    for side in ("sender", "receiver"):
        facts.append((side, _model(manifest["pair"][side])))
    dataset, name = manifest["dataset"], _dataset(experiment.get("dataset"))
    facts.append(("dataset", f"{name}, {dataset['rows']} rows, SHA-256 {dataset['sha256']}"))
    for key, entry in (manifest.get("translators") or {}).items():
        which, _, seed = str(key).rpartition("/")
        fit = _fit(experiment.get("translators") or {}, which)
        facts.append((f"translator{which and ' '}{which}, seed {seed}", _translator(entry, fit)))
    facts += [
        ("seeds", ", ".join(str(seed) for seed in experiment["seeds"])),
        ("random draws", str(experiment.get("rng", ""))),
        ("decoding", _settings(experiment["decoding"])),
        ("number format", str(experiment.get("dtype", ""))),
        ("device", str(manifest.get("device", ""))),
        ("sender's device", str(manifest.get("sender_device") or "")),
        ("execution path", str(manifest.get("path", ""))),
        ("versions", _settings(manifest.get("versions", {}))),
        ("git revision", str(manifest.get("git_revision") or "not in a checkout")),
        ("started", str(manifest.get("created_at", ""))),
    ]
    return [(name, value) for name, value in facts if value]


def _file_facts(results: ResultSet) -> list[Fact]:
    cells = results.cells
    return [
        (name, value)
        for name, value in (
            ("source", "published result files; they hold no manifest"),
            ("files", str(len({str(cell.source) for cell in cells}))),
            ("dataset SHA-256", _distinct(cell.dataset_sha256 or "" for cell in cells)),
            ("models", _distinct(_settings(cell.models) for cell in _using_both(cells))),
            ("decoding", _distinct(_settings(_plain_decoding(cell)) for cell in cells)),
            ("relay decoding", _distinct(_relay_decoding(cell) for cell in cells)),
        )
        if value
    ]


def _using_both(cells: Sequence[CellResult]) -> Sequence[CellResult]:
    """The cells that use the sender; the others' files name what stood in for it."""
    found = [c for c in cells if c.condition.reads_sender or c.condition.uses_text]
    return found or cells


def _plain_decoding(cell: CellResult) -> dict[str, Any]:
    return {k: v for k, v in cell.decoding.items() if not isinstance(v, Mapping)}


def _relay_decoding(cell: CellResult) -> str:
    inner = cell.decoding.get("sender_generation")
    return _settings(inner) if isinstance(inner, Mapping) else ""


def _distinct(values: Any) -> str:
    return "; or ".join(sorted({value for value in values if value}))


def _model(block: Mapping[str, Any]) -> str:
    revision = f" at revision {block['revision']}" if block.get("revision") else ""
    return (
        f"{block['model']}{revision}, output of {block['layer_path']} (layer {block['layer']} of "
        f"{block['blocks']}, width {block['width']}), weights SHA-256 {block['weights_sha256']}"
    )


def _fit(declared: Mapping[str, Any], which: str) -> Mapping[str, Any] | None:
    """The declared fit of a set of translators; None where files were given."""
    found = declared.get("sets", {}).get(which) if which else declared
    return found if isinstance(found, Mapping) and "kind" in found else None


def _translator(entry: Mapping[str, Any], fit: Mapping[str, Any] | None) -> str:
    """Kind and corpus as declared: a ridge fit is stored as an affine map."""
    text = f"{entry['file']}, an {entry['kind']} map from a file"
    if fit is not None:
        text = f"{entry['file']}, {fit['kind']}"
        then = ", then" if fit.get("corpus") else ","
        text += f"{then} trained through the receiver" if fit.get("causal") else ""
        text += f", fitted on {_dataset(fit['corpus'])}" if fit.get("corpus") else ""
    text += f", SHA-256 {entry['sha256']}"
    for report in entry.get("quality") or []:
        space = report["normalised"]
        text += (
            f"; on {report['positions']} held-out positions, normalised: R² {plain(space['r2'])}, "
            f"cosine {plain(space['cosine'])} (mean vector alone {plain(space['baseline_cosine'])})"
        )
    return text


def _settings(block: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in block.items() if value is not None)


def _conditions(results: ResultSet) -> Table:
    return Table(
        title="Conditions as resolved",
        columns=(
            Column("condition", "condition"),
            Column("words", "in words"),
            Column("source", "source"),
            Column("operator", "operator"),
            Column("weight", "weight", "number", digits=2),
            Column("match_norm", "norm matched", "boolean"),
            Column("positions", "positions written"),
            Column("source_positions", "positions read"),
            Column("prompt", "prompt"),
        ),
        rows=tuple(_condition_row(group) for group in condition_cells(results)),
        notes=("Every injection happens once, in the forward pass over the prompt.",),
    )


def _condition_row(group: ConditionCells) -> tuple[Value, ...]:
    condition = group.declared
    if not isinstance(condition, Condition):
        return (group.label, None, "not recorded", None, None, None, None, None, None)
    words = condition_words(condition)
    if not condition.writes:
        return (group.label, words, "none", None, None, None, None, None, condition.prompt)
    return (
        group.label,
        words,
        condition.source,
        condition.operator,
        condition.weight,
        condition.match_norm,
        _positions(condition.positions),
        _positions(condition.source_positions),
        condition.prompt,
    )


def _positions(positions: str | Sequence[int]) -> str:
    return positions if isinstance(positions, str) else joined([str(p) for p in positions])


def _run_folder(results: ResultSet, command: str | None) -> str:
    """The folder that the report's command reads, so that the run's command writes it."""
    given = shlex.split(command or "")
    sources = {str(cell.source) for cell in results.cells}
    return shlex.quote(next((word for word in given if word in sources), "RUN"))


def _steps(manifest: Mapping[str, Any] | None, command: str | None, folder: str) -> list[str]:
    steps = []
    if manifest is not None:
        version = manifest.get("versions", {}).get("statebridge", "")
        steps += [
            f'pip install "statebridge[engine]=={version}"',
            f"statebridge run experiment.json --out {folder}",
        ]
    if command:
        steps.append(command)
    elif manifest is not None:
        steps.append("statebridge report RUN --out report")
    return steps
