from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from statebridge.errors import EnvironmentFault, NumericError, TranslatorError
from statebridge.translators.position_store import PositionStore
from statebridge.translators.positions import PositionBatch, fixed_blocks
from tests.bridge.translators.refusal import refused
from tests.bridge.translators.synthetic_states import linear_pair, normal


def cut(pair: PositionBatch, sizes: list[int]) -> Iterator[PositionBatch]:
    return zip(pair[0].split(sizes), pair[1].split(sizes), strict=True)


@pytest.mark.parametrize(
    "sizes", [[23], [1] * 23, [7, 7, 7, 2], [0, 22, 0, 1], [3, 17, 3], [5, 5, 5, 5, 3]]
)
@pytest.mark.parametrize("block", [1, 5, 7, 23, 50])
def test_blocks_are_the_same_however_the_stream_is_cut(sizes: list[int], block: int) -> None:
    pair = linear_pair(23)
    blocks = list(fixed_blocks(cut(pair, sizes), block))
    assert [len(sender) for sender, _ in blocks[:-1]] == [block] * (len(blocks) - 1)
    assert 0 < len(blocks[-1][0]) <= block
    assert torch.equal(torch.cat([sender for sender, _ in blocks]), pair[0])
    assert torch.equal(torch.cat([receiver for _, receiver in blocks]), pair[1])


def test_gives_back_what_was_stored() -> None:
    sender, receiver = linear_pair(23)
    with PositionStore.from_batches(cut((sender, receiver), [10, 13])) as store:
        assert (len(store), store.width_in, store.width_out) == (23, 6, 5)
        assert store.bytes_per_position == 44
        picked = torch.tensor([22, 0, 5, 5])
        rows = store.rows(picked)
        assert torch.equal(rows[0], sender[picked])
        assert torch.equal(rows[1], receiver[picked])
        parts = list(store.batches(start=3, stop=20, size=8))
        assert [len(part[0]) for part in parts] == [8, 8, 1]
        assert torch.equal(torch.cat([part[0] for part in parts]), sender[3:20])
        assert torch.equal(torch.cat([part[1] for part in parts]), receiver[3:20])


def test_can_grow_after_it_was_read() -> None:
    sender, receiver = linear_pair(9)
    with PositionStore(6, 5) as store:
        assert list(store.batches()) == []
        store.append(sender[:4], receiver[:4])
        assert torch.equal(store.rows(torch.tensor([3]))[0], sender[3:4])
        store.append(sender[4:], receiver[4:])
        assert torch.equal(store.rows(torch.tensor([8, 3]))[1], receiver[[8, 3]])


def test_float16_rounds_and_halves() -> None:
    sender, receiver = linear_pair(9)
    with PositionStore.from_batches([(sender, receiver)], dtype="float16") as store:
        assert store.bytes_per_position == 22
        read, _ = store.rows(torch.arange(9))
        assert read.dtype == torch.float32
        assert torch.equal(read, sender.half().float())
        with refused(NumericError, "receiver", "float16", "float32"):
            store.append(sender, receiver * 1e6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_takes_states_of_any_float_dtype(dtype: torch.dtype) -> None:
    sender, receiver = linear_pair(4)
    with PositionStore.from_batches([(sender.to(dtype), receiver.to(dtype))]) as store:
        assert torch.equal(store.rows(torch.arange(4))[0], sender.to(dtype).float())


@pytest.mark.slow
def test_holds_no_states_in_memory_and_leaves_no_file(tmp_path: Path) -> None:
    living: list[weakref.ref[torch.Tensor]] = []

    def batches() -> Iterator[PositionBatch]:
        for index in range(20):
            sender, receiver = linear_pair(50, seed=index)
            living.extend([weakref.ref(sender), weakref.ref(receiver)])
            yield sender, receiver

    with PositionStore.from_batches(batches(), directory=tmp_path) as store:
        gc.collect()
        assert len(store) == 1000
        assert [reference for reference in living if reference() is not None] == []
        # The files have no name, so that a killed process leaves nothing behind.
        assert list(tmp_path.iterdir()) == []


def test_unfit_batches_are_refused() -> None:
    sender, receiver = linear_pair(4)
    with PositionStore(6, 5) as store:
        store.append(sender, receiver)
        with refused(TranslatorError, "sender", "(4, 5)", "(positions, 6)", "position 4"):
            store.append(sender[:, :5], receiver)
        with refused(TranslatorError, "receiver", "(4, 1, 5)"):
            store.append(sender, receiver.unsqueeze(1))
        with refused(TranslatorError, "4 positions", "3"):
            store.append(sender, receiver[:3])
        broken = receiver.clone()
        broken[2, 1] = math.inf
        with refused(NumericError, "receiver", "position 6"):
            store.append(sender, broken)
        assert len(store) == 4


def test_empty_stream_is_refused() -> None:
    for batches in ([], [(normal(0, 6), normal(0, 5))]):
        with refused(TranslatorError, "no positions"):
            PositionStore.from_batches(batches)


def test_directory_that_cannot_be_written(tmp_path: Path) -> None:
    with refused(EnvironmentFault, "missing"):
        PositionStore(6, 5, directory=tmp_path / "missing")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk() -> None:
    sender, receiver = linear_pair(4)
    with PositionStore(6, 5) as store:
        store._receiver.file.close()
        store._receiver.file = Path("/dev/full").open("wb")  # noqa: SIM115
        with refused(EnvironmentFault, "No space left", "position", "44 bytes"):
            store.append(sender, receiver)
