"""The written state against the formulas worked out one number at a time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from statebridge.channels.operators import Written, combine_states, position_mask
from statebridge.channels.positions import check_positions
from statebridge.errors import ExperimentError
from statebridge.experiment.conditions import Condition
from statebridge.models.token_batch import TokenBatch

LENGTHS = (1, 3, 4)
WIDTH = 3


def _batch(lengths: tuple[int, ...] = LENGTHS) -> TokenBatch:
    return TokenBatch.pack([[7] * length for length in lengths], pad_id=0)


def _states(seed: int, rows: int, positions: int, width: int = WIDTH) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn((rows, positions, width), generator=generator, dtype=torch.float64)


OWN = _states(0, 3, 4)
SOURCE = _states(1, 3, 4)


def _condition(**fields: Any) -> Condition:
    return Condition(**{"name": "c", "source": "translated", **fields})


def _write(
    condition: Condition,
    own: torch.Tensor = OWN,
    source: torch.Tensor = SOURCE,
    lengths: tuple[int, ...] = LENGTHS,
    source_lengths: tuple[int, ...] | None = None,
) -> Written:
    return combine_states(
        condition, own, _batch(lengths), source, _batch(source_lengths or lengths)
    )


def _norm(vector: list[float]) -> float:
    return math.sqrt(sum(x * x for x in vector))


def _by_hand(condition: Condition, h: list[float], s: list[float]) -> list[float]:
    if condition.match_norm:
        s = [x / _norm(s) * _norm(h) for x in s]
    w = condition.weight
    match condition.operator:
        case "add":
            return [a + w * b for a, b in zip(h, s, strict=True)]
        case "blend":
            return [w * b + (1 - w) * a for a, b in zip(h, s, strict=True)]
        case "mean":
            return [(a + b) / 2 for a, b in zip(h, s, strict=True)]
        case _:
            return [a + b for a, b in zip(h, s, strict=True)]


ALGEBRA = [
    *itertools.product(("add", "blend"), (0.0, 0.01, 0.3, 1.0, -2.5), (False, True)),
    *itertools.product(("mean", "sum"), (1.0,), (False, True)),
]


@pytest.mark.parametrize(("operator", "weight", "match_norm"), ALGEBRA)
def test_every_operator_at_every_position(operator: str, weight: float, match_norm: bool) -> None:
    condition = _condition(operator=operator, weight=weight, match_norm=match_norm)
    written = _write(condition)
    for row, length in enumerate(LENGTHS):
        for place in range(4):
            h, s = OWN[row, place].tolist(), SOURCE[row, place].tolist()
            expected = _by_hand(condition, h, s) if place >= 4 - length else h
            # float64 rounds by 1e-16; a dozen operations on numbers of size ten.
            assert written.states[row, place].tolist() == pytest.approx(expected, rel=1e-13)


def test_padding_is_left_as_it_was_even_where_it_holds_nonsense() -> None:
    own, source = OWN.clone(), SOURCE.clone()
    own[0, :3] = torch.nan
    source[0, :3] = torch.inf
    written = _write(_condition(weight=0.3, match_norm=True), own, source)
    assert torch.isfinite(written.states[0, 3:]).all()
    assert torch.equal(
        written.states[0, 3:], _write(_condition(weight=0.3, match_norm=True)).states[0, 3:]
    )
    for norms in (written.source_norms, written.own_norms, written.injected_norms):
        assert torch.isfinite(norms).all()


def test_replacement_is_the_source_itself_whatever_was_there() -> None:
    own = OWN.clone()
    own[2, 1] = torch.inf
    written = _write(_condition(), own)
    assert torch.equal(written.states[2], SOURCE[2])


@pytest.mark.parametrize(
    ("positions", "places"),
    [
        ("all", [[3], [1, 2, 3], [0, 1, 2, 3]]),
        ("last", [[3], [3], [3]]),
        ((0,), [[3], [1], [0]]),
        ((-1,), [[3], [3], [3]]),
    ],
)
def test_positions_written(positions: Any, places: list[list[int]]) -> None:
    read = "all" if positions == "all" else positions
    written = _write(_condition(positions=positions, source_positions=read))
    for row, chosen in enumerate(places):
        for place in range(4):
            expected = SOURCE if place in chosen else OWN
            assert torch.equal(written.states[row, place], expected[row, place])


def test_explicit_positions_count_within_each_row() -> None:
    batch = _batch((2, 3, 4))
    assert position_mask(batch, (1, -2)).tolist() == [
        [False, False, True, True],
        [False, False, True, False],
        [False, True, True, False],
    ]


def test_one_token_prompts() -> None:
    own, source = _states(2, 2, 1), _states(3, 2, 1)
    for positions in ("all", "last", (0,), (-1,)):
        read = positions
        written = _write(
            _condition(operator="sum", positions=positions, source_positions=read),
            own,
            source,
            (1, 1),
        )
        assert torch.equal(written.states, own + source)
        assert written.injected_norms.tolist() == pytest.approx(
            (own + source).norm(dim=-1)[:, 0].tolist()
        )


def test_a_single_source_position_is_written_everywhere() -> None:
    for read, place in (("last", -1), ((0,), None), ((-2,), -2)):
        written = _write(
            _condition(source_positions=read, operator="add", weight=2.0), lengths=(2, 3, 4)
        )
        for row, length in enumerate((2, 3, 4)):
            start = 4 - length
            taken = SOURCE[row, start if place is None else place]
            assert torch.equal(written.states[row, start:], OWN[row, start:] + 2.0 * taken)
            assert torch.equal(written.states[row, :start], OWN[row, :start])


def test_positions_pair_up_as_they_are_listed() -> None:
    # Read in the prompt's order, (1, 0) onto (0, 1) would silently change nothing.
    condition = _condition(source="receiver", source_positions=(1, 0), positions=(0, 1))
    written = _write(condition, OWN, OWN, (2, 3, 4))
    for row, start in enumerate((2, 1, 0)):
        assert torch.equal(written.states[row, start], OWN[row, start + 1])
        assert torch.equal(written.states[row, start + 1], OWN[row, start])
        assert torch.equal(written.states[row, start + 2 :], OWN[row, start + 2 :])
    condition = _condition(source_positions=(-1, 0), positions=(-2, -1))
    written = _write(condition, lengths=(2, 3, 4))
    for row, start in enumerate((2, 1, 0)):
        assert torch.equal(written.states[row, 2], SOURCE[row, 3])
        assert torch.equal(written.states[row, 3], SOURCE[row, start])


def test_sources_are_read_at_positions_of_their_own_prompts() -> None:
    source = _states(4, 3, 6)
    written = _write(
        _condition(source_positions=(0, -1), positions=(-1, -2)),
        source=source,
        lengths=(2, 3, 4),
        source_lengths=(6, 5, 2),
    )
    for row, start in enumerate((0, 1, 4)):
        assert torch.equal(written.states[row, 3], source[row, start])
        assert torch.equal(written.states[row, 2], source[row, 5])


def test_narrower_states_meet_the_last_dimensions() -> None:
    own, source = _states(5, 3, 4, width=5), _states(6, 3, 4, width=2)
    condition = _condition(source="sender", align="last_dimensions", match_norm=True)
    written = _write(condition, own, source)
    for row, length in enumerate(LENGTHS):
        for place in range(4 - length, 4):
            h, s = own[row, place], source[row, place]
            assert torch.equal(written.states[row, place, :3], h[:3])
            expected = s / s.norm() * h[3:].norm()
            assert written.states[row, place, 3:].tolist() == pytest.approx(expected.tolist())
    # The receiver's norm is that of the whole state, as in every other condition.
    means = [float(own[row, 4 - n :].norm(dim=-1).mean()) for row, n in enumerate(LENGTHS)]
    assert written.own_norms.tolist() == pytest.approx(means)


def test_a_source_without_direction_stays_without() -> None:
    written = _write(_condition(match_norm=True), source=torch.zeros_like(OWN))
    for row, length in enumerate(LENGTHS):
        assert torch.equal(written.states[row, 4 - length :], torch.zeros(length, WIDTH))
    assert written.injected_norms.tolist() == [0, 0, 0]


def test_norms_are_means_over_their_positions() -> None:
    condition = _condition(operator="add", weight=0.5, source_positions="last", positions="last")
    written = _write(condition)
    for row, length in enumerate(LENGTHS):
        prompt = [_norm(OWN[row, place].tolist()) for place in range(4 - length, 4)]
        last = _norm(SOURCE[row, 3].tolist())
        assert float(written.source_norms[row]) == pytest.approx(last)
        assert float(written.own_norms[row]) == pytest.approx(sum(prompt) / length)
        assert float(written.injected_norms[row]) == pytest.approx(0.5 * last)
    written = _write(_condition(weight=0.5))
    for row, length in enumerate(LENGTHS):
        blended = [
            _norm(((SOURCE + OWN)[row, place] / 2).tolist()) for place in range(4 - length, 4)
        ]
        assert float(written.injected_norms[row]) == pytest.approx(sum(blended) / length)


def test_cosines_compare_the_source_with_the_own_state() -> None:
    for fields in ({}, {"match_norm": True}, {"operator": "add", "weight": -3.0}):
        written = _write(_condition(source_positions="last", **fields))
        for row, length in enumerate(LENGTHS):
            s = SOURCE[row, 3].tolist()
            cosines = []
            for place in range(4 - length, 4):
                h = OWN[row, place].tolist()
                dot = sum(a * b for a, b in zip(h, s, strict=True))
                cosines.append(dot / (_norm(h) * _norm(s)))
            assert float(written.cosines[row]) == pytest.approx(sum(cosines) / length)
    assert _write(_condition(source="zero"), source=0 * SOURCE).cosines.tolist() == [0, 0, 0]
    own = _write(_condition(source="receiver"), OWN, OWN).cosines
    assert own.tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_are_combined_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    own, source = OWN.to(dtype), SOURCE.float()
    written = _write(_condition(operator="add", weight=0.01, match_norm=True), own, source)
    h, s = own.float(), source
    norms = h.norm(dim=-1, keepdim=True)
    expected = (h + 0.01 * (s / s.norm(dim=-1, keepdim=True) * norms)).to(dtype)
    assert written.states.dtype == dtype
    real = _batch().mask
    assert torch.equal(written.states[real], expected[real])


def test_own_state_comes_back_bit_for_bit() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        own = OWN.to(dtype)
        assert torch.equal(_write(_condition(source="receiver"), own, own).states, own)


@pytest.mark.parametrize(
    ("positions", "length", "words"),
    [
        ((3,), 3, ("position 3 does not exist", "0 to 2", "row r7 has 3")),
        ((-4,), 3, ("position -4 does not exist", "-3 to -1")),
        ((0, -1), 1, ("one token of row r7 twice",)),
        ((1, 1), 3, ("one token of row r7 twice",)),
    ],
)
def test_positions_that_a_prompt_does_not_have_are_refused(
    positions: tuple[int, ...], length: int, words: tuple[str, ...]
) -> None:
    with pytest.raises(ExperimentError) as caught:
        check_positions(positions, length, "mine", "r7")
    message = str(caught.value)
    assert message.startswith("condition mine: ")
    assert "\n" not in message
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("positions", "length"), [("all", 1), ("last", 1), ((0,), 1), ((-3, 2), 4)]
)
def test_positions_that_a_prompt_has_pass(positions: Any, length: int) -> None:
    check_positions(positions, length, "mine", "r7")
