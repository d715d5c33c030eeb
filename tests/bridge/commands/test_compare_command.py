"""`statebridge compare` prints a claim only where the numbers carry it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from statebridge.commands import main
from statebridge.commands.reading.compare import compare
from statebridge.run import Run
from statebridge.stats import Comparison, Settings, Share, Stratification, Stratum
from tests.bridge.report.test_sentences import METRIC, UNCLEAR, chain, gap, interval, made
from tests.bridge.results.run_folder import lane, manifest, write_run

SHARE = Share(value=0.07, interval=interval(0.02, 0.2))


def split(p: float | None) -> Stratification:
    strata = tuple(
        Stratum(label=label, n_rows=50, mean=0.5, baseline_mean=0.2, delta=delta, interval=None)
        for label, delta in (("2", 0.3), ("3", 0.1))
    )
    return Stratification(
        direction="fwd",
        condition="channel",
        baseline="floor",
        metric=METRIC,
        attribute="hops",
        strata=strata,
        unlabelled_rows=0,
        interaction_p=p,
        interaction_p_holm=p,
        permutations=99,
    )


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **parts: Any
) -> str:
    fields: dict[str, Any] = {
        "mode": "clustered",
        "settings": Settings(),
        "baselines": ("floor",),
        "metrics": (METRIC,),
        "differences": (made(),),
        "stratifications": (),
        "failure_chains": (),
        "warnings": (),
    }
    found = Comparison(**(fields | parts))
    monkeypatch.setattr(Run, "__init__", lambda self, *_, **__: None)
    monkeypatch.setattr(Run, "compare", lambda *_, **__: found)
    compare([Path("run")])
    return capsys.readouterr().out


def test_strata_that_do_not_differ_are_not_called_different(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(monkeypatch, capsys, stratifications=(split(0.8), split(None)))
    assert "by hops (same in every stratum: p 0.8000, Holm): 2: +0.3000" in out
    assert "by hops: 2: +0.3000" in out
    assert "differs" not in out


def test_a_chain_and_a_share_are_printed_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clear = printed(
        monkeypatch,
        capsys,
        failure_chains=(chain(interval(0.1, 0.3), SHARE),),
        gaps_closed=(gap(SHARE),),
    )
    assert "wins back +0.0100, 7 % [2 %, 20 %] of the loss" in clear
    assert "channel closes 7 % [2 %, 20 %] of the gap from floor to skyline" in clear
    without = printed(
        monkeypatch,
        capsys,
        failure_chains=(chain(interval(-0.1, 0.3), SHARE),),
        gaps_closed=(gap(None),),
    )
    assert "wins back" not in without
    assert "closes" not in without


@pytest.mark.parametrize(("changes", "word"), [({}, "better."), (UNCLEAR, "inconclusive.")])
def test_the_row_s_own_state_is_printed_with_its_verdict(
    changes: dict[str, Any],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = made(baseline="other", **changes)
    lines = printed(monkeypatch, capsys, own_rows=(own,)).splitlines()
    (line,) = [line for line in lines if line.startswith("The row's own state")]
    assert line.endswith(word)


def test_the_table_states_why_there_is_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    none = made(**(UNCLEAR | {"verdict": None, "no_verdict_because": "both at the floor"}))
    out = printed(monkeypatch, capsys, differences=(none,))
    assert "note: Without a verdict (both at the floor): channel." in out
    assert "Without a verdict" not in printed(monkeypatch, capsys)


def test_bits_are_printed_whatever_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = ("question_only", "skyline")
    group = [
        (cell, lane(row, (1,), gold_logprob=value))
        for cell, value in zip(cells, (-3.0, -1.0), strict=True)
        for row in "abc"
    ]
    run = write_run(tmp_path / "run", [group], made=manifest([6], cells))
    compare([run], baseline=["skyline"], metric=["exact_match"], bits=True)
    printed = capsys.readouterr().out
    (line,) = [line for line in printed.splitlines() if "+2.885" in line]  # 2 nats
    assert line.startswith("skyline")
    compare([run], baseline=["skyline"], bits=True, as_json=True)
    assert '"condition":"skyline"' in capsys.readouterr().out.partition('"bits":')[2]


def test_no_interval_is_stated_without_what_it_would_hold_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    none = made(**(UNCLEAR | {"interval": None}))
    assert "note: Intervals: none.\n" in printed(monkeypatch, capsys, differences=(none,))


def test_a_minus_is_printed_where_the_encoding_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = ("no_inject", "replace")
    group = [
        (cell, lane(row, (1,), gold_logprob=-1.0 - n))
        for n, cell in enumerate(cells)
        for row in "abc"
    ]
    run = write_run(tmp_path / "run", [group], made=manifest([6], cells))
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")  # what LC_ALL=C may give
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "argv", ["statebridge", "compare", str(run)])
    main()
    assert b"\\u22121.0000" in output.buffer.getvalue()
