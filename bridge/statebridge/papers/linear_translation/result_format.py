"""The published result files of arXiv 2606.03280 as a result format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from statebridge.data.files import atomic_writer, make_folder
from statebridge.errors import ResultError
from statebridge.experiment.conditions import Condition
from statebridge.papers.linear_translation.result_reader import (
    FILES,
    published_file_name,
    read_published,
)
from statebridge.papers.linear_translation.result_writer import write_published
from statebridge.records import CellResult, ResultSet
from statebridge.results.formats import RESULT_FORMATS
from statebridge.runs.directory import session_seconds


class PublishedResults:
    """One JSON file for each cell, `h1_*.json`."""

    def recognises(self, path: Path) -> bool:
        """Whether a file ends in .json, or a folder holds files with published names."""
        return any(path.glob(FILES)) if path.is_dir() else path.suffix == ".json"

    def read(self, paths: Sequence[Path], *, strict: bool) -> ResultSet:
        """Read files and folders of them; see `read_published`."""
        return read_published(paths, strict=strict)

    def write(self, results: ResultSet, folder: Path) -> list[Path]:
        """Write one run directory's results; see `export_published`."""
        return export_published(results, folder)


RESULT_FORMATS.add("published")(PublishedResults())


def export_published(results: ResultSet, out: str | Path) -> list[Path]:
    """Write one published file per cell of one run directory; return their paths.

    A cell without rows (a strict shuffle over rows whose prompt lengths are all their own)
    has no file. The published `elapsed_sec` is one cell's own time; the shared path runs
    all cells together, so each gets the share of the run's time that its lanes are of all lanes.

    Raises:
        ResultError: Not one run directory's results, or a condition that the published
            format has no words for.
        EnvironmentFault: A file cannot be written.
    """
    manifest = results.manifest
    if manifest is None:
        raise ResultError("export writes the results of one run directory; give exactly one")
    out = Path(out)
    make_folder(out)
    sender, receiver = manifest["pair"]["sender"], manifest["pair"]["receiver"]
    models = {
        "model_a": sender["model"],
        "model_b": receiver["model"],
        "layer_a": sender["layer_path"],
        "layer_b": receiver["layer_path"],
    }
    cells = [cell for cell in results.cells if cell.lanes]
    lanes = sum(len(cell.lanes) for cell in cells)
    seconds = session_seconds(cells[0].source) if cells else 0.0
    # All cells are put into words before the first file is written.
    files = [
        (
            published_file_name(cell),
            write_published(
                cell,
                created_at=manifest["created_at"],
                elapsed_sec=round(seconds * len(cell.lanes) / lanes, 3),
                dataset=results.dataset,
                models=models,
                config={"device": "cpu" if manifest["device"] == "cpu" else "cuda"},
                checkpoint=_checkpoint(cell, manifest["translators"]),
            ),
        )
        for cell in cells
    ]
    for name, content in files:
        with atomic_writer(out / name) as stream:
            stream.write(json.dumps(content, ensure_ascii=False, indent=2).encode() + b"\n")
    return [out / name for name, _ in files]


def _checkpoint(cell: CellResult, translators: dict[str, dict[str, str]]) -> str | None:
    condition = cell.condition
    if not isinstance(condition, Condition) or not condition.translates:
        return None
    # Of several sets, the one that the condition names, or the first.
    keys = [str(cell.seed), f"{condition.translator}/{cell.seed}", *translators]
    of_seed = [key for key in keys if key.split("/")[-1] == str(cell.seed) and key in translators]
    return translators[of_seed[0]]["file"]
