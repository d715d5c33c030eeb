"""/v1/translators: upload, list, card, download, delete. Fitting is part of an experiment."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as PathParameter
from starlette.responses import FileResponse

from statebridge.results.service_records import TranslatorInfo, TranslatorList
from statebridge_server.api.context import Reader, Server, ServerState, Submitter, refuse_nul
from statebridge_server.api.problems import ProblemError, not_found
from statebridge_server.api.v1.uploads import receive
from statebridge_server.api.v1.views import translator_view
from statebridge_server.layout import translator_path
from statebridge_server.store import translators as store
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import Translator
from statebridge_server.translator_check import read_card

router = APIRouter(prefix="/v1/translators", tags=["translators"])
TranslatorId = Annotated[str, PathParameter(max_length=64, description="`tr_...`")]
_ID = re.compile(r"tr_[0-9a-f]{20}")

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("", status_code=201, openapi_extra=_BODY)
async def upload_translator(
    request: Request,
    response: Response,
    server: ServerState,
    who: Submitter,
    name: Annotated[str, Query(min_length=1, max_length=200)] = "uploaded",
    shared: bool = False,
) -> TranslatorInfo:
    """Upload a translator that Statebridge wrote, as safetensors. Pickles are refused."""
    refuse_nul(name, "name")
    path, sha256, size = await receive(request, server, server.settings.limits.upload_bytes)

    def keep() -> Translator:
        try:
            card = read_card(path)
            translator = Translator(
                id=store.new_translator_id(),
                owner=who.key_id,
                name=name,
                shared=shared,
                sha256=sha256,
                bytes=size,
                card=card,
                created_at=time.time(),
            )
            path.replace(server.settings.data / translator_path(translator.id))
            store.add_translator(server.database, translator)
            return translator
        finally:
            path.unlink(missing_ok=True)

    translator = await to_thread.run_sync(keep, limiter=server.analysis)
    response.headers["Location"] = f"/v1/translators/{translator.id}"
    return translator_view(translator, who)


@router.get("")
def list_translators(server: ServerState, who: Reader) -> TranslatorList:
    """List the translators that this key may use."""
    found = store.visible_translators(server.database, who)
    return TranslatorList(translators=[translator_view(item, who) for item in found])


@router.get("/{translator_id}")
def get_translator(translator_id: TranslatorId, server: ServerState, who: Reader) -> TranslatorInfo:
    """Describe a translator."""
    return translator_view(_find(server, who, translator_id), who)


@router.get("/{translator_id}/card")
def get_card(translator_id: TranslatorId, server: ServerState, who: Reader) -> dict[str, Any]:
    """Return its card: models, layers, corpus, training record, quality."""
    return dict(_find(server, who, translator_id).card)


@router.get(
    "/{translator_id}/file",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {}}, "description": "Weights."}},
)
def download_translator(
    translator_id: TranslatorId, server: ServerState, who: Reader
) -> FileResponse:
    """Download its weights as safetensors."""
    found = _find(server, who, translator_id)
    return FileResponse(
        server.settings.data / translator_path(found.id),
        media_type="application/octet-stream",
        filename=f"{found.id}.safetensors",
    )


@router.delete("/{translator_id}", status_code=204)
def delete_translator(translator_id: TranslatorId, server: ServerState, who: Submitter) -> None:
    """Delete a translator; rows made with it stay."""
    found = _find(server, who, translator_id)
    if found.owner != who.key_id and not who.may("admin"):
        raise ProblemError(403, "this translator is shared with you; it is not yours to delete")
    store.remove_translator(server.database, found.id)
    path = server.settings.data / translator_path(found.id)
    for file in (path, path.with_suffix(".json")):
        file.unlink(missing_ok=True)


def _find(server: Server, who: Principal, translator_id: str) -> Translator:
    found = None
    if _ID.fullmatch(translator_id):
        found = store.visible_translator(server.database, who, translator_id)
    if found is None:
        raise not_found("translator")
    return found
