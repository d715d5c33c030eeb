"""Around every page: its head, its headers, and the page of a refusal."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi import Request
from starlette.responses import RedirectResponse, Response

from statebridge.pages import SECURITY_HEADERS, NavItem, render
from statebridge_server.store.keys import LOCAL, Principal

HTML = "text/html; charset=utf-8"
_READ = (
    NavItem("Experiments", ""),
    NavItem("Compare", "compare"),
    NavItem("Pairs", "pairs"),
    NavItem("Translators", "translators"),
    NavItem("Datasets", "datasets"),
)
_SUBMIT = NavItem("Submit", "submit")


def page(who: Principal, template: str, here: str, status: int = 200, **values: Any) -> Response:
    """Return a whole page for a key.

    Args:
        who: Whose page it is.
        template: Name of the library's template.
        here: Label of its place in the head.
        status: Of the response.
        values: What it shows.
    """
    local = who == LOCAL
    content = render(
        template,
        nav=(*_READ, _SUBMIT) if who.may("submit") else _READ,
        here=here,
        who="this machine, no keys" if local else f"key {who.key_id}, {who.role}",
        may_sign_out=not local,
        **values,
    )
    return Response(content, status, headers=dict(SECURITY_HEADERS), media_type=HTML)


def fragment(template: str, **values: Any) -> Response:
    """Return a part of a page, which its script puts in place."""
    return Response(render(template, **values), headers=dict(SECURITY_HEADERS), media_type=HTML)


def outside(template: str, status: int = 200, **values: Any) -> Response:
    """Return a page for a browser without a key."""
    content = render(template, nav=(), here="", who="", may_sign_out=False, **values)
    return Response(content, status, headers=dict(SECURITY_HEADERS), media_type=HTML)


def see_other(path: str) -> Response:
    """Send a browser to another page, after a form."""
    return RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})


def problem_page(
    request: Request, status: int, detail: str, headers: Mapping[str, str]
) -> Response:
    """Return the page of a refusal; a browser without a key is asked to sign in."""
    if status == HTTPStatus.UNAUTHORIZED and request.method == "GET":
        where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return see_other(f"/sign-in?next={quote(where, safe='')}")
    answer = outside("problem", status, title=HTTPStatus(status).phrase, detail=detail)
    answer.headers.update(headers)
    return answer
