from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from statebridge.errors import ResultError
from statebridge.experiment.presets import PUBLISHED
from statebridge.papers.linear_translation.result_reader import published_file_name, read_published
from statebridge.papers.linear_translation.result_writer import published_injection, write_published
from statebridge.records import CellResult, DatasetRow, LaneResult
from tests.shared_data import SHARED, needs_shared


def row(index: int, **fields: Any) -> dict[str, Any]:
    return {
        "idx": index,
        "sample_id": f"row{index}",
        "gold": "Asia",
        "prediction": "It is Asia",
        "prompt_len_b": 45,
        **fields,
    }


def payload(**fields: Any) -> dict[str, Any]:
    return {
        "schema_version": "h1_final_runner.v1",
        "condition": "replace",
        "direction": "fwd",
        "seed": 42,
        "config": {"clean_eval_hash": "ab" * 32, "generation": {"max_new_tokens": 64}},
        "models": {"model_a": "a", "model_b": "b", "layer_a": "x.8", "layer_b": "x.16"},
        "injection": {"mode": "replace"},
        "per_sample": [row(0), row(1)],
        **fields,
    }


def write(folder: Path, content: Any, name: str = "h1_replace_fwd_seed42.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_fields_of_a_file_become_fields_of_a_cell(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        payload(
            per_sample=[
                row(
                    0,
                    prompt_len_a=44,
                    token_ids_match=True,
                    seq_len_match=False,
                    translated_norm_mean=0.9,
                    b_hidden_norm_mean=68,
                    injected_norm_mean=0.009,
                )
            ]
        ),
    )
    (cell,) = read_published(path).cells
    assert (cell.condition.name, cell.direction, cell.seed) == ("replace", "fwd", 42)
    assert cell.dataset_sha256 == "ab" * 32
    assert cell.decoding == {"max_new_tokens": 64}
    assert cell.complete
    assert cell.lanes == [
        LaneResult(
            "row0",
            "Asia",
            "It is Asia",
            prompt_len_sender=44,
            prompt_len_receiver=45,
            token_ids_match=True,
            seq_len_match=False,
            translated_norm_mean=0.9,
            receiver_norm_mean=68.0,
            injected_norm_mean=0.009,
        )
    ]


def test_relay_fields(tmp_path: Path) -> None:
    relay = row(0, relay="Key facts", sender_prompt_len=31, prompt_len_b=145)
    path = write(
        tmp_path,
        payload(condition="nl_relay", seed=None, per_sample=[relay]),
        "h1_nl_relay_fwd_deterministic.json",
    )
    (found,) = read_published(path).cells[0].lanes
    assert (found.relay, found.relay_prompt_len) == ("Key facts", 31)
    assert (found.prompt_len_sender, found.prompt_len_receiver) == (None, 145)


def test_donors_are_named_by_the_index_in_the_whole_dataset(tmp_path: Path) -> None:
    # The strict shuffle leaves rows out but numbers the others as in the dataset.
    rows = [
        row(3, shuffle_donor_idx=7, shuffle_self_fallback=False),
        row(7, shuffle_donor_idx=3, shuffle_self_fallback=False),
    ]
    content = payload(
        condition="shuffled_translation_strict_matched",
        config={"n_samples": 2, "source_clean_eval_n_samples": 10},
        injection={"mode": "replace_scale_corrected", "shuffle_excluded_singleton_count": 8},
        per_sample=rows,
    )
    name = "h1_shuffled_translation_strict_matched_fwd_seed42_alpha1p0.json"
    (cell,) = read_published(write(tmp_path, content, name)).cells
    assert [found.donor_row_id for found in cell.lanes] == ["row7", "row3"]
    assert [found.donor_self_fallback for found in cell.lanes] == [False, False]
    assert (cell.source_rows, cell.excluded_rows) == (10, 8)


def test_null_prediction_is_kept_as_none(tmp_path: Path) -> None:
    path = write(tmp_path, payload(per_sample=[row(0, prediction=None), row(1)]))
    assert [found.prediction for found in read_published(path).cells[0].lanes] == [
        None,
        "It is Asia",
    ]


def test_a_truncated_file_is_not_complete(tmp_path: Path) -> None:
    path = write(tmp_path, payload(config={"n_samples": 3}))
    assert not read_published(path).cells[0].complete


def test_order_and_repetition_of_paths_do_not_matter(tmp_path: Path) -> None:
    names = [("fwd", 123), ("fwd", 42), ("rev", 42)]
    paths = [
        write(tmp_path, payload(direction=d, seed=s), f"h1_replace_{d}_seed{s}.json")
        for d, s in names
    ]
    (tmp_path / "notes.json").write_text("not a result")
    expected = read_published(tmp_path)
    assert [(cell.direction, cell.seed) for cell in expected.cells] == [
        ("fwd", 42),
        ("fwd", 123),
        ("rev", 42),
    ]
    assert read_published([*reversed(paths), tmp_path, paths[0]]) == expected


BAD = {
    "not JSON": ("{", "line 1, column 2: not JSON"),
    "not an object": ([], "is not a JSON object"),
    "NaN": ('{"seed": NaN}', "holds NaN"),
    "other version": (
        payload(schema_version="h1_final_runner.v2"),
        "schema_version is 'h1_final_runner.v2'; accepted: h1_final_runner.v1",
    ),
    "no version": (
        {k: v for k, v in payload().items() if k != "schema_version"},
        "schema_version is None; accepted",
    ),
    "no rows field": (
        {k: v for k, v in payload().items() if k != "per_sample"},
        "per_sample is missing",
    ),
    "rows no list": (payload(per_sample={}), "per_sample is wrong: input should be a valid list"),
    "no seed": ({k: v for k, v in payload().items() if k != "seed"}, "seed is missing"),
    "zero rows": (payload(per_sample=[]), "per_sample is empty"),
    "row twice": (payload(per_sample=[row(0), row(1), row(0)]), "row 'row0' is there 2 times"),
    "row without gold": (
        payload(per_sample=[row(0), {k: v for k, v in row(1).items() if k != "gold"}]),
        "gold of row 1 ('row1') is missing",
    ),
    "row without prediction": (
        payload(per_sample=[{k: v for k, v in row(0).items() if k != "prediction"}]),
        "prediction of row 0 ('row0') is missing",
    ),
    "row without id": (
        payload(per_sample=[{k: v for k, v in row(0).items() if k != "sample_id"}]),
        "sample_id of row 0 is missing",
    ),
    "row no object": (payload(per_sample=["Asia"]), "per_sample.0 is wrong: input should be"),
    "number as prediction": (
        payload(per_sample=[row(0, prediction=4)]),
        "prediction of row 0 ('row0') is wrong: input should be a valid string",
    ),
    "text as length": (
        payload(per_sample=[row(0, prompt_len_b="45")]),
        "prompt_len_b of row 0 ('row0') is wrong: input should be a valid integer",
    ),
    "other condition": (payload(condition="additive"), "condition is 'additive' in the file but"),
    "other direction": (payload(direction="rev"), "direction is 'rev' in the file but 'fwd'"),
    "other seed": (payload(seed=43), "seed is 43 in the file but 42 in its name"),
    "unknown direction": (payload(direction="up"), "direction is wrong: input should be 'fwd'"),
    "donor outside": (
        payload(per_sample=[row(0, shuffle_donor_idx=9)]),
        "shuffle_donor_idx of row 'row0' is 9, the idx of no row",
    ),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_refused_in_one_line(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ResultError) as caught:
        read_published(path)
    text = str(caught.value)
    assert message in text
    assert str(path) in text
    assert "\n" not in text


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "h1_replace_fwd_seed42.json"
    path.write_bytes(b'{"seed": "\xff"}')
    with pytest.raises(ResultError, match="byte 11 is not UTF-8"):
        read_published(path)


def test_missing_paths_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="no such file or folder"):
        read_published(tmp_path / "nowhere")
    with pytest.raises(ResultError, match="holds no published result file"):
        read_published(tmp_path)
    with pytest.raises(ResultError, match="no result file was given"):
        read_published([])


def test_the_same_condition_and_seed_twice_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path, payload())
    second = write(tmp_path, payload(), "copy.json")
    with pytest.raises(ResultError, match="was already given in"):
        read_published([first, second])
    assert len(read_published([first, second], strict=False).cells) == 2


def test_not_strict_lets_a_validation_see_the_rows(tmp_path: Path) -> None:
    twice = write(tmp_path, payload(per_sample=[row(0), row(0)]))
    empty = write(tmp_path, payload(seed=43, per_sample=[]), "h1_replace_fwd_seed43.json")
    cells = read_published([twice, empty], strict=False).cells
    assert [len(cell.lanes) for cell in cells] == [2, 0]


NAMES = {
    "no_inject": "h1_no_inject_fwd_deterministic.json",
    "nl_relay": "h1_nl_relay_fwd_deterministic.json",
    "additive": "h1_additive_fwd_seed42.json",
    "replace": "h1_replace_fwd_seed42.json",
    "scale_corrected": "h1_scale_corrected_fwd_seed42_alpha1p0.json",
    "best_alpha": "h1_best_alpha_fwd_seed42_alpha0p3.json",
    "b_to_b_self_inject": "h1_b_to_b_self_inject_fwd_deterministic.json",
    "same_norm_random": "h1_same_norm_random_fwd_seed42.json",
    "shuffled_translation": "h1_shuffled_translation_fwd_seed42_alpha1p0.json",
    "shuffled_translation_strict_matched": (
        "h1_shuffled_translation_strict_matched_fwd_seed42_alpha1p0.json"
    ),
    "zero_replacement": "h1_zero_replacement_fwd_deterministic.json",
}
MODES: dict[str, dict[str, Any]] = {
    "no_inject": {"mode": "none"},
    "nl_relay": {"mode": "natural_language"},
    "additive": {"mode": "additive", "scale": 0.01, "alpha": None},
    "replace": {"mode": "replace", "scale": None, "alpha": None},
    "scale_corrected": {"mode": "replace_scale_corrected", "alpha": 1.0},
    "best_alpha": {"mode": "replace_scale_corrected", "alpha": 0.3},
    "b_to_b_self_inject": {"mode": "replace", "source": "receiver_self"},
    "same_norm_random": {"source": "random_direction", "alpha": 1.0},
    "shuffled_translation": {
        "shuffle_injection_mode": "scale_corrected",
        "shuffle_excluded_singleton_count": 0,
    },
    "shuffled_translation_strict_matched": {"shuffle_excluded_singleton_count": 13},
    "zero_replacement": {"mode": "replace", "source": "zero_vector"},
}


def run_cell(name: str) -> CellResult:
    """A cell as a run directory gives it, of one of the published conditions."""
    condition = PUBLISHED[name]
    donor = "row1" if condition.source == "shuffled" else None
    return CellResult(
        condition=condition,
        seed=42 if condition.seeded else None,
        direction="fwd",
        lanes=[
            LaneResult(
                "row1",
                "Asia",
                "In Asia.",
                token_ids=(1, 2),
                prompt_len_sender=45,
                prompt_len_receiver=45,
                token_ids_match=True,
                seq_len_match=True,
                translated_norm_mean=0.5,
                receiver_norm_mean=68.0,
                injected_norm_mean=0.5,
                donor_row_id=donor,
                donor_self_fallback=None if donor is None else True,
                relay="facts" if name == "nl_relay" else None,
                relay_prompt_len=31 if name == "nl_relay" else None,
                gold_logprob=-3.0,
            )
        ],
        source=Path("run"),
        dataset_sha256="cd" * 32,
        decoding={
            "max_new_tokens": 64,
            "relay_max_new_tokens": 128,
            "repetition_penalty": 1.3,
            "no_repeat_ngram_size": 3,
            "max_prompt_tokens": 256,
        },
        models={"model_a": "a", "model_b": "b", "layer_a": "x.8", "layer_b": "x.16"},
        source_rows=14,
        excluded_rows=13 if name.endswith("strict_matched") else 0,
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_run_of_every_published_condition_can_be_written(name: str, tmp_path: Path) -> None:
    cell = run_cell(name)
    assert published_file_name(cell) == NAMES[name]
    assert MODES[name].items() <= published_injection(cell).items()
    dataset = {f"row{i}": DatasetRow(f"row{i}", "", "?", "Asia") for i in range(2)}
    written = write_published(cell, created_at="now", elapsed_sec=1.5, dataset=dataset)
    (back,) = read_published(write(tmp_path, written, published_file_name(cell))).cells
    assert written["per_sample"][0]["idx"] == 1
    assert written["config"]["generation"]["max_new_tokens"] == 64
    if name == "nl_relay":
        assert written["config"]["sender_generation"]["max_new_tokens"] == 128
    else:
        assert written["config"]["sender_generation"] is None
    (kept,) = back.lanes
    (given,) = cell.lanes
    absent: dict[str, Any] = {"token_ids": None, "gold_logprob": None}
    if name in ("no_inject", "nl_relay"):
        absent |= dict.fromkeys(
            (
                "token_ids_match",
                "seq_len_match",
                "translated_norm_mean",
                "receiver_norm_mean",
                "injected_norm_mean",
            )
        )
    if PUBLISHED[name].source not in ("translated", "shuffled"):
        absent["prompt_len_sender"] = None
    assert kept == replace(given, **absent)


def test_models_of_conditions_without_sender() -> None:
    def models(name: str) -> dict[str, str | None]:
        written = write_published(run_cell(name), created_at="now", elapsed_sec=1.0)
        found: dict[str, str | None] = written["models"]
        return found

    assert models("no_inject")["layer_a"] is None
    assert models("b_to_b_self_inject") == {
        "model_a": "b",
        "model_b": "b",
        "layer_a": "x.16",
        "layer_b": "x.16",
    }
    assert models("same_norm_random")["model_a"] == "random_direction"
    assert models("zero_replacement")["layer_a"] is None


def test_what_cannot_be_written_is_refused() -> None:
    cell = run_cell("replace")

    def varied(**changes: Any) -> CellResult:
        return replace(cell, condition=PUBLISHED["replace"].model_copy(update=changes))

    mean = varied(operator="mean")
    with pytest.raises(ResultError, match=r"operator mean.* cannot be written"):
        write_published(mean, created_at="now", elapsed_sec=1.0)
    blend = varied(weight=0.5)
    with pytest.raises(ResultError, match="cannot be written"):
        write_published(blend, created_at="now", elapsed_sec=1.0)
    undecoded = replace(cell, lanes=[replace(cell.lanes[0], prediction=None)])
    with pytest.raises(ResultError, match="row 'row1' has no prediction"):
        write_published(undecoded, created_at="now", elapsed_sec=1.0)
    with pytest.raises(ResultError, match="has no row"):
        write_published(replace(cell, lanes=[]), created_at="now", elapsed_sec=1.0)
    with pytest.raises(ResultError, match="models lacks model_a"):
        write_published(replace(cell, models={}), created_at="now", elapsed_sec=1.0)
    with pytest.raises(ResultError, match="unknown key 'teir'; did you mean tier"):
        write_published(cell, created_at="now", elapsed_sec=1.0, config={"teir": 1})
    other = {"row0": DatasetRow("row0", "", "?", "Asia")}
    with pytest.raises(ResultError, match="row 'row1' is not in the dataset"):
        write_published(cell, created_at="now", elapsed_sec=1.0, dataset=other)


@needs_shared
@pytest.mark.parametrize("path", sorted((SHARED / "published").glob("h1_*.json")), ids=str)
def test_the_published_files_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    original = json.loads(path.read_text(encoding="utf-8"))
    (cell,) = read_published(path).cells
    assert published_file_name(cell) == path.name
    dataset = {
        row["sample_id"]: DatasetRow(
            row["sample_id"],
            "",
            "",
            row["gold"],
            {key: row[key] for key in ("source_eval_index", "source_component_file")},
        )
        for row in original["per_sample"]
    }
    config_keys = ("tier", "task", "test_file", "clean_eval_version", "layer_rel", "device")
    written = write_published(
        cell,
        created_at=original["created_at"],
        elapsed_sec=original["elapsed_sec"],
        dataset=dataset,
        config={key: original["config"][key] for key in config_keys},
        checkpoint=original["checkpoint"],
    )
    # Every key, its place and its value, recomputed aggregates included, to the bit.
    assert json.dumps(written) == json.dumps(original)
    copy = write(tmp_path, written, path.name)
    (back,) = read_published(copy).cells
    assert replace(back, source=path) == cell


@needs_shared
def test_the_published_folder() -> None:
    results = read_published(SHARED / "published")
    assert [cell.name for cell in results.cells] == [
        "additive/seed42",
        "additive/seed123",
        "additive/seed456",
        "nl_relay",
        "no_inject",
        "replace/seed42",
        "replace/seed123",
        "replace/seed456",
    ]
    assert {len(cell.lanes) for cell in results.cells} == {396}
    assert all(cell.complete for cell in results.cells)
