"""`statebridge layer-search` and its report, on a tiny saved pair, as a person calls them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from statebridge.commands import main
from tests.bridge.layer_search.declared import EXPERIMENT
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pair")
    for name, seed, layers, hidden, heads in (("sender", 1, 3, 24, 3), ("receiver", 2, 4, 32, 4)):
        model = tiny_neox(seed=seed, layers=layers, hidden=hidden, heads=heads)
        save_pair_folder(model, tiny_tokenizer(), made / name)
    (made / "e.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    plain = {k: v for k, v in EXPERIMENT.items() if k != "layer_search"}
    (made / "plain.yaml").write_text(yaml.safe_dump(plain))
    return made


@pytest.fixture
def call(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["statebridge", *map(str, words)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.mark.slow
def test_a_layer_search_and_its_report(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "layer_search"
    one_way = ("--set", "layer_search.receiver_layers=[2]", "--set", "seeds=[42]")
    code, printed, err = call("layer-search", "e.yaml", "--out", out, *one_way, "--json")
    assert code == 0, err
    answer = json.loads(printed)
    assert (answer["pairs"], answer["resumed_lanes"]) == (2, 0)
    assert answer["choice"]["chosen"]["condition"] in ("private_last", "half")
    code, printed, err = call("layer-search", "e.yaml", "--out", out, *one_way)
    assert code == 0, err
    assert "rows that had no part in the choice" in printed
    assert f"{answer['lanes']} were there already" in printed
    code, printed, err = call("report", out, "--out", tmp_path / "report", "--no-figures", "--json")
    assert code == 0, err
    names = [Path(file).name for file in json.loads(printed)["files"]]
    assert names == ["report.html", "report.md", "cells.csv"]
    # A run of the layer search is an ordinary run directory.
    assert call("score", out / "s00-r02")[0] == 0
    code, _, err = call("report", out, out / "s00-r02", "--out", tmp_path / "both")
    assert (code, err) == (
        2, "error: a layer search is reported on alone; give its directory and no other\n",
    )  # fmt: skip
    code, _, err = call("report", out, "--out", tmp_path / "both", "--layer-run", out / "s00-r02")
    assert (code, err) == (2, "error: --layer-run does not go with a layer search; leave it out\n")


def test_wrong_files_are_refused_in_one_line(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, _, err = call("run", "e.yaml", "--out", out)
    assert code == 2
    assert err.count("\n") == 1
    assert "start the file with `statebridge layer-search`" in err
    code, _, err = call("layer-search", "plain.yaml", "--out", out)
    assert code == 2
    assert err.count("\n") == 1
    assert "layer_search: missing; declare the layers to search" in err
    code, _, err = call("layer-search", "e.yaml", "--out", out, "--limit", "12")
    assert code == 2
    assert "each needs 10" in err
    assert not out.exists()
