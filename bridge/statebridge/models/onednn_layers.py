"""Layers that multiply by oneDNN in float32 on x86 CPUs, where the engine asks for it.

torch multiplies float32 matrices on a CPU by MKL. It also carries oneDNN, whose product it uses in
compiled models alone, and which is more than twice as quick on an AMD processor; docs/benchmarks.md
has the measurement. The sums are the same but for the order of their terms.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.nn import functional
from transformers.activations import GELUActivation
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXMLP

SMALLEST_WEIGHT = 2**17
"""Entries of a weight; with smaller ones and few rows torch's own product is the quicker one."""

_asked: ContextVar[bool] = ContextVar("onednn_products", default=False)


class OneDnnLinear(torch.nn.Linear):
    """`torch.nn.Linear`, which multiplies by oneDNN while `onednn_products` is in force."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return input · weightᵀ + bias, (..., out) of (..., in)."""
        if not _takes(input):
            return functional.linear(input, self.weight, self.bias)
        return _product(input, self)


class OneDnnNeoXMLP(GPTNeoXMLP):  # type: ignore[misc]
    """GPT-NeoX's MLP, whose GELU is a part of its first product under `onednn_products`.

    Of a long prompt in many lanes the hidden values are hundreds of megabytes: with GELU on its
    own they are written twice. They are the same either way.
    """

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Return what the MLP adds to the residual stream, (..., width) of (..., width)."""
        if not _takes(hidden_states):
            plain: torch.Tensor = super().forward(hidden_states)
            return plain
        return _product(_product(hidden_states, self.dense_h_to_4h, "gelu"), self.dense_4h_to_h)


def take_onednn(module: torch.nn.Module) -> int:
    """Make layers able to use oneDNN's products; return how many linear ones.

    None of a model on another device, in another dtype or on another kind of processor. It has to
    come before nnsight wraps the module, which keeps each layer's `forward` as it is by then.
    """
    if not onednn_available():
        return 0
    parts = list(module.modules())
    layers = [part for part in parts if _is_worth_it(part)]
    for layer in layers:
        layer.__class__ = OneDnnLinear
    for part in parts:
        if type(part) is GPTNeoXMLP and _has_exact_gelu(part):
            part.__class__ = OneDnnNeoXMLP
    return len(layers)


def onednn_available() -> bool:
    """Whether this build of torch has oneDNN's product, on a processor that it is known to suit."""
    return (
        platform.machine() in ("x86_64", "AMD64")
        and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@contextmanager
def onednn_products() -> Iterator[None]:
    """Let the forward passes of this thread multiply by oneDNN, in models that are able to."""
    before = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(before)


def _is_worth_it(part: torch.nn.Module) -> bool:
    return (
        type(part) is torch.nn.Linear
        and part.weight.device.type == "cpu"
        and part.weight.dtype == torch.float32
        and part.weight.numel() >= SMALLEST_WEIGHT
    )


def _has_exact_gelu(mlp: GPTNeoXMLP) -> bool:
    exact = type(mlp.act) is GELUActivation and mlp.act.act is functional.gelu
    return exact and all(
        type(layer) is OneDnnLinear for layer in (mlp.dense_h_to_4h, mlp.dense_4h_to_h)
    )


def _takes(values: torch.Tensor) -> bool:
    # oneDNN's product has no gradient here.
    asked = _asked.get() and not torch.is_grad_enabled()
    return asked and values.is_cpu and values.dtype == torch.float32


def _product(values: torch.Tensor, layer: torch.nn.Linear, then: str = "none") -> torch.Tensor:
    # For GELU, "none" is the exact one, not the one by tanh.
    kind = "none" if then == "gelu" else ""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        values, layer.weight, layer.bias, then, [], kind
    )
    return product
