"""The models of a worker: each listed model is loaded once for each dtype and device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from statebridge.engine.doctor.estimate import throughput
from statebridge.errors import StatebridgeError
from statebridge.experiment.experiment import Experiment, ModelAtLayer
from statebridge.models.hosts import find_host
from statebridge.models.loading import load_model
from statebridge.models.pair import Pair, pair_hosts
from statebridge.models.traced_model import TracedModel
from statebridge_server.settings import ListedModel, Settings

Side = Literal["sender", "receiver"]


class LoadedModels:
    """Loads the models that the operator lists, and no others.

    A model of several pairs, or of both sides of one pair, is loaded once on a device. The layer
    comes from the experiment: the same weights are read or written at any block.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        on = settings.placement
        self._devices: dict[Side, str] = {
            "sender": on.sender_device or on.device,
            "receiver": on.device,
        }
        self._models: dict[tuple[ListedModel, str, str], TracedModel] = {}
        self._throughput: dict[str, float] = {}
        """Operations per second of each device with a model, for the doctor's estimate."""

    def pair(self, name: str, experiment: Experiment) -> Pair:
        """Return a listed pair at the experiment's layers and in its dtype; load it if needed.

        Raises:
            StatebridgeError: What `statebridge.models.loading.load_model` raises, or a layer
                out of range.
        """
        listed = self._settings.pairs[name]
        sender = self._model(listed.sender, experiment.dtype, "sender")
        receiver = self._model(listed.receiver, experiment.dtype, "receiver")
        hosts = pair_hosts(experiment)  # whose deadlines count from here
        return Pair(
            replace(sender.at_layer(experiment.sender.layer), host=hosts[0]),
            replace(receiver.at_layer(experiment.receiver.layer), host=hosts[1]),
        )

    def preload(self, name: str) -> None:
        """Load a listed pair in its first dtype; raises as `pair` does."""
        listed = self._settings.pairs[name]
        self._model(listed.sender, listed.dtypes[0], "sender")
        self._model(listed.receiver, listed.dtypes[0], "receiver")

    def describe(self, name: str) -> dict[str, Any] | None:
        """Describe the loaded models of a listed pair; None unless both sides are loaded."""
        listed = self._settings.pairs[name]
        sides: dict[Side, ListedModel] = {"sender": listed.sender, "receiver": listed.receiver}
        loaded: dict[str, list[dict[str, Any]]] = {}
        for side, model in sides.items():
            loaded[side] = [
                _described(traced, dtype) | {"operations_per_second": self._throughput[device]}
                for (held, dtype, device), traced in self._models.items()
                if (held, device) == (_weights(model), self._devices[side])
            ]
        return loaded if all(loaded.values()) else None

    def public_message(self, name: str, message: str) -> str:
        """Return a message about a listed pair as clients may see it."""
        listed = self._settings.pairs[name]
        return _public(_public(message, listed.sender), listed.receiver)

    def _model(self, listed: ListedModel, dtype: str, side: Side) -> TracedModel:
        device = self._devices[side]
        key = (_weights(listed), dtype, device)
        found = self._models.get(key)
        if found is None:
            at = ModelAtLayer(
                model=listed.model,
                layer=0,
                revision=listed.revision,
                adapter=listed.adapter,
                weights=listed.weights,
            )
            try:
                found = load_model(
                    at,
                    dtype=dtype,
                    device=device,
                    device_map=listed.device_map,
                    host=find_host(listed.remote),
                )
            except StatebridgeError as error:
                raise type(error)(_public(str(error), listed)) from None
            self._models[key] = found
            if device not in self._throughput:
                self._throughput[device] = round(throughput(found.device))
        return replace(found, name=listed.public_name)


def _public(message: str, listed: ListedModel) -> str:
    """Leave out where the operator keeps a model."""
    message = message.replace(listed.model, listed.public_name)
    return message if listed.adapter is None else message.replace(listed.adapter, "of the operator")


def _weights(listed: ListedModel) -> ListedModel:
    """Return what two listed models with the same weights have in common: all but the name."""
    return listed.model_copy(update={"name": None})


def _described(traced: TracedModel, dtype: str) -> dict[str, Any]:
    parameters = list(traced.module.parameters())
    return {
        "dtype": dtype,
        "device": str(traced.device),
        "blocks": len(traced.block_paths),
        "width": traced.width,
        "window": traced.window,
        "parameters": sum(p.numel() for p in parameters),
        "bytes": sum(p.numel() * p.element_size() for p in parameters),
    }
