"""How alike the states of two models are, layer by layer."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from statebridge.records import Record
from statebridge.results.translator_card import CorpusRecord

FORMAT: Final = "statebridge.layer_similarity.v1"


class LayerSimilarity(Record):
    """One sender layer against one receiver layer."""

    sender_layer: int
    receiver_layer: int
    cka: float
    """Linear CKA over all positions, plain estimate."""
    neighbour_overlap: float
    """Mutual nearest-neighbour overlap over the sampled positions."""


class SimilarityMap(Record):
    """Every pair of layers that was asked for."""

    format: Literal["statebridge.layer_similarity.v1"] = FORMAT
    sender: str
    receiver: str
    sender_width: int
    receiver_width: int
    corpus: CorpusRecord
    positions: int
    """Tokens of the corpus, the first of each passage left out."""
    sampled: int
    """Positions among which nearest neighbours are looked for."""
    neighbours: int
    seed: int
    pairs: tuple[LayerSimilarity, ...] = Field(min_length=1)

    @property
    def chance(self) -> float:
        """The overlap that unrelated states would have."""
        return self.neighbours / (self.sampled - 1)

    @property
    def few_positions(self) -> bool:
        """Whether plain CKA is biased upwards: fewer than ten positions a dimension."""
        return self.positions < 10 * max(self.sender_width, self.receiver_width)
