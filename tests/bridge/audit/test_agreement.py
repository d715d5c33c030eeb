from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa  # type: ignore[import-untyped]

from statebridge.audit import LABELS, Label
from statebridge.audit.agreement import agreement_of, pair_agreement

label_pairs = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=60
)


def split(pairs: list[tuple[Label, Label]]) -> tuple[dict[str, Label], dict[str, Label]]:
    return (
        {str(i): one for i, (one, _) in enumerate(pairs)},
        {str(i): other for i, (_, other) in enumerate(pairs)},
    )


@given(label_pairs)
def test_kappa_is_that_of_statsmodels(pairs: list[tuple[Label, Label]]) -> None:
    first, second = split(pairs)
    found = pair_agreement("a", first, "b", second)
    assert found.n == len(pairs)
    assert found.percent == pytest.approx(100 * np.mean([a == b for a, b in pairs]))
    table = np.array([[found.confusion[a][b] for b in LABELS] for a in LABELS])
    assert table.sum() == len(pairs)
    if found.kappa is None:
        assert len(set(pairs)) == 1
        assert pairs[0][0] == pairs[0][1]
        assert found.no_kappa_because is not None
    else:
        # Both compute a quotient of sums of at most 60 terms.
        assert found.kappa == pytest.approx(cohens_kappa(table, return_results=False), abs=1e-12)


def test_kappa_by_hand() -> None:
    v, s, a = LABELS
    first, second = split([(v, v), (s, s), (s, a), (a, a)])
    # Agreed 3/4; by chance (1·1 + 2·1 + 1·2)/16 = 5/16; (12/16 − 5/16)/(11/16) = 7/11.
    assert pair_agreement("a", first, "b", second).kappa == pytest.approx(7 / 11)


def test_undefined_kappa_is_said() -> None:
    first, second = split([("substring_noise", "substring_noise")] * 4)
    found = pair_agreement("a", first, "b", second)
    assert (found.percent, found.kappa) == (100.0, None)
    assert "same label (substring_noise)" in (found.no_kappa_because or "")


def test_no_row_in_common_is_said() -> None:
    found = pair_agreement("a", {"x": "substring_noise"}, "b", {"y": "substring_noise"})
    assert (found.n, found.percent, found.kappa) == (0, None, None)
    assert found.no_kappa_because == "no row was labelled by both"


def test_every_pair_of_three_readers() -> None:
    labels: dict[str, Label] = {"x": "substring_noise", "y": "verbose_correct"}
    found = agreement_of(labels, {"a": labels, "b": labels, "c": labels}, {})
    assert [(p.first, p.second) for p in found.with_labels] == [
        ("automatic", "a"),
        ("automatic", "b"),
        ("automatic", "c"),
    ]
    assert [(p.first, p.second) for p in found.between_readers] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
