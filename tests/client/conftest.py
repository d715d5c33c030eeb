"""A tiny saved pair in a folder of its own, and the command to call there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.client.refused_command import EXPERIMENT, ROW, Command


@pytest.fixture(scope="package")
def pristine_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Here, and not above: the tests of the thin client need no torch.
    pytest.importorskip("torch", reason="the base install has no engine")
    from statebridge.translators import save_translator
    from tests.bridge.engine.tiny_experiment import random_translator
    from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

    made = tmp_path_factory.mktemp("pristine")
    shape: dict[str, Any] = {"layers": 2, "heads": 2, "end_share": 0}
    save_pair_folder(tiny_neox(1, hidden=16, **shape), tiny_tokenizer(), made / "sender")
    save_pair_folder(tiny_neox(2, hidden=24, **shape), tiny_tokenizer(), made / "receiver")
    save_translator(random_translator(16, 24, seed=42), made / "seed42.safetensors")
    rows = [ROW, {**ROW, "id": "r1", "context": "Mei in Oslo."}]
    (made / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (made / "mine.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    return made


@pytest.fixture
def own_pair(pristine_pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = tmp_path / "work"
    shutil.copytree(pristine_pair, made)
    monkeypatch.chdir(made)
    return made


@pytest.fixture
def command(
    own_pair: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    # capfd: what a library writes past Python's own streams counts too.
    return Command(monkeypatch, capfd)
