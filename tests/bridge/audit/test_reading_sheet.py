from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from statebridge.audit import (
    LABELS,
    AuditReport,
    Label,
    audit,
    read_reading_sheet,
    write_reading_sheet,
)
from statebridge.audit.reading_sheet import COLUMNS, sheet_key
from statebridge.data.spreadsheet_text import unguarded
from statebridge.errors import EnvironmentFault, ResultError
from tests.bridge.audit.disagreeing_cells import cell, results

Fill = Callable[[int, dict[str, str]], str]
NASTY = '=HYPERLINK("x")\r\n"Paris", ;\tnot\n\'Paris\''


def made_report(codes: str = "VSAVSAVSA") -> AuditReport:
    cells = [cell("no_inject", codes), cell("replace", codes, 42), cell("replace", codes, 123)]
    return audit(results(cells, dataset=True), per_cell=None)


def records(path: Path) -> list[dict[str, str]]:
    text = path.read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def automatic(report: AuditReport, record: dict[str, str]) -> Label:
    return {sheet_key(row): row.label for row in report.rows}[record["key"]]


def filled(path: Path, fill: Fill, delimiter: str = ",", bom: bool = True) -> Path:
    """Fill a sheet as a spreadsheet program would save it."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, COLUMNS, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    for index, record in enumerate(records(path)):
        writer.writerow({**record, "reader_label": fill(index, record)})
    target = path.with_name(f"filled-{len(list(path.parent.iterdir()))}.csv")
    target.write_bytes(out.getvalue().encode("utf-8-sig" if bom else "utf-8"))
    return target


def test_a_sheet_is_a_seeded_sample_that_grows_at_its_end(tmp_path: Path) -> None:
    report = made_report()
    assert write_reading_sheet(report, tmp_path / "a.csv", 10, seed=3) == 10
    assert write_reading_sheet(report, tmp_path / "b.csv", 10, seed=3) == 10
    assert write_reading_sheet(report, tmp_path / "c.csv", 12, seed=3) == 12
    assert write_reading_sheet(report, tmp_path / "d.csv", 10, seed=4) == 10
    assert write_reading_sheet(report, tmp_path / "e.csv") == len(report.rows) == 27
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    a, c, d = (records(tmp_path / f"{name}.csv") for name in "acd")
    assert c[:10] == a
    assert {r["key"] for r in a} != {r["key"] for r in d}
    assert len({r["key"] for r in records(tmp_path / "e.csv")}) == 27


def test_a_sheet_does_not_lead_its_reader(tmp_path: Path) -> None:
    write_reading_sheet(made_report(), tmp_path / "a.csv")
    text = (tmp_path / "a.csv").read_text("utf-8-sig")
    assert all(label not in text for label in LABELS)
    assert "no_inject" not in text
    assert "replace" not in text
    assert {record["reader_label"] for record in records(tmp_path / "a.csv")} == {""}


def test_texts_survive_the_sheet_and_start_no_formula(tmp_path: Path) -> None:
    one = cell("no_inject", "AA")
    one.lanes[0] = replace(one.lanes[0], prediction=NASTY)
    one.lanes[1] = replace(one.lanes[1], prediction="'Paris and more")
    report = audit(results([one]))
    write_reading_sheet(report, tmp_path / "a.csv")
    raw = {record["row_id"]: record["prediction"] for record in records(tmp_path / "a.csv")}
    assert raw["r00"].startswith("'=")
    assert {key: unguarded(text) for key, text in raw.items()} == {
        "r00": NASTY,
        "r01": "'Paris and more",
    }
    sheet = filled(tmp_path / "a.csv", lambda _, r: automatic(report, r))
    assert read_reading_sheet(sheet).with_labels[0].percent == 100.0


def test_half_a_character_does_not_stop_the_sheet(tmp_path: Path) -> None:
    one = cell("no_inject", "A")
    one.lanes[0] = replace(one.lanes[0], row_id="r\ud800", prediction="not Paris \ud800")
    report = audit(results([one]))
    write_reading_sheet(report, tmp_path / "a.csv")
    sheet = filled(tmp_path / "a.csv", lambda _, r: automatic(report, r))
    assert read_reading_sheet(sheet).with_labels[0].n == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", [True, False])
def test_full_agreement_however_the_sheet_was_saved(
    tmp_path: Path, delimiter: str, bom: bool
) -> None:
    report = made_report()
    write_reading_sheet(report, tmp_path / "a.csv")
    sheet = filled(tmp_path / "a.csv", lambda _, r: automatic(report, r), delimiter, bom)
    (pair,) = read_reading_sheet(sheet).with_labels
    assert (pair.n, pair.agreed, pair.percent, pair.kappa) == (27, 27, 100.0, 1.0)


def test_labels_are_read_as_people_write_them(tmp_path: Path) -> None:
    report = made_report()
    write_reading_sheet(report, tmp_path / "a.csv")
    sheet = filled(
        tmp_path / "a.csv", lambda _, r: f" {automatic(report, r).replace('_', ' ').title()} "
    )
    assert read_reading_sheet(sheet).with_labels[0].percent == 100.0


def test_empty_labels_are_counted_and_left_out(tmp_path: Path) -> None:
    report = made_report()
    write_reading_sheet(report, tmp_path / "a.csv")
    sheet = filled(tmp_path / "a.csv", lambda i, r: "" if i < 4 else automatic(report, r))
    agreement = read_reading_sheet(str(sheet))
    assert agreement.unfilled == {str(sheet): 4}
    assert agreement.with_labels[0].n == 23


def test_two_readers_of_samples_that_overlap(tmp_path: Path) -> None:
    report = made_report()
    write_reading_sheet(report, tmp_path / "a.csv", 10)
    write_reading_sheet(report, tmp_path / "b.csv", 20)
    first = filled(tmp_path / "a.csv", lambda _, r: automatic(report, r))
    second = filled(
        tmp_path / "b.csv", lambda i, r: "verbose_correct" if i < 5 else automatic(report, r)
    )
    agreement = read_reading_sheet([first, second])
    (between,) = agreement.between_readers
    assert (between.first, between.second, between.n) == (str(first), str(second), 10)
    wrong = sum(automatic(report, r) != "verbose_correct" for r in records(tmp_path / "b.csv")[:5])
    assert between.agreed == 10 - wrong
    assert [pair.n for pair in agreement.with_labels] == [10, 20]
    assert agreement.model_dump_json()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"key,reader_label\r\n", "holds no row"),
        (b"a,b\r\n1,2\r\n", "line 1: column key is missing"),
        (b"key,key,reader_label\r\n", "line 1: column key is there twice"),
        (b"key,reader_label\r\nk0-1,substring_noise\r\n", "line 2: key 'k0-1' is not as it was"),
        (b"key,reader_label\r\nk0\r\n", "line 2: 1 columns, not the 2"),
        (b'key,reader_label\r\n"k0,substring_noise\r\n', "line 2: not CSV"),
        (b"key,reader_label\r\nk\xff,\r\n", "line 2: not UTF-8"),
    ],
)
def test_bad_sheets_are_refused_with_their_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(ResultError) as caught:
        read_reading_sheet(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_label_is_named_with_the_line_of_its_row(tmp_path: Path) -> None:
    one = cell("no_inject", "AAA")
    one.lanes = [replace(row, prediction="not\nParis\nat all") for row in one.lanes]
    report = audit(results([one]))
    write_reading_sheet(report, tmp_path / "a.csv")
    sheet = filled(tmp_path / "a.csv", lambda i, r: "substring noise" if i < 2 else "accidental")
    with pytest.raises(ResultError) as caught:
        read_reading_sheet(sheet)
    # Line 1 is the header; each row takes three lines.
    assert "line 8: unknown reader_label 'accidental'; did you mean accidental_mention" in str(
        caught.value
    )


def test_a_row_twice_is_refused(tmp_path: Path) -> None:
    report = made_report()
    write_reading_sheet(report, tmp_path / "a.csv", 2)
    sheet = filled(tmp_path / "a.csv", lambda _, r: automatic(report, r))
    text = sheet.read_text("utf-8-sig")
    sheet.write_text(text + text.splitlines()[1] + "\n", "utf-8")
    with pytest.raises(ResultError, match="line 4: the row of line 2 is there again"):
        read_reading_sheet(sheet)


def test_a_sheet_that_nobody_filled_in(tmp_path: Path) -> None:
    write_reading_sheet(made_report(), tmp_path / "a.csv")
    with pytest.raises(ResultError, match="empty in every row"):
        read_reading_sheet(tmp_path / "a.csv")


def test_wrong_calls(tmp_path: Path) -> None:
    report = made_report()
    path = tmp_path / "a.csv"
    for n in (0, 28):
        with pytest.raises(ResultError, match="27 rows"):
            write_reading_sheet(report, path, n)
    with pytest.raises(ResultError, match="nothing to read"):
        write_reading_sheet(audit(results([cell("no_inject", "W")])), path)
    with pytest.raises(EnvironmentFault):
        write_reading_sheet(report, tmp_path / "no" / "a.csv")
    write_reading_sheet(report, path)
    with pytest.raises(ResultError, match="may be filled in"):
        write_reading_sheet(report, path)
    with pytest.raises(ResultError, match="no such file"):
        read_reading_sheet(tmp_path / "absent.csv")
    with pytest.raises(ResultError, match="cannot be read"):
        read_reading_sheet(tmp_path)
    with pytest.raises(ResultError, match="no reading sheet"):
        read_reading_sheet([])
    with pytest.raises(ResultError, match="given twice"):
        read_reading_sheet([path, path])
