"""The table of model families: where the blocks are, how attention works, sizes for costs.

Layer L of Statebridge is the output of block L: the residual stream after it, which is
`hidden_states[L + 1]` of Hugging Face except after the last block, where that entry has
the final norm applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from statebridge.cost.shape import ModelShape
from statebridge.errors import PairError, nearest


@dataclass(frozen=True, slots=True)
class Sizes:
    """How a family's `config.json` gives the sizes that a pass's cost depends on.

    What a file may leave out is as in the configuration class of Hugging Face transformers.
    """

    gated: bool
    """Whether the MLP has a gate: three matrices, not two."""
    tied: bool = False
    """Whether embedding and unembedding share weights, where the file does not say."""
    grouped: bool = True
    """Whether `num_key_value_heads` and `head_dim` are read."""
    kv_heads_may_be_absent: bool = False
    """Absent: as many as query heads."""
    head_dim: int | None = None
    """Width of a head, where the file does not say; None: width over heads."""
    names: Mapping[str, str] | None = None
    """The family's own field names, where they differ."""


@dataclass(frozen=True, slots=True)
class Family:
    """Facts of the models of one `config.model_type`."""

    blocks: str
    """Module path of the list of blocks."""
    positions: Literal["rotary", "learned"] = "rotary"
    """How positions enter: keys and queries are rotated, or vectors are added to the input."""
    lane_attention: bool = False
    """Whether its attention takes its keys from the cache as they are, and asks the attention
    interface of transformers: then lanes can share the keys of a prompt."""
    whole_mask: bool = False
    """Whether it takes a four-dimensional mask as it is."""
    sizes: Sizes | None = None
    """None where costs are not counted for the family."""


_GPT2_NAMES = {
    "num_hidden_layers": "n_layer",
    "hidden_size": "n_embd",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
}

FAMILIES: dict[str, Family] = {
    "gpt_neox": Family(
        "gpt_neox.layers",
        lane_attention=True,
        whole_mask=True,
        sizes=Sizes(gated=False, grouped=False),
    ),
    "gpt2": Family(
        "transformer.h",
        positions="learned",
        lane_attention=True,
        whole_mask=True,
        sizes=Sizes(gated=False, tied=True, grouped=False, names=_GPT2_NAMES),
    ),
    "llama": Family(
        "model.layers",
        lane_attention=True,
        whole_mask=True,
        sizes=Sizes(gated=True, kv_heads_may_be_absent=True),
    ),
    "mistral": Family(
        "model.layers", lane_attention=True, whole_mask=True, sizes=Sizes(gated=True)
    ),
    "qwen2": Family("model.layers", lane_attention=True, whole_mask=True, sizes=Sizes(gated=True)),
    "qwen3": Family(
        "model.layers",
        lane_attention=True,
        whole_mask=True,
        sizes=Sizes(gated=True, head_dim=128),
    ),
    "gemma": Family("model.layers", whole_mask=True),
    "gemma2": Family("model.layers"),
    "gemma3_text": Family("model.layers", whole_mask=True),
}
"""By `config.model_type`. A family that is not here runs where `find_blocks` finds its blocks."""


def families_with(fact: Literal["lane_attention", "whole_mask"]) -> list[str]:
    """Return the model types of which a fact holds, in alphabetical order."""
    return sorted(name for name, family in FAMILIES.items() if getattr(family, fact))


def find_blocks(module: Any) -> list[str]:
    """Return the module paths of a causal language model's blocks, in order.

    Raises:
        PairError: No list of blocks, or more than one candidate.
    """
    config: Any = module.config
    depth = int(config.get_text_config().num_hidden_layers)
    known = FAMILIES.get(config.model_type)
    if known is not None:
        found = [known.blocks]
    else:
        found = [
            name
            for name, child in module.named_modules()
            if isinstance(child, torch.nn.ModuleList) and len(child) == depth
        ]
        if len(found) > 1:
            # Beside a vision or audio tower of as many blocks: those of the decoder, and of these
            # the outermost, since towers are deeper inside.
            decoder = set(getattr(module, "get_decoder", lambda: module)().modules())
            found = [name for name in found if module.get_submodule(name) in decoder] or found
            outermost = min(name.count(".") for name in found)
            found = [name for name in found if name.count(".") == outermost]
    if len(found) != 1:
        raise PairError(
            f"model type {config.model_type!r}: "
            f"{'no list' if not found else 'more than one list'} of {depth} blocks found"
            f"{': ' + ', '.join(found) if found else ''}; supported families: "
            f"{', '.join(sorted(FAMILIES))}"
        )
    blocks = dict(module.named_modules()).get(found[0])
    if not isinstance(blocks, torch.nn.ModuleList) or len(blocks) != depth:
        raise PairError(
            f"model type {config.model_type!r}: {found[0]} does not hold the {depth} blocks that "
            "its configuration declares; correct blocks of the family's entry in FAMILIES"
        )
    return [f"{found[0]}.{index}" for index in range(depth)]


def resolve_layer(layer: int | float | str, block_paths: list[str], model: str) -> int:
    """Return the index of the block meant by `layer`.

    A float between 0 and 1 is a relative depth: `int(depth * n)` (arXiv 2606.03280 uses
    0.67). An int is an index, negative ones counting from the end. A string is a module
    path such as `gpt_neox.layers.8`.

    Raises:
        PairError: The layer does not exist; the message says which do.
    """
    n = len(block_paths)
    if isinstance(layer, str):
        if layer in block_paths:
            return block_paths.index(layer)
        raise PairError(
            f"layer {layer!r} is not a block of {model}; {nearest(layer, block_paths)} "
            f"(blocks {block_paths[0]} to {block_paths[-1]})"
        )
    if isinstance(layer, float):
        if not 0 < layer < 1:
            raise PairError(
                f"layer {layer} of {model}: a relative depth is between 0 and 1 (0.67); write an "
                f"index without a decimal point, and -1 for the last block"
            )
        return min(int(layer * n), n - 1)
    if not -n <= layer < n:
        raise PairError(
            f"layer {layer} of {model} is out of range: it has {n} blocks, "
            f"0 to {n - 1} (or -{n} to -1)"
        )
    return layer % n


def hidden_width(module: torch.nn.Module) -> int:
    """Return the width of the residual stream."""
    config: Any = module.config
    return int(config.get_text_config().hidden_size)


def context_window(module: torch.nn.Module) -> int | None:
    """Return the largest number of positions of the model; None if its configuration has none."""
    config: Any = module.config
    window = getattr(config.get_text_config(), "max_position_embeddings", None)
    return None if window is None or window < 1 else int(window)


def turning_point(module: torch.nn.Module) -> int | None:
    """Return the length beyond which a batch's positions are encoded in another way; else None.

    Long RoPE (arXiv 2402.13753) and dynamic NTK scaling choose their frequencies by the longest
    row of a batch, so that a row's states depend on the rows that run with it.
    """
    whole: Any = module.config
    config = whole.get_text_config()
    declared = getattr(config, "rope_parameters", None) or {}
    for rope in [declared] if "rope_type" in declared else declared.values():
        if isinstance(rope, Mapping) and rope.get("rope_type") in ("longrope", "dynamic"):
            names = "original_max_position_embeddings", "max_position_embeddings"
            found = rope.get(names[0]) or getattr(config, names[0], None)
            return int(found or getattr(config, names[1]))
    return None


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """Return the shape that a model's `config.json` declares.

    Raises:
        PairError: A model type without known sizes, a field that is missing or no whole number,
            or sizes that do not fit each other.
    """
    kind = config.get("model_type")
    known = {name: family.sizes for name, family in FAMILIES.items() if family.sizes is not None}
    if kind not in known:
        raise PairError(
            f"config: model_type is {kind!r}; {nearest(str(kind), known)} (build a ModelShape "
            "by hand for another)"
        )
    sizes = known[kind]
    names = sizes.names or {}
    width = _size(config, names, "hidden_size")
    heads = _size(config, names, "num_attention_heads")
    kv_heads = heads
    if sizes.grouped:
        absent = heads if sizes.kv_heads_may_be_absent else None
        kv_heads = _size(config, names, "num_key_value_heads", absent)
    return ModelShape(
        layers=_size(config, names, "num_hidden_layers"),
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_head_dim(config, sizes, width, heads),
        mlp_width=_size(config, names, "intermediate_size", 4 * width if kind == "gpt2" else None),
        gated=sizes.gated,
        vocabulary=_size(config, names, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", sizes.tied)),
    )


def _head_dim(config: Mapping[str, Any], sizes: Sizes, width: int, heads: int) -> int:
    if sizes.grouped and config.get("head_dim", sizes.head_dim) is not None:
        return _size(config, {}, "head_dim", sizes.head_dim)
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


def pad_id_of(module: Any, tokenizer: Any, end_ids: tuple[int, ...]) -> int:
    """Return the id that fills padding; it may be one of the end ids."""
    # A pad token that was added to the tokenizer may have no row in the model's embedding.
    declared = tokenizer.pad_token_id
    if declared is not None and declared < module.config.get_text_config().vocab_size:
        return int(declared)
    return end_ids[0] if end_ids else 0


def end_ids_of(module: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the ids that end generation."""
    configured = getattr(getattr(module, "generation_config", None), "eos_token_id", None)
    if configured is None:
        configured = tokenizer.eos_token_id
    if configured is None:
        return ()
    return tuple(configured) if isinstance(configured, list | tuple) else (int(configured),)
