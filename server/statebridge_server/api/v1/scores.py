"""/v1/score: scores of predictions that were made elsewhere."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from statebridge.experiment.conditions import UnknownCondition
from statebridge.records import CellResult, LaneResult
from statebridge.results.service_records import RowScore, Scores
from statebridge.scoring import MEASURES, score_cell, score_conditions
from statebridge.scoring.gold import Gold
from statebridge_server.api.context import Reader, ServerState, parse_json, read_body
from statebridge_server.api.problems import ProblemError

router = APIRouter(prefix="/v1/score", tags=["results"])


class Prediction(BaseModel):
    """One answer of a model."""

    model_config = ConfigDict(extra="forbid", strict=True)

    row_id: Annotated[str, Field(min_length=1, max_length=1000)]
    gold: str
    aliases: list[str] = []
    """Other right answers."""
    prediction: str | None
    condition: Annotated[str, Field(min_length=1, max_length=200)] = "elsewhere"
    seed: int | None = None


class Predictions(BaseModel):
    """Answers to score."""

    model_config = ConfigDict(extra="forbid", strict=True)

    direction: Literal["fwd", "rev"] = "fwd"
    predictions: Annotated[list[Prediction], Field(min_length=1)]


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["predictions"],
                    "properties": {
                        "direction": {"enum": ["fwd", "rev"], "default": "fwd"},
                        "predictions": {
                            "type": "array",
                            "minItems": 1,
                            "items": Prediction.model_json_schema(),
                        },
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


@router.post("", openapi_extra=_BODY)
async def score_predictions(request: Request, server: ServerState, _who: Reader) -> Scores:
    """Score predictions with the measures of a text; nothing is stored."""
    limits = server.settings.limits
    content = await read_body(request, limits.score_bytes, limits.body_seconds)

    def score() -> Scores:
        try:
            sent = Predictions.model_validate(parse_json(content))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise ProblemError(422, f"{where}: {first['msg']}") from None
        if len(sent.predictions) > limits.rows:
            raise ProblemError(422, f"predictions: more than {limits.rows}, this server's limit")
        cells: dict[tuple[str, int | None], CellResult] = {}
        aliases: dict[tuple[str, int | None], dict[str, tuple[str, ...]]] = defaultdict(dict)
        for item in sent.predictions:
            cell = cells.setdefault(
                (item.condition, item.seed),
                CellResult(
                    UnknownCondition(item.condition),
                    item.seed,
                    sent.direction,
                    [],
                    Path("predictions"),
                    aliases=aliases[item.condition, item.seed],
                ),
            )
            cell.lanes.append(LaneResult(item.row_id, item.gold, item.prediction))
            aliases[item.condition, item.seed][item.row_id] = tuple(item.aliases)
        return Scores(
            conditions=score_conditions([score_cell(cell, MEASURES) for cell in cells.values()]),
            rows=[_row_score(item) for item in sent.predictions],
        )

    return await to_thread.run_sync(score, limiter=server.analysis)


def _row_score(item: Prediction) -> RowScore:
    gold = Gold(item.gold, tuple(item.aliases))
    return RowScore(
        row_id=item.row_id,
        condition=item.condition,
        seed=item.seed,
        scores={
            name: None if item.prediction is None else measure.text(item.prediction, gold)
            for name, measure in MEASURES.items()
            if measure.text is not None
        },
    )
