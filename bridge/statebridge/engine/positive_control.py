"""The positive control: a channel that must carry something, through the same apparatus.

The receiver is paired with itself at its own layer in the private setting: the state of the
last token after the whole prompt replaces that after the question alone. Whatever of the
answer that state holds needs no translation, so an apparatus that sees nothing here could not
have seen transfer anywhere. Source of the channel: arXiv 2501.14082 (replace).
"""

from __future__ import annotations

from statebridge.models.pair import Pair
from statebridge.spec.experiment import Experiment


def control_experiment(experiment: Experiment) -> Experiment:
    """Return the same-model control of an experiment: its rows, seeds, prompts and decoding.

    Raises:
        ValueError: The experiment declares no positive control.
    """
    declared = experiment.positive_control
    if declared is None:
        raise ValueError(f"experiment {experiment.name} declares no positive control")
    changes = {
        "name": f"{experiment.name[:170]}, positive control",
        "sender": experiment.receiver,
        "translators": None,
        "conditions": "positive-control",
        "limit": min(declared.rows, experiment.limit or declared.rows),
        "positive_control": None,
        "sender_checks": False,
    }
    # Not a copy: an experiment remembers the conditions that it has resolved.
    return Experiment.model_validate(experiment.model_dump() | changes)


def control_pair(pair: Pair) -> Pair:
    """Return the receiver paired with itself, weights shared."""
    return Pair(pair.receiver, pair.receiver)
