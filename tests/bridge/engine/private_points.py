"""Points of the private setting, pairs to run them on, and the oracle's rows for them.

The points of the preset `private-all` are here a second time, as the oracle's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from statebridge.experiment import CONDITIONS
from statebridge.records import LaneResult
from tests.bridge.engine.tiny_experiment import (
    EngineRun,
    llama_pair,
    neox_pair,
    random_translator,
)
from tests.reference.oracle import OraclePair, OracleRow
from tests.reference.points import Point, Texts, run_point
from tests.tiny_models import (
    tiny_llama,
    tiny_llama_tokenizer,
    tiny_neox,
    tiny_padded_tokenizer,
    tiny_tokenizer,
)

# One float32 operation rounds by 6e-8; sums over a few hundred terms of size ten.
CLOSE = {"rel": 1e-5, "abs": 2e-5}

_LAST = Point("translated", positions="last", source_positions="last", prompt="question_only")
_QUESTION = Point(
    "translated",
    match_norm=True,
    positions="question",
    source_positions="question",
    prompt="question_only",
)
_SLOTS = Point(
    "translated",
    match_norm=True,
    positions="placeholder",
    source_positions="placeholder",
    prompt="placeholder",
)
LAST_ONLY: dict[str, Point] = {
    "question_only": Point("none", prompt="question_only"),
    "skyline": Point("none"),
    "private_last": _LAST,
    "private_last_shuffled": replace(_LAST, source="shuffled", lone_rows="nearest"),
    "private_last_matched": replace(_LAST, match_norm=True),
    "private_last_matched_shuffled": replace(
        _LAST, source="shuffled", lone_rows="nearest", match_norm=True
    ),
    "private_last_random": Point(
        "random", match_norm=True, positions="last", prompt="question_only"
    ),
    "private_last_zero": Point("zero", positions="last", prompt="question_only"),
    "private_last_self": replace(_LAST, source="receiver"),
}
ALL: dict[str, Point] = {
    **LAST_ONLY,
    "private_question": _QUESTION,
    "private_question_shuffled": replace(_QUESTION, source="shuffled", lone_rows="nearest"),
    "placeholder_only": Point("none", prompt="placeholder"),
    "private_placeholder": _SLOTS,
    "private_placeholder_shuffled": replace(_SLOTS, source="shuffled", lone_rows="drop"),
}
# arXiv 2501.14082: raw states of the last token, put together with the receiver's own.
RAW: dict[str, Point] = {
    "activation_sum": replace(_LAST, source="sender", operator="sum"),
    "activation_mean": replace(_LAST, source="sender", operator="mean"),
    "activation_replace": replace(_LAST, source="sender"),
    **{
        f"activation_{way}_shuffled": replace(
            _LAST, source="shuffled_sender", operator=operator, lone_rows="nearest"
        )
        for way, operator in {"sum": "sum", "mean": "mean", "replace": "blend"}.items()
    },
}
# A state that the receiver reads at placeholders: replaced, or added at their norm.
_READ = Point("sender", positions="placeholder", source_positions="last", prompt="placeholder")
READ: dict[str, Point] = {
    "state_read": _READ,
    "state_read_shuffled": replace(_READ, source="shuffled_sender", lone_rows="nearest"),
    "oracle_read": replace(_READ, operator="add", match_norm=True),
    "oracle_read_null": replace(_READ, operator="add", match_norm=True, sender_context="empty"),
}
# The sender without the row's context, through the same map.
ELSEWHERE: dict[str, Point] = {
    "private_last_null": replace(_LAST, sender_context="empty"),
    "private_last_neutral": replace(_LAST, sender_context="neutral"),
    "private_last_matched_null": replace(_LAST, match_norm=True, sender_context="empty"),
    "private_last_matched_neutral": replace(_LAST, match_norm=True, sender_context="neutral"),
    **{
        f"{way}_{end}": replace(RAW[way], sender_context=context)
        for way in ("activation_sum", "activation_mean", "activation_replace")
        for end, context in {"null": "empty", "neutral": "neutral"}.items()
    },
    "question_null": replace(_QUESTION, sender_context="empty"),
    "question_neutral": replace(_QUESTION, sender_context="neutral"),
    "slots_neutral": replace(_SLOTS, sender_context="neutral"),
    "shared_neutral": Point("translated", weight=0.5, sender_context="neutral"),
}
ODD: dict[str, Point] = {
    "question_random": Point(
        "random", match_norm=True, positions="question", prompt="question_only"
    ),
    "question_zero": Point("zero", positions="question", prompt="question_only"),
    "question_from_last": replace(_QUESTION, source_positions="last", operator="add", weight=0.5),
    "question_from_first": replace(_QUESTION, source_positions=(0,), weight=0.25),
    "own_question": replace(_QUESTION, source="receiver", operator="mean", match_norm=False),
    "everywhere_from_last": Point(
        "translated", "add", 0.3, source_positions="last", prompt="question_only"
    ),
    "two_from_two": Point(
        "translated", positions=(-1, 0), source_positions=(1, -2), prompt="question_only"
    ),
    "slots_zero": Point("zero", positions="placeholder", prompt="placeholder"),
    "slots_random": Point(
        "random", weight=0.5, match_norm=True, positions="placeholder", prompt="placeholder"
    ),
    "slots_from_last": replace(_SLOTS, source_positions="last"),
    "slots_question": replace(_QUESTION, prompt="placeholder"),
    "slots_everywhere": Point("translated", match_norm=True, prompt="placeholder"),
    "slots_everywhere_shuffled": Point(
        "shuffled", weight=0.5, prompt="placeholder", lone_rows="self"
    ),
}


def _two_tokenizers() -> OraclePair:
    return OraclePair(
        sender=neox_pair().sender,
        receiver=tiny_llama(seed=9, layers=3, hidden=32, heads=4, end_share=0, eos_token_id=2),
        sender_layer=1,
        receiver_layer=1,
        tokenizer=tiny_llama_tokenizer(),
        sender_tokenizer=tiny_tokenizer(),
    )


def _itself() -> OraclePair:
    model = tiny_neox(seed=2, layers=4, hidden=32, heads=4)
    return OraclePair(model, model, 1, 2, tiny_tokenizer())


def _padded() -> OraclePair:
    """A pad token of its own, which the prompt then holds as the placeholder."""
    return replace(neox_pair(), tokenizer=tiny_padded_tokenizer())


PAIRS: Mapping[str, tuple[Callable[[], OraclePair], Mapping[str, Point], Texts]] = {
    "neox": (neox_pair, ALL | RAW, Texts()),
    "llama": (lambda: llama_pair().reversed(), ALL | RAW, Texts()),
    "two-tokenizers": (_two_tokenizers, LAST_ONLY | RAW, Texts()),
    "itself": (_itself, ALL | RAW | READ, Texts()),
    "padded": (_padded, ALL, Texts(placeholder=1)),
}


def declared(points: Mapping[str, Point]) -> list[Any]:
    """Conditions as an experiment file writes them; those of the preset by their name."""
    return [
        name
        if name in CONDITIONS
        else {
            "name": name,
            "source": point.source,
            "prompt": point.prompt,
            **({} if point.source == "none" else _written(point)),
        }
        for name, point in points.items()
    ]


def _written(point: Point) -> dict[str, Any]:
    fields = {
        "operator": point.operator,
        "weight": point.weight,
        "match_norm": point.match_norm,
        "positions": point.positions,
        "source_positions": point.source_positions,
        "sender_context": point.sender_context,
    }
    if point.source.startswith("shuffled"):
        fields["lone_rows"] = point.lone_rows
    if point.source.endswith("sender"):
        fields["align"] = "last_dimensions"
    return fields


def oracle_rows(
    pair: OraclePair,
    rows: Sequence[Mapping[str, str]],
    points: Mapping[str, Point],
    seeds: Sequence[int],
    texts: Texts,
    **settings: Any,
) -> dict[tuple[str, str], OracleRow]:
    """Return the oracle's results in every cell, by cell name and row id."""
    expected = {}
    for name, point in points.items():
        seeded = point.source not in ("none", "receiver", "sender", "zero")
        for seed in seeds if seeded else (None,):
            translate = None if seed is None else translators_of(pair, (seed,))[seed]
            cell = name if seed is None else f"{name}/seed{seed}"
            for row in run_point(pair, rows, point, seed, translate, texts=texts, **settings):
                expected[cell, row.row_id] = row
    return expected


def translators_of(pair: OraclePair, seeds: Sequence[int]) -> dict[int, Any]:
    widths = pair.sender.config.hidden_size, pair.receiver.config.hidden_size
    return {seed: random_translator(*widths, seed=seed) for seed in seeds}


def check_same(found: LaneResult, oracle: OracleRow, cell: str) -> None:
    """Compare all that a row gives."""
    where = cell, oracle.row_id
    for name in (
        "token_ids",
        "prediction",
        "gold",
        "prompt_len_receiver",
        "prompt_len_sender",
        "donor_row_id",
        "donor_self_fallback",
        "token_ids_match",
        "seq_len_match",
        "gold_token_count",
        "gold_rank",
        "relay",
        "relay_prompt_len",
    ):
        assert getattr(found, name) == getattr(oracle, name), (*where, name)
    for name in (
        "gold_logprob",
        "kl_from_no_inject",
        "translated_norm_mean",
        "receiver_norm_mean",
        "injected_norm_mean",
        "source_cosine_mean",
    ):
        theirs = getattr(oracle, name)
        expected = None if theirs is None else pytest.approx(theirs, **CLOSE)
        assert getattr(found, name) == expected, (*where, name)


def check_run(run: EngineRun, expected: Mapping[tuple[str, str], OracleRow]) -> None:
    """Compare all rows of a run, none missing and none too many."""
    assert run.rows.keys() == expected.keys()
    for key, row in run.rows.items():
        check_same(row, expected[key], key[0])
