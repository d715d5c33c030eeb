"""The experiment of `statebridge demo`: the taught pair, every published condition, a private
channel.
"""

from __future__ import annotations

from typing import Any

from statebridge.demo.taught_pair import taught_pair_folders, taught_translators

ROWS = 64
LAYERS = {"sender": 0.67, "receiver": 0.67}
_WORLD = {
    "hops": [2],
    "distractors": 4,
    "domains": ["geography", "work"],
    "wording": "plain",
}
"""What the pair was taught to read."""


def demo_experiment() -> dict[str, Any]:
    """Return the fields of the demo's experiment, with folders of this installation.

    Raises:
        PairError: The taught pair is not there.
    """
    folders = taught_pair_folders()
    last = {"prompt": "question_only", "positions": "last", "source_positions": "last"}
    return {
        "name": "demo",
        **{side: {"model": str(folders[side]), "layer": LAYERS[side]} for side in folders},
        "dataset": {"generate": {"rows": ROWS, "seed": 0, **_WORLD}},
        "translators": {
            "sets": {
                "aligned": {
                    "fit": {
                        "kind": "ridge",
                        "corpus": {"generate": {"rows": 300, "seed": 5, **_WORLD}},
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
        "decoding": {"max_new_tokens": 8, "relay_max_new_tokens": 32},
    }
