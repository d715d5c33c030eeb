"""`--set`: paths are relative to where one is; everything else is taken as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from statebridge.commands.options import read_changes


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("execution.path=plain", "plain"),
        ("execution.path=shared", "shared"),
        ("dataset.path=rows.jsonl", str(Path("rows.jsonl").resolve())),
        ("translators.42=a.safetensors", str(Path("a.safetensors").resolve())),
        ("sender.model=lab/model", "lab/model"),
        ("sender.model=./model", str(Path("model").resolve())),
        ("limit=3", 3),
        ("name=path", "path"),
    ],
)
def test_only_paths_are_made_absolute(change: str, value: object) -> None:
    assert list(read_changes([change]).values()) == [value]
