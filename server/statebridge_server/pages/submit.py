"""Submitting from the browser: an experiment file, its check, and the queue.

The server's own check comes while somebody types. On `Check`, the doctor answers as well, in a
process of its own. Nothing is queued before the answer to that very text was shown: the form brings
back its SHA-256, and a word of its own, so that a form sent twice queues one experiment.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from statebridge.errors import ExperimentError, Mistake
from statebridge.experiment import CONDITIONS, PRESETS, experiment_cells
from statebridge.experiment.experiment import Experiment
from statebridge.experiment.reading.files import check_fields
from statebridge.experiment.reading.mistakes import as_written
from statebridge.experiment.reading.yaml_text import Lines, read_yaml
from statebridge.pages import SECURITY_HEADERS
from statebridge.results.service_records import DoctorAnswer
from statebridge_server.api.context import Server, ServerState
from statebridge_server.api.problems import ProblemError
from statebridge_server.api.v1.doctor import ask_doctor
from statebridge_server.api.v1.experiments import queue_experiment
from statebridge_server.api.v1.pairs import pair_views, seen_worker
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
    line: int | None = None
    """Line of the text that it is about, from 1."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a text: what the server found, and what the doctor did, once asked."""

    text: str = ""
    checks: Sequence[Check] = ()
    doctor: DoctorAnswer | None = None
    silent: str | None = None
    """Why the doctor gave no answer, where it was asked."""

    @property
    def passed(self) -> bool:
        """Whether the server's own check found nothing wrong."""
        return bool(self.checks) and all(check.ready for check in self.checks)

    @property
    def may_queue(self) -> bool:
        """Whether the text may be queued; where the doctor is silent, that is the user's choice."""
        found = self.silent is not None if self.doctor is None else self.doctor.ready
        return self.passed and found

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode("utf-8", "replace")).hexdigest()

    @property
    def once(self) -> str:
        """A word for the form that queues the text."""
        return secrets.token_hex(8)


@router.get("/submit")
async def submit_page(server: ServerState, who: Submitter) -> Response:
    """Show the editor, with an example for the first pair."""
    return await _editor(server, who, {"experiment": _example(server)}, Answer())


@router.get("/submit/schema.json")
async def schema(server: ServerState, who: Submitter) -> JSONResponse:
    """Return the JSON Schema of an experiment, and the names that this server has for fields."""
    translators = await to_thread.run_sync(visible_translators, server.database, who)
    uploads = await to_thread.run_sync(held, server.database, DatasetHolder, who)
    pairs = server.settings.pairs.values()
    names = {
        "sender.model": [pair.sender.public_name for pair in pairs],
        "receiver.model": [pair.receiver.public_name for pair in pairs],
        "dataset.sha256": [each.holder.sha256 for each in uploads],
        "conditions": [*PRESETS, *CONDITIONS],
        "conditions.[]": [*PRESETS, *CONDITIONS],
        "translators.*": [each.id for each in translators],
    }
    return JSONResponse({"schema": _SCHEMA, "names": names}, headers=dict(SECURITY_HEADERS))


@router.post("/submit")
async def submit(request: Request, server: ServerState, who: Submitter) -> Response:
    """Check what the editor holds; queue it if the answer to this text was shown."""
    fields = await _fields(request, server)
    if fields.get("do") != "queue":
        return await _editor(server, who, fields, await _asked(request, server, who, fields))
    answer, _ = await to_thread.run_sync(check_text, server, who, fields.get("experiment", ""))
    if not answer.passed or fields.get("checked") != answer.digest:
        return await _editor(server, who, fields, answer)
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
        full = Check("queue", False, str(error))
        return await _editor(server, who, fields, replace(answer, checks=[*answer.checks, full]))
    return see_other(f"/experiments/{job.id}")


@router.post("/submit/check")
async def check_part(request: Request, server: ServerState, who: Submitter) -> Response:
    """Return the server's own check alone, while somebody types."""
    fields = await _fields(request, server)
    answer, _ = await to_thread.run_sync(check_text, server, who, fields.get("experiment", ""))
    return fragment("submit_check", answer=answer)


@router.post("/submit/doctor")
async def doctor_part(request: Request, server: ServerState, who: Submitter) -> Response:
    """Return the whole answer, the doctor's with it."""
    fields = await _fields(request, server)
    return fragment("submit_check", answer=await _asked(request, server, who, fields))


async def _asked(
    request: Request, server: Server, who: Principal, fields: dict[str, str]
) -> Answer:
    """Return the answer to a text; the doctor is asked if the server found nothing wrong."""
    text = fields.get("experiment", "")
    answer, checked = await to_thread.run_sync(check_text, server, who, text)
    if checked is None or not answer.passed:
        return answer
    try:
        return replace(answer, doctor=await ask_doctor(request, server, who, checked))
    except ExperimentError as error:
        return replace(answer, checks=[*answer.checks, Check("doctor", False, str(error))])
    except ProblemError as error:
        return replace(answer, silent=error.detail)


async def _fields(request: Request, server: Server) -> dict[str, str]:
    limit = FORM_OVERHEAD * server.settings.limits.body_bytes
    fields = await form_fields(request, server, limit)
    # A form ends its lines with CR LF, the script with LF: the same text either way.
    return {name: value.replace("\r\n", "\n") for name, value in fields.items()}


async def _editor(
    server: Server, who: Principal, fields: dict[str, str], answer: Answer
) -> Response:
    def found() -> dict[str, Any]:
        return {
            "pairs": pair_views(server, seen_worker(server)),
            "datasets": [each.holder for each in held(server.database, DatasetHolder, who)],
            "translators": visible_translators(server.database, who)[:20],
        }

    named = await to_thread.run_sync(found)
    failed = any(not check.ready for check in answer.checks)
    return page(
        who,
        "submit",
        "Submit",
        422 if failed else 200,
        text=fields.get("experiment", ""),
        shared=fields.get("shared") == "yes",
        priority=_priority(fields),
        fields=_FIELDS,
        answer=answer,
        **named,
    )


def _priority(fields: dict[str, str]) -> int:
    try:
        return max(-100, min(100, int(fields.get("priority", "0"))))
    except ValueError:
        return 0


def check_text(server: Server, who: Principal, text: str) -> tuple[Answer, Submission | None]:
    """Check an experiment as a submission is checked; return what it would run, if it is right."""
    body: Any = None
    lines: Lines = {}
    try:
        body, lines = read_yaml(text, "experiment")
        checked = check_submission(body, server.settings, server.database, who, lines)
    except ExperimentError as error:
        wrong = [
            Check(each.field or "the text", False, each.problem, each.line)
            for each in _mistakes(error, body, lines)
        ]
        return Answer(text, wrong), None
    experiment = checked.experiment
    found = [
        Check("experiment", True, f"{experiment.name}: every field is right"),
        _pair_check(server, checked),
        Check("cells", True, _cells(experiment)),
        Check("lanes", True, f"at most {checked.lanes:,}: a row in a cell each"),
    ]
    return Answer(text, found), checked


def _mistakes(refused: ExperimentError, body: Any, lines: Lines) -> list[Mistake]:
    """Return all mistakes of a refused text, each with its line."""
    if refused.mistakes:
        return list(refused.mistakes)
    # A reference, the pair or a limit; the fields themselves may be wrong as well.
    found: list[Mistake] = []
    try:
        check_fields(body if isinstance(body, dict) else {}, lines=lines)
    except ExperimentError as error:
        # References are read as files here, and would be refused as such.
        found = [each for each in error.mistakes if _section(each.field) not in _REFERENCES]
    field, _, problem = str(refused).partition(": ")
    if _section(field) not in map(_section, (each.field for each in found)):
        _, line = as_written(tuple(field.partition(",")[0].split(".")), lines)
        found.insert(0, Mistake(line, field, problem))
    return found


_REFERENCES = frozenset({"dataset", "translators"})


def _section(field: str) -> str:
    return field.partition(",")[0].partition(".")[0]


def _pair_check(server: Server, checked: Submission) -> Check:
    views = pair_views(server, seen_worker(server))
    pair = next(view for view in views if view.name == checked.pair)
    named = f"{pair.name}: {pair.sender} to {pair.receiver}, {pair.state}"
    return Check("pair", pair.state != "failed", f"{named}: {pair.error}" if pair.error else named)


def _cells(experiment: Experiment) -> str:
    cells = experiment_cells(experiment)
    names = dict.fromkeys(cell.condition.name for cell in cells)
    return f"{len(cells)}: {', '.join(names)}; seeds {', '.join(map(str, experiment.seeds))}"


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


def _server_schema() -> dict[str, Any]:
    """Return the JSON Schema without the fields that are the operator's to choose."""
    schema = Experiment.model_json_schema()
    for field in ("remote", "layer_search"):
        del schema["properties"][field]
    return schema


_SCHEMA = _server_schema()
_FIELDS = [
    {
        "name": name,
        "required": name in _SCHEMA["required"],
        "what": declared.get("description", ""),
    }
    for name, declared in _SCHEMA["properties"].items()
]
