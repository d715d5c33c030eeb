"""Where an architecture keeps its list of blocks.

Layer L of Statebridge is the output of block L: the residual stream after it, which is
`hidden_states[L + 1]` of Hugging Face except after the last block, where that entry has
the final norm applied.
"""

from __future__ import annotations

from typing import Any

import torch

from statebridge.errors import PairError

BLOCK_LISTS: dict[str, str] = {
    "gpt_neox": "gpt_neox.layers",
    "llama": "model.layers",
    "mistral": "model.layers",
    "gemma": "model.layers",
    "gemma2": "model.layers",
    "gemma3_text": "model.layers",
    "qwen2": "model.layers",
    "qwen3": "model.layers",
    "gpt2": "transformer.h",
}
"""Path of the block list by `config.model_type`; others are found by `find_blocks`."""


def find_blocks(module: torch.nn.Module) -> list[str]:
    """Return the module paths of a causal language model's blocks, in order.

    Raises:
        PairError: No list of blocks, or more than one candidate.
    """
    config: Any = module.config
    text_config = config.get_text_config()
    depth = int(text_config.num_hidden_layers)
    known = BLOCK_LISTS.get(config.model_type)
    if known is not None:
        found = [known]
    else:
        found = [
            name
            for name, child in module.named_modules()
            if isinstance(child, torch.nn.ModuleList) and len(child) == depth
        ]
    if len(found) != 1:
        raise PairError(
            f"model type {config.model_type!r}: "
            f"{'no list' if not found else 'more than one list'} of {depth} blocks found"
            f"{': ' + ', '.join(found) if found else ''}; supported families: "
            f"{', '.join(sorted(BLOCK_LISTS))}"
        )
    blocks = module.get_submodule(found[0])
    if not isinstance(blocks, torch.nn.ModuleList) or len(blocks) != depth:
        raise PairError(
            f"model type {config.model_type!r}: {found[0]} does not hold the {depth} blocks that "
            "its configuration declares"
        )
    return [f"{found[0]}.{index}" for index in range(depth)]


def hidden_width(module: torch.nn.Module) -> int:
    """Return the width of the residual stream."""
    config: Any = module.config
    return int(config.get_text_config().hidden_size)


def context_window(module: torch.nn.Module) -> int | None:
    """Return the largest number of positions the model was made for; None if unstated."""
    config: Any = module.config
    window = getattr(config.get_text_config(), "max_position_embeddings", None)
    return None if window is None else int(window)
