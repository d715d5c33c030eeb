"""Linear probes of states for a row's answer, scored on what was held out.

A probe is a ridge regression from the state to a vector for each answer; it names the answer whose
vector is nearest (probes: Alain and Bengio 2016, arXiv 1610.01644). The vectors are the model's
embeddings, so that an answer can be named that no fitted row had; without them each answer has a
vector of its own. The control deals the answers out to other rows (after Hewitt and Liang 2019,
arXiv 1909.03368).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from statebridge.results.layer_profile import ProbeScore

FOLDS = 5
STRENGTHS = np.logspace(-6, 3, 10)
"""Ridge strengths that are tried, as multiples of the mean eigenvalue of the states' products."""

Floats = npt.NDArray[np.float64]


def probe(
    states: Floats,
    answers: Sequence[str],
    embeddings: Floats | None,
    seed: int,
    *,
    held_out: Literal["rows", "answers"],
) -> ProbeScore:
    """Fit probes in five folds, and score them on what each fold holds out.

    Args:
        states: (rows, width).
        answers: Answer of each row.
        embeddings: (rows, any width), a vector of each row's answer, equal for equal answers;
            None gives each answer a vector of its own, which no unseen answer can be named by.
        seed: Seed of the folds and of the control.
        held_out: Single rows, or all rows of an answer together.
    """
    _, first, of_row = np.unique(answers, return_index=True, return_inverse=True)
    if embeddings is None:
        vectors = np.eye(len(first))
    else:
        vectors = embeddings[first] - embeddings[first].mean(axis=0)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    units = range(len(answers)) if held_out == "rows" else of_row.tolist()
    return _scored(states, of_row, vectors, units, seed)


def _scored(
    states: Floats,
    of_row: npt.NDArray[np.intp],
    vectors: Floats,
    units: Sequence[int],
    seed: int,
) -> ProbeScore:
    """Score a probe and its control; rows of one unit are held out together."""
    rng = random.Random(f"statebridge.probe|{seed}")  # noqa: S311
    names = sorted(set(units))
    rng.shuffle(names)
    fold_of = {name: place % FOLDS for place, name in enumerate(names)}
    folds = np.array([fold_of[unit] for unit in units])
    dealt = np.array(rng.sample(of_row.tolist(), len(of_row)))
    right = [0, 0]
    for fold in range(FOLDS):
        test, train = folds == fold, folds != fold
        if not test.any() or not train.any():
            continue
        for place, labels in enumerate((of_row, dealt)):
            made = ridge(states[train], vectors[labels[train]], states[test])
            best = (made @ vectors.T - (vectors**2).sum(axis=1) / 2).argmax(axis=1)
            right[place] += int((best == labels[test]).sum())
    return ProbeScore(
        right=right[0], shuffled_right=right[1], rows=len(of_row), answers=len(vectors)
    )


def ridge(states: Floats, targets: Floats, others: Floats) -> Floats:
    """Fit a ridge regression with an intercept; return its predictions for other states.

    The strength is that of the least squared error when each row is left out in turn, which
    has a closed form. All is done in the space of rows, since states are wider than rows are
    many.

    Args:
        states: (rows, width).
        targets: (rows, n).
        others: (more rows, width).

    Returns:
        (more rows, n).
    """
    mean, offset = states.mean(axis=0), targets.mean(axis=0)
    centred, wanted = states - mean, targets - offset
    values, basis = np.linalg.eigh(centred @ centred.T)
    values = np.clip(values, 0, None)
    scale = float(values.mean()) or 1.0
    rotated = basis.T @ wanted
    best, chosen = np.inf, np.zeros_like(wanted)
    for strength in STRENGTHS * scale:
        inverse = 1 / (values + strength)
        weights = basis @ (inverse[:, None] * rotated)
        # 1 - leverage, the intercept's 1/n included.
        kept = strength * ((basis**2) @ inverse) - 1 / len(states)
        error = float(((strength * weights / np.maximum(kept, 1e-12)[:, None]) ** 2).sum())
        if error < best:
            best, chosen = error, weights
    made: Floats = (others - mean) @ centred.T @ chosen + offset
    return made
