"""Which block a layer specification means."""

from __future__ import annotations

from statebridge.errors import PairError, nearest


def resolve_layer(layer: int | float | str, block_paths: list[str], model: str) -> int:
    """Return the index of the block meant by `layer`.

    A float is a relative depth: `int(depth * n)`, at most n - 1 (arXiv 2606.03280 uses
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
        if not 0 < layer <= 1:
            raise PairError(f"layer {layer} of {model}: a relative depth lies in (0, 1]")
        return min(int(layer * n), n - 1)
    if not -n <= layer < n:
        raise PairError(
            f"layer {layer} of {model} is out of range: it has {n} blocks, "
            f"0 to {n - 1} (or -{n} to -1)"
        )
    return layer % n
