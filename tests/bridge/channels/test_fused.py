"""Fused caches, held to the oracle, to the floor and to the published code's outputs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from statebridge.errors import StatebridgeError
from statebridge.translators import Translator, load_translator, save_translator
from tests.bridge.channels.prepended import ROWS, pair_of, run
from tests.bridge.engine.private_points import PAIRS
from tests.bridge.engine.tiny_experiment import random_translator
from tests.reference.decoding import answer_ids, encode
from tests.reference.fused_caches import aligned, answer_on, fused_cache, turned_by
from tests.reference.key_values import read_cache
from tests.reference.oracle import OraclePair, Settings
from tests.reference.points import (
    QUESTION_ONLY,
    TASK,
    Texts,
    chosen_donors,
    naive_shared_end,
    other_context,
)
from tests.tiny_models import tiny_llama, tiny_neox, tiny_tokenizer

NEW, SEED, HIDDEN, INNER = 2, 42, 12, 10
LLAMA = {"dimensions": 8, "base": 10000.0}


def _unequal() -> OraclePair:
    """Three blocks of two heads to four blocks of three wider ones, of another family."""
    sender = tiny_llama(1, layers=3, hidden=32)
    receiver = tiny_neox(2, layers=4, hidden=48, heads=3, rotary_pct=0.25)
    return OraclePair(sender, receiver, 1, 1, tiny_tokenizer())


def published(sent: int, received: int, heads: int, blocks: int) -> dict[str, torch.Tensor]:
    """Random weights by their published names; of the second block's keys the gate is shut."""
    generator, made = torch.Generator().manual_seed(7), {}

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    for block in range(blocks):
        for side in ("key", "value"):
            name = f"{block}.{side}"
            made[f"{name}_gate_logit"] = torch.tensor(0.0 if (block, side) == (1, "key") else 1.0)
            sizes = {"in": (HIDDEN, sent + received), "proj_out": (received, HIDDEN)}
            for part, shape in {**sizes, "scalar_head": (heads, HIDDEN)}.items():
                made[f"{name}_{part}.weight"] = drawn(*shape)
                made[f"{name}_{part}.bias"] = drawn(shape[0])
            for part, inner in (("mlp1", INNER), ("proj_mlp2", INNER), ("scalar_mlp2", HIDDEN)):
                made[f"{name}_{part}.blocks.0.norm.weight"] = 1 + 0.1 * drawn(HIDDEN)
                made[f"{name}_{part}.blocks.0.w1.weight"] = drawn(inner, HIDDEN)
                made[f"{name}_{part}.blocks.0.w2.weight"] = drawn(HIDDEN, inner)
    return made


UNEQUAL = published(16, 48, 3, 4)


def loaded(weights: dict[str, torch.Tensor], folder: Path) -> Translator:
    """The fuser of a published file."""
    save_file(weights, folder / "fuser.safetensors")
    return load_translator(folder / "fuser.safetensors")


def declared(name: str, **fields: Any) -> dict[str, Any]:
    """A condition that fuses caches."""
    base = {"source": "translated", "site": "kv", "operator": "fuse"}
    return {"name": f"my_{name}", **base, **fields}


QUESTION = {"prompt": "question_only", "positions": "question", "source_positions": "question"}
POINTS: dict[str, dict[str, Any]] = {
    "fused": {},
    "shuffled": {"source": "shuffled", "lone_rows": "drop"},
    "neutral": {"sender_context": "neutral"},
    "zero": {"fuse": {"sharer": "zero"}},
    "open": {"fuse": {"gates": "open"}},
    "shut": {"fuse": {"gates": "shut"}},
    "null": {"sender_context": "empty"},
    "question": QUESTION,
    "question_shuffled": QUESTION | {"source": "shuffled", "lone_rows": "nearest"},
}


def _meeting(pair: OraclePair, row: Any, sent: list[int], read: list[int], point: Any) -> int:
    if point.get("positions") != "question":
        return min(len(sent), len(read)) - 1
    own = encode(pair.tokenizer, TASK.format(**row), Settings().max_prompt_tokens)
    return min(naive_shared_end(own, read), len(sent)) - 1


@cache
def _expected(count: int) -> dict[tuple[str, str], Any]:
    pair, rows, limit = _unequal(), ROWS[:count], Settings().max_prompt_tokens
    tokenizer = pair.tokenizer
    lengths = [len(encode(tokenizer, TASK.format(**row), limit)) for row in rows]
    ids = [row["id"] for row in rows]
    found = {}
    for name, point in POINTS.items():
        lone = point.get("lone_rows", "self")
        donors = chosen_donors(lengths, ids, SEED, lone)
        gates = point.get("fuse", {}).get("gates", "learned")
        for index, row in enumerate(rows):
            if point.get("source") == "shuffled" and index not in donors:
                continue
            origin = rows[donors[index]] if point.get("source") == "shuffled" else row
            sent = encode(tokenizer, TASK.format(**origin), limit)
            if "sender_context" in point:
                sent = other_context(tokenizer, Texts(), row, point["sender_context"], limit)
            text = (QUESTION_ONLY if "prompt" in point else TASK).format(**row)
            read = encode(tokenizer, text, limit)
            shares = [(k[:, :, :-1], v[:, :, :-1]) for k, v in read_cache(pair.sender, sent)]
            if len(sent) != len(read):
                further = len(read) - len(sent)
                shares = [(turned_by(k, further, **LLAMA), v) for k, v in shares]
            if point.get("fuse", {}).get("sharer") == "zero":
                shares = [(torch.zeros_like(k), torch.zeros_like(v)) for k, v in shares]
            own = [(k[:, :, :-1], v[:, :, :-1]) for k, v in read_cache(pair.receiver, read)]
            meeting = _meeting(pair, row, sent, read, point)
            found[f"my_{name}/seed{SEED}", row["id"]] = (
                meeting,
                answer_on(
                    pair.receiver,
                    fused_cache(shares, own, UNEQUAL, meeting, gates=gates),
                    read,
                    answer_ids(tokenizer, text, row["answer"]),
                    end=tokenizer.eos_token_id,
                    new=NEW,
                ),
            )
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("path", "together"), [("shared", 7), ("plain", 7), ("shared", 1)])
def test_every_row_equals_the_oracle(path: str, together: int, tmp_path: Path) -> None:
    # On the plain path, and alone, three rows: a group has one length there.
    count = 7 if (path, together) == ("shared", 7) else 3
    done = run(
        _unequal(),
        count,
        path,
        {},
        new=NEW,
        conditions=[declared(name, **point) for name, point in POINTS.items()],
        rows_together=together,
        translators_by_seed={SEED: loaded(UNEQUAL, tmp_path)},
    )
    expected = _expected(count)
    assert done.rows.keys() == expected.keys()
    for key, row in done.rows.items():
        meeting, answered = expected[key]
        # Sums of the fuser are in another order.
        assert row.gold_logprob == pytest.approx(answered.gold_logprob, rel=1e-4, abs=1e-4), key
        assert row.token_ids == answered.tokens, key
        assert row.message_positions == (meeting if "shut" not in key[0] else row.message_positions)
        assert row.message_layers == (() if "shut" in key[0] else (0, 1, 2, 3))
        # Three blocks of the sender are read, two heads of width 8 of keys and of values.
        carries = not ("shut" in key[0] or "zero" in key[0])
        assert row.message_bytes == carries * meeting * 3 * 2 * 16 * 4


def _fuser(pair: OraclePair, folder: Path) -> dict[int, Translator]:
    """A published fuser of any tiny pair."""
    shapes = []
    for model in (pair.sender, pair.receiver):
        keys = read_cache(model, [0, 5])[0][0]
        shapes.append((keys.shape[1] * keys.shape[3], keys.shape[1]))
    blocks = len(read_cache(pair.receiver, [0, 5]))
    return {SEED: loaded(published(shapes[0][0], *shapes[1], blocks), folder)}


@pytest.mark.parametrize("family", ["neox", "gemma3"])
def test_shut_gates_are_the_floor_token_for_token(family: str, tmp_path: Path) -> None:
    pair, shut = pair_of(family), {"fuse": {"gates": "shut"}}
    conditions: list[Any] = ["skyline", "question_only", declared("shut", **shut)]
    conditions += [declared("shut_question", **QUESTION, **shut), declared("fused")]
    done = run(
        pair,
        9,
        "shared",
        {},
        conditions=conditions,
        translators_by_seed=_fuser(pair, tmp_path),
    )
    changed = 0
    for row in ROWS[:9]:
        for floor, name in (("skyline", "shut"), ("question_only", "shut_question")):
            alone, made = done.rows[floor, row["id"]], done.rows[f"my_{name}/seed42", row["id"]]
            assert made.token_ids == alone.token_ids
            # The same sums, with and without a cache.
            assert made.gold_logprob == pytest.approx(alone.gold_logprob, abs=1e-4)
            assert (made.message_bytes, made.message_layers) == (0, ())
        fused = done.rows["my_fused/seed42", row["id"]]
        changed += fused.token_ids != done.rows["skyline", row["id"]].token_ids
    assert changed


@pytest.mark.slow
def test_aligned_tokens_meet_one_by_one(tmp_path: Path) -> None:
    pair, limit = PAIRS["two-tokenizers"][0]().reversed(), Settings().max_prompt_tokens
    fuser = _fuser(pair, tmp_path)
    weights = published(fuser[SEED].width_in, fuser[SEED].width_out, *_heads(pair))
    points = {by: {"fuse": {"align_tokens": by}} for by in ("first", "longest")}
    done = run(
        pair,
        2,
        "shared",
        {},
        new=NEW,
        conditions=[declared(name, **point) for name, point in points.items()],
        translators_by_seed=fuser,
    )
    for by in points:
        for row in ROWS[:2]:
            text = TASK.format(**row)
            read = encode(pair.tokenizer, text, limit)
            sent = aligned(pair.reads_with, pair.tokenizer, read, by)
            caches = [
                [(k[:, :, :-1], v[:, :, :-1]) for k, v in read_cache(model, ids)]
                for model, ids in ((pair.sender, sent), (pair.receiver, read))
            ]
            expected = answer_on(
                pair.receiver,
                fused_cache(*caches, weights, len(read) - 1),
                read,
                answer_ids(pair.tokenizer, text, row["answer"]),
                end=pair.tokenizer.eos_token_id,
                new=NEW,
            )
            found = done.rows[f"my_{by}/seed42", row["id"]]
            assert found.token_ids == expected.tokens
            assert found.gold_logprob == pytest.approx(expected.gold_logprob, rel=1e-4, abs=1e-4)
            assert found.prompt_len_sender == len(read)
            assert found.message_one_to_one is not None
            assert 0.3 < found.message_one_to_one < 1


def _heads(pair: OraclePair) -> tuple[int, int]:
    entries = read_cache(pair.receiver, [0, 5])
    return entries[0][0].shape[1], len(entries)


# ---------------------------------------------------------------- files


def test_a_published_file_is_a_fuser_and_is_kept(tmp_path: Path) -> None:
    made = loaded(UNEQUAL, tmp_path)
    assert (made.kind, made.width_in, made.width_out) == ("fuser", 16, 48)
    assert made.options == {"hidden_dim": 12, "inner_dim": 10, "blocks_out": 4, "groups": 3}
    assert made.card is not None
    assert made.card.training is not None
    assert made.card.training.method == "imported"
    save_translator(made, tmp_path / "own.safetensors")
    again = load_translator(tmp_path / "own.safetensors")
    sent, own = torch.randn(2, 5, 16), torch.randn(2, 5, 48)
    assert torch.equal(again.map(3, 1, sent, own, "learned"), made.map(3, 1, sent, own, "learned"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("2.value_proj_out.bias"), "without 2.value_proj_out.bias"),
        (
            lambda w: w.update({"0.key_proj_mlp2.blocks.1.norm.weight": torch.ones(12)}),
            "only such fusers are read",
        ),
        (lambda w: w.update({"1.key_in.bias": torch.ones(3)}), "has shape (3,)"),
    ],
)
def test_a_file_of_another_make_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    weights = dict(UNEQUAL)
    change(weights)
    with pytest.raises(StatebridgeError) as caught:
        loaded(weights, tmp_path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ({"source": "sender"}, "takes source translated or shuffled, not sender"),
        ({"layers": [1]}, "operator fuse takes no layers"),
        ({"prompt": "question_only"}, "takes positions and source_positions question"),
        ({"positions": "last", "source_positions": "last"}, "all or question, the same for both"),
        ({"site": "residual"}, "fuse goes with site: kv"),
        ({"operator": "append", "fuse": {}}, "fuse goes with operator: fuse"),
    ],
)
def test_points_that_do_not_fit_together_are_refused(
    point: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(StatebridgeError, match=words):
        run(
            _unequal(),
            2,
            "shared",
            {},
            conditions=[declared("point", **point)],
            translators_by_seed={SEED: loaded(UNEQUAL, tmp_path)},
        )


def test_fusers_of_another_pair_are_refused(tmp_path: Path) -> None:
    fuser = {SEED: loaded(UNEQUAL, tmp_path)}
    for pair, point, made, words in (
        (pair_of("llama"), {}, fuser, "its fuser takes keys of width 16 into keys of width 48"),
        (_unequal(), {}, {SEED: random_translator(32, 48, SEED)}, "of kind affine"),
        (_unequal(), {"fuse": {"sharer": "receiver"}}, fuser, "cannot be its own sharer"),
    ):
        conditions = [declared("point", **point)]  # type: ignore[arg-type]
        with pytest.raises(StatebridgeError, match=words):
            run(pair, 2, "shared", {}, conditions=conditions, translators_by_seed=made)
