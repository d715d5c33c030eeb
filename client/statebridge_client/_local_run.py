"""A run directory with the methods of a remote run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from statebridge.errors import ResultError
from statebridge_client import _results
from statebridge_client._rows import Rows, chosen_rows

if TYPE_CHECKING:
    from statebridge.records import ResultSet
    from statebridge.scoring import ConditionScore
    from statebridge.stats import Comparison, Mode
    from statebridge_client._experiment_calls import ExportFormat


class LocalRun:
    """A run directory: what `statebridge run` wrote, or `RemoteRun.download` fetched."""

    def __init__(self, path: str | Path) -> None:
        """Take the directory; it is read whenever results are asked for."""
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"<LocalRun {self.path}>"

    def results(self) -> ResultSet:
        """Read the committed rows.

        Raises:
            ResultError: Not a run directory, or its files contradict each other.
        """
        from statebridge.results.run_results import read_run  # noqa: PLC0415 - with its first use

        return read_run(self.path)

    def rows(
        self, *, conditions: Sequence[str] | None = None, seeds: Sequence[int] | None = None
    ) -> Rows:
        """Return the committed rows, to iterate over or to make a table of."""
        return chosen_rows(self.results(), conditions, seeds)

    def summary(self) -> list[ConditionScore]:
        """Return every condition's scores over the committed rows."""
        from statebridge.scoring import score_cell, score_conditions  # noqa: PLC0415

        return score_conditions([score_cell(cell) for cell in self.results().cells if cell.lanes])

    def compare(
        self,
        baseline: str | Sequence[str] | None = None,
        *,
        metrics: Sequence[str] | None = None,
        mode: Mode = "clustered",
        by: Sequence[str] = (),
        margins: Sequence[float] | None = None,
    ) -> Comparison:
        """Compare every condition with one or more baselines, paired by row.

        Without a baseline each is compared with what the receiver does alone with the same
        prompt.
        """
        from statebridge.stats import Settings, compare  # noqa: PLC0415 - scipy is slow to load

        chosen = Settings().margins if margins is None else tuple(margins)
        return compare(
            self.results(),
            _results.names(baseline),
            metrics=metrics,
            mode=mode,
            settings=Settings(stratify_by=tuple(by), margins=chosen),
        )

    def report(self, path: str | Path) -> Path:
        """Write the report, one HTML page, to a file (or into a folder); return the file."""
        from statebridge.report import write_report  # noqa: PLC0415 - matplotlib is slow to load

        results = self.results()
        title = (results.manifest or {}).get("experiment", {}).get("name")
        with tempfile.TemporaryDirectory() as folder:
            (page,) = write_report(results, folder, formats=("html",), title=title)
            return _results.write_file(_results.file_in(path, "report.html"), page.read_bytes())

    def export(self, folder: str | Path, format: ExportFormat = "published") -> list[Path]:
        """Write published result files, or tables, into a folder; return the files.

        Raises:
            ResultError: Published files of a run that is not finished.
        """
        _results.check_format(format)
        folder = Path(folder)
        results = self.results()
        if format == "published":
            from statebridge.results.formats import RESULT_FORMATS  # noqa: PLC0415

            incomplete = [cell.name for cell in results.cells if not cell.complete]
            if incomplete:
                raise ResultError(f"{self.path}: cell {incomplete[0]} is incomplete")
            return RESULT_FORMATS.get(format).write(results, folder)
        from statebridge.tables import export_tables  # noqa: PLC0415

        return export_tables(results, folder, format)
