"""Costs of a run's methods: the formulas applied by hand to the lengths that rows record."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from statebridge.cost import (
    Ledger,
    Lengths,
    exact_forward,
    exact_partial,
    map_cost,
    published_forward,
    published_partial,
)
from statebridge.errors import ResultError
from statebridge.experiment.conditions import Condition
from statebridge.results.cost import WAYS, ConditionCost, Way, condition_costs
from tests.bridge.results.made_costs import LAYER, METHODS, RECEIVER, SENDER, made_costs


def _costs(*args: Any, **more: Any) -> dict[str, ConditionCost]:
    return {cost.condition: cost for cost in condition_costs(made_costs(*args, **more))}


def _generation(shape: Any, prompt: int, new: int, way: Way) -> int:
    accounting, cached = way
    forward = published_forward if accounting == "published" else exact_forward
    if cached:
        return forward(shape, prompt) + sum(forward(shape, 1, prompt + i) for i in range(new - 1))
    if accounting == "published":
        return new * forward(shape, prompt)
    return sum(forward(shape, prompt + i) for i in range(new))


def _partial(way: Way, tokens: int) -> int:
    return (published_partial if way[0] == "published" else exact_partial)(SENDER, tokens, LAYER)


@pytest.mark.parametrize("way", WAYS)
def test_costs_are_those_of_the_rows_own_lengths(way: Way) -> None:
    costs, rows = _costs(), range(4)
    alone = fmean(_generation(RECEIVER, 5 + i, 2 + i, way) for i in rows)
    received = fmean(_generation(RECEIVER, 9 + i, 2 + i, way) for i in rows)
    message = fmean(_generation(SENDER, 10 + i, 3, way) for i in rows)
    reply = fmean(_generation(RECEIVER, 5 + i, 3, way) for i in rows)
    partial = fmean(_partial(way, 10 + i) for i in rows)
    expected = {
        "question_only": (0, alone),
        "skyline": (0, alone),
        "private_relay": (message, received),
        "debate": (message, received + reply),
        "activation_replace": (partial, alone),
        "activation_sum": (partial, alone + 24),
        "activation_mean": (partial, alone + 48),
    }
    assert costs.keys() == expected.keys(), "controls have no cost"
    for name, (sender, receiver) in expected.items():
        assert costs[name].sender[way] == pytest.approx(sender, rel=1e-12), name
        assert costs[name].receiver[way] == pytest.approx(receiver, rel=1e-12), name
        assert costs[name].total(way) == costs[name].sender[way] + costs[name].receiver[way]


def test_bytes_and_tokens() -> None:
    costs = _costs()
    # Text as UTF-8; in a debate both ways. States: 24 numbers of two bytes.
    sent = {name: cost.sent_bytes for name, cost in costs.items()}
    assert sent == {
        "question_only": 0,
        "skyline": 0,
        "private_relay": 6,
        "debate": 8,
        "activation_sum": 48,
        "activation_mean": 48,
        "activation_replace": 48,
    }
    new = {name: cost.new_tokens for name, cost in costs.items()}
    assert new["question_only"] == new["activation_replace"] == 3.5
    assert (new["private_relay"], new["debate"]) == (6.5, 9.5)


def test_a_translator_is_one_matrix_at_every_position_read() -> None:
    everywhere = Condition(name="everywhere", source="translated")
    two = Condition(name="two", source="translated", positions=(0, 1), source_positions=(0, 1))
    costs = _costs(["no_inject", "private_last", everywhere, two])
    way: Way = ("exact", True)
    alone, matrix = costs["no_inject"].receiver[way], 2 * 24 * 32
    assert costs["private_last"].receiver[way] == pytest.approx(alone + matrix)
    assert costs["two"].receiver[way] == pytest.approx(alone + 2 * matrix)
    positions = fmean(10 + i for i in range(4))
    assert costs["everywhere"].receiver[way] == pytest.approx(alone + positions * matrix)
    assert costs["everywhere"].sent_bytes == positions * 48
    # Which positions a question has is not recorded.
    assert "private_question" not in _costs(["no_inject", "private_question"])


@pytest.mark.parametrize("way", WAYS)
def test_a_message_costs_what_its_row_records(way: Way) -> None:
    costs = _costs(["question_only", "kvcomm", "kvcomm_shuffled"])
    assert costs.keys() == {"question_only", "kvcomm"}, "controls have no cost"
    found, ledger = costs["kvcomm"], Ledger(SENDER, RECEIVER, *way)
    lanes = [ledger.key_values(Lengths(10 + i, 5 + i, 2 + i), 10 + i, 2) for i in range(4)]
    assert found.sender[way] == fmean(lane.sender for lane in lanes)
    assert found.receiver[way] == fmean(lane.receiver for lane in lanes)
    assert found.receiver[way] > costs["question_only"].receiver[way]
    assert (found.kind, found.sent_bytes) == ("message", 1150)


@pytest.mark.parametrize("way", WAYS)
def test_soft_tokens_are_mixed_by_the_sender_and_read(way: Way) -> None:
    costs, ledger = _costs(["vocab_all", "cipher", "latent"]), Ledger(SENDER, RECEIVER, *way)
    rows, mixing = range(4), 2 * 3 * 421 * 32
    read = fmean(_generation(RECEIVER, 3 + 5 + i, 2 + i, way) for i in rows)
    blocks = published_partial if way[0] == "published" else exact_partial
    passed = fmean(blocks(SENDER, 10 + i, 2) for i in rows)
    written = fmean(_generation(SENDER, 10 + i, 3, way) for i in rows)
    assert costs["vocab_all"].sender[way] == passed + mixing + 2 * 3 * 421 * 24
    assert costs["cipher"].sender[way] == written + mixing + 4 * 3 * 421 * 24
    assert costs["vocab_all"].receiver[way] == costs["cipher"].receiver[way] == read
    assert costs["cipher"].sent_bytes == 192
    lanes = [
        ledger.key_values(Lengths(10 + i, 5 + i, 2 + i, 10), 10 + i, 2, latent_matrix=True)
        for i in rows
    ]
    assert costs["latent"].sender[way] == fmean(lane.sender for lane in lanes)


@pytest.mark.parametrize("way", WAYS)
def test_every_sender_costs_what_it_reads(way: Way) -> None:
    costs = _costs(["kv_two", "kv_chain", "kv_debate"])
    blocks = published_partial if way[0] == "published" else exact_partial

    def read(*turns: tuple[int, int]) -> int:
        return sum(blocks(SENDER, prompt, 2, before) for prompt, before in turns)

    lengths = [4 + i for i in range(4)]
    twice = [((n, 0), (6, n), (n, n + 6), (6, 2 * n + 6)) for n in lengths]
    assert costs["kv_two"].sender[way] == fmean(read((n, 0), (6, 0)) for n in lengths)
    assert costs["kv_chain"].sender[way] == fmean(read((n, 0), (6, n)) for n in lengths)
    assert costs["kv_debate"].sender[way] == fmean(read(*turns) for turns in twice)
    lanes = [
        Ledger(SENDER, RECEIVER, *way).key_values(Lengths(1, 5 + i, 2 + i), 10 + i, 2)
        for i in range(4)
    ]
    for found in costs.values():
        assert found.receiver[way] == fmean(lane.receiver for lane in lanes)


@pytest.mark.parametrize("way", WAYS)
def test_writers_in_a_chain_cost_what_they_read_and_mix(way: Way) -> None:
    costs, rows = _costs(["cipher_chain", "cipher_debate"]), range(4)

    def turn(shape: Any, prompt: int, written: int, widths: int) -> int:
        # Each vector is mixed for its own model, compared, and mixed for each later reader.
        return _generation(shape, prompt, written, way) + 2 * written * 421 * (
            2 * shape.width + widths
        )

    # Three vectors: two of the first sender, which the second reads in front of its prompt.
    chain = fmean(turn(SENDER, 4 + i, 2, 32 + 24) + turn(SENDER, 2 + 6, 1, 32) for i in rows)
    assert costs["cipher_chain"].sender[way] == pytest.approx(chain)
    read = fmean(_generation(RECEIVER, 3 + 5 + i, 2 + i, way) for i in rows)
    assert costs["cipher_chain"].receiver[way] == pytest.approx(read)
    # Both models in two rounds: one vector each but the last, which writes none.
    first = fmean(turn(SENDER, 4 + i, 1, 32 + 24) + turn(SENDER, 2 + 4 + i, 1, 32) for i in rows)
    second = turn(RECEIVER, 1 + 6, 1, 32 + 24)
    assert costs["cipher_debate"].sender[way] == pytest.approx(first)
    assert costs["cipher_debate"].receiver[way] == pytest.approx(read + second)


# ---------------------------------------------------------------- where there is none


def test_why_there_are_no_costs() -> None:
    with pytest.raises(ResultError, match="published files do not state the shapes"):
        condition_costs(replace(made_costs(), manifest=None))
    with pytest.raises(ResultError, match="does not state the shape of the sender"):
        condition_costs(made_costs(METHODS, shape=None))
    with pytest.raises(ResultError, match="does not state the shape of the sender"):
        condition_costs(replace(made_costs(), manifest={"experiment": {}}))


def _without(name: str, field: str) -> Any:
    made = made_costs([name])
    cells = [
        replace(cell, lanes=[replace(row, **{field: None}) for row in cell.lanes])  # type: ignore[arg-type]
        for cell in made.cells
    ]
    return replace(made, cells=cells)


@pytest.mark.parametrize(
    ("condition", "field", "message"),
    [
        ("skyline", "token_ids", "nothing was decoded"),
        ("skyline", "prompt_len_receiver", "row r0: has no prompt_len_receiver"),
        ("activation_sum", "prompt_len_sender", "row r0: has no prompt_len_sender"),
        ("kv_all", "message_bytes", "row r0: has no message_bytes"),
        ("private_relay", "turns", "row r0: has no turns"),
    ],
)
def test_rows_that_do_not_say_enough(condition: str, field: str, message: str) -> None:
    with pytest.raises(ResultError, match=message):
        condition_costs(_without(condition, field))


@pytest.mark.parametrize("way", WAYS)
def test_the_operations_of_a_map_are_counted(way: Way) -> None:
    options = {"hidden_dim": 12, "inner_dim": 10, "blocks_out": 4, "groups": 2}
    stated = {"width_in": 24, "width_out": 16, "options": options}
    made = made_costs(["kv_mapped", "fused", "fused_question", "fused_zero", "resampled"])
    ridge = {"blocks_in": 3, "blocks_out": 4, "sources": 2, "groups": 1}
    assert made.manifest is not None
    ledger, rows = Ledger(SENDER, RECEIVER, *way), range(4)
    lengths = [Lengths(10 + i, 5 + i, 2 + i) for i in rows]
    without = {cost.condition: cost for cost in condition_costs(made)}
    assert without["fused"].receiver[way] == fmean(ledger.fused(n).receiver for n in lengths)
    assert without["fused"].sender[way] == without["kv_mapped"].sender[way]
    # Messages of three positions, as made.
    read = fmean(ledger.resampled(n, LAYER, 3).receiver for n in lengths)
    assert without["resampled"].receiver[way] == read
    assert without["resampled"].sender[way] == fmean(_partial(way, 10 + i) for i in rows)
    assert "fused_zero" not in without
    # What is fused is recorded, whatever its positions are called.
    assert without["fused_question"].receiver == without["fused"].receiver
    made.manifest["translators"] = {
        "caches/42": {"kind": "fuser", "map": stated},
        "maps/42": {"kind": "kv_ridge", "map": {**stated, "options": ridge}},
    }
    counted = {cost.condition: cost for cost in condition_costs(made)}
    of_map = map_cost("fuser", 24, 16, options)
    fused = [lane for cell in made.cells for lane in cell.lanes if cell.condition.name == "fused"]
    positions = fmean(lane.message_positions for lane in fused)  # type: ignore[arg-type, misc]
    more = counted["fused"].receiver[way] - without["fused"].receiver[way]
    assert more == pytest.approx(of_map.each * positions)
    more = counted["kv_mapped"].receiver[way] - without["kv_mapped"].receiver[way]
    assert more == pytest.approx(
        map_cost("kv_ridge", 24, 16, ridge).each * fmean(10 + i for i in rows)
    )
