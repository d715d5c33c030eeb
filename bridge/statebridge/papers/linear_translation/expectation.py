"""The published set of arXiv 2606.03280, forward: 21 files, 24 with the strict control."""

from __future__ import annotations

from functools import partial

from statebridge.papers.linear_translation.clean_eval import CLEAN_EVAL_SHA256
from statebridge.validation.expectation import (
    EXPECTATIONS,
    Expectation,
    ExpectedCondition,
    Original,
)

ROWS = 396
STRICT_ROWS = 383
"""Rows whose prompt length some other row shares; the other 13 are excluded."""
SEEDS = (42, 123, 456)
STRICT_CONTROL = "shuffled_translation_strict_matched"

_DETERMINISTIC = ("no_inject", "nl_relay", "b_to_b_self_inject")
_SEEDED = (
    "additive",
    "replace",
    "scale_corrected",
    "best_alpha",
    "same_norm_random",
    "shuffled_translation",
)
_DECODING = {
    "max_new_tokens": 64,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 3,
    "max_prompt_tokens": 256,
    "relay_max_new_tokens": 128,
}

_KNOWN_FILES = """\
additive 42  16:06:17 0f69c5d5acce3703dd1c48749b0a34f096d76c9e7ca4bbbc6dfc7ec06fe0e416
additive 123 16:14:06 4d3bec651d63c74e8eb482bae56a111ff04c22ec542ad7209f685fcfd8a8d0e4
additive 456 16:21:21 84b057849e2484d34958060687523d1f111d58696c4279e8b2543f49979bdbf9
nl_relay -   15:51:16 748b73abc8d2e75e97298247b594a4485d655e19d9b332d316eab486ab77e6f3
no_inject -   15:42:46 97524936d01f2d6b3b5ddf52879618ce6c6956356142b4fb6f7e3f1c413bc73e
replace 42  16:28:47 cf14bcb74223bee3e010a907a745b0dc90d9db5a6c2d2a6b058118b7f742064a
replace 123 16:36:18 71fad175cb5611767d7a4d3ba42f9df10be117142b334c5d18f0a4436009fac2
replace 456 16:43:28 7fa38288a8f385695cb8504725fc2758b9dea28d79494ef6423717bf8336fea7
"""
"""Condition, seed, time of creation (on 28 April 2026, UTC) and digest of the rows of the published
files that were at hand."""


def published_expectation(*, strict: bool = False) -> Expectation:
    """Return what the published forward set must be.

    Args:
        strict: With the three files of the strictly matched shuffle. `zero_replacement`, an
            extra of the same paper, is not part of either set.
    """
    conditions = [ExpectedCondition(condition=name, rows=ROWS) for name in _DETERMINISTIC]
    conditions += [ExpectedCondition(condition=name, seeds=SEEDS, rows=ROWS) for name in _SEEDED]
    if strict:
        conditions.append(
            ExpectedCondition(
                condition=STRICT_CONTROL,
                seeds=SEEDS,
                rows=STRICT_ROWS,
                source_rows=ROWS,
                self_fallback="blocking",
            )
        )
    return Expectation(
        name="the published set with the strict control" if strict else "the published set",
        conditions=tuple(conditions),
        dataset_sha256=CLEAN_EVAL_SHA256,
        decoding=_DECODING,
        row_ids=tuple(f"mh_clean_{index:06d}" for index in range(ROWS)),
        originals=tuple(
            Original(
                condition=condition,
                seed=None if seed == "-" else int(seed),
                created_at=f"2026-04-28T{time}+00:00",
                rows_sha256=sha256,
            )
            for condition, seed, time, sha256 in map(str.split, _KNOWN_FILES.splitlines())
        ),
    )


EXPECTATIONS.add("published")(published_expectation)
EXPECTATIONS.add("published-strict")(partial(published_expectation, strict=True))
