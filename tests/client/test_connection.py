"""Which server and which key: arguments, environment, files; keys that are never shown."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from statebridge.errors import InputError
from statebridge_client import AsyncClient, Client
from statebridge_client.connection import resolve_connection
from statebridge_client.problems import error_of, unreachable


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATEBRIDGE_URL", "STATEBRIDGE_API_KEY", "STATEBRIDGE_API_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_the_default_is_a_server_on_this_machine() -> None:
    found = resolve_connection()
    assert (found.url, found.key) == ("http://127.0.0.1:8000", None)


def test_arguments_win_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("sb_file\n")
    (tmp_path / "b").write_text("sb_other\n")
    monkeypatch.setenv("STATEBRIDGE_API_KEY_FILE", str(tmp_path / "b"))
    assert resolve_connection().key == "sb_other"
    monkeypatch.setenv("STATEBRIDGE_API_KEY", " sb_variable ")
    monkeypatch.setenv("STATEBRIDGE_URL", "https://gpu.example.org/statebridge/")
    found = resolve_connection()
    assert (found.url, found.key) == ("https://gpu.example.org/statebridge", "sb_variable")
    assert resolve_connection(key_file=tmp_path / "a").key == "sb_file"
    assert resolve_connection(api_key="sb_given", key_file=tmp_path / "a").key == "sb_given"
    assert resolve_connection("http://other:1").url == "http://other:1"


@pytest.mark.parametrize(
    "url",
    [
        "gpu.example.org",
        "ftp://gpu",
        "http://",
        "http://gpu:99999",
        "http://[::1",
        "http://gpu/?a=1",
        "http://gpu /x",
        "http://gpu\n",
        "file:///etc/passwd",
    ],
)
def test_an_address_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"url: .* is no server's address; give such as http://"):
        resolve_connection(url)
    monkeypatch.setenv("STATEBRIDGE_URL", url)
    with pytest.raises(InputError, match="STATEBRIDGE_URL: "):
        resolve_connection()


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InputError, match="holds a user name or password") as caught:
        resolve_connection("http://ada:secret@gpu")
    assert "secret" not in str(caught.value)


def test_keys_that_are_none(tmp_path: Path) -> None:
    for text in ("", " ", "two words", "line\nline", "sb_é", "sb_\x00"):
        (tmp_path / "key").write_text(text)
        for given in ({"api_key": text}, {"key_file": tmp_path / "key"}):
            with pytest.raises(InputError, match="does not hold a key") as caught:
                resolve_connection(**given)  # type: ignore[arg-type]
            assert not text.strip() or text not in str(caught.value)
    with pytest.raises(InputError, match="nowhere: cannot be read: No such file"):
        resolve_connection(key_file=tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        resolve_connection(key_file=tmp_path)


def test_no_representation_shows_a_key() -> None:
    with Client("http://gpu", "sb_secret") as client:
        shown = [repr(client), repr(client._caller.connection), repr(vars(client))]
    assert not any("sb_secret" in text for text in shown)


# ---------------------------------------------------------------- the environment's proxies


@pytest.mark.parametrize("hosts", ["localhost,[::1]", "fd07::/64"])
def test_hosts_without_proxy_that_httpx_cannot_read(
    hosts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", hosts)
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy.example.org:3128")
    for opened in (Client, AsyncClient):
        with pytest.raises(InputError) as caught:
            opened("http://127.0.0.1:1")
        assert f"NO_PROXY={hosts}" in str(caught.value)
        assert "without brackets and masks (::1)" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/nowhere.pem"),
        ("ALL_PROXY", "socks5://user:secret@proxy.example.org:1"),
        ("HTTPS_PROXY", "ftp://proxy.example.org"),
    ],
)
def test_an_environment_that_httpx_cannot_use_is_named(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught:
        Client("https://gpu.example.org")
    assert name in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_proxy_in_between_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = resolve_connection("http://gpu.example.org", api_key="sb_x")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert "proxy" not in str(unreachable(connection, OSError("refused"), 0))
    monkeypatch.setenv("HTTP_PROXY", "http://user:secret@proxy.example.org:3128")
    text = str(unreachable(connection, OSError("refused"), 0))
    assert "through the environment's proxy proxy.example.org:3128; NO_PROXY=gpu.example" in text
    assert "secret" not in text
    monkeypatch.setenv("NO_PROXY", "gpu.example.org")
    assert "proxy" not in str(unreachable(connection, OSError("refused"), 0))


# ---------------------------------------------------------------- key files


def test_a_key_file_with_a_mark_at_its_beginning_is_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbfsb_file\r\n")
    assert resolve_connection(key_file=tmp_path / "key").key == "sb_file"
    (tmp_path / "key").write_bytes("sb_file\n".encode("utf-16"))
    with pytest.raises(InputError, match="is UTF-16 text; save it as UTF-8"):
        resolve_connection(key_file=tmp_path / "key")


def test_a_refused_key_is_looked_for_where_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("sb_file\n")
    refused = httpx.Response(
        401, json={"detail": "unknown key"}, headers={"content-type": "application/problem+json"}
    )
    found = resolve_connection(key_file=tmp_path / "key")
    assert f"check the key in key file {tmp_path / 'key'}" in str(error_of(refused, found))
    monkeypatch.setenv("STATEBRIDGE_API_KEY", "sb_variable")
    assert "the key in STATEBRIDGE_API_KEY" in str(error_of(refused, resolve_connection()))
