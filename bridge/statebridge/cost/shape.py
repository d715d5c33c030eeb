"""The sizes of a model that its matrix multiplications depend on."""

from __future__ import annotations

from dataclasses import dataclass

from statebridge.errors import PairError


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder-only transformer, as far as its cost goes."""

    layers: int
    width: int
    """Width of the residual stream."""
    heads: int
    """Number of query heads."""
    kv_heads: int
    """Key and value heads; equal to `heads` without grouped-query attention."""
    head_dim: int
    mlp_width: int
    gated: bool
    """Whether the MLP has a gate: three matrices, not two."""
    vocabulary: int
    tied: bool
    """Whether embedding and unembedding share weights; no forward pass is cheaper for it."""

    @property
    def weights(self) -> int:
        """Numbers in the matrices of all blocks and of the embeddings."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        mlp = (3 if self.gated else 2) * self.width * self.mlp_width
        tables = (1 if self.tied else 2) * self.vocabulary * self.width
        return self.layers * (attention + mlp) + tables

    def __post_init__(self) -> None:
        """Refuse sizes below 1 and heads that cannot be grouped."""
        for name in ("layers", "width", "heads", "kv_heads", "head_dim", "mlp_width", "vocabulary"):
            if getattr(self, name) < 1:
                raise PairError(
                    f"model shape: {name} is {getattr(self, name)}; it must be 1 or more"
                )
        if self.heads % self.kv_heads:
            raise PairError(
                f"model shape: {self.heads} heads cannot share {self.kv_heads} key-value heads "
                "evenly; heads must be a multiple of kv_heads"
            )


# From the public config.json of each.
LLAMA_3_2_3B = ModelShape(28, 3072, 24, 8, 128, 8192, True, 128_256, True)
LLAMA_3_1_8B = ModelShape(32, 4096, 32, 8, 128, 14_336, True, 128_256, False)
