"""Weights of 4 or 8 bits, made of a checkpoint's when it is loaded, by bitsandbytes."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import Any

import torch
import transformers
from transformers.pytorch_utils import Conv1D

from statebridge.errors import EnvironmentFault, PairError
from statebridge.experiment.models import Weights

PACKAGES = ("bitsandbytes", "accelerate")


def check_library(weights: Weights) -> None:
    """Refuse weights of few bits where what makes them is not installed.

    Raises:
        EnvironmentFault: bitsandbytes or accelerate is missing.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise EnvironmentFault(
                f"weights of {weights.bits} bits: needs {package}; install it with pip install "
                "'statebridge[bitsandbytes]', or leave weights out"
            )


def check_plain_checkpoint(config: Any, model: str) -> None:
    """Refuse a checkpoint whose weights are of few bits already: they are taken as they are.

    Raises:
        PairError: Such a checkpoint.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise PairError(
            f"model {model}: its checkpoint is quantized already (quantization_config in "
            "config.json); leave weights out, or give the checkpoint that it was made of"
        )


def weights_arguments(weights: Weights | None, dtype: str, device: torch.device) -> dict[str, Any]:
    """Return what `from_pretrained` takes for weights of 4 or 8 bits; nothing for whole ones.

    4 bits are NormalFloat (QLoRA, section 3), whose products are computed in `dtype`. 8 bits are
    LLM.int8() (section 2.1) without its outlier columns: those are found over a whole batch, so
    that a row's tokens would depend on the rows beside it.
    """
    if weights is None:
        return {}
    # It says for each product that states are rounded to float16 before they are quantized.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    config = (
        transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
        if weights.bits == 4
        else transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    )
    return {"quantization_config": config, "device_map": {"": str(device)}}


def is_quantized(module: torch.nn.Module) -> bool:
    """Whether a model's weights are of few bits."""
    return bool(getattr(module, "is_quantized", False))


def weight_bytes(module: Any, weights: Weights | None, item: int) -> int:
    """Return the bytes of a model's weights once it is loaded.

    Args:
        module: Its structure.
        weights: As declared; the matrices of its blocks then have few bits.
        item: Bytes of a whole weight.
    """
    whole: int = sum(part.numel() for part in module.parameters())
    if weights is None:
        return whole * item
    head = module.get_output_embeddings()
    few: int = sum(
        part.weight.numel()
        for part in module.modules()
        if isinstance(part, torch.nn.Linear | Conv1D) and part is not head
    )
    return (whole - few) * item + few * weights.bits // 8
