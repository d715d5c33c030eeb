"""The row browser's data: the text of each cell, scored, kept once, and safe to embed."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from statebridge.records import DatasetRow, ResultSet
from statebridge.report.page.rows import MOST_VALUES, browser_data, embedded_json
from statebridge.scoring import METRICS
from tests.bridge.figures.made_run import made_run
from tests.bridge.stats.tables import cell, results


def test_holds_every_row_of_every_cell_as_it_was() -> None:
    run = made_run(rows=5)
    data = browser_data(run)
    assert [row["id"] for row in data["rows"]] == list(run.dataset)
    assert data["rows"][1]["context"] == "Context 1."
    assert data["rows"][1]["answer"] == "gold1"
    assert len(data["cells"]) == len(run.cells)
    by_label = {found["label"]: found for found in data["cells"]}
    for one in run.cells:
        label = one.condition.name if one.seed is None else f"{one.condition.name}, seed {one.seed}"
        found = by_label[label]
        texts = [data["texts"][number] for number in found["text"]]
        assert texts == [row.prediction for row in one.lanes]
        assert found.get("first_changed_token", [None] * 5) == [
            row.first_changed_token for row in one.lanes
        ]
        for row, hits in zip(one.lanes, found["hits"], strict=True):
            assert row.prediction is not None
            for bit, (name, _) in enumerate(data["metrics"]):
                assert bool(hits >> bit & 1) == METRICS[name](row.prediction, row.gold)


def test_texts_stand_once() -> None:
    data = browser_data(made_run(rows=5))
    assert len(set(data["texts"])) == len(data["texts"])


def test_each_cell_names_the_baseline_of_its_direction() -> None:
    both = results(
        cell("no_inject", [1]),
        cell("additive", [1], 42),
        cell("no_inject", [1], direction="rev"),
        cell("additive", [1], 42, "rev"),
    )
    data = browser_data(both)
    for found in data["cells"]:
        baseline = data["cells"][found["baseline"]]
        assert baseline["condition"] == "no_inject"
        assert baseline["direction"] == found["direction"]
    assert [found["label"] for found in data["cells"]][1] == "additive (fwd), seed 42"
    alone = browser_data(results(cell("additive", [1], 42)))
    assert alone["cells"][0]["baseline"] is None


def test_absent_rows_and_absent_texts_are_told_apart() -> None:
    found = results(cell("no_inject", [1, 0, None]), cell("replace", [1], 42))
    data = browser_data(found)
    assert [cell["text"][1:] for cell in data["cells"]] == [[1, -1], [-2, -2]]
    assert data["rows"][0]["context"] is None
    assert data["rows"][0]["question"] is None


def test_donors_relays_and_numbers_are_there_where_they_are() -> None:
    run = made_run(["no_inject", "nl_relay", "shuffled_translation"], rows=3, seeds=(1,))
    shuffled = run.cells[2]
    run.cells[2] = replace(
        shuffled, lanes=[replace(row, donor_row_id="row001") for row in shuffled.lanes]
    )
    plain, relay, donated = browser_data(run)["cells"]
    assert donated["donor"] == [1, 1, 1]
    assert "donor" not in plain
    assert "relay" not in plain
    assert relay["relay"][0] >= 0
    assert "gold_logprob" in plain
    assert "gold_logprob" not in browser_data(results(cell("no_inject", [1])))["cells"][0]


def test_attributes_are_filters_where_they_sort_rows() -> None:
    rows = {
        f"r{i:03}": DatasetRow(
            f"r{i:03}",
            "c",
            "q",
            "gold",
            {"same": 1, "hops": (10, 9, None)[i % 3], "key": f"k{i}", "many": i // 2},
        )
        for i in range(2 * MOST_VALUES + 4)
    }
    found = ResultSet([cell("no_inject", dict.fromkeys(rows, 1))], rows)
    data = browser_data(found)
    assert data["attributes"] == ["hops", "many"]
    assert data["filters"] == [["9", "10"], []]
    assert data["rows"][2]["attributes"][0] == ""


@given(st.recursive(st.text(), st.lists, max_leaves=8))
def test_embedded_json_cannot_leave_its_element_and_reads_back(value: object) -> None:
    text = embedded_json(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value


def test_half_a_surrogate_pair_survives_the_file() -> None:
    value = "\ud83d<"
    text = embedded_json(value).encode("utf-8", "backslashreplace").decode("utf-8")
    assert json.loads(text) == value
