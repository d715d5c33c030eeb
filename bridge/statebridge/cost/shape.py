"""The sizes of a model that its matrix multiplications depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from statebridge.errors import PairError, nearest


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder-only transformer, as far as its cost goes."""

    layers: int
    width: int
    """Of the residual stream."""
    heads: int
    """Query heads."""
    kv_heads: int
    """Key and value heads; equal to `heads` without grouped-query attention."""
    head_dim: int
    mlp_width: int
    gated: bool
    """Whether the MLP has a gate: three matrices, not two."""
    vocabulary: int
    tied: bool
    """Whether embedding and unembedding share weights; no forward pass is cheaper for it."""

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


@dataclass(frozen=True, slots=True)
class _Family:
    gated: bool
    tied: bool = False
    """Of the configuration class, where the file does not say."""
    grouped: bool = True
    """Whether `num_key_value_heads` and `head_dim` are read."""
    kv_heads_may_be_absent: bool = False
    """Absent: as many as query heads."""
    head_dim: int | None = None
    """Of the configuration class, where the file does not say; None: width over heads."""


_FAMILIES = {
    "gpt_neox": _Family(gated=False, grouped=False),
    "gpt2": _Family(gated=False, tied=True, grouped=False),
    "llama": _Family(gated=True, kv_heads_may_be_absent=True),
    "mistral": _Family(gated=True),
    "qwen2": _Family(gated=True),
    "qwen3": _Family(gated=True, head_dim=128),
}
_GPT2_NAMES = {
    "num_hidden_layers": "n_layer",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
}


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """Return the shape that a model's `config.json` declares.

    Knows `model_type` gpt_neox, gpt2, llama, mistral, qwen2 and qwen3. What a file may leave
    out is as in the configuration class of Hugging Face transformers.

    Raises:
        PairError: Another model type, a field that is missing or no whole number, or sizes
            that do not fit each other.
    """
    kind = config.get("model_type")
    if kind not in _FAMILIES:
        raise PairError(
            f"config: model_type is {kind!r}; {nearest(str(kind), _FAMILIES)} (build a ModelShape "
            "by hand for another)"
        )
    family = _FAMILIES[kind]
    names = _GPT2_NAMES if kind == "gpt2" else {}
    width = _size(config, names, "hidden_size")
    heads = _size(config, names, "num_attention_heads")
    kv_heads = heads
    if family.grouped:
        absent = heads if family.kv_heads_may_be_absent else None
        kv_heads = _size(config, names, "num_key_value_heads", absent)
    return ModelShape(
        layers=_size(config, names, "num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_head_dim(config, family, width, heads),
        mlp_width=_size(config, names, "intermediate_size", 4 * width if kind == "gpt2" else None),
        gated=family.gated,
        vocabulary=_size(config, names, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", family.tied)),
    )


def _head_dim(config: Mapping[str, Any], family: _Family, width: int, heads: int) -> int:
    if family.grouped and config.get("head_dim", family.head_dim) is not None:
        return _size(config, {}, "head_dim", family.head_dim)
    if width % heads:
        raise PairError(f"config: width {width} cannot be split evenly over {heads} heads")
    return width // heads


def _size(
    config: Mapping[str, Any], names: Mapping[str, str], field: str, default: int | None = None
) -> int:
    name = names.get(field, field)
    value = config.get(name)
    if value is None:
        value = default
    if value is None:
        raise PairError(f"config: field {name!r} is missing; {nearest(name, config)}")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise PairError(f"config: field {name!r} is {value!r}; it must be a whole number from 1")
    return value


# From the public config.json of each.
LLAMA_3_2_3B = ModelShape(28, 3072, 24, 8, 128, 8192, True, 128_256, True)
LLAMA_3_1_8B = ModelShape(32, 4096, 32, 8, 128, 14_336, True, 128_256, False)
