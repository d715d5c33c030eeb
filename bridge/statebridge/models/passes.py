"""One pass of a job: what goes in, what is written, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from statebridge.models.messages.key_values import KeyValues


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of a job: a forward pass, or a generation.

    Attributes:
        inputs: `input_ids`, and `attention_mask` and `position_ids` where rows are padded.
        states: (rows, n, width) written at the first n positions of the layer in use, in the
            prefill alone; None writes nothing.
        keep: Number of last positions to give logits of; 0 gives those of all positions.
        generate: Keyword arguments of `generate`; None is a forward pass.
        message: Keys and values in front of the inputs, which take the positions behind, or fused
            ones of the inputs themselves.
    """

    inputs: Mapping[str, torch.Tensor]
    states: torch.Tensor | None = None
    keep: int = 0
    generate: Mapping[str, Any] | None = None
    message: KeyValues | None = None

    def arguments(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the inputs of the pass, and its settings but for the cache of its message."""
        inputs = dict(self.inputs)
        settings = {"use_cache": False, "logits_to_keep": self.keep}
        settings = settings if self.generate is None else dict(self.generate)
        if self.message is not None and self.message.fused is not None:
            if self.generate is None:
                # Entries of all tokens of the prompt but the last are there; `generate` sees that.
                inputs["input_ids"] = inputs["input_ids"][:, max(self.message.lengths) :]
                own = torch.ones_like(inputs["input_ids"])
                inputs["attention_mask"], inputs["position_ids"] = self.message.before(own)
            settings["use_cache"] = True
        elif self.message is not None:
            own = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
            inputs["attention_mask"], places = self.message.before(own)
            if self.generate is None:
                inputs["position_ids"] = places
            settings["use_cache"] = True
        return inputs, settings
