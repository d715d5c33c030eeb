"""/v1/datasets and /v1/corpora: rows and texts, addressed by their SHA-256."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from statebridge.data import FieldMap, iter_jsonl
from statebridge.data.text_corpus import TextCorpus
from statebridge.errors import DatasetError
from statebridge.results.service_records import CorpusInfo, CorpusList, DatasetInfo, DatasetList
from statebridge.scoring.harness import holds_patterns
from statebridge_server.api.context import Reader, Server, ServerState, Submitter, refuse_nul
from statebridge_server.api.problems import ProblemError
from statebridge_server.api.v1 import uploads
from statebridge_server.api.v1.uploads import ExpectedSha256, Sha256
from statebridge_server.api.v1.views import corpus_view, dataset_view
from statebridge_server.store.tables import CorpusHolder, DatasetHolder
from statebridge_server.store.uploads import held

datasets = APIRouter(prefix="/v1/datasets", tags=["datasets"])
FieldName = Annotated[str | None, Query(min_length=1, max_length=200)]
corpora = APIRouter(prefix="/v1/corpora", tags=["corpora"])
CorpusName = Annotated[
    str, Query(min_length=1, max_length=255, description="What translators' cards call it.")
]


async def named_fields(
    id: FieldName = None,
    context: FieldName = None,
    question: FieldName = None,
    answer: FieldName = None,
) -> FieldMap:
    """Return which fields hold what, where the query names others than the usual ones."""
    given = {"id": id, "context": context, "question": question, "answer": answer}
    return FieldMap(**{name: value for name, value in given.items() if value is not None})


@datasets.post("", status_code=201, openapi_extra=uploads.upload_body("application/jsonl"))
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
        rows, longest = _checked_rows(path, fields, server)
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


@datasets.get("")
def list_datasets(server: ServerState, who: Reader) -> DatasetList:
    """List the datasets that this key has uploaded."""
    found = held(server.database, DatasetHolder, who)
    return DatasetList(datasets=[dataset_view(each) for each in found])


@datasets.get("/{sha256}")
def get_dataset(sha256: Sha256, server: ServerState, who: Reader) -> DatasetInfo:
    """Describe a dataset that this key has uploaded."""
    return dataset_view(uploads.find(server, DatasetHolder, who, sha256))


@datasets.delete("/{sha256}", status_code=204)
def delete_dataset(sha256: Sha256, server: ServerState, who: Submitter) -> None:
    """Delete a dataset that this key has uploaded; runs keep the rows that they ran over."""
    uploads.remove(server, DatasetHolder, who, sha256)


def _checked_rows(path: Path, fields: FieldMap, server: Server) -> tuple[int, int]:
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
        try:
            patterns = holds_patterns(row)
        except DatasetError as error:
            raise DatasetError(f"row {rows}: {error}") from None
        if patterns:
            raise ProblemError(
                422,
                f"row {rows}: its scoring_settings hold regular expressions, which a server does "
                "not run for others; leave them out, or run where the models are",
            )
    return rows, longest


@corpora.post("", status_code=201, openapi_extra=uploads.upload_body("text/plain"))
async def upload_corpus(
    request: Request,
    response: Response,
    server: ServerState,
    who: Submitter,
    name: CorpusName = "corpus.txt",
    expected: ExpectedSha256 = None,
) -> CorpusInfo:
    """Upload a text to fit translators on, UTF-8, one passage a line; all of it is checked."""
    refuse_nul(name, "name")

    def described(path: Path, sha256: str) -> CorpusHolder:
        return CorpusHolder(
            sha256=sha256,
            owner=who.key_id,
            name=name,
            passages=_checked_passages(path, server),
            created_at=time.time(),
        )

    limit = server.settings.limits.corpus_bytes
    return corpus_view(await uploads.take(request, response, server, limit, expected, described))


@corpora.get("")
def list_corpora(server: ServerState, who: Reader) -> CorpusList:
    """List the corpora that this key has uploaded."""
    found = held(server.database, CorpusHolder, who)
    return CorpusList(corpora=[corpus_view(each) for each in found])


@corpora.get("/{sha256}")
def get_corpus(sha256: Sha256, server: ServerState, who: Reader) -> CorpusInfo:
    """Describe a corpus that this key has uploaded."""
    return corpus_view(uploads.find(server, CorpusHolder, who, sha256))


@corpora.delete("/{sha256}", status_code=204)
def delete_corpus(sha256: Sha256, server: ServerState, who: Submitter) -> None:
    """Delete a corpus that this key has uploaded; translators that were fitted on it stay."""
    uploads.remove(server, CorpusHolder, who, sha256)


def _checked_passages(path: Path, server: Server) -> int:
    """Return the number of passages.

    Raises:
        InputError: It is not UTF-8, with the line, or holds no passage.
        ProblemError: 422 for a passage beyond a limit.
    """
    longest = server.settings.limits.prompt_chars
    passages = 0
    # A character takes four bytes at most; beside a passage there may be white space.
    for passage in TextCorpus(path, longest_line=4 * longest + 1000):
        passages += 1
        if len(passage) > longest:
            raise ProblemError(
                422, f"passage {passages}: more than {longest} characters, this server's limit"
            )
    return passages
