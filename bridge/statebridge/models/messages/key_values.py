"""Keys and values of prompts, as a message that a model has in front of its own prompt.

Source: KVComm (arXiv 2510.03346). Keys are taken after the rotation and are not rotated again; a
receiver's tokens take the positions behind the message.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from statebridge.errors import PairError

NAME = "statebridge_message"


@dataclass(frozen=True, slots=True)
class KeyValues:
    """Keys and values of several rows' messages, padded on the left.

    Attributes:
        layers: For each block its keys and values, (rows, key-value heads, positions, head width)
            each; a shortened block has one position, each row's first.
        lengths: Number of real positions of each row.
        whole: Blocks that are not shortened; None for all.
        payload: Bytes that each row's message took on its way, where it was sent in another form.
        fused: Of each row, positions that were changed, where the entries are the receiver's own of
            its prompt but for the last token, which alone is then read; None for a message in
            front of the prompt.
        aligned: Of each row, number of tokens that the sender read, and the share of them that are
            the receiver's tokens too, where they were made from the receiver's.
    """

    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    lengths: tuple[int, ...]
    whole: tuple[int, ...] | None = None
    payload: tuple[int, ...] | None = None
    fused: tuple[int, ...] | None = None
    aligned: tuple[tuple[int, float], ...] | None = None

    @property
    def sent_bytes(self) -> tuple[int, ...]:
        """Bytes of each row's message as it was sent; padding is not sent."""
        if self.payload is not None:
            return self.payload
        width, whole = max(self.lengths), 0
        sinks = 0
        for entries in (part for layer in self.layers for part in layer):
            bytes_of_position = entries.shape[1] * entries.shape[3] * entries.element_size()
            if entries.shape[2] == width:
                whole += bytes_of_position
            else:
                sinks += bytes_of_position
        return tuple(n * whole + min(n, 1) * sinks for n in self.lengths)

    @property
    def mask(self) -> torch.Tensor:
        """(rows, positions) bool: the real positions of a block that is whole."""
        width, device = max(self.lengths), self.layers[0][0].device
        missing = width - torch.tensor(self.lengths, device=device)
        return torch.arange(width, device=device) >= missing[:, None]

    def to(self, device: torch.device) -> KeyValues:
        """Return the same on another device."""
        layers = tuple((keys.to(device), values.to(device)) for keys, values in self.layers)
        return replace(self, layers=layers)

    @classmethod
    def joined(cls, messages: Sequence[KeyValues]) -> KeyValues:
        """Return each row's messages one behind the other, as one message; all of them whole."""
        if len(messages) == 1:
            return messages[0]
        lengths, places = in_order([each.mask for each in messages])

        def one(parts: Sequence[torch.Tensor]) -> torch.Tensor:
            every = torch.cat(tuple(parts), dim=2)
            index = places[:, None, :, None].expand(-1, every.shape[1], -1, every.shape[3])
            return every.gather(2, index)

        of_blocks = zip(*(each.layers for each in messages), strict=True)
        layers = tuple(
            (one([keys for keys, _ in block]), one([values for _, values in block]))
            for block in of_blocks
        )
        return cls(layers, lengths)

    def select(self, rows: Sequence[int]) -> KeyValues:
        """Return some rows, padded to the longest of them."""
        lengths = tuple(self.lengths[row] for row in rows)
        spare = max(self.lengths) - max(lengths)
        index = torch.tensor(list(rows), device=self.layers[0][0].device)

        def taken(entries: torch.Tensor) -> torch.Tensor:
            start = spare if entries.shape[2] == max(self.lengths) else 0
            return entries.index_select(0, index)[:, :, start:]

        payload = None if self.payload is None else tuple(self.payload[row] for row in rows)
        fused = None if self.fused is None else tuple(self.fused[row] for row in rows)
        layers = tuple((taken(keys), taken(values)) for keys, values in self.layers)
        aligned = None if self.aligned is None else tuple(self.aligned[row] for row in rows)
        return KeyValues(layers, lengths, self.whole, payload, fused, aligned)

    def last(self, count: int) -> KeyValues:
        """Return the last positions of messages that have at least so many, all of them whole."""
        start = max(self.lengths) - count
        layers = tuple((keys[:, :, start:], values[:, :, start:]) for keys, values in self.layers)
        return KeyValues(layers, (count,) * len(self.lengths))

    def without_last(self) -> KeyValues:
        """Return messages without their last position."""
        layers = tuple((keys[:, :, :-1], values[:, :, :-1]) for keys, values in self.layers)
        return KeyValues(layers, tuple(length - 1 for length in self.lengths))

    def shortened(self, whole: Collection[int]) -> KeyValues:
        """Return the message with only its first position in all blocks but some.

        The first key is the sink of attention (arXiv 2510.03346). Block 0 is always whole: a
        model takes its positions from there.
        """
        width, (keys, _) = max(self.lengths), self.layers[0]
        if width == 0:
            return self
        first = (width - torch.tensor(self.lengths, device=keys.device)).clamp(max=width - 1)
        rows = torch.arange(len(self.lengths), device=keys.device)
        kept = tuple(sorted({0, *whole}))

        def sink(entries: torch.Tensor) -> torch.Tensor:
            return entries[rows, :, first][:, :, None]

        return KeyValues(
            tuple(
                (keys, values) if block in kept else (sink(keys), sink(values))
                for block, (keys, values) in enumerate(self.layers)
            ),
            self.lengths,
            kept,
            # Every block whole weighs what it did.
            self.payload if len(kept) == len(self.layers) else None,
        )

    def before(self, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the mask of message and prompts, and the positions of the prompts' tokens.

        Args:
            mask: (rows, n), True or 1 at the prompts' real tokens.

        Returns:
            (rows, positions of the message + n), and (rows, n).
        """
        whole = torch.cat((self.mask.to(mask.device), mask.bool()), dim=1).long()
        places = (whole.cumsum(dim=1) - 1).clamp(min=0)
        return whole, places[:, whole.shape[1] - mask.shape[1] :]

    def cache(self) -> DynamicCache:
        """Return a cache that begins with the message, which stays as it is."""
        cache = DynamicCache()
        for block, (keys, values) in enumerate(self.layers):
            cache.update(keys, values, block)
        return cache


def in_order(masks: Sequence[torch.Tensor]) -> tuple[tuple[int, ...], torch.Tensor]:
    """Return lengths of each row's messages together, and the places of their real positions.

    Args:
        masks: Of each message (rows, positions) bool, True at real positions.

    Returns:
        The lengths, and (rows, longest) int64: places among all positions side by side, in order;
        padding comes first.
    """
    mask = torch.cat(tuple(masks), dim=1)
    lengths = tuple(mask.sum(dim=1).tolist())
    order = mask.long().argsort(dim=1, stable=True)
    return lengths, order[:, mask.shape[1] - max(lengths) :]


def cache_shapes(config: Any) -> set[tuple[int, int]]:
    """Return the key-value heads and their width that blocks have, from a model's configuration.

    One entry where all blocks are alike; none for a model without attention.
    """
    shapes = set()
    for block in config.per_layer_config if config.is_heterogeneous else [config]:
        queries = getattr(block, "num_attention_heads", None)
        heads = getattr(block, "num_key_value_heads", None) or queries
        if heads:
            width = getattr(block, "head_dim", None) or block.hidden_size // (queries or heads)
            shapes.add((int(heads), int(width)))
    return shapes


def cache_heads(config: Any) -> tuple[int, int]:
    """Return the key-value heads of every block and their width, from a model's configuration.

    Raises:
        PairError: Blocks differ in them, or have none.
    """
    shapes = cache_shapes(config)
    if len(shapes) != 1:
        raise PairError(
            f"a model of type {config.model_type} has "
            f"{'blocks with different' if shapes else 'no'} key-value heads, and messages of keys "
            "and values take one shape; use channel states"
        )
    return shapes.pop()


def sliding_window(config: Any) -> int | None:
    """Return the positions that a block with a sliding window sees; None where no block has one."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None and "sliding_attention" not in kinds:
        return None
    window = getattr(config, "sliding_window", None)
    return None if window is None else int(window)


@contextmanager
def attention(module: Any, name: str = NAME) -> Iterator[None]:
    """Let a model attend in another way: by default so that blocks may have shortened messages.

    A model has one mask for all blocks, as wide as block 0. A message is padded on the left, so
    the mask's last columns are those of a shortened block's entries.
    """
    configs = {id(part.config): part.config for part in module.modules() if hasattr(part, "config")}
    before = [(config, config._attn_implementation) for config in configs.values()]
    for config, _ in before:
        config._attn_implementation = name
    try:
        yield
    finally:
        for config, former in before:
            config._attn_implementation = former


def _attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    if attention_mask is not None:
        attention_mask = attention_mask[..., -key.shape[2] :]
    attended: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, **more
    )
    return attended


AttentionInterface.register(NAME, _attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
