"""The private setting equals the one-row oracle: the context is the sender's alone.

The oracle (tests/reference/points.py) shares no code with the engine. Tokens must be equal
in every row; log-probabilities and norms are held to the tolerance of test_parity.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from statebridge.experiment import PRESETS
from tests.bridge.engine.private_points import (
    ALL,
    ELSEWHERE,
    LAST_ONLY,
    ODD,
    PAIRS,
    RAW,
    check_run,
    check_same,
    declared,
    oracle_rows,
    translators_of,
)
from tests.bridge.engine.tiny_experiment import (
    EngineRun,
    dataset_rows,
    engine_pair,
    llama_pair,
    neox_pair,
    run_engine,
)
from tests.reference.oracle import OracleRow, run_cell
from tests.reference.points import Point, Texts, run_point
from tests.tiny_models import mixed_rows, tiny_tokenizer

ROWS = mixed_rows(14, seed=5)
# Texts are test_parity's; here log-probabilities show where a state went.
DECODING = {"max_new_tokens": 3, "relay_max_new_tokens": 3}


@cache
def _expected(family: str, count: int, seeds: tuple[int, ...]) -> dict[tuple[str, str], OracleRow]:
    make, points, texts = PAIRS[family]
    return oracle_rows(make(), ROWS[:count], points, seeds, texts, max_new_tokens=3)


def _run(family: str, count: int, seeds: tuple[int, ...], **fields: Any) -> EngineRun:
    make, points, _ = PAIRS[family]
    pair = make()
    return run_engine(
        engine_pair(pair),
        dataset_rows(ROWS[:count]),
        translators_of(pair, seeds),
        conditions=declared(points),
        rng="published",
        decoding=DECODING,
        **fields,
    )


def test_the_preset_is_the_points_here_and_the_relay() -> None:
    names = [condition.name for condition in PRESETS["private-all"]]
    assert sorted(names) == sorted([*ALL, "private_relay"])
    assert [c.name for c in PRESETS["private"]] == list(LAST_ONLY)
    points = ALL | RAW | ELSEWHERE
    strict = {*PRESETS["private-strict"], *PRESETS["activations-strict"]}
    for condition in {*PRESETS["private-all"], *strict}:
        if condition.name != "private_relay":
            point = points[condition.name]
            fields = {name: getattr(condition, name) for name in Point.__dataclass_fields__}
            assert fields == vars(point), condition.name


# Every pair meets both paths; every size of a group meets several pairs. "tight" is fewer lanes
# than cells: one row a group, its lanes in several passes, some of them without a baseline lane.
WAYS: dict[str, tuple[int | str, ...]] = {
    "neox": (1, 7, 64, "tight", "plain"),
    "llama": (7, "tight", "plain"),
    "two-tokenizers": (1, 64, "plain"),
    "itself": (7, "plain"),
    "padded": (1, 64, "plain"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "way"), [(family, way) for family, ways in WAYS.items() for way in ways]
)
def test_every_pair_equals_the_oracle(family: str, way: int | str) -> None:
    ways: dict[str, dict[str, Any]] = {
        "tight": {"max_lanes": 5},
        "plain": {"execution": {"path": "plain"}},
    }
    fields = ways[way] if isinstance(way, str) else {"rows_together": way}
    # What a seed draws does not depend on the pair: two of them on one.
    count, seeds = (8, (42, 123)) if family == "neox" else (7, (42,))
    check_run(_run(family, count, seeds, **fields), _expected(family, count, seeds))


def test_every_pair_is_run() -> None:
    assert WAYS.keys() == PAIRS.keys()


# ---------------------------------------------------------------- further points


def _odd(points: Any, texts: Texts, count: int = 6, **fields: Any) -> None:
    pair, rows = neox_pair(), ROWS[:count]
    expected = oracle_rows(pair, rows, points, (42,), texts, max_new_tokens=4)
    for path in ("shared", "plain"):
        run = run_engine(
            engine_pair(pair),
            dataset_rows(rows),
            translators_of(pair, (42,)),
            conditions=declared(points),
            rng="published",
            decoding={"max_new_tokens": 4},
            execution={"path": path},
            **fields,
        )
        check_run(run, expected)


@pytest.mark.slow
def test_points_that_no_preset_has_equal_the_oracle() -> None:
    _odd(ODD, Texts())


@pytest.mark.slow
def test_null_and_neutral_controls_equal_the_oracle() -> None:
    _odd(ELSEWHERE, Texts())


@pytest.mark.slow
def test_a_neutral_text_of_the_user_equals_the_oracle() -> None:
    names = ("private_last_neutral", "question_neutral")
    points = {name: ELSEWHERE[name] for name in names}
    texts = Texts(sender="{context}\nQ: {question}\nA:", neutral="the city")
    _odd(points, texts, prompts={"sender": texts.sender, "neutral_text": "the city"})


def test_controls_say_nothing_of_the_context() -> None:
    """Rows that differ in the words of their contexts alone give the same control rows."""
    pair, (row, *_) = neox_pair(), ROWS[2:]
    contexts = "the city of Lima is in Peru", "the city of Oslo is in Asia"
    found = [
        run_engine(
            engine_pair(pair),
            dataset_rows([dict(row) | {"context": text}]),
            translators_of(pair, (42,)),
            conditions=["private_last", "private_last_null", "private_last_neutral"],
            decode=False,
        ).rows
        for text in contexts
    ]
    own, *controls = zip(*(list(run.values()) for run in found), strict=True)
    assert own[0] != own[1]
    assert all(one == other for one, other in controls)


@pytest.mark.slow
def test_prompts_of_other_words_equal_the_oracle() -> None:
    # The sender reads a longer prompt than the task's; a word stands for the context's tokens.
    texts = Texts(
        task="{question} of {context} is in",
        sender="{context} and {context}. Q: {question}\nA:",
        question_only="the {question}\nA:",
        placeholder=tiny_tokenizer()(" the")["input_ids"][0],
    )
    prompts = {
        "task": texts.task,
        "sender": texts.sender,
        "question_only": texts.question_only,
        "placeholder_token": " the",
    }
    names = ("private_question", "private_question_shuffled", "private_last", "placeholder_only")
    points = {name: ALL[name] for name in names}
    points |= {name: ODD[name] for name in ("slots_zero", "slots_from_last", "question_random")}
    _odd(points, texts, prompts=prompts)


@pytest.mark.slow
def test_the_relay_is_the_one_of_the_shared_setting() -> None:
    pair, rows = llama_pair(), ROWS[:4]
    expected = run_cell(pair, rows, "nl_relay", **DECODING)
    for path in ("shared", "plain"):
        run = run_engine(
            engine_pair(pair),
            dataset_rows(rows),
            {},
            conditions=["private_relay"],
            decoding=DECODING,
            execution={"path": path},
        )
        for row in expected:
            check_same(run.rows["private_relay", row.row_id], row, "private_relay")


# ---------------------------------------------------------------- the bounds


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
def test_divergence_is_from_the_same_prompt_without_a_baseline(path: str) -> None:
    pair, rows = neox_pair(), ROWS[:6]
    points = {"private_last_zero": ALL["private_last_zero"], "slots_zero": ODD["slots_zero"]}
    run = run_engine(
        engine_pair(pair),
        dataset_rows(rows),
        {},
        conditions=declared(points),
        decode=False,
        execution={"path": path},
    )
    assert {name for name, _ in run.rows} == set(points)
    for name, point in points.items():
        for row in run_point(pair, rows, point, decode=False):
            found = run.rows[name, row.row_id].kl_from_no_inject
            assert found == pytest.approx(row.kl_from_no_inject, rel=1e-5, abs=2e-5)
            assert found is not None
            assert found > 1e-3, "nothing was changed, so this says nothing"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "rows_together", "tolerance"),
    [
        ("shared", 1, 0.0),
        ("shared", 64, 0.0),
        # Its own states are read from a pass over the prompt, and written into one over
        # prompt and answer: the same sums, but not in the same order.
        ("plain", 64, 2e-5),
    ],
)
def test_what_must_be_the_same_is_so_bit_for_bit(
    path: str, rows_together: int, tolerance: float
) -> None:
    run = run_engine(
        engine_pair(neox_pair()),
        dataset_rows(ROWS),
        {},
        rows_together=rows_together,
        conditions=["no_inject", "skyline", "question_only", "private_last_self"],
        decoding=DECODING,
        execution={"path": path},
    )
    pairs = ("no_inject", "skyline", 0.0), ("question_only", "private_last_self", tolerance)
    for row in ROWS:
        for first, second, rounding in pairs:
            one, other = run.rows[first, row["id"]], run.rows[second, row["id"]]
            assert one.token_ids == other.token_ids
            assert one.gold_rank == other.gold_rank
            assert other.gold_logprob == pytest.approx(one.gold_logprob, rel=0, abs=rounding)
            assert one.kl_from_no_inject == 0.0
            assert other.kl_from_no_inject == pytest.approx(0.0, abs=rounding)
        shared, alone = run.rows["skyline", row["id"]], run.rows["question_only", row["id"]]
        assert shared.gold_logprob != alone.gold_logprob
        assert shared.prompt_len_receiver > alone.prompt_len_receiver


@pytest.mark.slow
@pytest.mark.parametrize("path", ["shared", "plain"])
def test_the_receiver_sees_nothing_of_the_context(path: str) -> None:
    """Two datasets that differ in the words of their contexts alone give the same rows."""
    contexts = (
        ["the city of Lima is in Peru", "a city in Ghana", "the city is Oslo and Rome"],
        ["the city of Oslo is in Asia", "a city in Egypt", "the city is Lima and Cairo"],
    )
    count = [[len(tiny_tokenizer()(text)["input_ids"]) for text in some] for some in contexts]
    assert count[0] == count[1]
    found = [
        run_engine(
            engine_pair(neox_pair()),
            dataset_rows(
                [row | {"context": text} for row, text in zip(ROWS[2:], some, strict=False)]
            ),
            {},
            conditions=["question_only", "placeholder_only", *declared({"r": random, "s": slots})],
            seeds=[42],
            decoding=DECODING,
            execution={"path": path},
        ).rows
        for some in contexts
        for random, slots in [(ALL["private_last_random"], ODD["slots_random"])]
    ]
    assert len(found[0]) == 12
    assert found[0] == found[1]
