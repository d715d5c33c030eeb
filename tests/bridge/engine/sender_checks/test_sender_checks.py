"""Checks inside the sender equal forward hooks on one unpadded row at a time.

The naive form here shares no code with the engine: it runs the Hugging Face model with a hook
on the block, and takes positions, means and donors from their definitions. In float64 the two
differ by rounding alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.engine.planning.prepare import prepare
from statebridge.engine.run_experiment import run_experiment
from statebridge.engine.sender_checks.checks import run_sender_checks
from statebridge.engine.sender_checks.plan import SenderCheckPlan, plan_sender_checks
from statebridge.errors import ExperimentError, NumericError, PairError
from statebridge.experiment import parse_experiment
from statebridge.models.pair import Pair
from statebridge.records import DatasetRow
from statebridge.results.sender_checks import (
    SENDER_CHECKS,
    AnswerMeasure,
    SenderChecks,
    read_sender_checks,
)
from statebridge.translators import Translator
from tests.bridge.engine.tiny_experiment import (
    dataset_rows,
    engine_pair,
    llama_pair,
    neox_pair,
    random_translator,
)
from tests.reference.oracle import OraclePair
from tests.tiny_models import mixed_rows

ROWS = dataset_rows(mixed_rows(14, seed=5))
F64 = torch.float64
SAME = {"rel": 1e-9, "abs": 1e-9}
"""Float64: a few hundred sums, each rounded to 1e-16 of values below 100."""

RAW = {"source": "sender", "align": "last_dimensions", "prompt": "question_only"}
READING: list[dict[str, Any]] = [
    {"name": "everywhere", **RAW, "prompt": "task"},
    {"name": "last", **RAW, "positions": "last", "source_positions": "last"},
    {"name": "question", **RAW, "positions": "question", "source_positions": "question"},
    {"name": "two", **RAW, "positions": [0, -1], "source_positions": [-2, 1]},
]


@cache
def neox() -> Pair:
    """A GPT-NeoX pair whose sender's layer is an inner one; nobody changes it."""
    return engine_pair(PAIRS["neox"]())


def planned(
    pair: Pair,
    conditions: Sequence[Any] = READING,
    rows: Sequence[DatasetRow] = ROWS,
    translators: Mapping[int, Translator] | None = None,
    **fields: Any,
) -> SenderCheckPlan:
    declared = {
        "name": "tiny",
        "sender": {"model": "tiny-sender", "layer": pair.sender.layer},
        "receiver": {"model": "tiny-receiver", "layer": pair.receiver.layer},
        "dataset": {"path": "rows.jsonl"},
        "conditions": conditions,
        "seeds": [42],
        "decoding": {"max_new_tokens": 4},
        **({"translators": dict.fromkeys(translators, "t.safetensors")} if translators else {}),
    }
    experiment = parse_experiment(json.dumps(declared | fields))
    return plan_sender_checks(prepare(experiment, pair, list(rows), translators or {}))


# ------------------------------------------------------------------ the naive form


class Naive:
    """The sender of an oracle pair, one row at a time."""

    def __init__(self, oracle: OraclePair, rows: Sequence[DatasetRow] = ROWS) -> None:
        self.rows, self.tokenizer = rows, oracle.reads_with
        self.model = oracle.sender
        self.block = _blocks(oracle.sender)[oracle.sender_layer]
        self.prompts = [
            self.tokenizer(f"Context: {r.context}\nQ: {r.question}\nA:")["input_ids"] for r in rows
        ]
        self.states = [self._run(ids, None)[0] for ids in self.prompts]

    def answer(self, row: int) -> list[int]:
        ids: list[int] = self.tokenizer(f" {self.rows[row].answer}")["input_ids"]
        return ids

    def _run(
        self, ids: Sequence[int], edits: Mapping[int, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the block's output and the logits, with `edits` written at positions."""
        seen: list[torch.Tensor] = []

        def hook(_module: Any, _inputs: Any, output: Any) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            seen.append(states[0].clone())
            changed = states.clone()
            for position, value in (edits or {}).items():
                changed[0, position] = value
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        handle = self.block.register_forward_hook(hook)
        try:
            with torch.no_grad():
                logits = self.model(torch.tensor([list(ids)])).logits[0]
        finally:
            handle.remove()
        return seen[0], logits

    def measure(
        self, row: int, answer: Sequence[int], edits: Mapping[int, torch.Tensor] | None = None
    ) -> tuple[float, bool, bool]:
        prompt = self.prompts[row]
        _, logits = self._run([*prompt, *answer], edits)
        total, right = 0.0, []
        for place, token in enumerate(answer):
            scores = logits[len(prompt) - 1 + place].log_softmax(dim=-1)
            total += float(scores[token])
            right.append(int(scores.argmax()) == token)
        return total, right[0], all(right)

    def mean_at(self, row: int, position: int) -> torch.Tensor:
        """The mean over rows at the same place, as `MeanStates` defines a place."""
        lengths = [len(ids) for ids in self.prompts]
        half = (len(lengths) + 1) // 2

        def place(length: int, i: int) -> str:
            if i == 0:
                return "first"
            from_end = length - i
            reached = sum(other >= from_end for other in lengths)
            return f"-{from_end}" if reached >= half else "between"

        wanted = place(lengths[row], position)
        members = [
            self.states[other][i]
            for other, length in enumerate(lengths)
            for i in range(length)
            if place(length, i) == wanted
        ]
        return torch.stack(members).mean(dim=0)


def _blocks(model: Any) -> Any:
    return model.gpt_neox.layers if hasattr(model, "gpt_neox") else model.model.layers


def _positions(name: str, naive: Naive, row: int) -> list[int]:
    ids = naive.prompts[row]
    everything = list(range(len(ids)))
    if name == "all":
        return everything
    if name == "last":
        return everything[-1:]
    if name == "first":
        return [0]
    if name == "[-2, 1]":
        return [1, len(ids) - 2]
    if name == "question":
        own = naive.tokenizer(f"Q: {naive.rows[row].question}\nA:")["input_ids"]
        shared = 0
        while shared < len(own) and own[-1 - shared] == ids[-1 - shared]:
            shared += 1
        return everything[len(ids) - shared :]
    assert name == "context"
    # Byte-level tokens: those that hold a byte of the context, found by decoding.
    before = len(b"Context: ")
    end = before + len(naive.rows[row].context.encode())
    kept, at = [], 0
    for i, token in enumerate(ids):
        size = _bytes_of(naive, token)
        if at < end and at + size > before:
            kept.append(i)
        at += size
    return kept


def _bytes_of(naive: Naive, token: int) -> int:
    # A byte-level vocabulary writes each byte as one character.
    return len(naive.tokenizer.convert_ids_to_tokens(token))


def _same(found: AnswerMeasure, expected: tuple[float, bool, bool], where: object) -> None:
    assert found.logprob == pytest.approx(expected[0], **SAME), where
    assert (found.first_right, found.all_right) == expected[1:], where


PAIRS = {
    "neox": lambda: replace(neox_pair(F64), sender_layer=1),
    "neox-last-block": lambda: neox_pair(F64),
    "llama": lambda: llama_pair(F64),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", PAIRS)
def test_every_check_equals_forward_hooks(family: str) -> None:
    oracle, rows = PAIRS[family](), ROWS[3:12]
    naive = Naive(oracle, rows)
    checks = run_sender_checks(planned(engine_pair(oracle), rows=rows), max_lanes=50)
    index = {row.row_id: i for i, row in enumerate(rows)}
    for row in checks.rows:
        i = index[row.row_id]
        assert row.tokens == len(naive.prompts[i])
        _same(row.gold, naive.measure(i, naive.answer(i)), row.row_id)
    names = ["all", "last", "question", "[-2, 1]", "context", "first"]
    assert list(dict.fromkeys(check.positions for check in checks.checks)) == names
    patched = 0
    for check in checks.checks:
        assert bool(check.read_by) == (check.positions not in ("context", "first"))
        for row in check.rows:
            i = index[row.row_id]
            where = check.positions, check.replacement, row.row_id
            at = _positions(check.positions, naive, i)
            assert row.replaced == len(at), where
            zero = torch.zeros_like(naive.states[i][0])
            if check.replacement == "patch":
                donor = index[row.donor_row_id or ""]
                shift = len(naive.prompts[donor]) - len(naive.prompts[i])
                assert shift == 0 or check.positions == "last", where
                edits = {p: naive.states[donor][p + shift] for p in at}
                other = naive.answer(donor)
                assert other != naive.answer(i), where
                assert row.donor_before is not None
                assert row.donor_after is not None
                _same(row.donor_before, naive.measure(i, other), where)
                _same(row.donor_after, naive.measure(i, other, edits), where)
                patched += 1
            elif check.replacement == "mean":
                edits = {p: naive.mean_at(i, p) for p in at}
            else:
                edits = dict.fromkeys(at, zero)
            _same(row.gold, naive.measure(i, naive.answer(i), edits), where)
    assert patched > 15


@pytest.mark.slow
def test_both_paths_and_every_batch_size_give_the_same() -> None:
    pair = neox()
    whole = run_sender_checks(planned(pair), max_lanes=500)
    for other in (
        run_sender_checks(planned(pair), max_lanes=3),
        run_sender_checks(planned(pair, execution={"path": "plain"}), max_lanes=60),
        run_sender_checks(planned(pair, remote="local"), max_lanes=500),
    ):
        for ours, theirs in zip(_measures(whole), _measures(other), strict=True):
            assert ours == pytest.approx(theirs, **SAME)


def _measures(checks: SenderChecks) -> list[float]:
    return [row.gold.logprob for row in checks.rows] + [
        measure.logprob
        for check in checks.checks
        for row in check.rows
        for measure in (row.gold, row.donor_before, row.donor_after)
        if measure is not None
    ]


def test_after_the_last_block_only_the_last_position_matters() -> None:
    checks = run_sender_checks(planned(engine_pair(PAIRS["neox-last-block"]())), max_lanes=200)
    before = {row.row_id: row.gold.logprob for row in checks.rows}
    for check in checks.checks:
        touches_the_end = check.positions in ("all", "last", "question")
        for row in check.rows:
            unchanged = row.gold.logprob == pytest.approx(before[row.row_id], **SAME)
            assert unchanged != touches_the_end, (check.positions, check.replacement)


def test_a_row_patched_everywhere_says_what_its_donor_says() -> None:
    checks = run_sender_checks(planned(neox()), max_lanes=200)
    own = {row.row_id: row.gold for row in checks.rows}
    (check,) = [c for c in checks.checks if (c.positions, c.replacement) == ("all", "patch")]
    found = [
        row for row in check.rows if " " not in _row(row.donor_row_id).answer
    ]  # answers of one token: nothing of the patched row's own is left above the layer
    assert len(found) >= 2
    for row in found:
        assert row.donor_after is not None
        donor = own[row.donor_row_id or ""]
        assert row.donor_after.logprob == pytest.approx(donor.logprob, **SAME)


def _row(row_id: str | None) -> DatasetRow:
    return next(row for row in ROWS if row.row_id == row_id)


def test_unread_positions_are_all_the_others() -> None:
    plan = planned(neox(), READING[1:])
    sets = {found.name: found for found in plan.sets}
    assert list(sets) == ["last", "question", "[-2, 1]", "context", "first", "unread"]
    for row in range(len(ROWS)):
        length = len(plan.workload.plan.prompts.sender[row])
        read = {p for name in ("last", "question", "[-2, 1]") for p in sets[name].of_row[row]}
        assert set(sets["unread"].of_row[row]) == set(range(length)) - read


def test_the_private_preset_reads_at_its_placeholders() -> None:
    pair = neox()
    translator = random_translator(pair.sender.width, pair.receiver.width, seed=42)
    plan = planned(pair, "private-all", translators={42: translator})
    sets = {found.name: found for found in plan.sets}
    naive = Naive(PAIRS["neox"]())
    assert "private_placeholder" in sets["context"].read_by
    for row in range(len(ROWS)):
        assert list(sets["context"].of_row[row]) == _positions("context", naive, row)


def test_nothing_to_check_is_refused() -> None:
    pair = neox()
    with pytest.raises(ExperimentError, match="a single row runs"):
        planned(pair, limit=1)
    with pytest.raises(ExperimentError, match="a single row runs"):
        planned(pair, rows=ROWS[:1])


def test_an_answer_beyond_the_senders_window_is_refused() -> None:
    pair = neox()
    longest = max(len(ids) for ids in planned(pair).workload.plan.prompts.sender)
    narrow = Pair(replace(pair.sender, window=longest), pair.receiver)
    with pytest.raises(PairError, match="of the answer reach beyond the context window"):
        planned(narrow)


def test_a_log_probability_that_is_not_finite_is_refused() -> None:
    oracle = PAIRS["neox"]()
    pair = engine_pair(oracle)
    plan = planned(pair)
    with torch.no_grad():
        oracle.sender.get_output_embeddings().weight[:] = torch.nan
    with pytest.raises(NumericError, match=r"sender check, row row_\d+, .*not finite"):
        run_sender_checks(plan, max_lanes=50)


def test_a_run_keeps_its_checks_and_makes_missing_ones(tmp_path: Path) -> None:
    pair = neox()
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in mixed_rows(8, seed=5)))
    declared = {
        "name": "tiny",
        "sender": {"model": "tiny-sender", "layer": pair.sender.layer},
        "receiver": {"model": "tiny-receiver", "layer": pair.receiver.layer},
        "dtype": "float64",
        "dataset": {"path": str(rows)},
        "conditions": ["question_only", READING[1]],
        "decoding": {"max_new_tokens": 2},
        "limit": 6,
        "sender_checks": True,
    }
    experiment = parse_experiment(json.dumps(declared))
    out = tmp_path / "run"
    run_experiment(experiment, out, pair=pair)
    found = read_sender_checks(out)
    assert found is not None
    assert [row.row_id for row in found.rows] == [f"row_{i:04d}" for i in range(6)]
    assert [name.name for name in out.glob(".sender_checks*")] == []
    file = out / SENDER_CHECKS
    content, stamp = file.read_bytes(), file.stat().st_mtime_ns
    run_experiment(experiment, out, pair=pair)
    assert file.stat().st_mtime_ns == stamp
    file.unlink()
    run_experiment(experiment, out, pair=pair)
    assert file.read_bytes() == content
    silent = parse_experiment(json.dumps(declared | {"sender_checks": False}))
    run_experiment(silent, tmp_path / "silent", pair=pair)
    assert read_sender_checks(tmp_path / "silent") is None
