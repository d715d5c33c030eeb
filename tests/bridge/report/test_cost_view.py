"""The part of a report about costs: the table, the sentences, the figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from statebridge.figures import accuracy_against_cost
from statebridge.records import ResultSet
from statebridge.report import write_report
from statebridge.report.sections.cost import CostView, cost_view
from statebridge.results.cost import WAYS
from statebridge.stats.inference.means import share_limits
from statebridge.stats.method_scores import method_scores
from tests.bridge.figures.made_run import made_run
from tests.bridge.results.made_costs import METHODS, RECEIVER, made_costs


def _view(results: ResultSet) -> CostView:
    view = cost_view(results)
    assert isinstance(view, CostView)
    return view


def test_the_table_has_each_method_with_its_interval() -> None:
    table = _view(made_costs()).table
    names = [column.name for column in table.columns]
    rows = {row[0]: dict(zip(names, row, strict=True)) for row in table.rows}
    assert list(rows) == [name for name in METHODS if not name.endswith(("shuffled", "zero"))]
    assert {name: row["share"] for name, row in rows.items()} == {
        "question_only": 0.0,
        "skyline": 1.0,
        "private_relay": 0.75,
        "debate": 0.5,
        "activation_sum": 0.5,
        "activation_mean": 0.5,
        "activation_replace": 0.5,
    }
    assert rows["private_relay"]["interval"] == pytest.approx(
        share_limits(np.array([1.0, 1.0, 1.0, 0.0]))
    )
    scores = {m.cost.condition: m for m in method_scores(made_costs()).methods}
    for name, row in rows.items():
        total = scores[name].cost.total(("exact", True)) / 1e9
        assert row["gflop_exact_cache"] == pytest.approx(total)


def test_seeds_of_a_row_are_one_row() -> None:
    scores = method_scores(made_costs(["no_inject", "private_last"]))
    last = scores.methods[1]
    assert (last.share, last.rows) == (0.5, 4)
    assert (last.low, last.high) == pytest.approx(share_limits(np.array([1.0, 1.0, 0.0, 0.0])))


def test_the_quarter_is_recomputed_each_way() -> None:
    view = _view(made_costs())
    assert len(view.sentences) == 6
    found = {m.cost.condition: m.cost for m in view.scores.methods}
    own, text = found["activation_replace"], found["private_relay"]
    ratios = [own.total(way) / text.total(way) for way in WAYS]
    sentence = next(
        s
        for s in view.sentences
        if s.startswith("activation_replace took, of the operations of private_relay, ")
    )
    for ratio in ratios:
        assert f"{ratio:.2f} (" in sentence
    assert sentence.endswith("a quarter or more each way.")
    assert min(ratios) >= 0.25
    # A message of many tokens, without a cache, is what the published claim is about.
    long = made_costs(["question_only", "activation_replace", "private_relay"])
    for cell in long.cells:
        if cell.condition.name == "private_relay":
            cell.lanes = [
                replace(row, turns=(replace(row.turns[0], new_tokens=60),))
                for row in cell.lanes
                if row.turns
            ]
    (sentence,) = _view(long).sentences
    cost = {m.cost.condition: m.cost for m in _view(long).scores.methods}
    below = [
        way
        for way in WAYS
        if cost["activation_replace"].total(way) < 0.25 * cost["private_relay"].total(way)
    ]
    assert ("published", False) in below
    assert ("less than a quarter" in sentence) is bool(below)


def test_what_a_message_takes_is_stated() -> None:
    made = made_costs(["question_only", "kv_mapped", "fused", "vocab_all"])
    assert made.manifest is not None
    made.manifest["translators"] = {
        "maps/42": {"kind": "kv_ridge", "parameters": 1000},
        "fusers/42": {"kind": "fuser", "parameters": 2 * RECEIVER.weights},
    }
    for cell in made.cells:
        if cell.condition.name == "fused":
            cell.lanes = [replace(row, message_one_to_one=0.5) for row in cell.lanes]
    # 4 blocks: attention 32 · 8 · 12, a gated MLP of 96; one table of 421.
    assert RECEIVER.weights == 4 * (32 * 96 + 3 * 32 * 96) + 421 * 32
    messages = [sentence for sentence in _view(made).sentences if " positions " in sentence]
    assert messages == [
        "kv_mapped took 11.5 positions in front of the receiver's prompt; its map has 1,000 "
        f"parameters, {1000 / RECEIVER.weights:.2f} times those of the receiver's matrices.",
        "fused changed 11.5 positions of the receiver's prompt; 0.50 of their tokens are tokens of "
        f"both models; its map has {2 * RECEIVER.weights:,} parameters, 2.00 times those of the "
        "receiver's matrices.",
        "vocab_all took 3.0 positions in front of the receiver's prompt.",
    ]


def test_a_run_in_which_nothing_is_sent() -> None:
    assert cost_view(made_costs(["question_only", "skyline"])) == (
        "no condition carries anything from the sender"
    )
    assert "does not state the shape" in str(cost_view(made_run(rows=4)))


def test_the_figure_has_a_point_a_method_or_a_reason() -> None:
    drawing = accuracy_against_cost(method_scores(made_costs()))
    assert drawing.figure is not None
    assert "95 % mid-P intervals over rows" in drawing.caption
    assert "4 rows" in drawing.caption
    for axes in drawing.figure.axes:
        assert len(axes.containers) == 7
        assert axes.get_xscale() == "log"
    assert accuracy_against_cost("no shapes").reason == "no shapes"


def test_both_reports_show_it(tmp_path: Path) -> None:
    made = made_run(
        ("question_only", "skyline", "activation_replace"), rows=6, seeds=(42,), layers=(1, 2)
    )
    assert made.manifest is not None
    costs = made_costs()
    assert costs.manifest is not None
    sides = {
        side: {**made.manifest["pair"][side], "shape": costs.manifest["pair"][side]["shape"]}
        for side in ("sender", "receiver")
    }
    experiment = {**made.manifest["experiment"], "dtype": "float32"}
    with_shapes = replace(made, manifest={**made.manifest, "pair": sides, "experiment": experiment})
    for name, results in (("with", with_shapes), ("without", made)):
        write_report(results, tmp_path / name, figures=False)
        for file in ("report.md", "report.html"):
            text = (tmp_path / name / file).read_text("utf-8")
            assert ("What the methods cost" in text) == (name == "with")
