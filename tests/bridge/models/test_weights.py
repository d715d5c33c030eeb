"""A hash of weights is kept for the files that they came from, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from statebridge.experiment.experiment import ModelAtLayer
from statebridge.models import weights
from statebridge.models.loading import load_model
from statebridge.models.weights import weights_sha256
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

Load = Callable[..., torch.nn.Module]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads a tiny model from a folder, whose hash is kept however small it is."""
    monkeypatch.setattr(weights, "SMALLEST", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    save_pair_folder(tiny_neox(seed=1, layers=2, hidden=24, heads=3), tiny_tokenizer(), folder)

    def loaded(dtype: str = "float32") -> torch.nn.Module:
        side = ModelAtLayer(model=str(folder), layer=1)
        return load_model(side, dtype=dtype, device="cpu").module

    return loaded


@pytest.fixture
def read_in_full(monkeypatch: pytest.MonkeyPatch) -> list[torch.nn.Module]:
    """The modules that were hashed in full."""
    found: list[torch.nn.Module] = []
    whole = weights._hash

    def counted(module: torch.nn.Module) -> str | None:
        found.append(module)
        return whole(module)

    monkeypatch.setattr(weights, "_hash", counted)
    return found


def test_the_same_files_are_read_in_full_once(
    load: Load, read_in_full: list[torch.nn.Module]
) -> None:
    first = weights_sha256(load())
    assert [weights_sha256(load()), weights_sha256(load())] == [first, first]
    assert len(read_in_full) == 1
    assert first == weights._hash(load())


def test_another_dtype_has_a_hash_of_its_own(
    load: Load, read_in_full: list[torch.nn.Module]
) -> None:
    assert weights_sha256(load()) != weights_sha256(load("bfloat16"))
    assert len(read_in_full) == 2


def test_weights_that_were_changed_are_read_in_full(
    load: Load, read_in_full: list[torch.nn.Module]
) -> None:
    kept, module = weights_sha256(load()), load()
    with torch.no_grad():
        next(module.parameters()).add_(1)
    assert weights_sha256(module) != kept
    assert weights_sha256(load()) == kept


def test_files_that_were_written_again_are_read_in_full(
    load: Load, read_in_full: list[torch.nn.Module], tmp_path: Path
) -> None:
    kept = weights_sha256(load())
    other = tiny_neox(seed=2, layers=2, hidden=24, heads=3)
    save_pair_folder(other, tiny_tokenizer(), tmp_path / "model")
    assert weights_sha256(load()) != kept
    assert len(read_in_full) == 2


def test_a_cache_that_cannot_be_used_costs_time_alone(
    load: Load, read_in_full: list[torch.nn.Module], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert weights_sha256(load()) == weights_sha256(load())
    assert len(read_in_full) == 2
