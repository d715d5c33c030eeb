"""Sign-in by key: the cookie, who is refused, and that no other site can use it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from statebridge_server.store.keys import revoke_key
from tests.server.pages.browser_client import HERE, Site, Visits

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Site(tmp_path)) as made:
        yield made


@pytest.mark.slow
def test_a_browser_without_a_key_is_asked_to_sign_in(site: Site) -> None:
    site.key("ann")
    browser = site.browser()
    answer = browser.get("/compare?run=exp_1&run=exp_2")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=%2Fcompare%3Frun%3Dexp_1%26run%3Dexp_2"
    form = browser.get(answer.headers["location"])
    assert form.status_code == 200
    assert "exp_1&amp;run=exp_2" in form.text


def test_the_cookie_cannot_be_read_or_sent_by_others(site: Site) -> None:
    _, token = site.key("ann")
    answer = site.browser().post("/sign-in", key=f" {token} ", next="/pairs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/pairs")
    cookie = answer.headers["set-cookie"]
    assert f"statebridge={token}; " in cookie
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    assert "Max-Age" not in cookie
    tls = Visits(site.app, "https://testserver", "https://testserver")
    cookie = tls.post("/sign-in", key=token).headers["set-cookie"]
    assert cookie.startswith("__Host-statebridge=")
    assert {"HttpOnly", "SameSite=lax", "Path=/", "Secure"} <= set(cookie.split("; "))


@pytest.mark.parametrize("wrong", ["", "sb_nothing", f"sb_{'0' * 12}_{'x' * 43}"])
def test_a_wrong_key_is_refused_and_sets_no_cookie(site: Site, wrong: str) -> None:
    site.key("ann")
    answer = site.browser().post("/sign-in", key=wrong)
    assert answer.status_code == 401
    assert "wrong or revoked" in answer.text
    assert "set-cookie" not in answer.headers
    assert not wrong or wrong not in answer.text


def test_a_revoked_key_is_signed_out_at_once(site: Site) -> None:
    key_id, token = site.key("ann")
    browser = site.browser(token)
    assert browser.get("/").status_code == 200
    revoke_key(site.server.database, key_id)
    assert browser.get("/").headers["location"].startswith("/sign-in")


def test_signing_out_removes_the_cookie(site: Site) -> None:
    _, token = site.key("ann")
    browser = site.browser(token)
    assert browser.post("/sign-out").headers["location"] == "/sign-in"
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(
    "elsewhere",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "evil", "/\tx", "javascript:1"],
)
def test_signing_in_leads_to_no_other_site(site: Site, elsewhere: str) -> None:
    _, token = site.key("ann")
    assert site.browser().post("/sign-in", key=token, next=elsewhere).headers["location"] == "/"


@pytest.mark.parametrize("origin", ["http://evil.example", "http://testserver:81", "null", None])
def test_a_form_of_another_site_is_refused(site: Site, origin: str | None) -> None:
    """Another port of the host is another site too, though a browser sends it the cookie."""
    key_id, token = site.key("ann")
    experiment = site.job(key_id)
    own = site.browser(token)
    other = Visits(site.app, origin=origin)
    other.cookies = own.cookies
    for path in (f"/experiments/{experiment}/cancel", "/sign-out", "/submit", "/datasets"):
        assert other.post(path).status_code == 403, path
    assert other.post("/sign-in", key=token).status_code == 403
    assert site.server.database.version() is not None
    assert "queued" in own.get(f"/experiments/{experiment}").text


def test_a_form_that_the_browser_calls_cross_site_is_refused(site: Site) -> None:
    _, token = site.key("ann")
    browser = site.browser(token)
    headers = {"Origin": HERE, "Sec-Fetch-Site": "cross-site"}
    assert browser._ask("POST", "/sign-out", headers, data={}).status_code == 403


def test_the_api_takes_no_cookie_and_the_pages_no_bearer(site: Site) -> None:
    _, token = site.key("ann")
    browser = site.browser(token)
    assert browser.get("/v1/experiments").status_code == 401
    assert site.browser().get("/", Authorization=f"Bearer {token}").status_code == 303


def test_every_page_has_a_policy_without_inline_script(site: Site) -> None:
    key_id, token = site.key("ann")
    browser = site.browser(token)
    experiment = site.job(key_id, HOSTILE)
    paths = ("/", f"/experiments/{experiment}", "/compare", "/pairs", "/translators", "/datasets")
    for path in (*paths, "/submit", "/no-such-page", "/experiments/list", "/sign-in"):
        answer = browser.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy, path
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert "<script>" not in answer.text
        assert " style=" not in answer.text
        assert "onclick" not in answer.text


def test_pages_load_their_style_and_script_without_a_key(site: Site) -> None:
    site.key("ann")
    browser = site.browser()
    page = browser.get("/sign-in").text
    names = [part.split('"')[0] for part in page.split('"/static/')[1:]]
    assert len(names) == 2
    for name in names:
        answer = browser.get(f"/static/{name}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert browser.get("/static/../settings.py").status_code == 404


def test_no_key_is_ever_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    _, token = site.key("ann")
    with caplog.at_level(logging.DEBUG):
        browser = site.browser(token)
        browser.get("/")
        browser.post("/sign-in", key=f"{token[:-1]}!")
    logged = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "/sign-in" in logged
    assert token[16:40] not in logged


def test_without_keys_only_this_machine_gets_pages(tmp_path: Path) -> None:
    with closing(Site(tmp_path, host="127.0.0.1")) as site:
        here = Visits(site.app, "http://localhost:8000", "http://localhost:8000")
        assert "this machine, no keys" in here.get("/").text
        assert here.get("/sign-in").headers["location"] == "/"
        assert Visits(site.app, "http://evil.example").get("/").status_code == 403
        rebound = Visits(site.app, "http://localhost:8000", "http://localhost:9000")
        assert rebound.post("/submit", experiment="").status_code == 403
