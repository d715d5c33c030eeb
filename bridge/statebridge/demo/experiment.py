"""Experiments on the taught pair: that of `statebridge demo`, and the control of other runs."""

from __future__ import annotations

from typing import Any

from statebridge.demo.taught_pair import SEEDS, taught_pair_folders, taught_translators

ROWS = 64
LAYERS = {"sender": 0.67, "receiver": 0.67}
_WORLD = {
    "hops": [2],
    "distractors": 4,
    "domains": ["geography", "work"],
    "wording": "plain",
}
"""Settings of the rows that the pair was taught to read."""
MAP_NAMES = [0.0, 0.6]
"""Part of each list of names that the pair's translators have seen."""
NEW_NAMES = [0.6, 1.0]
_HALF_NEW = [0.3, 1.0]


TAUGHT_CELLS = 2 + 2 * len(SEEDS)
"""Cells of the control on the taught pair: its bounds once, channel and control once a seed."""


def taught_control_fields(rows: int) -> dict[str, Any]:
    """Return the fields of a control on the taught pair: one private channel and its bounds.

    Every name in its rows is new to the translators, so that none can look an answer up.

    Args:
        rows: How many of the pair's own rows to run.

    Raises:
        PairError: The taught pair is not there.
    """
    return {
        **_sides(),
        "dataset": {"generate": {"rows": rows, "seed": 0, "names": NEW_NAMES, **_WORLD}},
        "translators": {seed: str(path) for seed, path in taught_translators().items()},
        "conditions": ["question_only", "skyline", "private_last", "private_last_shuffled"],
        "decoding": {"max_new_tokens": 8},
    }


def _sides() -> dict[str, Any]:
    folders = taught_pair_folders()
    return {side: {"model": str(folders[side]), "layer": LAYERS[side]} for side in folders}


def demo_experiment() -> dict[str, Any]:
    """Return the fields of the demo's experiment, with folders of this installation.

    About half of its rows have an answer that its translators have not seen.

    Raises:
        PairError: The taught pair is not there.
    """
    last = {"prompt": "question_only", "positions": "last", "source_positions": "last"}
    return {
        "name": "demo",
        **_sides(),
        "dataset": {"generate": {"rows": ROWS, "seed": 0, "names": _HALF_NEW, **_WORLD}},
        "translators": {
            "sets": {
                "aligned": {
                    "fit": {
                        "kind": "ridge",
                        "corpus": {
                            "generate": {"rows": 300, "seed": 5, "names": MAP_NAMES, **_WORLD}
                        },
                    }
                },
                "causal": {seed: str(path) for seed, path in taught_translators().items()},
            }
        },
        "conditions": [
            "published",
            "private",
            {"name": "causal_last", "source": "translated", "translator": "causal", **last},
            {
                "name": "causal_last_shuffled",
                "source": "shuffled",
                "lone_rows": "nearest",
                "translator": "causal",
                **last,
            },
        ],
        "positive_control": {"rows": ROWS},
        "sender_checks": True,
        "likelihoods": {"tokens": True},
        "decoding": {"max_new_tokens": 8, "relay_max_new_tokens": 32},
    }
