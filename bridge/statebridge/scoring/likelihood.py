"""Measures of what the receiver would write, worked out from recorded log-probabilities.

A log-probability of a longer answer is lower whatever the receiver knows, so beside the sum there
is the mean over tokens and over bytes. A row with wrong options is answered by the most probable
one.
"""

from __future__ import annotations

from collections.abc import Callable

from statebridge.records import LaneResult


def gold_logprob_per_token(row: LaneResult) -> float | None:
    """Return the mean log-probability of the gold answer's tokens, in nats."""
    if row.gold_logprob is None or not row.gold_token_count:
        return None
    return row.gold_logprob / row.gold_token_count


def gold_logprob_per_byte(row: LaneResult) -> float | None:
    """Return the gold answer's log-probability over the bytes of its text, in nats.

    Bytes are those of UTF-8, without the space before the answer; they do not depend on the
    tokenizer. Divided by -ln 2 it is the bits per byte of lm-evaluation-harness.

    Examples:
        >>> gold_logprob_per_byte(LaneResult("a", "Rome", None, gold_logprob=-2.0))
        -0.5
    """
    return None if row.gold_logprob is None else row.gold_logprob / _bytes(row.gold)


def gold_logprob_ended(row: LaneResult) -> float | None:
    """Return the log-probability, in nats, that the gold answer follows and ends there.

    Without the end term "New" has the probability of "New York" in it. None where the end was
    not measured (`likelihoods.end`).
    """
    if row.gold_logprob is None or row.gold_end_logprob is None:
        return None
    return row.gold_logprob + row.gold_end_logprob


def choice_acc(row: LaneResult) -> bool | None:
    """Whether the gold answer is more probable than every wrong option.

    `acc` of a multiple choice in lm-evaluation-harness, and the score of MMLU (arXiv 2009.03300).
    A tie counts against the answer. None where options were not measured
    (`likelihoods.options`) or the row has none.

    Examples:
        >>> row = LaneResult("a", "B", None, gold_logprob=-1.0, option_logprobs={"A": -2.0})
        >>> choice_acc(row)
        True
    """
    return _chosen(row, lambda _: 1)


def choice_acc_norm(row: LaneResult) -> bool | None:
    """Whether the gold answer has the highest log-probability per byte.

    `acc_norm` of lm-evaluation-harness, with UTF-8 bytes as the length.
    """
    return _chosen(row, _bytes)


def _chosen(row: LaneResult, length: Callable[[str], int]) -> bool | None:
    if row.gold_logprob is None or not row.option_logprobs:
        return None
    own = row.gold_logprob / length(row.gold)
    return all(own > value / length(text) for text, value in row.option_logprobs.items())


def _bytes(text: str) -> int:
    return len(text.strip().encode())
