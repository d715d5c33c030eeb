"""A pair: a sender and a receiver, each a model at one layer."""

from __future__ import annotations

from dataclasses import dataclass

from statebridge.models.loading import load_model
from statebridge.models.traced_model import TracedModel
from statebridge.spec.experiment import Experiment


@dataclass(frozen=True, slots=True)
class Pair:
    """A sender and a receiver; they share weights where they are the same model."""

    sender: TracedModel
    receiver: TracedModel


def load_pair(experiment: Experiment) -> Pair:
    """Load both sides of an experiment's pair; see `load_model` for the errors."""
    settings = {
        "dtype": experiment.dtype,
        "device": experiment.execution.device,
        "remote": experiment.remote,
    }
    sender = load_model(experiment.sender, **settings)  # type: ignore[arg-type]
    if (experiment.sender.model, experiment.sender.revision) == (
        experiment.receiver.model,
        experiment.receiver.revision,
    ):
        return Pair(sender, sender.at_layer(experiment.receiver.layer))
    return Pair(sender, load_model(experiment.receiver, **settings))  # type: ignore[arg-type]
