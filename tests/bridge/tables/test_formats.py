from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from statebridge.data.spreadsheet_text import guarded, unguarded
from statebridge.errors import EnvironmentFault, ResultError
from statebridge.tables import (
    FORMATS,
    Column,
    Range,
    Spread,
    Table,
    to_csv,
    to_latex,
    to_markdown,
    to_parquet,
    write_table,
)
from statebridge.tables.formats import escape_latex, escape_markdown

COLUMNS = (
    Column("name", "the name"),
    Column("ok", "ok?", "boolean"),
    Column("n", "n", "integer"),
    Column("x", "x", "number"),
    Column("m", "mean", "spread"),
    Column("ci", "95 %", "range", "signed"),
    Column("secret", "secret", printed=False),
)
TABLE = Table(
    "Scores & more",
    COLUMNS,
    (
        ("no_inject", True, 396, 1 / 3, Spread(0.0884, None), Range(-0.1, 0.2), "s"),
        ('=1+1 | "a"\nb', None, None, None, None, None, None),
    ),
    notes=("Mind this.",),
)


def test_csv_holds_every_column_and_digit() -> None:
    records = list(csv.DictReader(io.StringIO(to_csv(TABLE), newline="")))
    assert records[0] == {
        "name": "no_inject",
        "ok": "true",
        "n": "396",
        "x": "0.3333333333333333",
        "m": "0.0884",
        "m_sd": "",
        "ci_low": "-0.1",
        "ci_high": "0.2",
        "secret": "s",
    }
    assert unguarded(records[1]["name"]) == '=1+1 | "a"\nb'
    assert set(list(records[1].values())[1:]) == {""}


def test_numbers_stay_numbers_and_guarded_text_is_no_formula() -> None:
    table = Table("t", (Column("a", "A"), Column("x", "X", "number")), (("-3", -3.0),))
    assert to_csv(table) == "a,x\r\n'-3,-3.0\r\n"


@given(st.text(max_size=20))
def test_guarded_text_comes_back_and_never_starts_a_formula(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert not guarded(text).startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


def test_parquet_keeps_types_text_and_notes() -> None:
    table = pq.read_table(pa.BufferReader(to_parquet(TABLE)))
    assert table.schema.names == [
        "name",
        "ok",
        "n",
        "x",
        "m",
        "m_sd",
        "ci_low",
        "ci_high",
        "secret",
    ]
    assert [str(t) for t in table.schema.types[:4]] == ["string", "bool", "int64", "double"]
    rows = table.to_pylist()
    assert rows[0]["x"] == 1 / 3
    assert rows[1] == dict.fromkeys(table.schema.names) | {"name": '=1+1 | "a"\nb'}
    assert table.schema.metadata == {b"title": b"Scores & more", b"notes": b"Mind this."}


def test_a_table_without_rows_keeps_its_columns() -> None:
    empty = Table("t", COLUMNS, ())
    assert pq.read_table(pa.BufferReader(to_parquet(empty))).num_rows == 0
    assert to_csv(empty).count("\n") == 1
    assert to_markdown(empty).count("\n") == 4
    assert r"\midrule" in to_latex(empty)


def test_half_a_character_becomes_a_question_mark() -> None:
    table = Table("t", (Column("a", "A"),), (("x\ud800y",),))
    assert pq.read_table(pa.BufferReader(to_parquet(table))).to_pylist() == [{"a": "x?y"}]
    assert to_csv(table) == "a\r\nx?y\r\n"


def test_markdown() -> None:
    assert to_markdown(TABLE) == (
        "**Scores &amp; more**\n"
        "\n"
        "| the name | ok? | n | x | mean | 95 % |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| no_inject | yes | 396 | 0.3333 | 0.0884 | [−0.1000, +0.2000] |\n"
        '| =1+1 \\| "a" b | – | – | – | – | – |\n'
        "\n"
        "Mind this.\n"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("no_inject", "no_inject"),
        ("_x_", r"\_x\_"),
        ("*a* `b` [c](d) ~e~ #", r"\*a\* \`b\` \[c\](d) \~e\~ \#"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("a\\|b", r"a\\\|b"),
        ("a\r\n\tb\x00c", "a b c"),
    ],
)
def test_markdown_escapes(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


@given(st.text(max_size=20))
def test_no_text_breaks_a_markdown_row(text: str) -> None:
    lines = to_markdown(Table("t", (Column("a", "A"),), ((text,),))).split("\n")
    assert len(lines) == 6
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", lines[4])) == 2


def test_latex() -> None:
    assert to_latex(TABLE) == (
        "\\begin{table}[htbp]\n"
        "\\centering\n"
        "\\caption{Scores \\& more Mind this.}\n"
        "\\begin{tabular}{lrrrrr}\n"
        "\\toprule\n"
        "the name & ok? & n & x & mean & 95 \\% \\\\\n"
        "\\midrule\n"
        "no\\_inject & yes & 396 & 0.3333 & 0.0884 & {}[$-$0.1000, +0.2000] \\\\\n"
        "=1+1 \\textbar{} \\textquotedbl{}a\\textquotedbl{} b & -- & -- & -- & -- & -- \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\end{table}\n"
    )


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("50% of $5 & #1_x", r"50\% of \$5 \& \#1\_x"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("a^b~c", r"a\textasciicircum{}b\textasciitilde{}c"),
        ("a--b 'c' ''d''", "a-{}-b 'c' '{}'d'{}'"),
        ("−1 ± 2", r"$-$1 $\pm$ 2"),
        ("a\nb\x07", "a b"),
        ("*x", "{}*x"),
    ],
)
def test_latex_escapes(text: str, escaped: str) -> None:
    assert escape_latex(text) == escaped


@given(st.text(max_size=20))
def test_no_text_breaks_a_latex_row(text: str) -> None:
    escaped = escape_latex(text)
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)[&%#_]", escaped)
    grouping = re.sub(r"\\[{}]", "", escaped)
    assert grouping.count("{") == grouping.count("}")


@pytest.mark.parametrize("suffix", [*FORMATS, ".CSV"])
def test_the_ending_decides_the_format(tmp_path: Path, suffix: str) -> None:
    path = write_table(TABLE, tmp_path / f"t{suffix}")
    assert path.read_bytes() == FORMATS[suffix.lower()](TABLE)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"'.cvs'; did you mean .csv"):
        write_table(TABLE, tmp_path / "t.cvs")
    with pytest.raises(ResultError, match="no table format has the ending ''"):
        write_table(TABLE, tmp_path / "t")
    with pytest.raises(EnvironmentFault):
        write_table(TABLE, tmp_path / "no" / "t.csv")
    assert list(tmp_path.iterdir()) == []
