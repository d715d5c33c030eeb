"""Keys and values in front of the receiver's prompt, held to plain forwards of one row."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

import pytest
import torch

from statebridge.channels.messages.layer_choice import chosen_layers, measured_importance, scores
from statebridge.engine.decoding.lanes import DecodingSettings, prefill
from statebridge.engine.decoding.steps import Step, decode_lanes, decoding_step
from statebridge.errors import ExperimentError, StatebridgeError
from statebridge.experiment.message import LayerShare
from statebridge.models.messages.key_values import KeyValues
from statebridge.models.passes import Pass
from statebridge.models.traced_model import TracedModel
from tests.bridge.channels.prepended import FAMILIES, ROWS, declared, pair_of, run, traced
from tests.bridge.engine.private_points import CLOSE
from tests.bridge.engine.tiny_experiment import EngineRun
from tests.reference.decoding import answer_ids, encode
from tests.reference.key_values import answer_behind, read_cache
from tests.reference.oracle import OraclePair, Settings
from tests.reference.points import QUESTION_ONLY, TASK, Texts, chosen_donors, other_context

NEW = 4


def _logits(model: TracedModel, prompts: list[list[int]], message: KeyValues | None) -> Any:
    batch = model.pack(prompts)
    inputs = {"input_ids": batch.ids, "attention_mask": batch.mask.long()}
    return next(model.run_passes([Pass(inputs, message=message)]))


SENT, READ = [0, 5, 9, 200, 31, 44, 7], [0, 17, 300, 8]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_all_layers_equal_a_plain_forward_over_both(family: str) -> None:
    module = FAMILIES[family](3)
    model = traced(module)
    with torch.no_grad():
        plain = module(input_ids=torch.tensor([SENT + READ])).logits[:, len(SENT) :]
    found = _logits(model, [READ], model.key_values(model.pack([SENT])))
    # The same sums in another order, in float32.
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "family",
    [
        "gemma3",
        *(pytest.param(name, marks=pytest.mark.soak) for name in ("neox", "llama", "qwen3")),
    ],
)
def test_entries_equal_raw_states_entering_every_block(family: str) -> None:
    """The other way to write a whole message: at the positions of as many placeholders."""
    module = FAMILIES[family](3)
    with torch.no_grad():
        states = module(torch.tensor([SENT]), output_hidden_states=True).hidden_states
    model = traced(module)
    message = model.key_values(model.pack([SENT]))

    def put(place: int) -> Any:
        def hook(_: Any, args: Any, kwargs: Any) -> Any:
            name = "hidden_states"
            own = args[0] if args else kwargs[name]
            own = torch.cat((states[place], own[:, len(SENT) :]), dim=1)
            return ((own, *args[1:]), kwargs) if args else (args, kwargs | {name: own})

        return hook

    for place, path in enumerate(model.block_paths):
        block = module.get_submodule(path)
        block.register_forward_pre_hook(put(place), with_kwargs=True)
    with torch.no_grad():
        placeholders = module(torch.tensor([[3] * len(SENT) + READ])).logits[:, len(SENT) :]
    found = _logits(traced(FAMILIES[family](3)), [READ], message)
    torch.testing.assert_close(found, placeholders, rtol=1e-4, atol=2e-5)


def test_a_message_of_no_keys_changes_nothing() -> None:
    model = traced(FAMILIES["llama"](3))
    whole = model.key_values(model.pack([SENT]))
    empty = KeyValues(tuple((k[:, :, :0], v[:, :, :0]) for k, v in whole.layers), (0,))
    for message in (empty, empty.shortened({1})):
        assert torch.equal(_logits(model, [READ], message), _logits(model, [READ], None))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_messages_of_several_lengths_are_those_of_each_row(family: str) -> None:
    sender, model = traced(FAMILIES[family](1)), traced(FAMILIES[family](2))
    sent = [SENT, SENT[:2], SENT[1:6], SENT[:1]]
    both = sender.key_values(sender.pack(sent)).shortened({0, 2})
    found = _logits(model, [READ] * 4, both)
    for row, ids in enumerate(sent):
        alone = _logits(model, [READ], sender.key_values(sender.pack([ids])).shortened({2}))
        torch.testing.assert_close(found[row], alone[0], rtol=1e-4, atol=2e-5)
        chosen = both.select([row])
        assert chosen.lengths == (len(ids),)
        assert [k.shape[2] for k, _ in chosen.layers] == [len(ids), 1, len(ids), 1]
        torch.testing.assert_close(_logits(model, [READ], chosen), alone, rtol=1e-4, atol=2e-5)


# ---------------------------------------------------------------- whole runs

POINTS: dict[str, dict[str, Any]] = {
    "kv_all": {},
    "kv_all_null": {"sender_context": "empty"},
    "kv_all_neutral": {"sender_context": "neutral"},
    "kv_all_shuffled": {"source": "shuffled_sender", "lone_rows": "nearest"},
    "kv_middle": {"layers": {"share": 0.5, "by": "middle"}},
    "kv_list": {"layers": [-1]},
    "kv_list_task": {"layers": [2, 3], "prompt": "task"},
}
WHOLE: dict[str, Collection[int]] = {"kv_middle": (1, 2), "kv_list": (3,), "kv_list_task": (2, 3)}


def _run(pair: OraclePair, count: int, path: str, **fields: Any) -> EngineRun:
    return run(pair, count, path, POINTS, new=NEW, **fields)


@cache
def _expected(family: str, count: int) -> dict[tuple[str, str], Any]:
    pair, rows, limit = pair_of(family), ROWS[:count], Settings().max_prompt_tokens
    tokenizer = pair.tokenizer
    lengths = [len(encode(tokenizer, TASK.format(**row), limit)) for row in rows]
    donors = chosen_donors(lengths, [row["id"] for row in rows], 42, "nearest")
    found = {}
    for name, point in POINTS.items():
        shuffled = point.get("source") == "shuffled_sender"
        for index, row in enumerate(rows):
            if shuffled and index not in donors:
                continue
            origin = rows[donors[index]] if shuffled else row
            sent = encode(tokenizer, TASK.format(**origin), limit)
            if "sender_context" in point:
                context = point["sender_context"]
                sent = other_context(tokenizer, Texts(), row, context, limit)
            text = (TASK if point.get("prompt") == "task" else QUESTION_ONLY).format(**row)
            cell = f"my_{name}/seed42" if shuffled else f"my_{name}"
            found[cell, row["id"]] = answer_behind(
                pair.receiver,
                read_cache(pair.sender, sent),
                encode(tokenizer, text, limit),
                WHOLE.get(name, range(4)),
                answer_ids(tokenizer, text, row["answer"]),
                end=tokenizer.eos_token_id,
                new=NEW,
            )
    return found


# Every family meets both paths, every way two families.
WAYS = [("neox", "shared", 7), ("neox", "plain", 7), ("llama", "shared", 1), ("llama", "plain", 7)]
WAYS += [("qwen3", "shared", 1), ("qwen3", "shared", 7), ("qwen3", "plain", 7)]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "path", "together"), WAYS)
def test_every_row_equals_the_oracle(family: str, path: str, together: int) -> None:
    done = _run(pair_of(family), 7, path, rows_together=together)
    expected = _expected(family, 7)
    assert done.rows.keys() == expected.keys()
    for key, row in done.rows.items():
        assert row.token_ids == expected[key].tokens, key
        assert row.gold_logprob == pytest.approx(expected[key].gold_logprob, **CLOSE), key
    whole = {cell: row.message_layers for (cell, _), row in done.rows.items()}
    for name in POINTS:
        cell = f"{name}/seed42" if name.endswith("shuffled") else name
        assert whole[f"my_{cell}"] == tuple(sorted({0, *WHOLE.get(name, range(4))}))
    # Keys and values of 2 or 4 heads of width 8, in float32; a block that is not whole has one.
    position = 2 * 8 * 4 * (4 if family == "neox" else 2)
    for (cell, _), row in done.rows.items():
        whole_layers, positions = len(row.message_layers or ()), row.message_positions or 0
        assert row.message_bytes == position * (whole_layers * (positions - 1) + 4), cell
        if cell in ("my_kv_all", "my_kv_all_neutral", "my_kv_middle"):
            assert positions == row.prompt_len_sender
    lengths = {row.prompt_len_sender for (cell, _), row in done.rows.items() if cell == "my_kv_all"}
    assert len(lengths) > 1, "messages of one length say nothing of padding"


def test_the_paths_agree_where_a_sliding_window_sees_all() -> None:
    conditions = [declared("kv_all"), declared("kv_middle", **POINTS["kv_middle"])]
    shared, plain = (
        _run(pair_of("gemma3"), 4, path, conditions=conditions) for path in ("shared", "plain")
    )
    assert len(shared.rows) == 8
    for key, row in shared.rows.items():
        assert row.token_ids == plain.rows[key].token_ids
        assert row.gold_logprob == pytest.approx(plain.rows[key].gold_logprob, **CLOSE)


@pytest.mark.parametrize("step", ["static", "graph"])
def test_steps_of_static_shapes_behind_a_message_are_refused(step: Step) -> None:
    model = traced(FAMILIES["llama"](3))
    message = model.key_values(model.pack([SENT]))
    settings = DecodingSettings(2, 1.0, 0)
    lanes = prefill(model, model.pack([READ]), 2, message)
    if step == "static":
        with (
            decoding_step(step),
            pytest.raises(ValueError, match="decoded in dynamic steps; leave it out"),
        ):
            decode_lanes(model, lanes, settings)
    with pytest.raises(ValueError, match=r"dynamic steps|needs a GPU"):
        decode_lanes(model, lanes, settings, step=step)
    assert len(decode_lanes(model, lanes, settings)) == 1


# ---------------------------------------------------------------- the choice of layers


def test_importance_is_the_attention_to_all_keys_but_the_first() -> None:
    module = FAMILIES["llama"](3)
    model = traced(module)
    found = measured_importance(model, READ, model.key_values(model.pack([SENT])))
    assert module.config._attn_implementation == "sdpa"
    module.config._attn_implementation = "eager"
    with torch.no_grad():
        whole = module(input_ids=torch.tensor([SENT + READ]), output_attentions=True)
    count = len(SENT)
    for layer, weights in enumerate(whole.attentions):
        of_tokens = [
            float(weights[0, head, place, 1:count].sum())
            for head in range(weights.shape[1])
            for place in range(count, count + len(READ))
        ]
        assert found[layer] == pytest.approx(sum(of_tokens) / len(of_tokens), rel=1e-5)


def _chosen(layers: Any, seed: int | None = None, of: tuple[float, ...] = ()) -> list[int]:
    return sorted(chosen_layers(layers, 6, seed, lambda: of))


def test_layers_are_chosen_as_declared() -> None:
    assert _chosen(None) == _chosen("all") == [0, 1, 2, 3, 4, 5]
    assert _chosen((-1, 2)) == [2, 5]
    assert _chosen(LayerShare(share=0.4, by="middle")) == [2, 3]
    random = [_chosen(LayerShare(share=0.5, by="random"), seed) for seed in range(20)]
    assert {len(layers) for layers in random} == {3}
    assert len({tuple(layers) for layers in random}) > 5
    # int(0.3 · 6) = 1 layer, the one that is attended to most; of two equal ones the first.
    assert _chosen(LayerShare(), of=(0.1, 0.9, 0.2, 0.9, 0.3, 0.1)) == [1]
    deep = LayerShare(share=0.5, alpha=0.0, mu=1.0, sigma=1.0)
    assert _chosen(deep, of=(9.0, 0, 0, 0, 0, 0)) == [3, 4, 5]


def test_scores_mix_attention_and_depth() -> None:
    choice = LayerShare(alpha=0.25, mu=0.5, sigma=1.0)
    edge, centre, attended = 0.0, 0.75, 0.25
    assert scores(choice, (2.0, 2.0, 4.0)) == pytest.approx([edge, centre, attended])


def test_held_out_rows_are_left_out_of_the_choice() -> None:
    share = {"share": 0.5, "by": "importance", "rows": 2}
    names = {"own": {}, "theirs": {"held_out": False}}
    conditions = [declared(n, layers=share | more) for n, more in names.items()]
    done = _run(pair_of("llama"), 9, "shared", conditions=conditions, decode=False)
    plan = done.workload.plan
    ours, theirs = (cell.condition.layers for cell in plan.cells)
    assert isinstance(ours, LayerShare)
    assert isinstance(theirs, LayerShare)
    measured = {ROWS[row]["id"] for row in plan.rows_of(ours)}
    assert len(measured) == 2
    assert plan.rows_of(theirs) == (0, 1)
    every = {row["id"] for row in ROWS}
    assert {row for cell, row in done.rows if cell == "my_own"} == every - measured
    assert {row for cell, row in done.rows if cell == "my_theirs"} == every
    assert len(done.workload.found) == 2, "importance is measured once for all groups"


def test_a_single_row_leaves_none_to_measure_on() -> None:
    with pytest.raises(ExperimentError, match="1 leave none"):
        _run(pair_of("llama"), 1, "shared", conditions=[declared("k", layers={"share": 0.5})])


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"layers": [4]}, "layer 4 is out of range"),
        ({"channel": "states"}, "goes with channel kv"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(fields: Any, words: str) -> None:
    with pytest.raises(StatebridgeError) as caught:
        _run(pair_of("llama"), 3, "shared", conditions=[declared("kv", **fields)], decode=False)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
