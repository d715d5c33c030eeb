"""Submitting from the browser: an experiment file, its check, and the queue.

Nothing is queued before the check of that very text was shown: the form brings back the SHA-256 of
the text that passed, and a word of its own, so that a form sent twice queues one experiment.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from statebridge.errors import ExperimentError
from statebridge.experiment import experiment_cells
from statebridge.experiment.experiment import Experiment, Fit
from statebridge.experiment.reading.yaml_text import read_yaml
from statebridge_server.api.context import Server, ServerState
from statebridge_server.api.problems import ProblemError
from statebridge_server.api.v1.experiments import queue_experiment
from statebridge_server.api.v1.pairs import pair_views, seen_workers
from statebridge_server.pages.frame import fragment, page, see_other
from statebridge_server.pages.session import Submitter, form_fields
from statebridge_server.store.jobs import IdempotencyConflictError, QueueFullError
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import DatasetHolder
from statebridge_server.store.translators import visible_translators
from statebridge_server.store.uploads import held
from statebridge_server.submission import Submission, check_submission

router = APIRouter()

FORM_OVERHEAD = 3
"""Characters of a form for each of its text, at most: `%0A` for a line end."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the check of a submission found."""

    what: str
    ready: bool
    detail: str


@router.get("/submit")
async def submit_page(server: ServerState, who: Submitter) -> Response:
    """Show the editor, with an example for the first pair."""
    return await _editor(server, who, {"experiment": _example(server)}, ())


@router.post("/submit")
async def submit(request: Request, server: ServerState, who: Submitter) -> Response:
    """Check what the editor holds; queue it if this text passed the check that was shown."""
    fields = await _fields(request, server)
    checks = await to_thread.run_sync(check_text, server, who, fields.get("experiment", ""))
    passed = all(check.ready for check in checks)
    if passed and fields.get("do") == "queue" and fields.get("checked") == _digest(fields):
        try:
            job, _ = await to_thread.run_sync(
                queue_experiment,
                server,
                who,
                read_yaml(fields["experiment"], "experiment")[0],
                _priority(fields),
                fields.get("shared") == "yes",
                f"page-{fields.get('once', '')[:40]}",
            )
        except (QueueFullError, IdempotencyConflictError, ProblemError) as error:
            checks = [*checks, Check("queue", False, str(error))]
        else:
            return see_other(f"/experiments/{job.id}")
    return await _editor(server, who, fields, checks)


@router.post("/submit/check")
async def check_part(request: Request, server: ServerState, who: Submitter) -> Response:
    """Return the check alone, while somebody types."""
    fields = await _fields(request, server)
    checks = await to_thread.run_sync(check_text, server, who, fields.get("experiment", ""))
    return fragment("submit_check", **_answer(fields, checks))


async def _fields(request: Request, server: Server) -> dict[str, str]:
    limit = FORM_OVERHEAD * server.settings.limits.body_bytes
    fields = await form_fields(request, server, limit)
    # A form ends its lines with CR LF, the script with LF: the same text either way.
    return {name: value.replace("\r\n", "\n") for name, value in fields.items()}


async def _editor(server: Server, who: Principal, fields: dict[str, str], checks: Any) -> Response:
    def found() -> dict[str, Any]:
        return {
            "pairs": pair_views(server, seen_workers(server)),
            "datasets": [each.holder for each in held(server.database, DatasetHolder, who)],
            "translators": visible_translators(server.database, who)[:20],
        }

    named = await to_thread.run_sync(found)
    failed = any(not check.ready for check in checks)
    return page(
        who,
        "submit",
        "Submit",
        422 if failed else 200,
        text=fields.get("experiment", ""),
        shared=fields.get("shared") == "yes",
        priority=_priority(fields),
        fields=_SCHEMA,
        **_answer(fields, checks),
        **named,
    )


def _answer(fields: dict[str, str], checks: Any) -> dict[str, Any]:
    passed = bool(checks) and all(check.ready for check in checks)
    once = secrets.token_hex(8) if passed else ""
    return {"checks": checks, "once": once, "checked": _digest(fields)}


def _digest(fields: dict[str, str]) -> str:
    return hashlib.sha256(fields.get("experiment", "").encode("utf-8", "replace")).hexdigest()


def _priority(fields: dict[str, str]) -> int:
    try:
        return max(-100, min(100, int(fields.get("priority", "0"))))
    except ValueError:
        return 0


def check_text(server: Server, who: Principal, text: str) -> list[Check]:
    """Check an experiment as a submission would be, and state what it would run.

    No model is loaded: that a layer exists and that prompts fit is found by the worker.
    """
    try:
        body, _ = read_yaml(text, "experiment")
        checked = check_submission(body, server.settings, server.database, who)
    except ExperimentError as error:
        return [Check("experiment", False, str(error))]
    experiment = checked.experiment
    return [
        Check("experiment", True, f"{experiment.name}: every field is right"),
        _pair_check(server, checked),
        Check("cells", True, _cells(experiment)),
        Check("lanes", True, f"at most {checked.lanes:,}: a row in a cell each"),
        *_translator_checks(experiment),
    ]


def _pair_check(server: Server, checked: Submission) -> Check:
    views = pair_views(server, seen_workers(server))
    pair = next(view for view in views if view.name == checked.pair)
    named = f"{pair.name}: {pair.sender} to {pair.receiver}, {pair.state}"
    return Check("pair", pair.state != "failed", f"{named}: {pair.error}" if pair.error else named)


def _cells(experiment: Experiment) -> str:
    cells = experiment_cells(experiment)
    names = dict.fromkeys(cell.condition.name for cell in cells)
    return f"{len(cells)}: {', '.join(names)}; seeds {', '.join(map(str, experiment.seeds))}"


def _translator_checks(experiment: Experiment) -> list[Check]:
    found = []
    for name, translators in experiment.translator_sets.items():
        how = (
            f"{translators.kind}, fitted first, one for each seed"
            if isinstance(translators, Fit)
            else f"given for seeds {', '.join(map(str, translators))}"
        )
        found.append(Check(f"translators {name}".strip(), True, how))
    return found


def _example(server: Server) -> str:
    """Return a small experiment over the first pair, to begin with."""
    pair = next(iter(server.settings.pairs.values()), None)
    sender = "MODEL" if pair is None else pair.sender.public_name
    receiver = "MODEL" if pair is None else pair.receiver.public_name
    return (
        "name: first\n"
        f"sender: {{model: {sender}, layer: 0.67}}\n"
        f"receiver: {{model: {receiver}, layer: 0.67}}\n"
        "dataset: {generate: {rows: 20, seed: 1}}\n"
        "translators:\n"
        "  fit: {kind: ridge, corpus: {generate: {rows: 200, seed: 2}}}\n"
        "conditions: published-strict\n"
        "seeds: [42]\n"
        "decoding: {max_new_tokens: 16}\n"
    )


def _schema_fields() -> list[dict[str, Any]]:
    schema = Experiment.model_json_schema()
    needed = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "required": name in needed,
            "what": declared.get("description", ""),
        }
        for name, declared in schema["properties"].items()
    ]


_SCHEMA = _schema_fields()
