from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from statebridge.errors import NumericError, ResultError
from statebridge.stats.pairing import PairedCondition, Pairing
from tests.bridge.stats.tables import METRIC, cell, measured, results


def pair(pairing: Pairing, condition: str = "replace") -> PairedCondition:
    return pairing.pair("fwd", condition, "no_inject", METRIC)


def test_rows_are_paired_by_id_sorted_as_text() -> None:
    pairing = Pairing(
        results(
            cell("no_inject", {"row10": 0, "row2": 1, "row1": 0}),
            cell("replace", {"row2": 0, "row1": 1, "row10": 0}),
        )
    )
    (run,) = pair(pairing).runs
    assert run.row_ids == ("row1", "row10", "row2")
    assert run.deltas.tolist() == [1, 0, -1]


def test_a_condition_with_fewer_rows_is_compared_over_its_own() -> None:
    baseline = cell("no_inject", [1, 1, 0, 1])
    declared = cell("replace", [0, 1, 0], excluded_rows=1)
    assert pair(Pairing(results(baseline, declared))).warnings == ()
    undeclared = cell("replace", [0, 1, 0])
    found = pair(Pairing(results(baseline, undeclared)))
    assert found.by_row.deltas.tolist() == [-1, 0, 0]
    assert found.warnings == (
        "replace (fwd): holds 3 of the 4 rows of no_inject (exclusions declared: 0); compared "
        "over its own rows",
    )


def test_a_baseline_with_the_same_rows_left_out_needs_no_warning() -> None:
    baseline = cell("no_inject", [0, 1, 0], excluded_rows=1)
    declared = cell("replace", [0, 1, 0], excluded_rows=1)
    assert pair(Pairing(results(baseline, declared))).warnings == ()


def test_a_row_that_the_baseline_lacks_is_refused() -> None:
    pairing = Pairing(results(cell("no_inject", [1, 0]), cell("replace", [1, 0, 1, 1])))
    with pytest.raises(
        ResultError, match=r"holds 2 row\(s\) that the baseline .* lacks, the first"
    ):
        pair(pairing)


def test_other_gold_answers_are_refused() -> None:
    other = cell("replace", [1, 0])
    other.lanes[1] = replace(other.lanes[1], gold="tin")
    with pytest.raises(ResultError, match="row 'row0001' has gold answer 'tin', but 'gold' in"):
        pair(Pairing(results(cell("no_inject", [1, 0]), other)))


def test_a_row_twice_and_no_rows_are_refused() -> None:
    twice = cell("replace", [1, 0])
    twice.lanes.append(twice.lanes[0])
    with pytest.raises(ResultError, match="row 'row0000' is there twice"):
        pair(Pairing(results(cell("no_inject", [1, 0]), twice)))
    with pytest.raises(ResultError, match="has no row"):
        pair(Pairing(results(cell("no_inject", [1, 0]), cell("replace", []))))


def test_null_predictions_are_left_out_and_said() -> None:
    found = pair(Pairing(results(cell("no_inject", [1, 0, None]), cell("replace", [None, 1, 1]))))
    assert found.by_row.row_ids == ("row0001",)
    assert found.warnings == (
        "replace against no_inject (fwd, word_boundary_contains): 2 row(s) have a null prediction "
        "under one of the two and are left out",
    )
    with pytest.raises(
        ResultError, match="no row has a value of word_boundary_contains under both"
    ):
        pair(Pairing(results(cell("no_inject", [1, None]), cell("replace", [None, 1]))))


def test_numbers_that_are_not_finite_are_refused() -> None:
    pairing = Pairing(
        results(
            measured("no_inject", "gold_logprob", [-1.0]),
            measured("replace", "gold_logprob", [float("nan")]),
        )
    )
    with pytest.raises(NumericError, match="gold_logprob is nan"):
        pairing.pair("fwd", "replace", "no_inject", "gold_logprob")


def test_the_same_cell_twice_is_refused() -> None:
    with pytest.raises(ResultError, match=r"replace/seed42 .* was already given in"):
        Pairing(results(cell("replace", [1], 42), cell("replace", [0], 42)))


def test_seeds_stand_in_the_order_of_the_file_names() -> None:
    cells = [cell("replace", [1, 0], seed) for seed in (456, 42, 123)]
    found = pair(Pairing(results(cell("no_inject", [0, 0]), *cells)))
    assert [run.seed for run in found.runs] == [123, 42, 456]


def test_a_seeded_baseline_is_matched_by_seed() -> None:
    pairing = Pairing(
        results(
            *(cell("shuffled", [seed % 2, 0], seed) for seed in (41, 42)),
            *(cell("replace", [1, 1], seed) for seed in (41, 42, 43)),
            cell("zero", [0, 1]),
            cell("late", [0, 1], 99),
        )
    )
    found = pairing.pair("fwd", "replace", "shuffled", METRIC)
    assert [(run.cell.seed, run.baseline.seed) for run in found.runs] == [(41, 41), (42, 42)]
    assert found.by_row.deltas.tolist() == [0.5, 1.0]
    assert found.warnings == ("replace (fwd): seed 43 has no shuffled cell and is left out",)
    deterministic = pairing.pair("fwd", "zero", "shuffled", METRIC)
    assert [run.seed for run in deterministic.runs] == [41, 42]
    with pytest.raises(ResultError, match=r"late and shuffled .* have no seed in common"):
        pairing.pair("fwd", "late", "shuffled", METRIC)


def test_a_baseline_with_and_without_seed_is_refused() -> None:
    pairing = Pairing(
        results(cell("no_inject", [1]), cell("no_inject", [1], 42), cell("replace", [1], 42))
    )
    with pytest.raises(ResultError, match="both with and without a seed"):
        pair(pairing)


def test_unknown_conditions_are_refused_with_the_nearest() -> None:
    pairing = Pairing(results(cell("no_inject", [1])))
    with pytest.raises(ResultError, match="replace is not among the fwd results"):
        pair(pairing)
    with pytest.raises(ResultError, match=r"no_injct is not among .* did you mean no_inject"):
        pairing.pair("fwd", "no_inject", "no_injct", METRIC)


def test_rows_missing_under_a_seed_are_left_out_of_clusters() -> None:
    found = pair(
        Pairing(
            results(
                cell("no_inject", [0, 0, 0]),
                cell("replace", [1, 1, None], 42),
                cell("replace", [1, 0, 1], 123),
            )
        )
    )
    assert found.by_row.row_ids == ("row0000", "row0001")
    assert found.by_row.deltas.tolist() == [1, 0.5]
    assert found.by_row.left_out == 1
    apart = pair(
        Pairing(
            results(
                cell("no_inject", [0, 0]),
                cell("replace", [1, None], 42),
                cell("replace", [None, 1], 123),
            )
        )
    )
    with pytest.raises(ResultError, match="the seeds have no row in common"):
        _ = apart.by_row


def test_mixed_settings_are_said() -> None:
    baseline = cell("no_inject", [0, 1], dataset_sha256="a", decoding={"max_new_tokens": 64})
    other = cell(
        "replace", [0, 1], dataset_sha256="b", decoding={"max_new_tokens": 32}, complete=False
    )
    assert pair(Pairing(results(baseline, other))).warnings == (
        "replace and no_inject (fwd): the data hashes differ",
        "replace and no_inject (fwd): max_new_tokens differs, 32 and 64",
        "replace (fwd): the run is not complete",
    )


def test_divergence_from_no_inject_is_zero_for_itself() -> None:
    pairing = Pairing(
        results(
            measured("no_inject", "kl_from_no_inject", [None, None]),
            measured("replace", "kl_from_no_inject", [0.5, 0.25]),
        )
    )
    found = pairing.pair("fwd", "replace", "no_inject", "kl_from_no_inject")
    np.testing.assert_array_equal(found.by_row.deltas, [0.5, 0.25])
