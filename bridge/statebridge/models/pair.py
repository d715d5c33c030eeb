"""A pair: a sender and a receiver, each a model at one layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from statebridge.experiment.experiment import Execution, Experiment
from statebridge.models.hosts import Host, find_host
from statebridge.models.loading import load_model, resolve_device
from statebridge.models.traced_model import TracedModel


@dataclass(frozen=True, slots=True)
class Pair:
    """A sender and a receiver; they share weights where they are one model on one device."""

    sender: TracedModel
    receiver: TracedModel


def pair_devices(execution: Execution) -> tuple[torch.device, torch.device]:
    """Return where the sender and the receiver go.

    Raises:
        EnvironmentFault: This machine lacks one of the devices.
    """
    receiver = resolve_device(execution.device)
    if execution.sender_device is None:
        return receiver, receiver
    return resolve_device(execution.sender_device, "execution.sender_device"), receiver


def same_device(one: torch.device, other: torch.device) -> bool:
    """Whether two devices are one: `cuda` is `cuda:0`."""
    return (one.type, one.index or 0) == (other.type, other.index or 0)


def pair_hosts(experiment: Experiment) -> tuple[Host, Host]:
    """Return where the jobs of the sender and of the receiver run; deadlines count from now."""
    execution = experiment.execution
    sender, receiver = (
        find_host(
            remote, job_seconds=execution.remote_job_seconds, seconds=execution.remote_seconds
        )
        for remote in experiment.remotes
    )
    return sender, receiver


def load_pair(experiment: Experiment) -> Pair:
    """Load both sides of an experiment's pair; see `load_model` for the errors.

    The same model on both sides is held once, unless its sides are in two places.
    """
    sender_device, receiver_device = pair_devices(experiment.execution)
    sender_host, receiver_host = pair_hosts(experiment)
    sender = load_model(
        experiment.sender, dtype=experiment.dtype, device=str(sender_device), host=sender_host
    )
    same_model = (experiment.sender.model, experiment.sender.revision) == (
        experiment.receiver.model,
        experiment.receiver.revision,
    )
    same_host = experiment.remotes[0] == experiment.remotes[1]
    if same_model and same_host and same_device(sender_device, receiver_device):
        return Pair(sender, sender.at_layer(experiment.receiver.layer))
    receiver = load_model(
        experiment.receiver, dtype=experiment.dtype, device=str(receiver_device), host=receiver_host
    )
    return Pair(sender, receiver)
