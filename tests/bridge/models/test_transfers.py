"""Copies to a GPU come from pinned memory and do not wait; on the CPU nothing is copied."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from statebridge.models import token_batch
from statebridge.models.token_batch import TokenBatch, to_device, to_host


def test_on_the_cpu_nothing_is_copied_or_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    values = torch.arange(5)
    assert to_device(values, "cpu") is values
    assert to_host(values) is values
    batch = TokenBatch.pack([[1, 2], [3]], 0)
    assert batch.select([1]).ids.tolist() == [[0, 3]]


def test_a_gpu_is_sent_pinned_memory_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, Any, bool]] = []

    class Host(torch.Tensor):
        pinned = False

        def pin_memory(self, *_: Any) -> Any:
            self.pinned = True
            return self

        def to(self, device: Any, non_blocking: bool = False) -> Any:
            assert self.pinned
            sent.append((str(torch.device(device)), tuple(self.shape), non_blocking))
            return self

    tensor = torch.tensor
    monkeypatch.setattr(
        token_batch.torch, "tensor", lambda *a, **k: tensor(*a, **k).as_subclass(Host)
    )
    TokenBatch.pack([[1, 2], [3]], 0, "cuda:0")
    # Ids and mask.
    assert sent == [("cuda:0", (2, 2), True)] * 2
