"""Wrong usage is one line; help is quick, whatever the commands need when they run."""

from __future__ import annotations

import subprocess
import sys

import pytest

from statebridge.commands import main


def called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["statebridge", *words])
    code = 0
    try:
        main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (("nope",), "No such command 'nope'; see statebridge --help"),
        (("--nope",), "No such option: --nope; see statebridge --help"),
        (("run",), "Missing argument 'FILE'; see statebridge run --help"),
        (("run", "e.yaml"), "Missing option '--out'; see statebridge run --help"),
        (("run", "e.yaml", "--out", "x", "--limit", "0"), "--limit': give a number of at least 1"),
        (("run", "e.yaml", "--out", "x", "--limit", "many"), "'--limit': give a whole number, not"),
        (
            ("dataset", "generate", "--out", "x", "--rows", "0"),
            "'--rows': give a number of at least",
        ),
        (("score", "x", "--jsno"), "No such option: --jsno"),
        (("datasets", "upload", "a", "b"), "unexpected extra argument"),
        (("corpora", "upload"), "Missing argument 'FILE'; see statebridge corpora upload --help"),
        (("translators", "download", "tr_1"), "Missing option '--out'"),
        (("submit", "e.yaml", "--priority", "101"), "'--priority': give a number of at most 100"),
        (
            ("compare", "x", "--margin", "0.1", "--margin", "b"),
            "'--margin': give a number, not 'b'",
        ),
    ],
)
def test_wrong_usage_is_one_line(
    words: tuple[str, ...],
    output: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = called(monkeypatch, capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert output in err


@pytest.mark.parametrize("words", [(), ("translators",), ("datasets",), ("corpora",), ("dataset",)])
def test_no_command_shows_the_help(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = called(monkeypatch, capsys, *words)
    assert code == 2
    assert "Usage: statebridge" in out + err
    assert "error:" not in err


def test_help_and_version_are_no_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = called(monkeypatch, capsys, "submit", "--help")
    assert code == 0
    assert "STATEBRIDGE_URL" in out
    assert called(monkeypatch, capsys, "--version")[1].startswith("statebridge ")


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "from statebridge.commands import main; main()"
    # Unbuffered, so that the second write meets the closed pipe whatever the timing.
    script = f"{sys.executable} -u -c '{code}' schema | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_help_loads_nothing_that_is_slow() -> None:
    code = (
        "import sys; from statebridge.commands import main\n"
        "sys.argv = ['statebridge', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "slow = ('torch', 'httpx', 'pydantic', 'numpy', 'scipy', 'fastapi', 'sqlalchemy')\n"
        "print([name for name in slow if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "submit" in done.stdout
