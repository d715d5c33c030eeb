"""Published fusers of caches, as one safetensors file: `{receiver's block}.{parameter}`.

In each block `key_...` and `value_...` alike: `in` (linear), the residual blocks `mlp1`,
`proj_mlp2` and `scalar_mlp2` (`blocks.0.norm`, `.w1`, `.w2`), `proj_out`, `scalar_head`,
`gate_logit`. Pickled files are not read: nothing of a file may be run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from statebridge.errors import TranslatorError
from statebridge.experiment.translator_settings import FUSER_KIND
from statebridge.results.formats import CHECKPOINTS, Checkpoint

MARK = b'"0.key_gate_logit"'
"""A name in the header of such a file, and in no other."""

SIDES = ("key", "value")

NAMES: Mapping[str, str] = {
    "in.weight": "enter.weight",
    "in.bias": "enter.bias",
    "mlp1.blocks.0.norm.weight": "shared.norm",
    "mlp1.blocks.0.w1.weight": "shared.up.weight",
    "mlp1.blocks.0.w2.weight": "shared.down.weight",
    "proj_mlp2.blocks.0.norm.weight": "project.norm",
    "proj_mlp2.blocks.0.w1.weight": "project.up.weight",
    "proj_mlp2.blocks.0.w2.weight": "project.down.weight",
    "proj_out.weight": "out.weight",
    "proj_out.bias": "out.bias",
    "scalar_mlp2.blocks.0.norm.weight": "weigh.norm",
    "scalar_mlp2.blocks.0.w1.weight": "weigh.up.weight",
    "scalar_mlp2.blocks.0.w2.weight": "weigh.down.weight",
    "scalar_head.weight": "head.weight",
    "scalar_head.bias": "head.bias",
    "gate_logit": "gate",
}
"""Our name of each parameter, by the published one behind `key_` or `value_`."""


class FuserCheckpoint:
    """The format of the published fusers."""

    def recognises(self, path: Path, content: bytes) -> bool:  # noqa: ARG002 - the content decides
        """Whether a file is safetensors with a gate of the first block."""
        length = int.from_bytes(content[:8], "little")
        return content[8:9] == b"{" and MARK in content[8 : 8 + length]

    def read(self, path: Path, content: bytes) -> Checkpoint:
        """Return the fuser of a file, `content` being its bytes.

        Raises:
            TranslatorError: The file is truncated, or its tensors are not those of a fuser.
        """
        tensors = _tensors(path, content)
        depth = 1 + max(int(found[1]) for name in tensors if (found := re.match(r"(\d+)\.", name)))
        weights: dict[str, Any] = {}
        for block in range(depth):
            for kind, side in enumerate(SIDES):
                for theirs, ours in NAMES.items():
                    name = f"{block}.{side}_{theirs}"
                    if name not in tensors:
                        raise TranslatorError(
                            f"{path}: a published fuser of {depth} blocks, without {name}; only "
                            "fusers of num_layers 3 are read"
                        )
                    weights[f"blocks.{block}.{kind}.{ours}"] = tensors.pop(name)
        # The temperature of their training, of no use afterwards.
        surplus = sorted(name for name in tensors if not name.endswith(".gate_temperature"))
        if surplus:
            raise TranslatorError(
                f"{path}: has {surplus[0]} and {len(surplus) - 1} more that a fuser of num_layers "
                "3 has not; only such fusers are read"
            )
        enter, out = (weights[f"blocks.0.0.{name}.weight"] for name in ("enter", "out"))
        if not enter.ndim == out.ndim == weights["blocks.0.0.shared.up.weight"].ndim == 2:
            raise TranslatorError(f"{path}: 0.key_in.weight and the like must be matrices")
        return Checkpoint(
            kind=FUSER_KIND,
            width_in=int(enter.shape[1] - out.shape[0]),
            width_out=int(out.shape[0]),
            options={
                "hidden_dim": int(out.shape[1]),
                "inner_dim": int(weights["blocks.0.0.shared.up.weight"].shape[0]),
                "blocks_out": depth,
                "groups": len(weights["blocks.0.0.head.bias"].reshape(-1)),
            },
            normalize_input=False,
            weights=weights,
            where=str(path),
            fields={},
        )


def _tensors(path: Path, content: bytes) -> dict[str, Any]:
    # This half of the library imports without torch.
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.torch import load  # noqa: PLC0415

    try:
        return dict(load(content))
    except SafetensorError as error:
        raise TranslatorError(
            f"{path}: not a whole safetensors file ({error}); copy it again"
        ) from error


CHECKPOINTS.add("cache_to_cache")(FuserCheckpoint())
