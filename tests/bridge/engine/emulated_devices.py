"""Devices that this machine lacks, held in its own memory, with a GPU's manners.

A tensor on such a device computes on the CPU but says that it is elsewhere, and an operation
over two devices is refused, as CUDA refuses it: so that code for several GPUs is tested where
there is none. It shows that every tensor is moved to where it is used, not how fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _DummyBackendModule, _DummyDeviceGuard

aten = torch.ops.aten

ONE, OTHER = torch.device("privateuseone:0"), torch.device("privateuseone:1")
"""The type of device that torch keeps for others' use."""

_CPU = torch.device("cpu")
_COPIES = frozenset({aten._to_copy.default, aten.copy_.default})
_INDEXED = frozenset(
    {
        aten.index.Tensor,
        aten.index_put.default,
        aten.index_put_.default,
        aten._index_put_impl_.default,
    }
)
"""CUDA takes index tensors that are on the CPU."""


class MixedError(RuntimeError):
    """An operation met tensors of two devices."""


class EmulatedTensor(torch.Tensor):
    """A CPU tensor that stands for one of another device."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor, device: torch.device) -> EmulatedTensor:
        made: EmulatedTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=device,
            requires_grad=held.requires_grad,
        )
        made.held = held
        return made

    def __repr__(self) -> str:  # type: ignore[override]
        return f"EmulatedTensor({self.held!r}, {self.device})"

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _run(func, args, kwargs or {})


class _MadeBelow(TorchFunctionMode):
    """Catches `torch.tensor`, and lists as indices: their tensors are made below the dispatcher."""

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.tensor and options.get("device") is not None:
            device = options.pop("device")
            return func(*args, **options).to(device)
        if func in (torch.Tensor.__getitem__, torch.Tensor.__setitem__):
            tensor, index, *value = args
            if isinstance(index, list):
                args = (tensor, torch.tensor(index), *value)
        return func(*args, **options)


@contextmanager
def emulated_devices() -> Iterator[None]:
    """Let tensors be made on, and modules be moved to, the emulated devices within the block."""
    # A module on the CPU cannot keep its parameters and take others' memory.
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with _MadeBelow():
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def _run(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    device = kwargs.get("device") or _meeting(func, tensors)
    values, options = tree_map(_held, args), tree_map(_held, dict(kwargs))
    if "device" in options:
        options["device"] = _CPU
    # What an operation in place returns is the tensor that it was given.
    same = {id(each.held): each for each in tensors if isinstance(each, EmulatedTensor)}
    found = func(*values, **options)
    return tree_map(lambda each: _wrapped(each, device, same), found)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, EmulatedTensor) else value


def _wrapped(found: Any, device: torch.device, same: Mapping[int, EmulatedTensor]) -> Any:
    if not isinstance(found, torch.Tensor):
        return found
    if id(found) in same:
        return same[id(found)]
    return found if device == _CPU else EmulatedTensor(found, device)


def _meeting(func: Callable[..., Any], tensors: list[torch.Tensor]) -> torch.device:
    """Return the one device of an operation's tensors."""
    first = tensors[0].device
    if func in _COPIES:
        return first
    if func in _INDEXED:
        tensors = [each for each in tensors if each.device != _CPU] or tensors
    # Numbers without a dimension may come from the CPU.
    devices = {each.device for each in tensors if each.device != _CPU or each.dim()}
    if len(devices) > 1:
        raise MixedError(f"{func}: tensors on {' and '.join(sorted(map(str, devices)))}")
    return next(iter(devices), first)


def _made(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make a tensor on an emulated device out of none."""
    return _run(func, args, kwargs)


_others = torch.library.Library("_", "IMPL")
_others.fallback(_made, "PrivateUse1")
# Some operations ask for a guard of the device type that they are on; this one guards nothing.
torch._C._acc.register_python_privateuseone_device_guard(_DummyDeviceGuard())  # type: ignore[attr-defined]
torch._register_device_module("privateuseone", _DummyBackendModule())  # type: ignore[no-untyped-call]
