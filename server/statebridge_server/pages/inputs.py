"""Pairs, translators with their cards, and datasets."""

from __future__ import annotations

import json
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from statebridge.data import FieldMap
from statebridge.tables import Column, Table
from statebridge_server.api.context import Server, ServerState
from statebridge_server.api.v1 import inputs as v1
from statebridge_server.api.v1 import translators as v1_translators
from statebridge_server.api.v1.pairs import pair_views, seen_worker
from statebridge_server.api.v1.translators import TranslatorId
from statebridge_server.api.v1.views import corpus_view, dataset_view, translator_view
from statebridge_server.pages.frame import page
from statebridge_server.pages.session import Submitter, Visitor
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import CorpusHolder, DatasetHolder
from statebridge_server.store.translators import visible_translators
from statebridge_server.store.uploads import held

router = APIRouter()


@router.get("/pairs")
async def pairs_page(server: ServerState, who: Visitor) -> Response:
    """Show the pairs of this server."""

    def found() -> Any:
        return pair_views(server, seen_worker(server))

    return page(who, "pairs", "Pairs", pairs=await to_thread.run_sync(found))


@router.get("/translators")
async def translators_page(server: ServerState, who: Visitor) -> Response:
    """List the translators that the key may use."""

    def found() -> Any:
        return [translator_view(each, who) for each in visible_translators(server.database, who)]

    return page(who, "translators", "Translators", translators=await to_thread.run_sync(found))


@router.get("/translators/{translator_id}")
def translator_page(translator_id: TranslatorId, server: ServerState, who: Visitor) -> Response:
    """Show one translator: what it maps, how it came about, how good it is."""
    one = v1_translators.get_translator(translator_id, server, who)
    card = v1_translators.get_card(translator_id, server, who)
    return page(
        who,
        "translator",
        "Translators",
        one=one,
        facts=_card_facts(card),
        quality=_quality(card),
        card_json=json.dumps(card, indent=2, ensure_ascii=False),
    )


def _card_facts(card: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [(name.replace("_", " "), _in_words(value)) for name, value in card.items()]
    return [(name, words) for name, words in facts if words]


def _in_words(value: Any) -> str:
    """Return an entry of a card on one line; an empty text for what the whole card shows."""
    if isinstance(value, dict) and "model" in value:  # a side
        return f"{value['model']}, output of {value['layer']}, width {value['width']}"
    if isinstance(value, dict) and "sha256" in value:  # the corpus
        return f"{value.get('name', '')}, SHA-256 {value['sha256']}"
    return str(value) if isinstance(value, str | int | float) else ""


def _quality(card: dict[str, Any]) -> Table | None:
    """Return how well the map predicts held-out positions, in each of its spaces."""
    rows = [
        (space, report["positions"], report[space]["r2"], report[space]["cosine"])
        for report in card.get("quality") or ()
        for space in report
        if isinstance(report[space], dict) and {"r2", "cosine"} <= report[space].keys()
    ]
    if not rows:
        return None
    columns = (
        Column("space", "space"),
        Column("positions", "held-out positions", "integer"),
        Column("r2", "R²", "number"),
        Column("cosine", "cosine", "number"),
    )
    return Table("Quality on positions that it was not fitted on", columns, tuple(rows))


@router.get("/translators/{translator_id}/file")
async def translator_file(
    translator_id: TranslatorId, server: ServerState, who: Visitor
) -> FileResponse:
    """Download its weights."""
    return await to_thread.run_sync(v1_translators.download_translator, translator_id, server, who)


@router.get("/datasets")
async def datasets_page(server: ServerState, who: Visitor) -> Response:
    """List the datasets and the texts that the key has uploaded."""
    shown = await to_thread.run_sync(_held, server, who)
    return page(who, "datasets", "Datasets", may_submit=who.may("submit"), **shown)


def _held(server: Server, who: Principal) -> dict[str, Any]:
    return {
        "datasets": [dataset_view(each) for each in held(server.database, DatasetHolder, who)],
        "corpora": [corpus_view(each) for each in held(server.database, CorpusHolder, who)],
    }


@router.post("/datasets")
async def upload(
    request: Request, response: Response, server: ServerState, who: Submitter
) -> dict[str, str]:
    """Take the rows that a browser sends, as `POST /v1/datasets` does."""
    taken = await v1.upload_dataset(request, response, server, who, FieldMap())
    return {"sha256": taken.sha256}
