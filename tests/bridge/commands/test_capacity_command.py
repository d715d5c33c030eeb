"""`statebridge capacity` on the taught pair and on a tiny one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from statebridge.commands.capacity import capacity
from statebridge.demo.experiment import taught_control_fields
from statebridge.errors import InputError
from statebridge.stats.information.capacity import Capacity
from tests.tiny_models import save_pair_folder, tiny_neox, tiny_tokenizer

APP = typer.Typer()
APP.command()(capacity)


def run(*words: object) -> str:
    result = CliRunner().invoke(APP, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.mark.slow
def test_the_taught_pair_carries_bits_and_its_controls_none(tmp_path: Path) -> None:
    fields = taught_control_fields(rows=4) | {"name": "bits", "seeds": [42]}
    fields["translators"] = {42: fields["translators"][42]}
    (tmp_path / "bits.json").write_text(json.dumps(fields))
    words = (tmp_path / "bits.json", "--out", tmp_path / "run", "--symbols", "2,8", "--rows", 32)
    found = Capacity.model_validate_json(run(*words, "--json"))
    floor, skyline, channel, control = (
        found.of(name)[1]
        for name in ("question_only", "skyline", "private_last", "private_last_shuffled")
    )
    assert skyline.low > 2
    assert channel.low > 1
    assert max(floor.low, control.low) == 0
    assert channel.sent_bytes == 96 * 4
    assert control.sent_bytes is None
    assert json.loads((tmp_path / "run" / "capacity.json").read_text())["uses"]
    assert (tmp_path / "run" / "capacity.svg").is_file()
    # The same command again takes the rows that are there, and prints the table.
    assert "Bits carried in one use" in run(*words)


@pytest.mark.slow
def test_any_experiment_runs_over_words_as_symbols(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    save_pair_folder(tiny_neox(seed=1, layers=2, hidden=24), tokenizer, tmp_path / "model")
    experiment = {
        "name": "tiny",
        "sender": {"model": "./model", "layer": 1},
        "receiver": {"model": "./model", "layer": 1},
        "dataset": {"path": "no-such-file.jsonl"},
        "conditions": ["question_only", "private_last_self"],
        "decoding": {"max_new_tokens": 2},
        "seeds": [1],
    }
    (tmp_path / "tiny.json").write_text(json.dumps(experiment))
    words = ("--out", tmp_path / "run", "--symbols", "4", "--rows", "4", "--json")
    found = Capacity.model_validate_json(run(tmp_path / "tiny.json", *words))
    assert {use.symbols for use in found.uses} == {4}
    assert max(use.low for use in found.uses) == 0  # a random model names nothing


def test_symbols_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give numbers such as 2,8,32"):
        run(tmp_path / "x.yaml", "--out", tmp_path / "run", "--symbols", "two")


@pytest.mark.parametrize("symbols", ["1", "2,1025"])
def test_a_number_of_symbols_out_of_range_is_refused(symbols: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give numbers of symbols from 2 to 1024"):
        run(tmp_path / "x.yaml", "--out", tmp_path / "run", "--symbols", symbols)
