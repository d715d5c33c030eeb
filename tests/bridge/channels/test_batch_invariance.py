"""A row alone is the row in a batch, for every message in front of a prompt and every family."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bridge.channels.prepended import FAMILIES, declared, pair_of
from tests.bridge.engine.private_points import CLOSE
from tests.bridge.engine.tiny_experiment import dataset_rows, engine_pair, run_engine
from tests.tiny_models import mixed_rows

ROWS = [row for row in mixed_rows(90, seed=6) if len(row["context"].split()) > 1]
CHAIN = {"count": 2, "topology": "chain"}
SOFT = {"site": "embedding", "soft_tokens": {"by": "vocab"}}
CIPHER = {"site": "embedding", "soft_tokens": {"by": "cipher", "steps": 3}}
STEPWISE: dict[str, Any] = {"rel": 1e-3, "abs": 1e-3}
POINTS: dict[str, dict[str, Any]] = {
    "all": {},
    "short": {"layers": [2]},
    "latent": {"rollout": {"steps": 1}},
    "soft": SOFT,
    "written": CIPHER,
    "deltas": {
        "site": "embedding",
        "soft_tokens": {"by": "text", "steps": 3, "deltas": {"layers": [1]}},
    },
    "two": {"senders": {"count": 2}, "reposition": "rotate"},
    "chain": {"senders": CHAIN},
}


def _run(family: str, count: int, together: int) -> dict[tuple[str, str], Any]:
    file = {
        "conditions": [declared(name, **point) for name, point in POINTS.items()],
        "decoding": {"max_new_tokens": 2},
        "execution": {"path": "shared"},
        "seeds": [42],
    }
    rows = dataset_rows(ROWS[:count])
    done = run_engine(engine_pair(pair_of(family)), rows, {}, rows_together=together, **file)
    return done.rows


@pytest.mark.parametrize(
    ("family", "count"),
    [
        pytest.param("neox", 7, marks=pytest.mark.slow),
        *(pytest.param(family, 64, marks=pytest.mark.soak) for family in FAMILIES),
    ],
)
def test_a_row_alone_is_the_row_among_others(family: str, count: int) -> None:
    alone = _run(family, count, 1)
    assert len({row.message_positions for row in alone.values()}) > 3, "lengths are mixed"
    for together in {7, count}:
        for key, row in _run(family, count, together).items():
            assert row.token_ids == alone[key].token_ids, (together, key)
            assert row.message_positions == alone[key].message_positions
            # What is read step after step multiplies a rounding error in random weights.
            close = STEPWISE if key[0] in ("my_latent", "my_written") else CLOSE
            expected = pytest.approx(alone[key].gold_logprob, **close)
            assert row.gold_logprob == expected, (together, key)
