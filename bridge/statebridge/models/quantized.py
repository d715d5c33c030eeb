"""Weights of 4 or 8 bits: made of a checkpoint's by bitsandbytes, or FP8, made or as published."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

import torch
import transformers
from transformers.pytorch_utils import Conv1D
from transformers.utils import is_kernels_available

from statebridge.errors import EnvironmentFault, PairError
from statebridge.experiment.models import Weights

FP8_CAPABILITY = (8, 9)
"""Compute capability of the first GPUs that multiply FP8: Ada; Hopper has 9.0."""

RECORDED = ("bitsandbytes", "kernels", "triton")
"""Packages that compute with weights of few bits; of FP8, its kernels are of the hub."""


def check_weights_are_possible(weights: Weights | None, config: Any, model: str) -> None:
    """Refuse weights of few bits that a checkpoint, or what is installed, does not allow.

    Args:
        weights: As declared for the model.
        config: Its configuration.
        model: Its name.

    Raises:
        PairError: The checkpoint has FP8 weights and they are not declared, or it has weights of
            few bits of another kind, of which none can be made.
        EnvironmentFault: A package is missing.
    """
    method = _method_of(config)
    if weights is None:
        if method == "fp8":
            raise PairError(
                f"model {model}: its checkpoint has weights of FP8; declare them, with weights: "
                "{bits: 8, by: fp8}, or give one of whole weights"
            )
        return
    if method is not None and (method, weights.by) != ("fp8", "fp8"):
        raise PairError(
            f"model {model}: its checkpoint is quantized already ({method}, by its config.json); "
            "leave weights out, or give the checkpoint that it was made of"
        )
    if weights.by == "fp8":
        if find_spec("accelerate") is None or not is_kernels_available():
            raise EnvironmentFault(
                "weights of FP8: need accelerate, and kernels in a version that transformers "
                f"{transformers.__version__} takes; install both with pip, or give whole weights"
            )
    else:
        for package in ("bitsandbytes", "accelerate"):
            if find_spec(package) is None:
                raise EnvironmentFault(
                    f"weights of {weights.bits} bits: needs {package}; install it with pip install "
                    "'statebridge[bitsandbytes]', or leave weights out"
                )


def check_hardware(weights: Weights | None, device: torch.device, model: str) -> None:
    """Refuse FP8 on a device that does not multiply it; transformers would make it 16 bits.

    Raises:
        EnvironmentFault: Such a device.
    """
    if weights is None or weights.by != "fp8":
        return
    found = str(device)
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        if capability >= FP8_CAPABILITY:
            return
        found = f"{device} of capability {'.'.join(map(str, capability))}"
    raise EnvironmentFault(
        f"model {model}: weights of FP8 need a GPU of compute capability 8.9 or later (Ada, "
        f"Hopper), not {found}; run it on one, or give a checkpoint of whole weights"
    )


def weights_arguments(
    weights: Weights | None, config: Any, dtype: str, device: torch.device
) -> dict[str, Any]:
    """Return what `from_pretrained` takes for weights of 4 or 8 bits; nothing for whole ones.

    4 bits are NormalFloat (QLoRA, section 3), whose products are computed in `dtype`. 8 bits are
    LLM.int8() (section 2.1) without its outlier columns: those are found over a whole batch, so
    that a row's tokens would depend on the rows beside it. FP8 has a scale for each block of 128 by
    128 weights, and for each 128 entries of a token's state (DeepSeek-V3, section 3.3): none is
    found over other tokens.
    """
    if weights is None:
        return {}
    arguments: dict[str, Any] = {"device_map": {"": str(device)}}
    if weights.by == "fp8":
        made = {"quantization_config": transformers.FineGrainedFP8Config()}
        return arguments if _method_of(config) == "fp8" else arguments | made
    # It says for each product that states are rounded to float16 before they are quantized.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    arguments["quantization_config"] = (
        transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
        if weights.bits == 4
        else transformers.BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0)
    )
    return arguments


def check_scales(missing: Iterable[str], model: str) -> None:
    """Refuse a model of which FP8 would leave some matrices whole.

    Args:
        missing: Names of weights that loading left without a value.
        model: Name of the model.

    Raises:
        PairError: Names the first such matrix.
    """
    whole = sorted(name for name in missing if name.endswith("weight_scale_inv"))
    if whole:
        raise PairError(
            f"model {model}: {whole[0].removesuffix('_scale_inv')} has a side that is no multiple "
            "of 128, which FP8 needs; leave weights out, or use {bits: 8}"
        )


def few_bits_cautions(module: torch.nn.Module, config: Any, name: str) -> list[str]:
    """Return a caution where a model's weights are of few bits, or were in its checkpoint.

    Args:
        module: The model as loaded.
        config: The configuration of its checkpoint.
        name: Its name.

    Raises:
        PairError: FP8 was declared and no matrix of the model has it.
    """
    method = _method_of(config)
    if not is_quantized(module):
        made = (
            f"{name}: the checkpoint's weights of few bits ({method}) were made whole when it was "
            "loaded: nothing here computes with them."
        )
        return [] if method is None else [made]
    kind = getattr(module, "quantization_method", method)
    kind = str(getattr(kind, "value", kind))
    if kind == "fp8" and all(part.element_size() > 1 for part in module.parameters()):
        raise PairError(
            f"model {name}: has no linear layers, which FP8 takes; leave weights out, or use "
            "{bits: 8}"
        )
    return [
        f"{name}: weights of few bits ({kind}); its states and tokens are not those of the whole "
        "weights."
    ]


def _method_of(config: Any) -> str | None:
    """Return how the weights of a checkpoint were quantized; None for whole ones."""
    declared = getattr(config, "quantization_config", None)
    if declared is None:
        return None
    method = declared.get("quant_method") if isinstance(declared, dict) else declared.quant_method
    return str(getattr(method, "value", method))


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
