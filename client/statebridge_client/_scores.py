"""Scores as a server sends them, rebuilt as the library's own records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from statebridge_client._call import ANALYSIS_SECONDS, Call, not_statebridge, read_json
from statebridge_client._records import RowScore

if TYPE_CHECKING:
    import httpx

    from statebridge.records import Direction
    from statebridge.scoring import ConditionScore


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of predictions that were made elsewhere."""

    conditions: list[ConditionScore]
    rows: list[RowScore]
    """In the order in which the predictions were sent."""


def score(predictions: Iterable[Mapping[str, Any]], direction: Direction = "fwd") -> Call[Scores]:
    """Score predictions: `row_id`, `gold`, `prediction`, and if wanted `condition` and `seed`."""
    body = {"direction": direction, "predictions": [dict(item) for item in predictions]}
    return Call(
        "POST",
        "/v1/score",
        _scores,
        headers={"Content-Type": "application/json"},
        content=json.dumps(body).encode("ascii"),
        repeatable=True,  # nothing is stored
        read_seconds=ANALYSIS_SECONDS,
    )


def condition_scores_of(response: httpx.Response) -> list[ConditionScore]:
    """Return an answer's `conditions` as the library's records.

    Raises:
        ServerError: The answer is not that of a Statebridge server.
    """
    answer = read_json(response)
    try:
        return [_condition_score(item) for item in answer["conditions"]]
    except (KeyError, TypeError):
        raise not_statebridge(response) from None


def _condition_score(item: Mapping[str, Any]) -> ConditionScore:
    from statebridge.scoring import ConditionScore, SeedMean  # noqa: PLC0415 - with its first use

    return ConditionScore(
        condition=item["condition"],
        direction=item["direction"],
        seeds=tuple(item["seeds"]),
        n_rows=tuple(item["rows"]),
        means={
            name: SeedMean(mean=mean["mean"], sd=mean["sd"], runs=mean["runs"])
            for name, mean in item["means"].items()
        },
        missing_predictions=item["missing_predictions"],
    )


def _scores(response: httpx.Response) -> Scores:
    conditions = condition_scores_of(response)
    try:
        rows = [RowScore.model_validate(item) for item in read_json(response)["rows"]]
    except (KeyError, TypeError, ValueError):
        raise not_statebridge(response) from None
    return Scores(conditions, rows)
