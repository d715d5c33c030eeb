"""The kinds of map from the sender's space to the receiver's, and how each is built.

To add a kind: give it a name in `settings.TranslatorKind` and an entry in `KINDS`. Maps
are modules of (..., width_in) to (..., width_out) whose weights start at zero and are set
by loading, by a closed form, or by `initialise`. Each begins and ends with a linear layer,
which `rescale` relies on. Ridge and Procrustes are no kinds of map: both solve for an affine
one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from statebridge.errors import TranslatorError, nearest
from statebridge.experiment.translator_settings import TranslatorKind


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of map."""

    source: str
    """Where the method comes from."""
    options: tuple[str, ...]
    """Names of the whole numbers it needs beside the widths."""
    build: Callable[[int, int, Mapping[str, int]], nn.Module]


def _linear(width_in: int, width_out: int, *, bias: bool = True) -> nn.Linear:
    # skip_init draws nothing: building a translator must not advance the global generator.
    layer: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, width_in, width_out, bias=bias
    )
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _affine(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    del options
    return _linear(width_in, width_out)


def _mlp(hidden_layers: int) -> Callable[[int, int, Mapping[str, int]], nn.Module]:
    def build(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
        hidden = options["hidden_dim"]
        layers: list[nn.Module] = [_linear(width_in, hidden)]
        for _ in range(hidden_layers - 1):
            layers += [nn.GELU(), _linear(hidden, hidden)]
        return nn.Sequential(*layers, nn.GELU(), _linear(hidden, width_out))

    return build


def _low_rank(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    rank = options["rank"]
    if rank > min(width_in, width_out):
        raise TranslatorError(
            f"translator kind low_rank: rank {rank} is above {min(width_in, width_out)}, the "
            f"highest that a map from width {width_in} to {width_out} has; lower it, or take "
            "kind affine"
        )
    return nn.Sequential(_linear(width_in, rank, bias=False), _linear(rank, width_out))


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
        self.linear = _linear(width_in, width_out)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map states (..., width_in) to (..., width_out)."""
        mapped: torch.Tensor = self.gate * self.linear(states)
        return mapped


def _gated(width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    del options
    return Gated(width_in, width_out)


KINDS: dict[TranslatorKind, Kind] = {
    "affine": Kind("arXiv 2606.03280 (arch `linear`)", (), _affine),
    "mlp_1hidden": Kind("arXiv 2606.03280", ("hidden_dim",), _mlp(1)),
    "mlp_3hidden": Kind("arXiv 2606.03280", ("hidden_dim",), _mlp(3)),
    "low_rank": Kind("reduced-rank regression, Izenman 1975", ("rank",), _low_rank),
    "gated": Kind("the residual gate of ReZero, arXiv 2003.04887", (), _gated),
}


def build_map(kind: str, width_in: int, width_out: int, options: Mapping[str, int]) -> nn.Module:
    """Return the map of a kind with all weights zero, float32, on the CPU.

    Raises `TranslatorError` on an unknown kind, a width below 1, and options that the kind
    lacks or does not know.
    """
    if kind not in KINDS:
        raise TranslatorError(f"unknown translator kind {kind!r}; {nearest(kind, KINDS)}")
    entry = KINDS[kind]
    if set(options) != set(entry.options):
        raise TranslatorError(
            f"translator kind {kind} takes {' and '.join(entry.options) or 'no option'}, got "
            f"{' and '.join(sorted(options)) or 'none'}"
        )
    for name, value in {"width_in": width_in, "width_out": width_out, **options}.items():
        if value < 1:
            raise TranslatorError(f"translator kind {kind}: {name} must be 1 or more, got {value}")
    return entry.build(width_in, width_out, options)


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of every linear layer from torch's own default distribution.

    That is uniform within ± 1/√(inputs) for weight and bias (`nn.Linear.reset_parameters`),
    but from `generator` (CPU), layer by layer, weight before bias. A gate is set to 1.
    """
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                bound = 1 / math.sqrt(layer.in_features)
                for parameter in layer.parameters():
                    parameter.uniform_(-bound, bound, generator=generator)
            elif isinstance(layer, Gated):
                layer.gate.fill_(1)


def rescale(module: nn.Module, *, inputs: float = 1.0, outputs: float = 1.0) -> None:
    """Turn a map f in place into x ↦ outputs · f(inputs · x), whatever its kind."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    with torch.no_grad():
        layers[0].weight *= inputs
        for parameter in layers[-1].parameters():
            parameter.mul_(outputs)
