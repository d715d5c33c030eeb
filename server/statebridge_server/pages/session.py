"""Sign-in by key, kept in a cookie; and the refusal of what another site makes a browser send.

The cookie holds the key itself, so that a revoked key is refused at once and the server stores
nothing. No script can read it (HttpOnly), a form or script of another site does not get it sent
(SameSite), and it ends with the browser. The routes below /v1 take no cookie. SameSite takes all
ports of a host for one site, so every form must come from this very address as well (Origin).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from statebridge.pages import STATIC, static_headers
from statebridge_server.api.context import (
    Server,
    ServerState,
    owner_of,
    read_body,
    refuse_foreign_pages,
)
from statebridge_server.api.problems import ProblemError, not_found
from statebridge_server.pages.frame import outside, see_other
from statebridge_server.store.keys import LOCAL, Principal, Role

MAX_KEY_BYTES = 4096
"""Size of the sign-in form."""

router = APIRouter()


def cookie_name(request: Request) -> str:
    """Return the cookie's name; with `__Host-`, no other host can set it, which needs TLS."""
    return "__Host-statebridge" if request.url.scheme == "https" else "statebridge"


async def visitor(request: Request, server: ServerState) -> Principal:
    """Return the key of a browser's cookie.

    Raises:
        ProblemError: 401 without a valid one; 403 for a form of another site.
    """
    if request.method not in ("GET", "HEAD"):
        refuse_other_origins(request)
    if await server.is_open():
        refuse_foreign_pages(request)
        request.state.key_id = LOCAL.key_id
        return LOCAL
    token = request.cookies.get(cookie_name(request))
    found = None if token is None else await owner_of(token, server)
    if found is None:
        raise ProblemError(401, "sign in with a key")
    request.state.key_id = found.key_id
    return found


def refuse_other_origins(request: Request) -> None:
    """Refuse a request that changes something unless a page of this address sent it.

    Raises:
        ProblemError: 403; a browser names the page's address in `Origin` with every form.
    """
    origin = request.headers.get("origin", "")
    here = request.headers.get("host", "")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site != "same-origin" or not here or urlsplit(origin).netloc != here:
        raise ProblemError(403, "this form was not sent by a page of this server; open it here")


def needs(role: Role) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency that refuses keys whose role does not include `role`."""

    async def check(who: Annotated[Principal, Depends(visitor)]) -> Principal:
        if not who.may(role):
            raise ProblemError(403, f"this key's role is {who.role}; {role} is needed")
        return who

    return check


Visitor = Annotated[Principal, Depends(needs("read"))]
Submitter = Annotated[Principal, Depends(needs("submit"))]


async def form_fields(request: Request, server: Server, limit: int) -> dict[str, str]:
    """Return the fields of a form; of one that is there twice, the last.

    Raises:
        ProblemError: 415 for another kind of body, 422 for what is not text; and as `read_body`.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise ProblemError(415, "send a form as application/x-www-form-urlencoded")
    content = await read_body(request, limit, server.settings.limits.body_seconds)
    try:
        pairs = parse_qsl(
            content.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=100
        )
    except ValueError:  # UnicodeDecodeError is one
        raise ProblemError(422, "the form is not UTF-8 text") from None
    return dict(pairs)


@router.get("/sign-in")
async def sign_in_page(server: ServerState, next: str = "/") -> Response:
    """Show the form, or the pages where no key is needed."""
    if await server.is_open():
        return see_other("/")
    return outside("sign_in", next=_own_path(next), problem=None)


@router.post("/sign-in")
async def sign_in(request: Request, server: ServerState) -> Response:
    """Put a key that is right into the cookie."""
    refuse_other_origins(request)
    fields = await form_fields(request, server, MAX_KEY_BYTES)
    token, path = fields.get("key", "").strip(), _own_path(fields.get("next", "/"))
    found = await owner_of(token, server)
    if found is None:
        problem = "This key is wrong or revoked."
        return outside("sign_in", 401, next=path, problem=problem)
    request.state.key_id = found.key_id
    answer = see_other(path)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        cookie_name(request), token, path="/", httponly=True, samesite="lax", secure=secure
    )
    return answer


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """Remove the key from the browser."""
    refuse_other_origins(request)
    answer = see_other("/sign-in")
    secure = request.url.scheme == "https"
    answer.delete_cookie(
        cookie_name(request), path="/", httponly=True, samesite="lax", secure=secure
    )
    return answer


def _own_path(path: str) -> str:
    """Return a path of this server; the root where the text leads elsewhere."""
    parts = urlsplit(path) if path.isprintable() else None
    # A browser reads a backslash as a slash, and two slashes as another host.
    if parts is None or parts.netloc or parts.scheme or not path.startswith("/"):
        return "/"
    return "/" if path.startswith("//") or "\\" in path else path


@router.get("/static/{name}")
async def static_file(name: str) -> Response:
    """Return the style or the script of the pages; no key is needed for them."""
    found = STATIC.get(name)
    if found is None:
        raise not_found("file")
    return Response(found.content, headers=static_headers(), media_type=found.media_type)
