"""Reading sheets: a seeded sample of the audit as CSV, for a person to label by hand.

The sheet shows neither the automatic label nor the condition, so that a reader is not led by
them. The column `key` holds both in a form that says nothing to the eye; it must stay as it
is. Everything else may be reformatted by the spreadsheet program without harm.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from statebridge.audit.agreement import Agreement, agreement_of
from statebridge.audit.disagreement import LABELS, AuditReport, AuditRow, Label
from statebridge.data.files import atomic_writer
from statebridge.data.spreadsheet_text import guarded
from statebridge.errors import ResultError, nearest

COLUMNS = (
    "item",
    "key",
    "row_id",
    "context",
    "question",
    "gold",
    "prediction",
    "reader_label",
    "reader_note",
)
_NEEDED = ("key", "reader_label")
_DELIMITERS = (",", ";", "\t")
"""Spreadsheet programs save with the delimiter of the computer's locale."""


def write_reading_sheet(
    report: AuditReport, path: str | Path, n: int | None = None, seed: int = 0
) -> int:
    """Write a sample of the audited rows as a sheet with an empty `reader_label` column.

    The same report, `n` and `seed` give the same sheet; a larger `n` adds rows at its end.

    Args:
        report: The audit.
        path: Where to write; UTF-8 with a byte-order mark, which spreadsheet programs need.
        n: Rows to sample; None takes all.
        seed: Of the sample.

    Returns:
        How many rows were written.

    Raises:
        ResultError: `n` is below 1 or more than there are, or the file is there already.
        EnvironmentFault: The file cannot be written.
    """
    path = Path(path)
    if not report.rows:
        raise ResultError("the audit lists no row; there is nothing to read by hand")
    wanted = len(report.rows) if n is None else n
    if not 1 <= wanted <= len(report.rows):
        raise ResultError(f"n is {n}; the audit lists {len(report.rows)} rows, give 1 to that many")
    if path.exists():
        raise ResultError(f"{path}: is there already and may be filled in; give another path")
    # Ranking by hash instead of drawing from a stream: no row's place depends on the others.
    ranked = sorted(report.rows, key=lambda row: _digest(str(seed), _row_key(row)))
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for item, row in enumerate(ranked[:wanted], start=1):
        texts = (row.row_id, row.context or "", row.question or "", row.gold, row.prediction)
        writer.writerow((item, sheet_key(row), *(guarded(text) for text in texts), "", ""))
    with atomic_writer(path) as stream:
        # A model's text may hold half a character, which UTF-8 cannot.
        stream.write(text.getvalue().encode("utf-8-sig", "replace"))
    return wanted


def read_reading_sheet(paths: str | Path | Sequence[str | Path]) -> Agreement:
    """Return how far readers agree with the automatic labels and, for two or more, mutually.

    Rows left empty are counted and left out.

    Raises:
        ResultError: A sheet cannot be read, is not CSV, lacks a column, holds an unknown
            label or a changed key, a row twice, or no label at all; with file and line.
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    if not listed:
        raise ResultError("no reading sheet was given; give one for each reader")
    names = [str(path) for path in listed]
    if len(set(names)) < len(names):
        raise ResultError("a reading sheet was given twice; give one for each reader")
    automatic: dict[str, Label] = {}
    readers: dict[str, dict[str, Label]] = {}
    unfilled: dict[str, int] = {}
    for path in listed:
        entries = _entries(Path(path))
        automatic |= {entry.row: entry.automatic for entry in entries}
        readers[str(path)] = {e.row: e.reader for e in entries if e.reader is not None}
        unfilled[str(path)] = sum(entry.reader is None for entry in entries)
        if not readers[str(path)]:
            raise ResultError(
                f"{path}: column reader_label is empty in every row; fill in {', '.join(LABELS)}"
            )
    return agreement_of(automatic, readers, unfilled)


def sheet_key(row: AuditRow) -> str:
    """Return what stands for a row and its automatic label in a sheet."""
    key = _row_key(row)
    # The letter keeps a spreadsheet program from taking 12 digits, or 12e456, for a number.
    return f"k{key}-{_digest(key, row.label)}"


def _row_key(row: AuditRow) -> str:
    return _digest(row.direction, row.condition, str(row.seed), row.row_id)


def _digest(*parts: str) -> str:
    text = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:12]


def _label_in(key: str) -> tuple[str, Label] | None:
    """Take a row's key and its automatic label from a sheet's key; None if it was changed."""
    row, _, mark = key.strip().removeprefix("k").partition("-")
    for label in LABELS:
        if mark == _digest(row, label):
            return row, label
    return None


@dataclass(frozen=True, slots=True)
class _Entry:
    row: str
    automatic: Label
    reader: Label | None


def _entries(path: Path) -> list[_Entry]:
    entries: list[_Entry] = []
    lines: dict[str, int] = {}
    for line, record in _records(path):
        where = f"{path}, line {line}"
        found = _label_in(record["key"])
        if found is None:
            raise ResultError(
                f"{where}: key {record['key']!r} is not as it was written; "
                "leave the column key unchanged"
            )
        row, automatic = found
        if row in lines:
            raise ResultError(f"{where}: the row of line {lines[row]} is there again; keep one")
        lines[row] = line
        entries.append(_Entry(row, automatic, _reader_label(record["reader_label"], where)))
    if not entries:
        raise ResultError(f"{path}: holds no row; give a sheet with at least one")
    return entries


def _reader_label(text: str, where: str) -> Label | None:
    given = "_".join(text.strip().lower().replace("-", " ").replace("_", " ").split())
    if not given:
        return None
    for label in LABELS:
        if given == label:
            return label
    raise ResultError(f"{where}: unknown reader_label {text.strip()!r}; {nearest(given, LABELS)}")


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line on which each record begins, counted from 1, and its fields."""
    text = _text(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for record in reader:
            if header is None:
                header = _checked_header(path, record)
            elif any(record):
                if len(record) != len(header):
                    raise ResultError(
                        f"{path}, line {line}: {len(record)} columns, not the {len(header)} of "
                        "the header"
                    )
                yield line, dict(zip(header, record, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ResultError(f"{path}, line {line}: not CSV: {error}") from None
    if header is None:
        raise ResultError(f"{path}: is empty; give a reading sheet")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ResultError(f"{path}: no such file; give a filled reading sheet") from None
    except OSError as error:
        raise ResultError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ResultError(f"{path}, line {line}: not UTF-8; save the sheet as CSV UTF-8") from None


def _delimiter(text: str) -> str:
    header = text.splitlines()[0] if text else ""
    return max(_DELIMITERS, key=header.count)


def _checked_header(path: Path, header: Sequence[str]) -> list[str]:
    names = [name.strip() for name in header]
    for name in _NEEDED:
        if names.count(name) != 1:
            problem = "is missing" if name not in names else "is there twice"
            raise ResultError(
                f"{path}, line 1: column {name} {problem}; a reading sheet has the columns "
                f"{', '.join(COLUMNS)}"
            )
    return names
