"""`statebridge demo`: server, client, report, on the pair that comes with the package."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from statebridge.commands import main
from tests.bridge.report.contradictions import contradictions


@pytest.mark.slow
def test_the_demo_shows_the_pattern_and_a_working_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A quarter of its rows: what the table must show stays far from chance.
    monkeypatch.setattr("statebridge.demo.experiment.ROWS", 16)
    monkeypatch.setattr("sys.argv", ["statebridge", "demo", "--out", str(tmp_path / "demo")])
    code = None
    try:
        main()
    except SystemExit as stop:
        code = stop.code
    assert not code
    out = capsys.readouterr().out
    scores = {
        line.split()[0]: float(line.split()[3])
        for line in out.splitlines()
        if re.match(r"[a-z_]+ +\d+ +\d+ +[01]\.\d{4}", line)
    }
    # The published pattern: writing back what was there changes nothing, a little addition next
    # to nothing, and another row's or random states destroy.
    assert scores["no_inject"] == scores["b_to_b_self_inject"] == scores["skyline"] > 0.6
    assert abs(scores["additive"] - scores["no_inject"]) < 0.1
    for destructive in ("shuffled_translation", "same_norm_random", "zero_replacement"):
        assert scores[destructive] < 0.25 * scores["no_inject"]
    # A private channel that gives more than half of what the receiver could have read itself.
    assert scores["question_only"] < 0.1
    assert scores["causal_last"] > 0.5 * scores["skyline"]
    assert scores["causal_last_shuffled"] < 0.1
    assert "the apparatus detected transfer where transfer exists" in " ".join(out.split())
    report = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert len(report) > 100_000
    assert contradictions(report) == []
