"""Pairs between which a channel cannot send: each is refused in one line that says what is right.

An adapter for another base is in `tests/bridge/models/test_adapter.py`, maps and fusers of another
pair are in the tests of their channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from statebridge.channels.fused import empty_fuser
from statebridge.channels.messages.key_value_maps import empty_map
from statebridge.channels.soft_tokens import empty_resampler
from statebridge.errors import StatebridgeError
from statebridge.experiment.translator_settings import (
    FuserSettings,
    KeyValueSettings,
    ResamplerSettings,
)
from statebridge.models.pair import Pair
from statebridge.translators import Translator
from tests.bridge.channels.prepended import run
from tests.bridge.engine.private_points import PAIRS
from tests.bridge.engine.tiny_experiment import engine_pair
from tests.reference.oracle import OraclePair
from tests.tiny_families import tiny_family
from tests.tiny_models import tiny_gemma, tiny_llama, tiny_llama_tokenizer, tiny_tokenizer


def _of(sender: Any, receiver: Any, *tokenizers: Any) -> OraclePair:
    return OraclePair(sender, receiver, 1, 1, *(tokenizers or (tiny_tokenizer(),)))


def _llama(seed: int, window: int = 512) -> Any:
    return tiny_llama(seed, layers=4, hidden=32, max_position_embeddings=window)


def _short_sighted(seed: int) -> Any:
    return tiny_gemma(seed, version=3, layers=4, hidden=32, sliding_window=16)


def _two_vocabularies() -> OraclePair:
    return _of(_llama(1), _llama(2), tiny_llama_tokenizer(), tiny_tokenizer())


def _soft(by: str, **more: Any) -> dict[str, Any]:
    return {"site": "embedding", "soft_tokens": {"by": by, **more}}


RESAMPLED = _soft("resampler") | {"source": "translated"}
MAPPED = {"source": "translated"}
FUSED: dict[str, Any] = {"source": "translated", "operator": "fuse", "prompt": "task"}
LATENT = {"rollout": {"steps": 2}}
MADE: dict[str, Callable[[Pair], Translator]] = {
    "resampler": lambda pair: empty_resampler(
        pair, ResamplerSettings(vectors=30, hidden_dim=12, heads=3)
    ),
    "map": lambda pair: empty_map(pair, KeyValueSettings(heads="all", sources=1)),
    "fuser": lambda pair: empty_fuser(pair, FuserSettings(hidden_dim=8)),
}


def _translator(point: dict[str, Any]) -> Callable[[Pair], Translator] | None:
    if point.get("operator") == "fuse":
        return MADE["fuser"]
    return MADE["resampler" if "soft_tokens" in point else "map"] if "source" in point else None


CASES: dict[str, tuple[Callable[[], OraclePair], dict[str, Any], tuple[str, ...]]] = {
    "heads of another number": (
        lambda: _of(tiny_llama(1, layers=4, hidden=32, kv_heads=4), _llama(2)),
        {},
        ("no map between 4 blocks of 4 key-value heads of width 8", "of kind kv_ridge"),
    ),
    "another depth": (
        lambda: _of(tiny_llama(1, layers=3, hidden=32), _llama(2)),
        LATENT,
        ("no map between 3 blocks of 2 key-value heads of width 8", "of kind kv_ridge"),
    ),
    "a receiver's window": (
        lambda: _of(_llama(1), _llama(2, 20)),
        {},
        ("reach beyond the context window of tiny-receiver (20)", "lower decoding."),
    ),
    "a window, of vectors": (
        lambda: _of(_llama(1), _llama(2, 40)),
        RESAMPLED,
        ("a message of 30 positions", "window of tiny-receiver (40)", "lower decoding."),
    ),
    "a sender's window, where caches are fused": (
        lambda: _of(_llama(1, 12), _llama(2), tiny_llama_tokenizer(), tiny_tokenizer()),
        FUSED | {"fuse": {"align_tokens": "first"}},
        ("context window of tiny-sender (12)", "lower decoding.max_prompt_tokens"),
    ),
    "a sliding window": (
        lambda: _of(_short_sighted(1), _short_sighted(2)),
        {},
        ("some of its layers would not see the message", "a model without sliding windows"),
    ),
    "a sliding window, of vectors": (
        lambda: _of(_short_sighted(1), _short_sighted(2)),
        _soft("vocab"),
        ("some of its layers would not see the message", "a model without sliding windows"),
    ),
    "a recurrent receiver": (
        lambda: _of(_llama(1), tiny_family("mamba")),
        {},
        ("does not know the cache of model type 'mamba'", "it knows gpt_neox"),
    ),
    "a recurrent receiver of vectors": (
        lambda: _of(_llama(1), tiny_family("mamba")),
        _soft("vocab"),
        ("does not know the cache of model type 'mamba'", "it knows gpt_neox"),
    ),
    "a sender of latent attention": (
        lambda: _of(tiny_family("deepseek_v2"), _llama(2)),
        LATENT,
        ("does not know the cache of model type 'deepseek_v2'", "it knows gpt_neox"),
    ),
    "a sender of latent attention, through a map": (
        lambda: _of(tiny_family("deepseek_v2"), _llama(2)),
        MAPPED,
        ("'deepseek_v2': its cache is not known", "use one of gpt_neox"),
    ),
    "a recurrent sender that writes vectors": (
        lambda: _of(tiny_family("mamba2"), _llama(2)),
        _soft("cipher", steps=3),
        ("'mamba2' has recurrent or convolutional ones", "use soft_tokens by resampler"),
    ),
    "a recurrent sender that writes a text": (
        lambda: _of(tiny_family("recurrent_gemma"), _llama(2)),
        _soft("text", steps=3),
        ("'recurrent_gemma' has recurrent", "use soft_tokens by resampler"),
    ),
    "a sender with convolutions": (
        lambda: _of(tiny_family("lfm2_moe"), _llama(2)),
        _soft("vocab"),
        ("'lfm2_moe' has recurrent or convolutional ones", "use soft_tokens by resampler"),
    ),
    "two vocabularies, keys and values": (
        _two_vocabularies,
        {},
        ("have different tokenizers, and channel kv needs one", "use one model"),
    ),
    "two vocabularies, through a map": (
        _two_vocabularies,
        MAPPED,
        ("have different tokenizers, and channel kv needs one", "use one model"),
    ),
    "two vocabularies, deltas": (
        PAIRS["two-tokenizers"][0],
        _soft("text", deltas={"layers": [1]}),
        ("soft_tokens by text needs one vocabulary", "use by: vocab"),
    ),
    "two vocabularies, ids that mean other tokens": (
        _two_vocabularies,
        FUSED,
        ("align_tokens: ids: token", "use align_tokens: first or longest"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_what_a_pair_cannot_send_is_refused_in_a_line(case: str) -> None:
    make, point, words = CASES[case]
    pair, made = make(), _translator(point)

    def refused() -> None:
        translators = None if made is None else {42: made(engine_pair(pair))}
        run(pair, 3, "shared", {"bad": point}, decode=False, translators_by_seed=translators)

    with pytest.raises(StatebridgeError) as caught:
        refused()
    for part in words:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sender_of_latent_attention_may_write() -> None:
    pair = _of(tiny_family("deepseek_v2"), _llama(2))
    done = run(pair, 2, "shared", {"soft": _soft("cipher", steps=2)}, new=1)
    assert len(done.rows) == 2
