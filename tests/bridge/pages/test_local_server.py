"""`statebridge view`: the pages of run directories, live, for this machine alone."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from statebridge.commands import main
from statebridge.errors import EnvironmentFault, ResultError
from statebridge.pages import local_server
from statebridge.pages.local_server import LocalServer
from statebridge.pages.run_folders import RunFolders
from tests.bridge.pages.made_runs import CELLS, ROWS, made_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made_run(tmp_path / "runs" / "first")
    made_run(tmp_path / "runs" / "second", layer=2, right=2)
    made_run(tmp_path / "runs" / "third", done=4, hostile=True)
    return tmp_path / "runs"


@pytest.fixture
def client(folder: Path) -> Iterator[httpx.Client]:
    server = LocalServer(RunFolders([folder]))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with httpx.Client(base_url=server.url, timeout=30) as asked:
        yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_list_has_every_run_and_its_progress(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "36 of 36, 100 %" in page.text
    assert "12 of 36, 33 %" in page.text
    assert "last commit" in page.text


@pytest.mark.slow
def test_a_run_has_its_scores_files_and_report(client: httpx.Client) -> None:
    page = client.get("/experiments/first").text
    assert "example/sender, layer 1" in page
    assert "questions.jsonl" in page
    scores = client.get("/experiments/first/scores").text
    assert "0.500" in scores
    assert "[0.227, 0.773]" in scores
    rows = client.get("/experiments/first/rows.jsonl")
    assert len(rows.content.splitlines()) == ROWS * len(CELLS)
    assert rows.headers["content-disposition"] == 'attachment; filename="rows.jsonl"'
    report = client.get("/experiments/first/report")
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts")


def test_no_verdict_is_shown_before_the_last_row(client: httpx.Client) -> None:
    assert 'class="sentence"' in client.get("/experiments/first/scores").text
    going_on = client.get("/experiments/third/scores").text
    assert 'class="sentence"' not in going_on
    assert "The verdict comes with the last row" in going_on


def test_markup_in_a_run_stays_text(client: httpx.Client) -> None:
    for path in ("/", "/experiments/third", "/experiments/third/scores", "/compare?run=third"):
        page = client.get(path).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)" in client.get("/experiments/third").text


def test_runs_are_compared_side_by_side(client: httpx.Client) -> None:
    page = client.get("/compare", params={"run": ["first", "second"]}).text
    assert "Difference from layer 1, paired by row" in page
    assert "sender.layer" in page


@pytest.mark.parametrize(
    "path",
    [
        "/experiments/other",
        "/experiments/../first",
        "/experiments/first/.lock",
        "/experiments/first/../../../etc/passwd",
        "/experiments/first/%2e%2e%2fsecond",
        "/compare?run=other",
        "/static/no.css",
        "/sign-in",
    ],
)
def test_what_is_no_page_is_a_404(client: httpx.Client, path: str) -> None:
    url = client.base_url.copy_with(raw_path=path.encode())
    assert client.get(url).status_code == 404


def test_another_name_of_this_machine_is_refused(client: httpx.Client) -> None:
    answer = client.get("/", headers={"Host": "evil.example"})
    assert answer.status_code == 403
    assert "first" not in answer.text


def test_a_browser_hears_of_new_rows(
    client: httpx.Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_server, "LOOK_SECONDS", 0.01)
    whole = made_run(folder.parent / "whole", hostile=True) / "rows.jsonl"
    there = (folder / "third" / "rows.jsonl").read_bytes()
    done = []
    with client.stream("GET", "/experiments/third/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                done.append(json.loads(line.removeprefix("data: ")))
                if len(done) == 1:
                    with (folder / "third" / "rows.jsonl").open("ab") as rows:
                        rows.write(whole.read_bytes().removeprefix(there))
    # The stream ends by itself with the last row.
    assert [event["done"] for event in done] == [12, 36]
    assert done[-1]["state"] == "done"


def test_a_directory_without_rows_is_shown(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    view = RunFolders([tmp_path / "begun"]).view("begun")
    assert (view.state, view.done, view.detail) == ("unfinished", 0, "nothing is committed yet")


def test_two_directories_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for place in ("a", "b"):
        made_run(tmp_path / place / "run")
    assert RunFolders([tmp_path / "a" / "run", tmp_path / "b"]).names() == ["run", "run-2"]


def test_what_is_no_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="is no directory"):
        RunFolders([tmp_path / "absent"])


def test_a_port_in_use_is_named(client: httpx.Client, folder: Path) -> None:
    port = client.base_url.port
    assert port is not None
    with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port} cannot be listened on"):
        LocalServer(RunFolders([folder]), port=port)


def test_the_command_prints_its_address(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_self: LocalServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalServer, "serve_forever", interrupted)
    for host, caution in (("127.0.0.1", ""), ("0.0.0.0", "caution: ")):
        line = ["statebridge", "view", str(folder), "--port", "0", "--host", host]
        monkeypatch.setattr(sys, "argv", line)
        main()
        printed = capsys.readouterr()
        assert printed.out.startswith(f"http://{host}:")
        assert printed.err.startswith(caution)
        assert bool(printed.err) == bool(caution)
