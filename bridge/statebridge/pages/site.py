"""A site of results that were checked: every condition of every run, each with its report.

It is a folder of files, which opens from disk and goes onto any web server.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statebridge.data.files import atomic_writer, make_folder
from statebridge.errors import ResultError
from statebridge.pages.experiment_view import experiment_facts
from statebridge.pages.rendering import STATIC, render
from statebridge.pages.run_folders import RunFolders
from statebridge.pages.score_view import primary_comparison, score_table
from statebridge.records import ResultSet
from statebridge.report import write_report
from statebridge.report.words.sentences import ROLE_WORDS
from statebridge.results.by_condition import condition_cells
from statebridge.results.read_results import read_sources
from statebridge.runs.directory import DATASET, MANIFEST, ROWS
from statebridge.stats import Comparison
from statebridge.tables import Column, Table
from statebridge.tables.estimates import number_of
from statebridge.tables.table import Value
from statebridge.validation import ValidationReport, validate
from statebridge.validation.expectation import run_expectation


@dataclass(frozen=True, slots=True)
class CheckedRun:
    """A run that passed its validation."""

    name: str
    folder: Path
    results: ResultSet
    validation: ValidationReport

    @property
    def manifest(self) -> Mapping[str, Any]:
        """Its manifest, which a run that passed has."""
        assert self.results.manifest is not None  # noqa: S101
        return self.results.manifest

    @property
    def place(self) -> str:
        """Its folder in the site."""
        return f"runs/{self.name}"

    @property
    def pair(self) -> str:
        """Its models and layers."""
        sides = (self.manifest["pair"][side] for side in ("sender", "receiver"))
        return " to ".join(f"{side['model']} (layer {side['layer']})" for side in sides)

    @property
    def task(self) -> str:
        """Name of the rows: their task, or the file that they are from."""
        dataset = self.manifest["experiment"]["dataset"]
        if generated := dataset.get("generate"):
            return str(generated["task"])
        return Path(dataset.get("path") or "rows").stem


@dataclass(frozen=True, slots=True)
class Ranking:
    """All conditions over one dataset, those with the most bits of the row first."""

    title: str
    table: Table
    hrefs: tuple[str, ...]
    """Address of the report of each row."""


@dataclass(frozen=True, slots=True)
class RunCard:
    """Hashes, versions and validation of a run, by which others check it."""

    name: str
    place: str
    facts: tuple[tuple[str, str], ...]


def checked_runs(paths: Sequence[Path]) -> list[CheckedRun]:
    """Read and validate runs.

    Args:
        paths: Run directories, or folders of them.

    Raises:
        ResultError: A path holds no run; or validation does not pass, with each reason.
    """
    folders, found, refused = RunFolders(paths), [], []
    for name in folders.names():
        folder = folders.folder(name)
        if folder is None:
            continue
        loose = read_sources([folder], strict=False)
        report = validate(loose, run_expectation(loose))
        if report.passed:
            safe = re.sub(r"[^A-Za-z0-9._-]", "-", name).strip(".") or "run"
            found.append(CheckedRun(safe, folder, read_sources([folder]), report))
        else:
            refused.append(f"{folder}: {report.blocking[0].reason}")
    if refused:
        raise ResultError(
            f"validation does not pass, so nothing was written: {'; '.join(refused)} "
            "(`statebridge validate` lists everything)"
        )
    return found


def write_site(
    paths: Sequence[Path],
    out: Path,
    *,
    title: str = "Results",
    figures: bool = True,
    begun: Callable[[str, int, int], None] = lambda *_: None,
) -> Path:
    """Write a site of runs into a folder; return its first page.

    Args:
        paths: Run directories, or folders of them.
        out: The folder; made if needed.
        title: Of the first page.
        figures: False leaves the figures of the reports out.
        begun: Called with the name of each run whose report begins, its number, and of how many.

    Raises:
        ResultError: A run that validation does not pass.
        EnvironmentFault: A file cannot be written.
    """
    runs = checked_runs(paths)
    make_folder(out)
    ranked: dict[str, list[tuple[CheckedRun, Comparison]]] = {}
    cards = []
    for number, run in enumerate(runs):
        begun(run.name, number, len(runs))
        folder = out / run.place
        write_report(
            run.results,
            folder,
            formats=("html",),
            title=run.manifest["experiment"]["name"],
            validation=run.validation,
            figures=figures,
        )
        _write(folder / MANIFEST, (run.folder / MANIFEST).read_bytes())
        cards.append(_card(run))
        place = run.manifest["dataset"]["sha256"]
        ranked.setdefault(place, []).append((run, primary_comparison(run.results)))
    rankings = [_ranking(sha256, those) for sha256, those in ranked.items()]
    make_folder(out / "static")
    for name, file in STATIC.items():
        _write(out / "static" / name, file.content)
    page = render("site", title=title, rankings=rankings, cards=cards, static="static/")
    _write(out / "index.html", page)
    return out / "index.html"


def _write(path: Path, content: bytes) -> None:
    with atomic_writer(path) as stream:
        stream.write(content)


_COLUMNS = (
    "condition",
    "role",
    "own",
    "own_interval",
    "bits",
    "bits_interval",
    "score",
    "score_interval",
    "rows",
    "difference",
    "difference_interval",
    "verdict",
    "run",
    "pair",
)
"""Order of a ranking's columns."""


_SORTED_BY = ("own", "bits", "score")
"""Columns by which the rows of a role are sorted, the highest first; nothing comes last."""

_SENT = frozenset({ROLE_WORDS["channel"], ROLE_WORDS["text"]})
"""Roles that come first: what carries something. Baselines and controls follow."""


def _ranking(sha256: str, runs: Sequence[tuple[CheckedRun, Comparison]]) -> Ranking:
    """Rank the conditions of all runs over one dataset."""
    lines: list[tuple[str, dict[str, Value]]] = []
    columns = {column.name: column for column in _MORE}
    for run, comparison in runs:
        table = score_table(run.results, comparison)
        columns |= {column.name: column for column in table.columns}
        own = {(one.direction, one.condition): one.own for one in comparison.bits}
        places = [(group.direction, group.condition) for group in condition_cells(run.results)]
        for place, row in zip(places, table.rows, strict=True):
            values = dict(zip((column.name for column in table.columns), row, strict=True))
            value, interval, _ = number_of(own.get(place))
            values |= {"own": value, "own_interval": interval, "pair": run.pair, "run": run.name}
            lines.append((f"{run.place}/report.html", values))
    lines.sort(key=lambda line: _place(line[1]))
    rows = tuple(tuple(values[name] for name in _COLUMNS) for _, values in lines)
    first = runs[0][0]
    title = f"{first.task}: {first.manifest['dataset']['rows']} rows, SHA-256 {sha256[:12]}"
    table = Table(title, tuple(columns[name] for name in _COLUMNS), rows, _NOTES)
    return Ranking(title, table, tuple(href for href, _ in lines))


_MORE = (
    Column("own", "bits of the row", "number", "signed", 3),
    Column("own_interval", "interval", "range", "signed", 3),
    Column("pair", "pair"),
    Column("run", "run"),
)


def _place(values: Mapping[str, Value]) -> tuple[bool, list[float]]:
    found = [values[name] for name in _SORTED_BY]
    numbers = [-value if isinstance(value, int | float) else math.inf for value in found]
    return values["role"] not in _SENT, numbers


_NOTES = (
    "Bits of the row: less those of another row's message that was sent the same way; only these "
    "are content. Sorted by them, then by bits, then by score; controls and baselines follow. "
    "Score: by the primary metric of the task. Bits are of the median row. Intervals at 95 %, "
    "rows as clusters.",
)


def _card(run: CheckedRun) -> RunCard:
    manifest = run.manifest
    versions = ", ".join(f"{name} {value}" for name, value in manifest["versions"].items() if value)
    report = run.validation
    facts = [
        *experiment_facts(manifest["experiment"]),
        *(
            (f"weights of the {side}", f"SHA-256 {manifest['pair'][side]['weights_sha256']}")
            for side in ("sender", "receiver")
        ),
        *((f"SHA-256 of {name}", _sha256(run.folder / name)) for name in (MANIFEST, DATASET, ROWS)),
        ("versions", versions),
        ("device", str(manifest.get("device", ""))),
        ("begun", str(manifest.get("created_at", ""))),
        (
            "validation",
            f"{report.passed_cells} of {report.expected_cells} cells pass ({report.expectation}), "
            f"{len(report.warnings)} warnings",
        ),
        *((f"warning {i}", str(each)) for i, each in enumerate(report.warnings, start=1)),
    ]
    return RunCard(run.name, run.place, tuple(facts))


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
