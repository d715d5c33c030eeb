"""A plan beside what is live: the loaded pair, the translators and the draws of noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from statebridge.channels.inputs.draws import Noise
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import Prompt
from statebridge.models.pair import Pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import Side
from statebridge.runs.plan import Plan, TranslatorKey, seed_of
from statebridge.translators import Translator


@dataclass(frozen=True, slots=True)
class Workload:
    """A plan made ready to run here; nothing in it changes while groups run.

    Attributes:
        translators: By name of their set and seed.
        noise: By prompt and seed, where a condition draws.
        found: What channels measured once for all groups, by a key of their own.
    """

    plan: Plan
    pair: Pair
    translators: Mapping[TranslatorKey, Translator]
    noise: Mapping[tuple[Prompt, int], Noise]
    found: dict[Any, Any] = field(default_factory=dict)

    def noise_of(self, cell: Cell, row: int) -> torch.Tensor:
        """Return the row's draw in a random cell, (positions of its prompt, width)."""
        return self.noise[cell.condition.prompt, seed_of(cell)](row)

    def model(self, side: Side) -> TracedModel:
        """Return one model of the pair."""
        return self.pair.sender if side == "sender" else self.pair.receiver
