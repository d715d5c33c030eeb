"""Maps of keys and values between a pair: solved for, measured, and sent through."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from statebridge.channels.messages.key_value_maps import empty_map, mapped
from statebridge.engine.fitting.corpus import in_fold, read_corpus
from statebridge.engine.fitting.corpus_fit import fit_translators
from statebridge.errors import StatebridgeError
from statebridge.experiment import parse_experiment
from statebridge.experiment.experiment import Fit, Prompts
from statebridge.experiment.translator_settings import KeyValueSettings
from statebridge.models.messages.attention_output import attention_cosines
from statebridge.models.messages.rotary import bare_states
from statebridge.models.pair import Pair
from statebridge.translators import Translator, load_translator, save_translator
from tests.bridge.channels.prepended import FAMILIES, ROWS, declared, pair_of, run, traced
from tests.bridge.engine.tiny_experiment import engine_pair, random_translator
from tests.reference.decoding import answer_ids, encode
from tests.reference.key_value_maps import mapped_cache, mean_cache, placed, ridge
from tests.reference.key_values import answer_behind, read_cache
from tests.reference.oracle import OraclePair, Settings
from tests.reference.points import QUESTION_ONLY, TASK, Texts, chosen_donors, other_context
from tests.tiny_models import tiny_gpt2, tiny_llama, tiny_neox, tiny_tokenizer

NEW, SEED = 2, 42
PROMPT = [0, 5, 9, 200, 31, 44, 7]
LLAMA, NEOX = {"dimensions": 8, "base": 10000.0}, {"dimensions": 4, "base": 10000.0}


def _unequal() -> OraclePair:
    """Three blocks of two heads to four blocks of three wider ones, of another family."""
    return OraclePair(
        tiny_llama(1, layers=3, hidden=32),
        tiny_neox(2, layers=4, hidden=48, heads=3, rotary_pct=0.25),
        1,
        1,
        tiny_tokenizer(),
    )


UNEQUAL = {"heads": 3, "sender": LLAMA, "receiver": NEOX}


def _fit(cut: int = 256, **settings: Any) -> Fit:
    corpus = {"generate": {"rows": 24, "hops": [2], "seed": 4}, "max_tokens": cut}
    return Fit.model_validate({"kind": "kv_ridge", "corpus": corpus, "key_values": settings})


@cache
def _fitted(sources: int, heads: str) -> tuple[Pair, Translator]:
    pair, fit = engine_pair(_unequal()), _fit(sources=sources, heads=heads)
    made = fit_translators(pair, fit, read_corpus(fit.corpus, Prompts()), (SEED,))
    return pair, made[SEED]


@pytest.mark.slow
def test_the_map_is_ridge_regression_of_the_bare_caches() -> None:
    (_, translator), fit = _fitted(2, "all"), _fit()
    corpus = read_corpus(fit.corpus, Prompts())
    passages = corpus.passages[: corpus.held_out_start]
    limit, tokenizer, models = fit.corpus.max_tokens, tiny_tokenizer(), _unequal()
    of: list[list[torch.Tensor]] = [[], []]
    for number, text in enumerate(passages):
        if not in_fold(SEED, number):
            continue
        ids = encode(tokenizer, text, limit)
        for side, model, turn in ((0, models.sender, LLAMA), (1, models.receiver, NEOX)):
            bare = [(placed(k, -1, **turn), v) for k, v in read_cache(model, ids)]
            flat = torch.stack([torch.stack(both)[:, 0] for both in bare])
            # (blocks, 2, heads, n, width) to (n, blocks, 2, heads · width)
            of[side].append(flat.permute(3, 0, 1, 2, 4).flatten(3).double())
    sent, received = (torch.cat(side) for side in of)
    weights = translator.weights()
    torch.testing.assert_close(
        weights["mean"][:, :, 0].double(), received.mean(dim=0), rtol=1e-4, atol=1e-5
    )
    for block, kind in ((0, 0), (3, 0), (2, 1)):
        read = weights["chosen"][block].long().tolist()
        assert read == sorted(set(read))
        inputs = torch.cat([sent[:, source, kind] for source in read], dim=-1)
        weight, bias = ridge(inputs, received[:, block, kind], 0.01)
        torch.testing.assert_close(
            weights["weight"][block, kind, 0].double(), weight, rtol=1e-3, atol=1e-4
        )
        torch.testing.assert_close(
            weights["bias"][block, kind, 0].double(), bias, rtol=1e-3, atol=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("heads", ["same", "all"])
def test_a_model_is_mapped_to_itself(heads: str, tmp_path: Path) -> None:
    module = FAMILIES["llama"](2)
    pair = engine_pair(OraclePair(module, module, 1, 1, tiny_tokenizer()))
    # Keys of several blocks predict themselves exactly only without a penalty.
    fit = _fit(heads=heads, sources=2, regularisation=1e-9)
    (made,) = fit_translators(pair, fit, read_corpus(fit.corpus, Prompts()), (SEED,)).values()
    assert made.card is not None
    assert made.card.training is not None
    found = made.card.key_values
    assert found is not None
    for block, read in enumerate(made.card.training.sources):  # type: ignore[union-attr]
        assert block in read
    assert min(found.r2_keys + found.r2_values) > 0.999
    assert min(found.attention_cosine) > 0.9999
    assert max(found.baseline_r2_keys + found.baseline_r2_values) < 0.05
    assert max(found.baseline_attention_cosine) < 0.999
    cache = pair.sender.key_values(pair.sender.pack([PROMPT, PROMPT[:3]]))
    for ours, own in zip(mapped(pair, made, cache).layers, cache.layers, strict=True):
        # The penalty, and what float32 leaves of a solved inverse.
        torch.testing.assert_close(ours[0][0], own[0][0], rtol=1e-2, atol=5e-3)
        torch.testing.assert_close(ours[1][1, :, -3:], own[1][1, :, -3:], rtol=1e-2, atol=5e-3)
    save_translator(made, tmp_path / "map.safetensors")
    again = load_translator(tmp_path / "map.safetensors")
    states = bare_states(module, cache)
    assert torch.equal(again(states), made(states))
    assert again.card == made.card


def test_own_keys_and_values_have_the_same_attention_output() -> None:
    model = traced(FAMILIES["gemma3"](2))
    cache = model.key_values(model.pack([PROMPT]))
    assert attention_cosines(model, PROMPT, cache) == pytest.approx([1.0] * 4)
    other = model.key_values(model.pack([PROMPT[::-1]]))
    assert max(attention_cosines(model, PROMPT, other)) < 0.999
    assert model.module.config._attn_implementation == "sdpa"


# ---------------------------------------------------------------- whole runs

POINTS: dict[str, dict[str, Any]] = {
    "mapped": {"source": "translated"},
    "mapped_null": {"source": "translated", "sender_context": "empty"},
    "mapped_neutral": {"source": "translated", "sender_context": "neutral"},
    "mapped_shuffled": {"source": "shuffled", "lone_rows": "nearest"},
    "mapped_short": {"source": "translated", "layers": [2]},
    "mean": {"source": "mean"},
}


@cache
def _expected(count: int) -> dict[tuple[str, str], Any]:
    pair, rows, limit = _unequal(), ROWS[:count], Settings().max_prompt_tokens
    tokenizer, weights = pair.tokenizer, _fitted(2, "all")[1].weights()
    lengths = [len(encode(tokenizer, TASK.format(**row), limit)) for row in rows]
    donors = chosen_donors(lengths, [row["id"] for row in rows], SEED, "nearest")
    found = {}
    for name, point in POINTS.items():
        shuffled = point["source"] == "shuffled"
        for index, row in enumerate(rows):
            if shuffled and index not in donors:
                continue
            origin = rows[donors[index]] if shuffled else row
            sent = encode(tokenizer, TASK.format(**origin), limit)
            if "sender_context" in point:
                sent = other_context(tokenizer, Texts(), row, point["sender_context"], limit)
            text = QUESTION_ONLY.format(**row)
            message = mapped_cache(read_cache(pair.sender, sent), weights, **UNEQUAL)
            if point["source"] == "mean":
                message = mean_cache(weights["mean"], len(sent), heads=3, receiver=NEOX)
            found[f"my_{name}/seed{SEED}", row["id"]] = answer_behind(
                pair.receiver,
                message,
                encode(tokenizer, text, limit),
                point.get("layers", range(4)),
                answer_ids(tokenizer, text, row["answer"]),
                end=tokenizer.eos_token_id,
                new=NEW,
            )
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("path", "together"), [("shared", 3), ("plain", 3), ("shared", 1)])
def test_every_row_equals_the_oracle(path: str, together: int) -> None:
    conditions = [declared(name, **point) for name, point in POINTS.items()]
    translators = {SEED: _fitted(2, "all")[1]}
    done = run(
        _unequal(),
        3,
        path,
        {},
        new=NEW,
        conditions=conditions,
        rows_together=together,
        translators_by_seed=translators,
    )
    expected = _expected(3)
    assert done.rows.keys() == expected.keys()
    for key, row in done.rows.items():
        assert row.token_ids == expected[key].tokens, key
        assert row.gold_logprob == pytest.approx(expected[key].gold_logprob, rel=1e-4, abs=1e-4)


def test_a_map_of_identities_changes_nothing() -> None:
    module = FAMILIES["qwen3"](2)
    pair = engine_pair(OraclePair(module, module, 1, 1, tiny_tokenizer()))
    made = empty_map(pair, KeyValueSettings(heads="same", sources=1))
    weights = made.weights()
    weights["chosen"] = torch.arange(4.0)[:, None]
    weights["weight"] = torch.eye(8).expand_as(weights["weight"]).contiguous()
    made.set_weights(weights, where="test")
    cache = pair.sender.key_values(pair.sender.pack([PROMPT, PROMPT[:3]]))
    found = mapped(pair, made, cache)
    assert found.lengths == cache.lengths
    for ours, own in zip(found.layers, cache.layers, strict=True):
        for one, other in zip(ours, own, strict=True):
            torch.testing.assert_close(one[0], other[0], rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(one[1, :, -3:], other[1, :, -3:], rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- refusals

FILE: dict[str, Any] = {
    "name": "tiny",
    "sender": {"model": "a", "layer": 1},
    "receiver": {"model": "b", "layer": 1},
    "dataset": {"path": "rows.jsonl"},
}


def test_a_map_of_states_does_not_map_caches_nor_the_reverse() -> None:
    point = {"source": "translated"}
    affine = {SEED: random_translator(32, 32, SEED)}
    with pytest.raises(StatebridgeError, match="of kind affine, which maps states"):
        run(pair_of("llama"), 2, "shared", {"m": point}, translators_by_seed=affine)
    plain = {"name": "last", "source": "translated", "prompt": "question_only"}
    conditions = [plain | {"positions": "last", "source_positions": "last"}]
    caches = {SEED: empty_map(engine_pair(pair_of("llama")), KeyValueSettings())}
    with pytest.raises(StatebridgeError, match="maps keys and values, not states"):
        run(pair_of("llama"), 2, "shared", {}, conditions=conditions, translators_by_seed=caches)
    fit = {"fit": {"kind": "ridge", "corpus": {"generate": {"rows": 9}}}}
    with pytest.raises(StatebridgeError, match="my_m needs kind kv_ridge, and its map is of ridge"):
        parse_experiment(
            json.dumps(FILE | {"translators": fit, "conditions": [declared("m", **point)]})
        )


def test_a_map_of_another_pair_is_refused() -> None:
    other = {SEED: empty_map(engine_pair(_unequal()), KeyValueSettings(heads="all"))}
    points = {"m": {"source": "translated"}}
    with pytest.raises(StatebridgeError, match="maps keys and values of width 96 in 3 blocks"):
        run(pair_of("llama"), 2, "shared", points, translators_by_seed=other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair", "fit", "words"),
    [
        (
            _unequal,
            _fit(),
            "tiny-receiver 3 key-value heads of width 16; set key_values.heads: all",
        ),
        (lambda: pair_of("llama"), _fit(cut=1), "needs at least 33; give more text"),
        (
            lambda: OraclePair(tiny_gpt2(1), tiny_gpt2(2), 1, 1, tiny_tokenizer()),
            _fit(),
            "'gpt2': its keys are not rotated",
        ),
    ],
)
def test_a_fit_that_cannot_succeed_is_refused(pair: Any, fit: Fit, words: str) -> None:
    loaded = engine_pair(pair())
    with pytest.raises(StatebridgeError) as caught:
        fit_translators(loaded, fit, read_corpus(fit.corpus, Prompts()), (SEED,))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_file_declares_of_caches_fits_together() -> None:
    corpus = {"generate": {"rows": 9}}
    with pytest.raises(ValueError, match="private_last needs a kind of maps of states"):
        Fit.model_validate(
            {"kind": "kv_ridge", "corpus": corpus, "causal": {"rows": {"generate": {"rows": 9}}}}
        )
    with pytest.raises(ValueError, match="fitted at all positions"):
        Fit.model_validate({"kind": "kv_ridge", "corpus": corpus | {"positions": "last"}})
