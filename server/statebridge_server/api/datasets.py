"""/v1/datasets: rows as JSON Lines, addressed by their SHA-256."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from statebridge.data import FieldMap, iter_jsonl
from statebridge.results.service_records import DatasetInfo, DatasetList
from statebridge_server.api import uploads
from statebridge_server.api.context import Reader, Server, ServerState, Submitter
from statebridge_server.api.problems import ProblemError
from statebridge_server.api.uploads import ExpectedSha256, Sha256
from statebridge_server.api.views import dataset_view
from statebridge_server.store.tables import DatasetHolder
from statebridge_server.store.uploads import held

router = APIRouter(prefix="/v1/datasets", tags=["datasets"])
FieldName = Annotated[str | None, Query(min_length=1, max_length=200)]


async def named_fields(
    id: FieldName = None,
    context: FieldName = None,
    question: FieldName = None,
    answer: FieldName = None,
) -> FieldMap:
    """Return which fields hold what, where the query names others than the usual ones."""
    given = {"id": id, "context": context, "question": question, "answer": answer}
    return FieldMap(**{name: value for name, value in given.items() if value is not None})


@router.post("", status_code=201, openapi_extra=uploads.upload_body("application/jsonl"))
async def upload_dataset(
    request: Request,
    response: Response,
    server: ServerState,
    who: Submitter,
    fields: Annotated[FieldMap, Depends(named_fields)],
    expected: ExpectedSha256 = None,
) -> DatasetInfo:
    """Upload rows, one JSON object a line; every row is checked before it is taken.

    `id`, `context`, `question` and `answer` name the fields that hold them, where they have
    other names.
    """

    def described(path: Path, sha256: str) -> DatasetHolder:
        rows, longest = _checked(path, fields, server)
        return DatasetHolder(
            sha256=sha256,
            owner=who.key_id,
            fields={
                "id": fields.id,
                "context": fields.context,
                "question": fields.question,
                "answer": fields.answer,
            },
            rows=rows,
            longest=longest,
            created_at=time.time(),
        )

    limit = server.settings.limits.upload_bytes
    return dataset_view(await uploads.take(request, response, server, limit, expected, described))


@router.get("")
def list_datasets(server: ServerState, who: Reader) -> DatasetList:
    """List the datasets that this key has uploaded."""
    found = held(server.database, DatasetHolder, who)
    return DatasetList(datasets=[dataset_view(each) for each in found])


@router.get("/{sha256}")
def get_dataset(sha256: Sha256, server: ServerState, who: Reader) -> DatasetInfo:
    """Describe a dataset that this key has uploaded."""
    return dataset_view(uploads.find(server, DatasetHolder, who, sha256))


@router.delete("/{sha256}", status_code=204)
def delete_dataset(sha256: Sha256, server: ServerState, who: Submitter) -> None:
    """Delete a dataset that this key has uploaded; runs keep the rows that they ran over."""
    uploads.remove(server, DatasetHolder, who, sha256)


def _checked(path: Path, fields: FieldMap, server: Server) -> tuple[int, int]:
    """Return the number of rows and the length of the longest.

    Raises:
        DatasetError: A row is wrong; its line is named.
        ProblemError: 422, with the row, for what is beyond a limit.
    """
    limits = server.settings.limits
    rows = longest = 0
    for row in iter_jsonl(path, fields):
        rows += 1
        chars = len(row.context) + len(row.question)
        longest = max(longest, chars, len(row.answer))
        if rows > limits.rows:
            raise ProblemError(422, f"more than {limits.rows} rows, this server's limit")
        if longest > limits.prompt_chars:
            raise ProblemError(
                422,
                f"row {rows}: context and question, or the answer, have more than "
                f"{limits.prompt_chars} characters, this server's limit",
            )
    return rows, longest
