"""`Run`: the results of an experiment as a user holds them.

A run may be unfinished: every member works on the rows that are committed so far. Nothing here
needs torch, so results can be read on any machine.
"""

# What a member needs is imported on its first use: scipy, pyarrow and matplotlib are slow to load.
# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from statebridge.errors import ResultError, nearest

if TYPE_CHECKING:
    from statebridge.experiment import Experiment
    from statebridge.experiment.reading.given import ExperimentLike
    from statebridge.models.pair import Pair
    from statebridge.progress import ShowProgress
    from statebridge.records import DatasetRow, Direction, ResultSet
    from statebridge.scoring import ConditionScore
    from statebridge.stats import Comparison, Mode
    from statebridge.tables.formats import TableFormat
    from statebridge.tables.rows import Rows
    from statebridge.validation import Expectation, ValidationReport


class RowCount(NamedTuple):
    """Number of committed lanes, and of all lanes of the plan."""

    done: int
    total: int


class Run:
    """Results of an experiment: a run directory, or published result files.

    The files are read on first use, and again where they have changed since.

    Examples:
        >>> run = statebridge.open_run("runs/first")
        >>> run.score("replace")
        0.25
    """

    def __init__(self, *sources: str | Path, dataset: str | Path | None = None) -> None:
        """Name the sources; nothing is read yet.

        Args:
            sources: Run directories, published result files (`h1_*.json`), or folders of them.
            dataset: JSONL rows of published files, which hold no contexts and questions.
        """
        self.sources = tuple(Path(source) for source in sources)
        self.dataset = None if dataset is None else Path(dataset)
        self._read: tuple[object, ResultSet] | None = None

    def __repr__(self) -> str:
        where = ", ".join(map(str, self.sources))
        if self._read is None:
            return f"<{type(self).__name__} {where}>"
        results = self._read[1]
        name, (done, total) = _name(results), _rows(results)
        named = "" if name is None else f"{name}, "
        return f"<{type(self).__name__} {where}: {named}{done} of {total} lanes>"

    def _repr_html_(self) -> str:
        from statebridge.report.run_card import run_card

        try:
            return run_card(self.results())
        except ResultError as error:
            # Such as that no row is committed yet; a cell of a notebook shows more than a trace.
            return f"<div>{escape(repr(self))}<br>{escape(str(error))}</div>"

    @property
    def path(self) -> Path:
        """The run directory, or the first source."""
        return self.sources[0]

    def results(self) -> ResultSet:
        """Return the committed rows in their cells, as the library's functions take them.

        Raises:
            ResultError: A source is missing, is neither kind, or contradicts itself or another.
        """
        from statebridge.results.read_results import read_sources

        self._fetch()
        stamp = self._stamp()
        if self._read is None or self._read[0] != stamp:
            self._read = stamp, read_sources(self.sources, dataset=self.dataset)
        return self._read[1]

    def _fetch(self) -> None:
        """Bring the files up to date; a remote run downloads them here."""

    def _stamp(self) -> object:
        """Return a value that changes with the files."""
        named = self.sources if self.dataset is None else (*self.sources, self.dataset)
        files = [f for s in named for f in ([s] if s.is_file() else s.rglob("*.json*"))]
        found = [(str(file), file.stat()) for file in sorted(files) if file.is_file()]
        return [(name, status.st_size, status.st_mtime_ns) for name, status in found]

    @property
    def manifest(self) -> Mapping[str, Any] | None:
        """Manifest of the run directory; None for published files or several runs."""
        return self.results().manifest

    @property
    def experiment(self) -> Experiment:
        """The experiment as resolved, that gives this run again.

        Raises:
            ResultError: The sources are not one run directory.
        """
        from statebridge.experiment import Experiment

        return Experiment.model_validate(self._own_manifest("experiment"))

    @property
    def name(self) -> str | None:
        """Name of the experiment, where there is one."""
        return _name(self.results())

    @property
    def progress(self) -> RowCount:
        """Number of lanes that are committed, and number of lanes that the plan asks for."""
        return _rows(self.results())

    @property
    def cautions(self) -> tuple[str, ...]:
        """Limits of the results, as the run recorded them before a row was run."""
        return self.results().cautions

    @property
    def complete(self) -> bool:
        """Whether every row of the plan is committed."""
        results = self.results()
        return bool(results.cells) and all(cell.complete for cell in results.cells)

    @property
    def state(self) -> str:
        """`done` or `unfinished`; of a remote run its state on the server."""
        return "done" if self.complete else "unfinished"

    @property
    def positive_control(self) -> Run | None:
        """The run's positive control, where the experiment declares one."""
        return self._inner("positive_control")

    @property
    def taught_pair(self) -> Run | None:
        """The same code on a pair that was taught to communicate, where the run has it."""
        return self._inner("taught_pair")

    def _inner(self, which: Literal["positive_control", "taught_pair"]) -> Run | None:
        if getattr(self.results(), which) is None:
            return None
        return next(Run(s / which) for s in self.sources if (s / which).is_dir())

    def rows(
        self, *, conditions: Sequence[str] | None = None, seeds: Sequence[int] | None = None
    ) -> Rows:
        """Return the committed rows, to iterate over or to make a table of.

        Examples:
            >>> frame = run.rows(conditions=["replace"]).to_pandas()

        Raises:
            ResultError: An unknown condition or seed.
        """
        from statebridge.tables.rows import chosen_rows

        return chosen_rows(self.results(), conditions, seeds)

    def scores(self, metrics: Sequence[str] | None = None) -> list[ConditionScore]:
        """Return every condition's scores: means over rows, mean and deviation over seeds.

        Args:
            metrics: Names of `statebridge.scoring.MEASURES`; recorded numbers and the text metrics
                of arXiv 2606.03280 if not given.

        Raises:
            ResultError: An unknown metric.
        """
        from statebridge.scoring import DEFAULT_MEASURES, score_cell, score_conditions

        wanted = DEFAULT_MEASURES if metrics is None else tuple(metrics)
        cells = [cell for cell in self.results().cells if cell.lanes]
        return score_conditions([score_cell(cell, wanted) for cell in cells])

    def score(
        self, condition: str, metric: str | None = None, *, direction: Direction | None = None
    ) -> float:
        """Return one condition's mean over rows and seeds.

        Args:
            condition: Name of the condition.
            metric: A name of `statebridge.scoring.MEASURES`; the task's primary metric if not
                given: `task_correct` where rows name a scoring convention, else
                `word_boundary_contains`, and without decoded texts `gold_logprob`.
            direction: `fwd` or `rev`; needed where the results hold both.

        Raises:
            ResultError: An unknown condition or metric, no value, or two directions.
        """
        from statebridge.scoring import primary_metric

        wanted = primary_metric(self.results()) if metric is None else metric
        scores = self.scores([wanted])
        found = [s for s in scores if s.condition == condition and direction in (None, s.direction)]
        if not found:
            known = {s.condition for s in scores if direction in (None, s.direction)}
            raise ResultError(f"condition {condition!r} has no rows; {nearest(condition, known)}")
        if len(found) > 1:
            raise ResultError(f"{condition}: has two directions; give direction='fwd' or 'rev'")
        value = found[0].means[wanted].mean
        if value is None:
            raise ResultError(f"{condition}: no row has a value of {wanted}")
        return value

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

        Args:
            baseline: Names of conditions; if not given, each condition is compared with the
                receiver alone under the same prompt.
            metrics: Those that the rows have, if not given.
            mode: `clustered` by row, `published` (pooled over seeds, arXiv 2606.03280), or one
                that is registered in `statebridge.stats.comparison`.
            by: Attributes of the dataset to compare within as well, such as `hops`.
            margins: Equivalence margins of the 0/1 metrics; 0.05 and 0.03 if not given.

        Raises:
            ResultError: An unknown name, or nothing to compare with.
        """
        from statebridge.stats import Settings, compare

        chosen = Settings().margins if margins is None else tuple(margins)
        return compare(
            self.results(),
            [baseline] if isinstance(baseline, str) else baseline,
            metrics=metrics,
            mode=mode,
            settings=Settings(stratify_by=tuple(by), margins=chosen),
        )

    def verdict(self) -> str:
        """Return in words what the results say, cautions and the positive control included."""
        from statebridge.report.run_card import verdict_text

        return verdict_text(self.results())

    def report(self, path: str | Path) -> Path:
        """Write the report, one HTML page, to a file (or into a folder); return the file.

        Raises:
            ResultError: There is no row to report.
            EnvironmentFault: The file cannot be written.
        """
        from statebridge.report.run_card import write_page

        return write_page(self.results(), path, self.name)

    def export(self, folder: str | Path, format: str = "published") -> list[Path]:
        """Write the results in another format into a folder; return the files.

        Args:
            folder: Made if needed.
            format: `published` (one `h1_*.json` for each cell), tables as `parquet`, `csv`,
                `latex` or `markdown`, `datasets` (a folder for `datasets.load_dataset`),
                `lm-eval` (sample files of lm-evaluation-harness), `inspect` (logs of Inspect),
                or one that is registered in `statebridge.results.formats`.

        Raises:
            ResultError: An unknown format, or a run that is not complete, but for tables.
            EnvironmentFault: A file cannot be written.
        """
        from statebridge.results.formats import RESULT_FORMATS
        from statebridge.tables.formats import ENDINGS, export_tables

        results = self.results()
        if format in ENDINGS:
            return export_tables(results, folder, cast("TableFormat", format))
        if format not in RESULT_FORMATS:
            known = (*ENDINGS, *RESULT_FORMATS.names())
            raise ResultError(f"format {format}: unknown; {nearest(format, known)}")
        incomplete = next((cell.name for cell in results.cells if not cell.complete), None)
        if incomplete is not None:
            raise ResultError(
                f"cell {incomplete} is incomplete; finish the run first (the same `statebridge "
                "run` command goes on where it stopped)"
            )
        return RESULT_FORMATS.get(format).write(results, Path(folder))

    def track(self, to: str, *, project: str = "statebridge") -> str:
        """Log settings, scores, report and manifest to an experiment tracker; return where.

        Args:
            to: `mlflow`, `wandb`, `trackio`, or one that a plug-in adds.
            project: Project of the tracker; MLflow calls it an experiment.

        Raises:
            InputError: No such tracker.
            ResultError: The sources are not one run directory, or no row is committed.
            EnvironmentFault: The tracker is not installed.
            RemoteError: The tracker refused the run or failed.
        """
        from statebridge.sharing.tracking import log_run

        return log_run(self.results(), to, project)

    def validate(self, expectation: Expectation | str | None = None) -> ValidationReport:
        """Check the results against an expectation.

        Args:
            expectation: Itself, or the name of a registered one (`published`,
                `published-strict`); the one of the manifest if not given.

        Raises:
            InputError: An unknown name.
            ResultError: No expectation is given and the sources are not one run directory.
        """
        from statebridge.results.read_results import read_sources
        from statebridge.validation import EXPECTATIONS, validate
        from statebridge.validation.expectation import run_expectation

        self._fetch()
        # A strict reader would refuse what validation reports.
        results = read_sources(self.sources, strict=False, dataset=self.dataset)
        if isinstance(expectation, str):
            expectation = EXPECTATIONS.get(expectation)()
        return validate(results, expectation or run_expectation(results))

    def _own_manifest(self, field: str) -> Any:
        manifest = self.manifest
        if manifest is None:
            raise ResultError(f"{self!r}: has no {field}; only one run directory alone declares it")
        return manifest[field]


def _name(results: ResultSet) -> str | None:
    name: str | None = ((results.manifest or {}).get("experiment") or {}).get("name")
    return name


def _rows(results: ResultSet) -> RowCount:
    done = sum(len(cell.lanes) for cell in results.cells)
    planned = (results.manifest or {}).get("plan", {}).get("lanes")
    return RowCount(done, done if planned is None else sum(planned))


def run(
    experiment: ExperimentLike,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    rows: Iterable[DatasetRow | Mapping[str, Any]] | None = None,
    pair: Pair | None = None,
    progress: bool | ShowProgress = True,
) -> Run:
    """Carry an experiment out into a run directory, and return its results.

    The same call again goes on where an earlier one stopped.

    Args:
        experiment: A file, an `Experiment`, or its fields.
        out: The run directory; made if needed.
        overrides: Fields to change, such as `{"limit": 100, "execution.device": "cuda:1"}`.
        rows: Rows in place of the experiment's dataset: `DatasetRow`, or mappings with `id`,
            `context`, `question`, `answer` and, if wanted, more. They are kept in the run
            directory, as `rows_given.jsonl`.
        pair: A pair that is loaded already; loaded from the experiment if not given.
        progress: True for bars on standard error, False for none, or a callback
            (stage, done, total).

    Examples:
        >>> run = statebridge.run("experiment.yaml", "runs/first")
        >>> run.score("replace") - run.score("no_inject")
        0.125

    Raises:
        StatebridgeError: Whatever is wrong, before a row is run where it can be known then.
    """
    from statebridge.actions import need_engine, shown
    from statebridge.experiment.reading.given import read_experiment

    if rows is not None:
        from statebridge.data.given_rows import given_dataset
        from statebridge.runs.directory import check_place

        check_place(Path(out))
        overrides = {**(overrides or {}), "dataset": given_dataset(rows, Path(out))}
        if isinstance(experiment, Mapping):
            experiment = {**experiment, "dataset": overrides["dataset"]}
    declared = read_experiment(experiment, overrides)
    need_engine()
    from statebridge.engine.run_experiment import run_experiment
    from statebridge.progress import print_caution

    with shown(progress) as show:
        run_experiment(
            declared,
            out,
            pair=pair,
            progress=show,
            show_caution=print_caution if progress is True else lambda _: None,
        )
    return open_run(out)


def open_run(*sources: str | Path, dataset: str | Path | None = None) -> Run:
    """Open the results of an experiment: a run directory, or published result files.

    Args:
        sources: Run directories, published result files (`h1_*.json`), or folders of them.
            Several are read as one set of results.
        dataset: JSONL rows of published files, which hold no contexts and questions.

    Examples:
        >>> statebridge.open_run("runs/first").score("replace")
        0.25

    Raises:
        ResultError: A source is missing, is neither kind, or contradicts itself or another.
    """
    run = Run(*sources, dataset=dataset)
    run.results()
    return run
