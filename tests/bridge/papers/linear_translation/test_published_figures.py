"""Scores recomputed from the published result files against what was published of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.experiment.presets import named_condition
from statebridge.records import CellResult, LaneResult
from statebridge.scoring import ConditionScore, SeedMean, score_cell, score_conditions
from tests.shared_data import SHARED, needs_shared

pytestmark = needs_shared

FILES = [
    *(
        f"h1_{condition}_fwd_seed{s}.json"
        for condition in ("additive", "replace")
        for s in (42, 123, 456)
    ),
    "h1_nl_relay_fwd_deterministic.json",
    "h1_no_inject_fwd_deterministic.json",
]

# Word-boundary containment, legacy contains, normalised exact match: mean ± sd over seeds,
# to the four places that the paper gives (arXiv 2606.03280, table of forward results).
PUBLISHED = {
    "no_inject": ("0.0884", "0.1035", "0.0000"),
    "nl_relay": ("0.0833", "0.0909", "0.0000"),
    "additive": ("0.0926 ± 0.0073", "0.1094 ± 0.0081", "0.0000 ± 0.0000"),
    "replace": ("0.0025 ± 0.0025", "0.0101 ± 0.0044", "0.0000 ± 0.0000"),
}


def load(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((SHARED / "published" / name).read_text(encoding="utf-8"))
    return data


def cell(name: str, data: dict[str, Any]) -> CellResult:
    rows = [
        LaneResult(
            row["sample_id"],
            row["gold"],
            row["prediction"],
            translated_norm_mean=row.get("translated_norm_mean"),
            receiver_norm_mean=row.get("b_hidden_norm_mean"),
            injected_norm_mean=row.get("injected_norm_mean"),
        )
        for row in data["per_sample"]
    ]
    return CellResult(named_condition(data["condition"]), data["seed"], "fwd", rows, Path(name))


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, Any]]:
    return {name: load(name) for name in FILES}


@pytest.fixture(scope="module")
def conditions(files: dict[str, dict[str, Any]]) -> dict[str, ConditionScore]:
    scores = score_conditions([score_cell(cell(name, data)) for name, data in files.items()])
    return {score.condition: score for score in scores}


@pytest.mark.parametrize("name", FILES)
def test_each_file_row_by_row(name: str, files: dict[str, dict[str, Any]]) -> None:
    data = files[name]
    score = score_cell(cell(name, data))
    for column, field in (
        ("legacy_contains", "legacy_contains"),
        ("exact_match", "legacy_exact_match"),
    ):
        assert score.values[column] == {r["sample_id"]: r[field] for r in data["per_sample"]}
    # Exactly: a count over n, divided once.
    assert score.means["legacy_contains"].mean == data["metrics"]["contains_acc"]
    assert score.means["exact_match"].mean == data["metrics"]["exact_match_acc"]
    assert score.means["legacy_contains"].n == data["metrics"]["n"] == 396
    assert score.missing_predictions == 0


@pytest.mark.parametrize("condition", PUBLISHED)
def test_the_published_table(condition: str, conditions: dict[str, ConditionScore]) -> None:
    def written(mean: SeedMean) -> str:
        assert mean.mean is not None
        return f"{mean.mean:.4f}" if mean.sd is None else f"{mean.mean:.4f} ± {mean.sd:.4f}"

    means = conditions[condition].means
    measures = ("word_boundary_contains", "legacy_contains", "normalized_exact_match")
    assert tuple(written(means[name]) for name in measures) == PUBLISHED[condition]


def test_the_published_norms(
    files: dict[str, dict[str, Any]], conditions: dict[str, ConditionScore]
) -> None:
    for name in FILES[:6]:
        means = score_cell(cell(name, files[name])).means
        for measure, field in (
            ("translated_norm_mean", "mean_translated_norm"),
            ("receiver_norm_mean", "mean_b_hidden_norm"),
            ("injected_norm_mean", "mean_injected_norm"),
        ):
            # Both are means of the same 396 numbers; theirs may add them in another order,
            # which can move the last bits: 396 additions, each within 2^-53 of its result.
            assert means[measure].mean == pytest.approx(
                files[name]["diagnostics"][field], rel=396 * 2**-53
            )
    assert conditions["replace"].means["receiver_norm_mean"].mean == pytest.approx(68.70, abs=0.005)


def test_only_the_relay_has_a_first_answer_span(conditions: dict[str, ConditionScore]) -> None:
    # The published audit finds its verbose-but-correct rows in the relay alone.
    right = {name: score.means["first_answer_span"].mean for name, score in conditions.items()}
    assert right.pop("nl_relay") == 11 / 396
    assert set(right.values()) == {0.0}


def test_the_relays_first_five_disagreements_are_verbose_correct(
    files: dict[str, dict[str, Any]],
) -> None:
    score = score_cell(cell(FILES[6], files[FILES[6]]))
    disagreeing = [
        row["row_id"]
        for row in score.table()
        if row["legacy_contains"] and not row["normalized_exact_match"]
    ]
    assert [score.values["first_answer_span"][str(i)] for i in disagreeing[:5]] == [1.0] * 5
