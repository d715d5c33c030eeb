"""Float32 that is float32: no matrix product is rounded to a shorter format on the way."""

from __future__ import annotations

import torch


def exact_float32() -> None:
    """Turn TF32 and bf16 products off for float32 tensors, on every device.

    A narrower dtype is something that an experiment declares (`dtype`), and its manifest
    records.
    """
    torch.set_float32_matmul_precision("highest")
