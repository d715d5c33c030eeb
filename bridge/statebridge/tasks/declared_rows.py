"""From a declared dataset to its rows and its hash."""

from __future__ import annotations

from collections import Counter

from statebridge.data import (
    FieldMap,
    generate_multihop,
    read_dataset,
    rows_sha256,
    sha256_file,
    verify_sha256,
)
from statebridge.errors import DatasetError
from statebridge.experiment.dataset import TASKS, Dataset, GeneratedRows
from statebridge.records import DatasetRow
from statebridge.tasks.symbols import multihop_symbols


def resolve_dataset(dataset: Dataset) -> tuple[list[DatasetRow], str]:
    """Return the rows of a declared dataset and the SHA-256 of its file or canonical form.

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
    path = dataset.path
    if path is None:
        raise DatasetError("dataset: neither path nor generate is given")
    digest = verify_sha256(path, dataset.sha256) if dataset.sha256 else sha256_file(path)
    fields = FieldMap(**dataset.fields.model_dump())
    return read_dataset(path, dataset.format, fields, **dataset.options), digest


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
