"""A model over several devices, which accelerate's hooks bring weights and states to."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from tempfile import mkdtemp
from typing import Any

import torch

from statebridge.errors import EnvironmentFault, NumericError

_OFFLOADED = ("cpu", "disk")
"""Places of weights that are brought to a GPU, if there is one, when they are needed."""


def check_map(device_map: str | dict[str, str], field: str = "device_map") -> None:
    """Refuse a device map that this process cannot lay a model by.

    Args:
        device_map: As declared.
        field: What names it in messages.

    Raises:
        EnvironmentFault: accelerate or one of the GPUs is missing.
    """
    if find_spec("accelerate") is None:
        raise EnvironmentFault(
            f"{field}: needs accelerate; install it with pip install 'statebridge[accelerate]'"
        )
    count = torch.cuda.device_count()
    if isinstance(device_map, str):
        if not count:
            raise EnvironmentFault(
                f"{field} {device_map}: lays a model over GPUs, and torch finds no CUDA here; "
                "leave it out, or declare places by module path, such as {'': cpu}"
            )
        return
    if set(device_map.values()) == {"disk"}:
        raise EnvironmentFault(f"{field}: all of it is on disk; give a part a device, or cpu")
    for place in device_map.values():
        if place not in _OFFLOADED and torch.device(place).index >= count:
            raise EnvironmentFault(
                f"{field} {place}: this machine has {count} CUDA device(s), counted from cuda:0"
            )


def map_arguments(device_map: str | dict[str, str]) -> dict[str, Any]:
    """Return what `from_pretrained` takes for a device map.

    Weights of place `disk` that are not in safetensors are written to a folder that this process
    removes when it ends.
    """
    found: dict[str, Any] = {"device_map": device_map}
    if isinstance(device_map, str) or "disk" in device_map.values():
        folder = mkdtemp(prefix="statebridge-weights-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        found["offload_folder"] = folder
    return found


def order_places(module: Any) -> None:
    """Name a place that computes first: the pipeline underneath sends inputs to the first one."""
    placed = getattr(module, "hf_device_map", None)
    if placed is not None:
        first = sorted(placed.items(), key=lambda item: item[1] in _OFFLOADED)
        module.hf_device_map = dict(sorted(first, key=lambda item: item[1] == "disk"))


def places_of(module: torch.nn.Module) -> tuple[str, ...]:
    """Return the places that a model is laid over, sorted; none where it is on one device."""
    places = getattr(module, "hf_device_map", None) or {}
    named = {f"cuda:{place}" if isinstance(place, int) else str(place) for place in places.values()}
    return tuple(sorted(named)) if len(named) > 1 or "disk" in named else ()


def first_place(module: torch.nn.Module) -> torch.device:
    """Return where a model's inputs go; cpu where its weights are remote or offloaded."""
    computing = [place for place in places_of(module) if place not in _OFFLOADED]
    if computing:
        return torch.device(computing[0])
    device: torch.device = next(module.parameters()).device
    return torch.device("cpu") if device.type == "meta" else device


@contextmanager
def in_memory(
    module: torch.nn.Module, name: str, tensor: torch.Tensor
) -> Iterator[torch.Tensor | None]:
    """Give an entry of a model's state with its values; None where they are on another host.

    Args:
        module: The model.
        name: Name of the entry.
        tensor: The entry, on the meta device if it is offloaded.
    """
    if tensor.device.type != "meta":
        yield tensor
        return
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    if not hasattr(owner, "_hf_hook"):
        yield None
    else:
        from accelerate.utils import align_module_device  # noqa: PLC0415 - an extra

        with align_module_device(owner, "cpu"):
            yield getattr(owner, leaf)


def check_finite_weights(module: torch.nn.Module, name: str) -> None:
    """Raise NumericError if a weight holds NaN or infinity."""
    for parameter_name, parameter in module.named_parameters():
        with in_memory(module, parameter_name, parameter) as values:
            if values is not None and not bool(_finite(values).all()):
                raise NumericError(f"{name}: weight {parameter_name} holds NaN or infinity")


def _finite(values: torch.Tensor) -> torch.Tensor:
    # Floats of 8 bits have no infinity, and no operation that looks for one.
    return ~torch.isnan(values) if values.element_size() == 1 else torch.isfinite(values)
