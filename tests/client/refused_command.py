"""An experiment on a tiny saved pair, and the command called on it as a person would."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from statebridge.commands import main

EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "sender": {"model": "./sender", "layer": 0.67},
    "receiver": {"model": "./receiver", "layer": 1},
    "dataset": {"path": "rows.jsonl"},
    "translators": {42: "seed42.safetensors"},
    "conditions": ["no_inject", "replace"],
    "seeds": [42],
    "decoding": {"max_new_tokens": 2},
    "execution": {"device": "cpu"},
}
ROW = {"id": "r0", "context": "Bob in Lima.", "question": "Where is Bob?", "answer": "Lima"}


def write_experiment(**changes: Any) -> None:
    """Write `mine.yaml` with some fields changed."""
    Path("mine.yaml").write_text(yaml.safe_dump({**EXPERIMENT, **changes}))


class Command:
    """Calls the command as the console script does."""

    def __init__(self, patch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[str]) -> None:
        self._patch, self._captured = patch, captured

    def __call__(self, *words: str) -> tuple[int, str, str]:
        """Return exit code, standard output, and standard error after the progress lines."""
        self._patch.setattr(sys, "argv", ["statebridge", *words])
        self._captured.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        output = self._captured.readouterr()
        progress = re.compile(r"(?:[a-z ]+: \d+/\d+(?: after \d+ s)?\n)*")
        begun = progress.match(output.err)
        assert begun is not None
        return int(code), output.out, output.err[begun.end() :]

    def refused(self, code: int, *words: str, mistakes: int = 1) -> str:
        """Run the experiment; return the lines that refuse it, one for each mistake."""
        found, out, err = self("run", "mine.yaml", "--out", "out", *words)
        assert err.endswith("\n")
        lines = err[:-1].split("\n")
        assert len(lines) == mistakes, err
        assert all(line.startswith("error: ") for line in lines), err
        assert all(line.startswith("error: mine.yaml, line ") for line in lines[1:]), err
        assert all(line.isprintable() for line in lines)
        assert "Traceback" not in err
        assert out == ""
        assert found == code, err
        assert not Path("out").exists(), "something is left of a run that never began"
        return err
