"""/v1/corpora: text to fit translators on, addressed by its SHA-256."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from statebridge.data.text_corpus import TextCorpus
from statebridge.results.service_records import CorpusInfo, CorpusList
from statebridge_server.api import uploads
from statebridge_server.api.context import Reader, Server, ServerState, Submitter, refuse_nul
from statebridge_server.api.problems import ProblemError
from statebridge_server.api.uploads import ExpectedSha256, Sha256
from statebridge_server.api.views import corpus_view
from statebridge_server.store.tables import CorpusHolder
from statebridge_server.store.uploads import held

router = APIRouter(prefix="/v1/corpora", tags=["corpora"])
CorpusName = Annotated[
    str, Query(min_length=1, max_length=255, description="What translators' cards call it.")
]


@router.post("", status_code=201, openapi_extra=uploads.upload_body("text/plain"))
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
            passages=_checked(path, server),
            created_at=time.time(),
        )

    limit = server.settings.limits.corpus_bytes
    return corpus_view(await uploads.take(request, response, server, limit, expected, described))


@router.get("")
def list_corpora(server: ServerState, who: Reader) -> CorpusList:
    """List the corpora that this key has uploaded."""
    found = held(server.database, CorpusHolder, who)
    return CorpusList(corpora=[corpus_view(each) for each in found])


@router.get("/{sha256}")
def get_corpus(sha256: Sha256, server: ServerState, who: Reader) -> CorpusInfo:
    """Describe a corpus that this key has uploaded."""
    return corpus_view(uploads.find(server, CorpusHolder, who, sha256))


@router.delete("/{sha256}", status_code=204)
def delete_corpus(sha256: Sha256, server: ServerState, who: Submitter) -> None:
    """Delete a corpus that this key has uploaded; translators that were fitted on it stay."""
    uploads.remove(server, CorpusHolder, who, sha256)


def _checked(path: Path, server: Server) -> int:
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
