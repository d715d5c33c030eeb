"""Calls about experiments and their results."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from statebridge.errors import ExperimentError, ResultError
from statebridge_client._call import (
    ANALYSIS_SECONDS,
    Call,
    model_of,
    not_statebridge,
    read_bytes,
    read_json,
    read_nothing,
    resource,
)
from statebridge_client._records import ExperimentStatus
from statebridge_client._scores import condition_scores_of

if TYPE_CHECKING:
    import httpx

    from statebridge.scoring import ConditionScore
    from statebridge.stats import Comparison, Mode

ExportFormat = Literal["published", "parquet", "csv", "latex", "markdown"]
RunFile = Literal[
    "manifest.json",
    "dataset.jsonl",
    "sessions.jsonl",
    "sender_checks.json",
    "positive_control.manifest.json",
    "positive_control.dataset.jsonl",
    "positive_control.rows.jsonl",
    "taught_pair.manifest.json",
    "taught_pair.dataset.jsonl",
    "taught_pair.rows.jsonl",
]

PAGE = 10_000
"""Rows asked for at a time: some ten megabytes."""

_status = model_of(ExperimentStatus)


def submit(
    body: dict[str, Any], idempotency_key: str, *, priority: int, shared: bool
) -> Call[ExperimentStatus]:
    """Queue an experiment; the key makes sending it again harmless."""
    return Call(
        "POST",
        "/v1/experiments",
        _status,
        params={"priority": priority, "shared": shared},
        headers={"Content-Type": "application/json", "Idempotency-Key": idempotency_key},
        content=json.dumps(body, allow_nan=False).encode("ascii"),
        repeatable=True,
        refused=ExperimentError,
    )


def get(experiment_id: str) -> Call[ExperimentStatus]:
    """Ask how an experiment stands."""
    return Call("GET", _path(experiment_id), _status, repeatable=True)


def list_page(
    states: Sequence[str], before: str | None, limit: int
) -> Call[tuple[list[ExperimentStatus], str | None]]:
    """List experiments, newest first; with the `before` of the page that follows."""
    return Call(
        "GET",
        "/v1/experiments",
        _page,
        params={"state": list(states), "before": before, "limit": limit},
        repeatable=True,
    )


def cancel(experiment_id: str) -> Call[ExperimentStatus]:
    """Cancel: at once where it waits, after its group where it runs."""
    return Call("POST", _path(experiment_id, "cancel"), _status)


def resume(experiment_id: str) -> Call[ExperimentStatus]:
    """Queue a failed or cancelled experiment again."""
    return Call("POST", _path(experiment_id, "resume"), _status)


def delete(experiment_id: str) -> Call[None]:
    """Delete an ended experiment with its rows."""
    return Call("DELETE", _path(experiment_id), read_nothing, repeatable=True)


@dataclass(frozen=True, slots=True)
class RowPage:
    """Committed rows as they stand in the run directory, and where the next ones begin."""

    content: bytes
    next_after: int
    committed: int


def rows(experiment_id: str, after: int) -> Call[RowPage]:
    """Ask for committed rows after the first `after` of them."""
    return Call(
        "GET",
        _path(experiment_id, "rows"),
        _row_page,
        params={"after": after, "limit": PAGE},
        repeatable=True,
        refused=ResultError,
    )


def run_file(experiment_id: str, name: RunFile) -> Call[bytes]:
    """Ask for a file of the run directory."""
    return _result(_path(experiment_id, "files", name), read_bytes)


def summary(experiment_id: str) -> Call[list[ConditionScore]]:
    """Ask for the scores of the committed rows."""
    return _result(_path(experiment_id, "summary"), condition_scores_of)


def comparison(
    experiment_id: str,
    baselines: Sequence[str] | None,
    metrics: Sequence[str] | None,
    mode: Mode,
    by: Sequence[str],
    margins: Sequence[float] | None,
) -> Call[Comparison]:
    """Ask for the conditions compared with baselines."""
    from statebridge.stats import Comparison  # noqa: PLC0415 - scipy is slow to load

    return _result(
        _path(experiment_id, "comparison"),
        model_of(Comparison),
        baseline=baselines,
        metric=metrics,
        mode=mode,
        by=list(by),
        margin=margins,
    )


def report(experiment_id: str) -> Call[bytes]:
    """Ask for the report as one HTML page."""
    return _result(_path(experiment_id, "report"), read_bytes)


def export(experiment_id: str, format: ExportFormat) -> Call[dict[str, bytes]]:
    """Ask for result files; they come as content by name."""
    return _result(_path(experiment_id, "export"), _unzipped, format=format)


def _result(path: str, parse: Any, **params: Any) -> Call[Any]:
    return Call(
        "GET",
        path,
        parse,
        params=params,
        repeatable=True,
        refused=ResultError,
        read_seconds=ANALYSIS_SECONDS,
    )


def _path(experiment_id: str, *parts: str) -> str:
    return resource("experiments", experiment_id, *parts)


def _page(response: httpx.Response) -> tuple[list[ExperimentStatus], str | None]:
    answer = read_json(response)
    try:
        found = [ExperimentStatus.model_validate(item) for item in answer["experiments"]]
        return found, answer["next_before"]
    except (KeyError, TypeError, ValueError):
        raise not_statebridge(response) from None


def _row_page(response: httpx.Response) -> RowPage:
    try:
        next_after = int(response.headers["statebridge-next-after"])
        committed = int(response.headers["statebridge-committed-rows"])
    except (KeyError, ValueError):
        raise not_statebridge(response) from None
    return RowPage(response.content, next_after, committed)


def _unzipped(response: httpx.Response) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
    except zipfile.BadZipFile:
        raise not_statebridge(response) from None
    # A name with a folder in it could be written anywhere.
    if any(not name or "/" in name or "\\" in name or name.startswith(".") for name in files):
        raise not_statebridge(response)
    return files
