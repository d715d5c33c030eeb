from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from statebridge.engine.sender_checks.probe import STRENGTHS, Floats, probe, ridge

RNG = np.random.default_rng(7)


def _written_out(states: Floats, targets: Floats, others: Floats, strength: float) -> Floats:
    """Ridge with an intercept in the space of the states, by its normal equations."""
    mean, offset = states.mean(axis=0), targets.mean(axis=0)
    x, y = states - mean, targets - offset
    weights = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
    made: Floats = (others - mean) @ weights + offset
    return made


@pytest.mark.parametrize(("rows", "width"), [(30, 6), (12, 40)])
def test_the_strength_is_that_of_the_least_error_left_out(rows: int, width: int) -> None:
    states, others = RNG.normal(size=(rows, width)), RNG.normal(size=(5, width))
    targets = states[:, :3] @ RNG.normal(size=(3, 2)) + 0.5 * RNG.normal(size=(rows, 2)) + 4
    centred = states - states.mean(axis=0)
    scale = np.linalg.eigvalsh(centred @ centred.T).clip(0).mean()
    errors = []
    for strength in STRENGTHS * scale:
        left_out = [
            _written_out(np.delete(states, i, 0), np.delete(targets, i, 0), states[[i]], strength)
            for i in range(rows)
        ]
        errors.append(((np.concatenate(left_out) - targets) ** 2).sum())
    strength = STRENGTHS[int(np.argmin(errors))] * scale
    expected = _written_out(states, targets, others, strength)
    # Float64 products of a few dozen terms; the smallest strength is a millionth of the scale.
    assert np.allclose(ridge(states, targets, others), expected, rtol=1e-7, atol=1e-9)


def test_a_probe_finds_what_is_linear_in_the_state() -> None:
    answers = [f"a{i % 6}" for i in range(120)]
    centres = RNG.normal(size=(6, 30))
    states = np.stack([centres[i % 6] for i in range(120)]) + 0.3 * RNG.normal(size=(120, 30))
    found = probe(states, answers, None, 0, held_out="rows")
    assert (found.rows, found.answers) == (120, 6)
    assert found.right > 115
    assert found.shuffled_right < 40  # chance is 20
    nothing = probe(RNG.normal(size=(120, 30)), answers, None, 0, held_out="rows")
    assert nothing.right < 40


def test_unseen_answers_are_named_by_their_vectors() -> None:
    answers = [f"a{i % 40}" for i in range(120)]
    vectors = RNG.normal(size=(40, 8))
    embeddings = np.stack([vectors[i % 40] for i in range(120)])

    def right(states: Floats, held_out: Literal["rows", "answers"]) -> int:
        found = probe(states, answers, embeddings, 0, held_out=held_out)
        assert found.shuffled_right < 20
        assert found == probe(states, answers, embeddings, 0, held_out=held_out)
        return found.right

    states = embeddings @ RNG.normal(size=(8, 20)) + 0.1 * RNG.normal(size=(120, 20))
    assert right(states, "rows") > 100
    assert right(states, "answers") > 80
    # A look-up: each answer's states are alike, and have nothing to do with its vector.
    looked_up = RNG.normal(size=(40, 60))
    states = np.stack([looked_up[i % 40] for i in range(120)])
    states += 0.01 * RNG.normal(size=states.shape)
    assert right(states, "rows") > 100
    assert right(states, "answers") < 20
