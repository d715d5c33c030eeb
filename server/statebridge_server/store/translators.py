"""Translators in the store: uploaded, or fitted by a job."""

from __future__ import annotations

import secrets

from sqlalchemy import or_, select

from statebridge_server.store.database import Database
from statebridge_server.store.keys import Principal
from statebridge_server.store.tables import Translator
from statebridge_server.store.uploads import refuse_while_used


def new_translator_id() -> str:
    """Return an id that no translator has."""
    return f"tr_{secrets.token_hex(10)}"


def add_translator(database: Database, translator: Translator) -> None:
    """Record a translator whose file is in place."""
    with database.write() as session:
        session.add(translator)


def of_job(database: Database, job_id: str) -> list[Translator]:
    """Return the translators that a job fitted."""
    with database.read() as session:
        return list(session.scalars(select(Translator).where(Translator.job_id == job_id)))


def visible_translators(database: Database, principal: Principal) -> list[Translator]:
    """Return the translators that the principal may see, newest first."""
    query = select(Translator).order_by(Translator.created_at.desc(), Translator.id)
    if principal.role != "admin":
        query = query.where(or_(Translator.owner == principal.key_id, Translator.shared))
    with database.read() as session:
        return list(session.scalars(query))


def visible_translator(
    database: Database, principal: Principal, translator_id: str
) -> Translator | None:
    """Return a translator if the principal may see it, or None."""
    with database.read() as session:
        found = session.get(Translator, translator_id)
    if found is None or not (
        found.shared or found.owner == principal.key_id or principal.role == "admin"
    ):
        return None
    return found


def remove_translator(database: Database, translator_id: str) -> None:
    """Delete a translator's record; the caller deletes its file.

    Raises:
        WrongStateError: A job that has not ended reads it.
    """
    with database.write() as session:
        found = session.get(Translator, translator_id, with_for_update=True)
        refuse_while_used(session, "translator", translator_id)
        if found is not None:
            session.delete(found)
