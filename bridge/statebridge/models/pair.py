"""A pair: a sender and a receiver, each a model at one layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from statebridge.errors import PairError
from statebridge.experiment.experiment import Execution, Experiment, ModelAtLayer
from statebridge.models.families import resolve_layer
from statebridge.models.hosts import Host, find_host
from statebridge.models.loading import declared_blocks, load_model, loaded_name, resolve_device
from statebridge.models.placement import places_of
from statebridge.models.traced_model import TracedModel
from statebridge.models.weights import weights_sha256

Side = Literal["sender", "receiver"]
_SIDES: tuple[Side, ...] = get_args(Side)


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


def declared_pair(
    experiment: Experiment,
    pair: Pair | None = None,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> Pair:
    """Return an experiment's pair: a loaded one at the declared layers, or loaded now.

    Args:
        experiment: As declared.
        pair: Both models, loaded; their layers do not matter.
        progress: Called with `load` before and after.

    Raises:
        PairError: A loaded model is not the declared one, or has another dtype or device.
        StatebridgeError: As `load_pair`, where no pair is given.
    """
    progress("load", 0, 1)
    if pair is None:
        pair = load_pair(experiment)
    else:
        pair = Pair(
            _at_declared(experiment, "sender", pair.sender),
            _at_declared(experiment, "receiver", pair.receiver),
        )
    progress("load", 1, 1)
    return pair


def _at_declared(experiment: Experiment, side: Side, model: TracedModel) -> TracedModel:
    declared: ModelAtLayer = getattr(experiment, side)
    execution = experiment.execution
    here = experiment.remotes[_SIDES.index(side)] in (None, "local")
    asked = execution.device
    if side == "sender" and execution.sender_device is not None:
        asked = execution.sender_device
    dtype = str(model.dtype).removeprefix("torch.")
    for what, found, wanted, same in (
        ("model", model.name, declared.model, model.name == loaded_name(declared)),
        ("revision", model.revision, declared.revision, model.revision == declared.revision),
        (
            "weights",
            model.source and model.source.weights,
            declared.weights,
            (model.source.weights if model.source else None) == declared.weights,
        ),
        ("dtype", dtype, experiment.dtype, not here or dtype == experiment.dtype),
        (
            "device",
            model.device,
            asked,
            not here or asked == "auto" or same_device(model.device, torch.device(asked)),
        ),
        (
            "places",
            ", ".join(places_of(model.module)),
            "one device",
            experiment.path == "plain" or not places_of(model.module),
        ),
    ):
        if not same:
            raise PairError(
                f"{side}: the loaded pair has {what} {found}, the experiment declares {wanted}; "
                "give a pair that was loaded for this experiment, or none"
            )
    return _at_layer(model, declared, side)


def load_pair(experiment: Experiment) -> Pair:
    """Load both sides of an experiment's pair; see `load_model` for the errors.

    The same model on both sides is held once, unless its sides are in two places.
    """
    devices = dict(zip(_SIDES, pair_devices(experiment.execution), strict=True))
    hosts = dict(zip(_SIDES, pair_hosts(experiment), strict=True))
    maps = dict(zip(_SIDES, experiment.device_maps, strict=True))

    def load(side: Side) -> TracedModel:
        declared: ModelAtLayer = getattr(experiment, side)
        model = load_model(
            # Its own layer is looked for once it is known what layers there are.
            declared.model_copy(update={"layer": 0}),
            dtype=experiment.dtype,
            device=str(devices[side]),
            device_map=maps[side],
            host=hosts[side],
        )
        return _at_layer(model, declared, side)

    for side in _SIDES:
        # Loading takes a while, so what can be known is found out first.
        _check_index(getattr(experiment, side), side)
    sender = load("sender")
    same_model = all(
        getattr(experiment.sender, part) == getattr(experiment.receiver, part)
        for part in ("model", "revision", "adapter", "weights")
    )
    same_host = experiment.remotes[0] == experiment.remotes[1]
    same_host = same_host and maps["sender"] == maps["receiver"]
    if same_model and same_host and same_device(devices["sender"], devices["receiver"]):
        return Pair(sender, _at_layer(sender, experiment.receiver, "receiver"))
    return Pair(sender, load("receiver"))


def pair_facts(pair: Pair) -> dict[str, str]:
    """Return what two copies of a pair have in common, by name."""
    facts = {}
    for side, model in (("sender", pair.sender), ("receiver", pair.receiver)):
        device = model.device
        facts[f"{side}'s weights"] = str(weights_sha256(model.module))
        facts[f"{side}'s device"] = (
            torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        )
    return facts


def check_copy(pair: Pair, facts: Mapping[str, str]) -> None:
    """Refuse a pair that is not a copy of another.

    Raises:
        PairError: Names the first fact in which they differ.
    """
    for name, own in pair_facts(pair).items():
        if own != facts[name]:
            raise PairError(
                f"the {name} here is {own[:40]}, and the driver's {facts[name][:40]}; the rows of "
                "a run come from one pair on one kind of device"
            )


def _check_index(declared: ModelAtLayer, side: Side) -> None:
    blocks = None if isinstance(declared.layer, str) else declared_blocks(declared)
    if blocks is not None:
        names = [f"block {index}" for index in range(blocks)]
        try:
            resolve_layer(declared.layer, names, loaded_name(declared))
        except PairError as error:
            raise PairError(f"{side}.layer: {error}") from None


def _at_layer(model: TracedModel, declared: ModelAtLayer, side: Side) -> TracedModel:
    try:
        return model.at_layer(declared.layer)
    except PairError as error:
        raise PairError(f"{side}.layer: {error}") from None
