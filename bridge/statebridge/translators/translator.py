"""A translator: the map from sender states to the receiver's space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import ArrayLike

from statebridge.errors import NumericError, TranslatorError
from statebridge.results.translator_card import TranslatorCard
from statebridge.translators.modules.maps import build_map, l2_normalise

IDENTITY = ("kind", "width_in", "width_out", "options", "normalize_input")
"""Fields of a translator that its card and other programs' checkpoints have too."""


class Translator(torch.nn.Module):
    """Maps states (..., width_in) to (..., width_out), position by position.

    The input is L2-normalised per position where `normalize_input` holds; the output never
    is (arXiv 2606.03280). It computes in the dtype of its weights, float32 unless moved
    with `.to(dtype)`. New translators have all weights zero.

    Raises:
        TranslatorError: An unknown kind, or options that do not fit it.
    """

    def __init__(
        self,
        kind: str,
        width_in: int,
        width_out: int,
        *,
        options: Mapping[str, int] | None = None,
        normalize_input: bool = True,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.width_in = width_in
        self.width_out = width_out
        self.options = dict(options or {})
        self.normalize_input = normalize_input
        self.card: TranslatorCard | None = None
        """Its origin, as far as known; set when it is loaded or stored."""
        self.map = build_map(kind, width_in, width_out, self.options)

    @classmethod
    def from_matrix(
        cls, weight: ArrayLike, bias: ArrayLike | None = None, *, normalize_input: bool = False
    ) -> Translator:
        """Return the affine translator W s + b of a matrix that was made elsewhere.

        Args:
            weight: W, (width_out, width_in): a tensor, an array, or nested lists.
            bias: b, (width_out,); zero if not given.
            normalize_input: Whether each state is L2-normalised first, as the translators of
                arXiv 2606.03280 do.

        Examples:
            >>> translator = Translator.from_matrix(matrix)
            >>> save_translator(translator, "maps/seed42.safetensors")

        Raises:
            TranslatorError: No matrix of numbers, or a bias of another width.
            NumericError: NaN or infinity.
        """
        try:
            matrix = torch.as_tensor(weight).detach()
            matrix = matrix if matrix.is_floating_point() else matrix.to(torch.float32)
            offset = torch.zeros(matrix.shape[:1]) if bias is None else torch.as_tensor(bias)
        except (TypeError, ValueError, RuntimeError) as error:
            raise TranslatorError(f"from_matrix: not numbers ({error}); give an array") from None
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise TranslatorError(
                f"from_matrix: the weight has shape {tuple(matrix.shape)}; give a matrix "
                "(width_out, width_in)"
            )
        translator = cls(
            "affine", matrix.shape[1], matrix.shape[0], normalize_input=normalize_input
        )
        offset = offset.detach().to(matrix.dtype)
        translator.set_weights({"weight": matrix, "bias": offset}, where="from_matrix")
        return translator.requires_grad_(False)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything but the weights: the arguments that make another of its kind."""
        return {name: getattr(self, name) for name in IDENTITY}

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, and so of the computation and of the output."""
        return next(self.map.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.map.parameters()).device

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Translate states (..., width_in) to (..., width_out), in the translator's dtype.

        Raises:
            TranslatorError: States of another width.
        """
        self._check_states(states)
        if self.normalize_input:
            # States in more digits than the weights are normalised before digits are lost.
            states = l2_normalise(states.to(torch.promote_types(states.dtype, self.dtype)))
        return self.apply_map(states)

    def apply_map(self, states: torch.Tensor) -> torch.Tensor:
        """Apply the bare map to states (..., width_in), never normalised; raises as `forward`."""
        self._check_states(states)
        output: torch.Tensor = self.map(states.to(self.dtype))
        return output

    def _check_states(self, states: torch.Tensor) -> None:
        width = states.shape[-1] if states.ndim else None
        if width != self.width_in:
            raise TranslatorError(
                f"the states have width {width}, but the {self.kind} translator takes width "
                f"{self.width_in} (and gives width {self.width_out})"
            )

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the map's weights by name: contiguous CPU copies, detached."""
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in self.map.state_dict().items()
        }

    def set_weights(self, weights: Mapping[str, torch.Tensor], *, where: str) -> None:
        """Copy `weights`, named as in `weights()`, into the map; `where` names their origin.

        Raises (the map is unchanged then):
            TranslatorError: Missing or surplus names, other shapes, tensors of no float dtype.
            NumericError: NaN or infinity.
        """
        own = self.map.state_dict()
        missing, surplus = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
        if missing or surplus:
            raise TranslatorError(
                f"{where}: a {self.kind} translator has the weights {sorted(own)}; "
                f"missing {missing}, surplus {surplus}"
            )
        for name, tensor in own.items():
            given = weights[name]
            if given.shape != tensor.shape:
                raise TranslatorError(
                    f"{where}: weight {name} has shape {tuple(given.shape)}, widths "
                    f"{self.width_in} to {self.width_out} need {tuple(tensor.shape)}"
                )
            if not given.is_floating_point():
                raise TranslatorError(f"{where}: weight {name} is {given.dtype}, not a float")
            # Checked in the dtype of the map: float64 beyond float32's range counts too.
            if not bool(torch.isfinite(given.to(tensor.dtype)).all()):
                raise NumericError(f"{where}: weight {name} holds NaN or infinity")
        self.map.load_state_dict(dict(weights))

    def extra_repr(self) -> str:
        """Name kind, widths and normalisation in `repr`."""
        return (
            f"kind={self.kind}, {self.width_in} -> {self.width_out}, "
            f"normalize_input={self.normalize_input}"
        )
