"""The positive control: a channel that must carry something, through the same apparatus.

The receiver is paired with itself at its own layer in the private setting: the state of the
last token after the whole prompt replaces that after the question alone. Whatever of the
answer that state holds needs no translation, so an apparatus that sees nothing here could not
have seen transfer anywhere. Source of the channel: arXiv 2501.14082 (replace).
"""

from __future__ import annotations

from statebridge.demo.experiment import taught_control_fields
from statebridge.experiment.experiment import Experiment
from statebridge.models.pair import Pair


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
        # The first rows need not have what is asked for, and the control is judged without.
        "likelihoods": None,
        # One model, on both sides: where the receiver is.
        "execution": experiment.execution.model_dump()
        | {"sender_device": None, "sender_device_map": None},
    }
    # Not a copy: an experiment remembers the conditions that it has resolved.
    return Experiment.model_validate(experiment.model_dump() | changes)


def taught_experiment(experiment: Experiment, device: str) -> Experiment | None:
    """Return the control on the taught pair; None where the experiment asks for none.

    The pair comes with Statebridge and is known to transfer in the private setting, from one
    model to another and through maps trained through the receiver: if nothing is seen there, the
    installation, the device or the dtype is at fault. It runs in the experiment's
    dtype, and not at all where the experiment runs remotely.

    Args:
        experiment: As declared.
        device: Where it runs: that of the experiment's receiver.

    Raises:
        PairError: The taught pair is not there.
    """
    declared = experiment.positive_control
    if declared is None or not declared.taught_pair or experiment.runs_remotely:
        return None
    return Experiment.model_validate(
        {
            **taught_control_fields(declared.rows),
            "name": f"{experiment.name[:170]}, taught pair",
            "dtype": experiment.dtype,
            "execution": {
                "device": device,
                "path": experiment.execution.path,
                "max_lanes": experiment.execution.max_lanes,
            },
        }
    )


def control_pair(pair: Pair) -> Pair:
    """Return the receiver paired with itself, weights shared."""
    return Pair(pair.receiver, pair.receiver)
