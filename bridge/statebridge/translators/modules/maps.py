"""Maps: the modules that translators are made of, built by kind and set by kind of layer.

A map takes (..., width_in) to (..., width_out). Its weights are zero until they are loaded, set
by a closed form, or drawn by `initialise`. It begins and ends with a linear layer, on which
`rescale` relies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from statebridge.errors import TranslatorError
from statebridge.experiment.translator_settings import KINDS

# A state of zeros (a zeroed source, a dead position) has no direction: dividing by this
# instead of by 0 gives zeros, not NaN. It is far below the norm of any real state, so it
# alters no other, and is the constant of torch.nn.functional.normalize.
SMALLEST_NORM = 1e-12


def l2_normalise(states: torch.Tensor) -> torch.Tensor:
    """Return `states` (..., width) with every position at L2 norm 1; zeros stay zeros.

    Half-precision states are normalised in float32 and returned so: their squares leave
    float16's range at a norm of 256, and `SMALLEST_NORM` rounds to 0 in it.
    """
    if states.dtype in (torch.float16, torch.bfloat16):
        states = states.float()
    norms = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    unit: torch.Tensor = states / norms.clamp_min(SMALLEST_NORM)
    return unit


@runtime_checkable
class Starts(Protocol):
    """A module that sets parameters of its own before training."""

    def start(self) -> None:
        """Set them; called without gradients."""


def linear(width_in: int, width_out: int, *, bias: bool = True) -> nn.Linear:
    """Return a linear layer with all weights zero."""
    # skip_init draws nothing: building a translator must not advance the global generator.
    layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, width_in, width_out, bias=bias, device=torch.get_default_device()
    )
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Gated(nn.Module):
    """gate · (W s + b) with one learned scalar gate, for operator `add`: h + gate · (W s + b).

    One number then sets how strongly the sender's state enters the receiver's residual stream,
    apart from where it points; read off a trained map, it says whether training opened or
    closed the channel. The gate starts at 1, not at ReZero's 0: at 0 no gradient would reach
    W before the gate has moved, and the alignment fit could not begin.

    Source: the residual gate of ReZero (Bachlechner et al. 2020, arXiv 2003.04887).
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = linear(width_in, width_out)
        self.gate = nn.Parameter(torch.zeros(()))

    def start(self) -> None:
        """Open the gate fully."""
        self.gate.fill_(1)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map states (..., width_in) to (..., width_out)."""
        mapped: torch.Tensor = self.gate * self.linear(states)
        return mapped


def build_map(kind: str, width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return the map of a kind with all weights zero, float32, on the CPU.

    Raises `TranslatorError` on an unknown kind, a width below 1, options that the kind lacks or
    does not know, and a map of other widths.
    """
    entry = KINDS.get(kind)
    if set(options) != set(entry.options):
        raise TranslatorError(
            f"translator kind {kind} takes {' and '.join(entry.options) or 'no option'}, got "
            f"{' and '.join(sorted(options)) or 'none'}"
        )
    for name, value in {"width_in": width_in, "width_out": width_out, **options}.items():
        if value < 1:
            raise TranslatorError(f"translator kind {kind}: {name} must be 1 or more, got {value}")
    made = entry.build(width_in, width_out, options)
    if not isinstance(made, nn.Module) or not list(made.parameters()):
        raise TranslatorError(
            f"translator kind {kind}: its function {entry.__qualname__} returned "
            f"{type(made).__name__}; it must return a torch.nn.Module that has parameters"
        )
    made.eval()  # no dropout: nothing may be drawn here
    state = torch.zeros(1, 1, width_in, device=next(made.parameters()).device)
    with torch.no_grad():
        try:
            given: object = tuple(made(state).shape)
        except TypeError:  # such as a fuser, which takes more than the states
            given = (1, 1, width_out)
        except (RuntimeError, AttributeError) as error:
            given = str(error).splitlines()[0]
    if given != (1, 1, width_out):
        raise TranslatorError(
            f"translator kind {kind}: the map of its function {entry.__qualname__} gives "
            f"{given} for one state (1, 1, {width_in}); it must give (1, 1, {width_out})"
        )
    return made.train()


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of every linear layer from torch's own default distribution.

    That is uniform within ± 1/√(inputs) for weight and bias (`nn.Linear.reset_parameters`),
    but from `generator` (CPU), layer by layer, weight before bias. A module of another class
    that has parameters of its own sets them in a method `start`.
    """
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                for parameter in layer.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, Starts):
                layer.start()


def rescale(module: nn.Module, *, inputs: float = 1.0, outputs: float = 1.0) -> None:
    """Turn a map f in place into x ↦ outputs · f(inputs · x), whatever its kind."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        layers[0].weight *= inputs
        for parameter in layers[-1].parameters():
            parameter.mul_(outputs)
