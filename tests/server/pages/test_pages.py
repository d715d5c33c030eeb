"""The pages: what each key sees and may do, and the check before anything is queued."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from statebridge.results.service_records import DoctorAnswer, DoctorCheck
from statebridge_server.api.problems import ProblemError
from statebridge_server.pages import submit
from statebridge_server.store.jobs import list_jobs
from statebridge_server.store.keys import LOCAL
from tests.server.pages.browser_client import HERE, Site, Visits

HOSTILE = "<script>alert('x')</script>"
EXPERIMENT = """
name: {name}
sender: {{model: example/sender, layer: 1}}
receiver: {{model: example/receiver, layer: 1}}
dataset: {{generate: {{rows: 4}}}}
conditions: [no_inject, question_only]
seeds: [1]
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with closing(Site(tmp_path)) as made:
        yield made


@pytest.fixture
def ann(site: Site) -> tuple[str, Visits]:
    key_id, token = site.key("ann")
    return key_id, site.browser(token)


def own_pages(experiment: str) -> list[str]:
    below = ("", "/progress", "/scores", "/events", "/report", "/rows.jsonl")
    files = ("/files/manifest.json", "/export/csv")
    return [f"/experiments/{experiment}{part}" for part in (*below, *files)]


def test_a_second_key_sees_nothing_of_the_first(site: Site, ann: tuple[str, Visits]) -> None:
    experiment = site.job(ann[0], "secret name")
    _, token = site.key("ben", "submit")
    ben = site.browser(token)
    for path in ("/", "/experiments/list", "/compare"):
        page = ben.get(path)
        assert page.status_code == 200
        assert experiment not in page.text
        assert "secret name" not in page.text
    for path in [*own_pages(experiment), f"/compare?run={experiment}"]:
        assert ben.get(path).status_code == 404, path
    for action in ("cancel", "resume", "delete"):
        assert ben.post(f"/experiments/{experiment}/{action}").status_code == 404
    missing = ben.get("/experiments/exp_none").text
    assert ben.get(f"/experiments/{experiment}").text == missing
    assert experiment in ann[1].get("/").text


def test_a_shared_experiment_is_read_and_not_changed(site: Site, ann: tuple[str, Visits]) -> None:
    experiment = site.job(ann[0], "open to all", shared=True)
    _, token = site.key("ben", "submit")
    ben = site.browser(token)
    page = ben.get(f"/experiments/{experiment}")
    assert "open to all" in page.text
    assert "another key, shared" in page.text
    assert "Cancel" not in page.text
    assert ben.post(f"/experiments/{experiment}/cancel").status_code == 403


def test_a_queued_experiment_shows_what_goes_first(site: Site, ann: tuple[str, Visits]) -> None:
    first, second = site.job(ann[0], "first"), site.job(ann[0], "second")
    _, token = site.key("root", "admin")
    assert "next of its key" in ann[1].get(f"/experiments/{first}").text
    for browser in (ann[1], site.browser(token)):
        assert "after 1 of the same key" in browser.get(f"/experiments/{second}").text
        assert browser.get("/").text.count("after 1 of the same key") == 1


def test_roles_are_respected(site: Site, ann: tuple[str, Visits]) -> None:
    experiment = site.job(ann[0], shared=True)
    _, token = site.key("eve", "read")
    eve = site.browser(token)
    assert "Submit" not in eve.get("/").text
    assert eve.get("/submit").status_code == 403
    assert eve.post("/submit", experiment="").status_code == 403
    assert eve.post(f"/experiments/{experiment}/cancel").status_code == 403
    _, token = site.key("root", "admin")
    root = site.browser(token)
    assert "ann (" in root.get("/").text
    assert root.post(f"/experiments/{experiment}/cancel").status_code == 303


def test_cancel_resume_and_delete_from_the_page(site: Site, ann: tuple[str, Visits]) -> None:
    experiment, browser = site.job(ann[0]), ann[1]
    page = f"/experiments/{experiment}"
    assert browser.post(f"{page}/cancel").headers["location"] == page
    shown = browser.get(page).text
    assert "cancelled" in shown
    assert "Resume" in shown
    assert browser.post(f"{page}/resume").status_code == 303
    assert "queued again; 0 of 8 lanes committed" in browser.get(page).text
    browser.post(f"{page}/cancel")
    assert browser.post(f"{page}/delete").headers["location"] == "/"
    assert browser.get(page).status_code == 404


def test_script_in_a_name_stays_text(site: Site, ann: tuple[str, Visits]) -> None:
    experiment = site.job(ann[0], HOSTILE)
    for path in ("/", f"/experiments/{experiment}", f"/compare?run={experiment}"):
        page = ann[1].get(path).text
        assert "&lt;script&gt;alert(&#39;x&#39;)" in page
        assert "<script>" not in page


def test_a_missing_page_is_a_page_for_a_browser_only(ann: tuple[str, Visits]) -> None:
    assert "<h1>Not Found</h1>" in ann[1].get("/nothing").text
    assert ann[1].get("/v1/nothing").headers["content-type"] == "application/problem+json"
    assert ann[1].get("/nothing", Accept="*/*").json()["status"] == 404


def hidden(page: httpx.Response) -> dict[str, str]:
    return dict(re.findall(r'type="hidden" name="(\w+)" value="(\w*)"', page.text))


def queued(site: Site) -> list[str]:
    return [job.name for job in list_jobs(site.server.database, LOCAL)]


def doctor_says(monkeypatch: pytest.MonkeyPatch, *checks: tuple[str, bool, str]) -> None:
    """Let the doctor find this, or nothing within its time."""

    async def ask(*_: Any) -> DoctorAnswer:
        if not checks:
            raise ProblemError(500, "the doctor gave no answer within 120 s")
        found = [DoctorCheck(what=what, ready=ready, detail=text) for what, ready, text in checks]
        return DoctorAnswer(ready=all(each.ready for each in found), checks=found)

    monkeypatch.setattr(submit, "ask_doctor", ask)


def test_nothing_is_queued_before_its_check_was_shown(
    site: Site, ann: tuple[str, Visits], monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor_says(monkeypatch, ("layers", True, "sender 1, receiver 1"), ("caution", True, "few"))
    browser, text = ann[1], EXPERIMENT.format(name="from a page")
    typed = browser.post("/submit/check", experiment=text)
    assert hidden(typed) == {}, "the doctor was not asked yet"
    assert browser.post("/submit", experiment=text, do="queue").status_code == 200
    checked = browser.post("/submit", experiment=text, do="check")
    assert "2: no_inject, question_only; seeds 1" in checked.text
    assert "at most 8" in checked.text
    assert "sender 1, receiver 1" in checked.text
    fields = hidden(checked)
    other = EXPERIMENT.format(name="another text")
    browser.post("/submit", experiment=other, do="queue", **fields)
    assert queued(site) == []
    lines = text.replace("\n", "\r\n")  # as a browser sends a form
    first = browser.post("/submit", experiment=lines, do="queue", shared="yes", **fields)
    again = browser.post("/submit", experiment=text, do="queue", shared="yes", **fields)
    assert first.headers["location"] == again.headers["location"]
    assert queued(site) == ["from a page"]
    assert "you, shared" in browser.get(first.headers["location"]).text


def test_what_the_doctor_misses_keeps_an_experiment_back(
    ann: tuple[str, Visits], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = EXPERIMENT.format(name="x")
    missing = ("layers", False, "receiver.layer: give 0 to 3"), ("prompts", False, "too long")
    doctor_says(monkeypatch, *missing)
    answer = ann[1].post("/submit/doctor", experiment=text)
    assert "give 0 to 3" in answer.text
    assert "too long" in answer.text
    assert "Not ready: layers, prompts" in answer.text
    assert hidden(answer) == {}
    doctor_says(monkeypatch)  # it is silent: the user decides
    answer = ann[1].post("/submit", experiment=text, do="check")
    assert "no answer within 120 s" in answer.text
    assert "Queue it without the doctor" in answer.text
    assert hidden(answer)["checked"]


def test_every_mistake_is_named_at_its_line(ann: tuple[str, Visits]) -> None:
    text = EXPERIMENT.format(name="x").replace("seeds: [1]", "sedes: [1]\nlimit: many")
    part = ann[1].post("/submit/check", experiment=text).text
    found = re.findall(r'data-line="(\d+)"><b>line \d+: ([\w.]+)</b> <span>([^<;,]+)', part)
    assert sorted(found) == [("7", "sedes", "unknown field"), ("8", "limit", "give a whole number")]
    reference = text.replace("{generate: {rows: 4}}", "{path: rows.jsonl}")
    part = ann[1].post("/submit/check", experiment=reference).text
    assert re.findall(r'data-line="(\d+)"', part)[:1] == ["5"]
    assert {"7", "8"} <= set(re.findall(r'data-line="(\d+)"', part))


def test_the_schema_names_what_this_key_may_use(site: Site, ann: tuple[str, Visits]) -> None:
    row = b'{"id": "a", "context": "c", "question": "q", "answer": "x"}\n'
    taken = ann[1]._ask("POST", "/datasets", {"Origin": HERE}, content=row).json()["sha256"]
    found = ann[1].get("/submit/schema.json").json()
    assert found["names"]["sender.model"] == ["example/sender"]
    assert found["names"]["dataset.sha256"] == [taken]
    assert "replace" in found["names"]["conditions"]
    assert "description" in found["schema"]["properties"]["limit"]
    _, token = site.key("ben")
    assert site.browser(token).get("/submit/schema.json").json()["names"]["dataset.sha256"] == []
    _, token = site.key("eve", "read")
    assert site.browser(token).get("/submit/schema.json").status_code == 403


def test_the_check_names_the_line_and_the_field(ann: tuple[str, Visits]) -> None:
    wrong = EXPERIMENT.format(name="x").replace("layer: 1", "layr: 1", 1)
    answer = ann[1].post("/submit", experiment=wrong, do="check")
    assert answer.status_code == 422
    assert "layr" in answer.text
    assert hidden(answer) == {}
    part = ann[1].post("/submit/check", experiment="name: [")
    assert part.status_code == 200
    assert "line 1" in part.text
    assert "<html" not in part.text


def test_a_textarea_holds_hostile_text_as_text(ann: tuple[str, Visits]) -> None:
    page = ann[1].post("/submit", experiment=f"</textarea>{HOSTILE}", do="check").text
    assert "&lt;/textarea&gt;&lt;script&gt;" in page
    assert "<script>" not in page


def test_rows_are_uploaded_from_the_page(site: Site, ann: tuple[str, Visits]) -> None:
    row = b'{"id": "a", "context": "c", "question": "q", "answer": "x"}\n'
    taken = ann[1]._ask("POST", "/datasets", {"Origin": HERE}, content=row)
    assert taken.json()["sha256"] in ann[1].get("/datasets").text
    _, token = site.key("ben")
    assert taken.json()["sha256"] not in site.browser(token).get("/datasets").text
    refused = ann[1]._ask("POST", "/datasets", {"Origin": HERE, "Accept": "*/*"}, content=b"{}\n")
    assert refused.status_code == 422
    assert "line 1" in refused.json()["detail"]
