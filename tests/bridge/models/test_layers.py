"""Which block a declared layer means, and where an architecture keeps its blocks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from statebridge.errors import PairError
from statebridge.models.families import (
    FAMILIES,
    Family,
    context_window,
    find_blocks,
    hidden_width,
    resolve_layer,
)
from tests.tiny_models import tiny_gpt2, tiny_neox


def _paths(n: int) -> list[str]:
    return [f"gpt_neox.layers.{i}" for i in range(n)]


@pytest.mark.parametrize(
    ("layer", "blocks", "index"),
    [
        (0.67, 12, 8),  # Pythia-160M, arXiv 2606.03280
        (0.67, 24, 16),  # Pythia-410M
        (0.999, 12, 11),
        (0.01, 12, 0),
        (0.5, 1, 0),
        (0, 12, 0),
        (11, 12, 11),
        (-1, 12, 11),
        (-12, 12, 0),
        ("gpt_neox.layers.10", 12, 10),
    ],
)
def test_layers_that_exist(layer: Any, blocks: int, index: int) -> None:
    assert resolve_layer(layer, _paths(blocks), "m") == index


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (12, ("layer 12 of m is out of range", "12 blocks, 0 to 11 (or -12 to -1)")),
        (-13, ("layer -13 of m is out of range",)),
        (0.0, ("a relative depth is between 0 and 1",)),
        (1.5, ("layer 1.5 of m", "between 0 and 1")),
        (1.0, ("write an index without a decimal point, and -1 for the last block",)),
        (float("nan"), ("between 0 and 1",)),
        (
            "gpt_neox.layers.12",
            ("did you mean", "(blocks gpt_neox.layers.0 to gpt_neox.layers.11)"),
        ),
        ("model.layers.3", ("is not a block of m",)),
        ("", ("is not a block of m",)),
    ],
)
def test_layers_that_do_not_exist(layer: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(PairError) as caught:
        resolve_layer(layer, _paths(12), "m")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


@given(
    n=st.integers(1, 200),
    depth=st.floats(0, 1, exclude_min=True, exclude_max=True),
    index=st.integers(-300, 300),
)
def test_every_layer_resolves_to_a_block_or_is_refused(n: int, depth: float, index: int) -> None:
    assert resolve_layer(depth, _paths(n), "m") == min(int(depth * n), n - 1)
    if -n <= index < n:
        assert resolve_layer(index, _paths(n), "m") == range(n)[index]
    else:
        with pytest.raises(PairError):
            resolve_layer(index, _paths(n), "m")


class _Custom(torch.nn.Module):
    """A model of a type that nobody listed."""

    def __init__(self, *lists: int, kind: str = "custom", depth: int = 2) -> None:
        super().__init__()
        for place, length in enumerate(lists):
            blocks = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in range(length))
            self.add_module(f"blocks{place}", blocks)
        text = SimpleNamespace(num_hidden_layers=depth)
        self.config = SimpleNamespace(model_type=kind, get_text_config=lambda: text)


def test_an_unlisted_family_is_found_by_its_depth() -> None:
    assert find_blocks(_Custom(3, 2)) == ["blocks1.0", "blocks1.1"]


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ((3,), "no list of 2 blocks found"),
        ((), "no list of 2 blocks found"),
        ((2, 2), "more than one list of 2 blocks found: blocks0, blocks1"),
    ],
)
def test_a_family_whose_blocks_cannot_be_told_is_refused(
    lists: tuple[int, ...], words: str
) -> None:
    with pytest.raises(PairError) as caught:
        find_blocks(_Custom(*lists))
    assert words in str(caught.value)
    assert "supported families: gemma, " in str(caught.value)


def test_a_known_family_with_other_blocks_is_refused() -> None:
    model = tiny_neox(layers=2, hidden=16, heads=2, end_share=0)
    model.config.num_hidden_layers = 3
    with pytest.raises(PairError, match=r"gpt_neox\.layers does not hold the 3 blocks"):
        find_blocks(model)


def test_an_entry_whose_path_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "custom", Family("model.blocks"))
    with pytest.raises(PairError, match=r"model\.blocks does not hold the 2 blocks"):
        find_blocks(_Custom(2))


def test_width_and_window_have_one_name_for_every_family() -> None:
    gpt2 = tiny_gpt2(layers=2, hidden=16, heads=2, end_share=0, max_position_embeddings=77)
    assert (hidden_width(gpt2), context_window(gpt2)) == (16, 77)
    bare = _Custom(2)
    assert context_window(bare) is None
