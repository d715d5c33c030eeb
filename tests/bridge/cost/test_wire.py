from __future__ import annotations

import pytest
import torch

from statebridge.cost import DTYPE_BYTES, activation_bytes, text_bytes, token_bytes
from statebridge.errors import InputError
from tests.bridge.data.refusal import refused


def test_text() -> None:
    assert text_bytes("") == 0
    assert text_bytes("Huế") == 5


@pytest.mark.parametrize(
    ("vocabulary", "size"), [(1, 1), (256, 1), (257, 2), (65_536, 2), (65_537, 3), (128_256, 3)]
)
def test_tokens(vocabulary: int, size: int) -> None:
    assert token_bytes(10, vocabulary) == 10 * size
    assert vocabulary <= 256**size


@pytest.mark.parametrize("dtype", [name for name in DTYPE_BYTES if name != "float8"])
def test_states_are_as_large_as_torch_stores_them(dtype: str) -> None:
    tensor = torch.zeros(7, 12, dtype=getattr(torch, dtype))
    assert activation_bytes(12, 7, dtype) == tensor.numel() * tensor.element_size()
    assert activation_bytes(12, 7, str(tensor.dtype)) == activation_bytes(12, 7, dtype)


def test_one_position_of_float32_unless_told_otherwise() -> None:
    assert activation_bytes(3072) == 12_288


def test_refusals() -> None:
    with refused(InputError, "unknown dtype 'float61'", "did you mean float"):
        activation_bytes(4, 1, "float61")
    with refused(InputError, "width 0 at 1 positions"):
        activation_bytes(0)
    with refused(InputError, "width 4 at -1 positions"):
        activation_bytes(4, -1)
    with refused(InputError, "-1 tokens"):
        token_bytes(-1, 10)
    with refused(InputError, "a vocabulary of 0"):
        token_bytes(1, 0)
