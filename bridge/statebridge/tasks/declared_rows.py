"""From a declared dataset to its rows and its hash."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from statebridge.data import (
    FieldMap,
    generate_multihop,
    read_dataset,
    rows_sha256,
    sha256_file,
    verify_sha256,
)
from statebridge.data.hub import HubData, hub_commit, hub_files
from statebridge.errors import DatasetError
from statebridge.experiment.dataset import HUB, TASKS, Dataset, GeneratedRows
from statebridge.records import DatasetRow
from statebridge.tasks.symbols import multihop_symbols


def resolve_dataset(dataset: Dataset) -> tuple[list[DatasetRow], str]:
    """Return the rows of a declared dataset and the SHA-256 of its file or canonical form.

    The canonical form is that of generated rows, of several files, and of a task's rows.

    Raises:
        DatasetError: Missing, unreadable, another hash than declared, or wrong rows.
    """
    if dataset.generate is not None:
        rows = generated_rows(dataset.generate)
        digest = rows_sha256(rows)
        if dataset.sha256 is not None and dataset.sha256 != digest:
            raise DatasetError(
                f"dataset.generate: the rows have SHA-256 {digest}, not the declared "
                f"{dataset.sha256}"
            )
        return rows, digest
    files = dataset_files(dataset)
    rows = read_dataset(
        files,
        dataset.format,
        FieldMap(**dataset.fields.model_dump()),
        [] if dataset.unusable else None,
        **dataset.options,
    )
    if len(files) == 1 and dataset.format != "lm-eval":  # whose file only names the rows
        (file,) = files
        return rows, verify_sha256(file, dataset.sha256) if dataset.sha256 else sha256_file(file)
    digest = rows_sha256(rows)
    if dataset.sha256 not in (None, digest):
        raise DatasetError(
            f"dataset: its rows have SHA-256 {digest}, not the declared {dataset.sha256}; use the "
            "rows that were declared, or declare these"
        )
    return rows, digest


def dataset_files(dataset: Dataset) -> list[Path]:
    """Return the files of a declared dataset, downloaded from the hub where they are there.

    Raises:
        DatasetError: There are none, or the hub has no such data.
        EnvironmentFault: The hub's client is not installed.
    """
    if dataset.path is None:
        raise DatasetError("dataset: neither path nor generate is given")
    return hub_files(_on_hub(dataset)) if dataset.on_hub else [Path(dataset.path)]


def unusable_rows(dataset: Dataset) -> list[str]:
    """Return why each row of a dataset was left out that declares `unusable: drop`."""
    reasons: list[str] = []
    if dataset.unusable:
        fields = FieldMap(**dataset.fields.model_dump())
        read_dataset(dataset_files(dataset), dataset.format, fields, reasons, **dataset.options)
    return reasons


def at_commit(dataset: Dataset) -> Dataset:
    """Return a dataset of the hub with the commit that its revision is now; others as they are.

    Raises:
        DatasetError: The hub has no such data, or cannot be reached.
        EnvironmentFault: The hub's client is not installed.
    """
    if not dataset.on_hub:
        return dataset
    return dataset.model_copy(update={"revision": hub_commit(_on_hub(dataset))})


def _on_hub(dataset: Dataset) -> HubData:
    name = str(dataset.path).removeprefix(HUB)
    return HubData(name, dataset.config, dataset.split, dataset.revision)


def generated_rows(settings: GeneratedRows) -> list[DatasetRow]:
    """Return the rows that the task of these settings generates.

    Raises:
        DatasetError: The task has no such rows, or its function returns something else.
    """
    made: object = TASKS.get(settings.task)(settings)
    rows = made if isinstance(made, list) else []
    if not rows or not all(isinstance(row, DatasetRow) for row in rows):
        found = type(made).__name__ if made != [] else "no row"
        raise DatasetError(
            f"task {settings.task}: its function returned {found}; it must return a list of "
            "DatasetRow, one at least"
        )
    counts = Counter(row.row_id for row in rows)
    repeated = next((row_id for row_id, count in counts.items() if count > 1), None)
    if repeated is not None:
        raise DatasetError(f"task {settings.task}: two rows have the id {repeated!r}")
    return rows


@TASKS.add("multihop")
def multihop(settings: GeneratedRows) -> list[DatasetRow]:
    """Return chains of invented facts, with a question that takes all of a chain."""
    if settings.symbols is not None:
        return multihop_symbols(settings)
    return generate_multihop(
        settings.rows,
        hops=settings.hops,
        distractors=settings.distractors,
        seed=settings.seed,
        domains=settings.domains,
        wording=settings.wording,
        names=settings.names,
    )
