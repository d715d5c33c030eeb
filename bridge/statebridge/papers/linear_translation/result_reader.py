"""Published result files of arXiv 2606.03280 (schema `h1_final_runner.v1`): names and reading.

A file is one cell, named `h1_{condition}_{fwd|rev}_{seedN|deterministic}[_alpha1p0].json`.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from statebridge.data.strict_json import JsonError, parse
from statebridge.errors import ResultError
from statebridge.experiment.conditions import Condition, DeclaredCondition
from statebridge.experiment.presets import named_condition
from statebridge.records import CellResult, LaneResult, ResultSet

SCHEMA_VERSIONS = ("h1_final_runner.v1",)
"""The schema versions that can be read; the last one is written."""

FILES = "h1_*.json"
_FILE_NAME = re.compile(
    r"h1_(?P<condition>.+)_(?P<direction>fwd|rev)_(?:deterministic|seed(?P<seed>\d+))"
    r"(?:_alpha[0-9p]+)?\.json"
)
_WITH_ALPHA = (
    "best_alpha",
    "scale_corrected",
    "shuffled_translation",
    "shuffled_translation_strict_matched",
)
"""Conditions whose file name ends in their alpha."""


class _Block(BaseModel):
    """Part of a file; fields that no record has are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False, frozen=True)


class _Row(_Block):
    idx: int | None = None
    sample_id: Annotated[str, Field(min_length=1)]
    gold: str
    prediction: str | None
    prompt_len_a: int | None = None
    prompt_len_b: int | None = None
    token_ids_match: bool | None = None
    seq_len_match: bool | None = None
    translated_norm_mean: float | None = None
    b_hidden_norm_mean: float | None = None
    injected_norm_mean: float | None = None
    shuffle_donor_idx: int | None = None
    shuffle_self_fallback: bool | None = None
    relay: str | None = None
    sender_prompt_len: int | None = None


class _Config(_Block):
    clean_eval_hash: str | None = None
    n_samples: int | None = None
    source_clean_eval_n_samples: int | None = None
    max_length: int | None = None
    generation: dict[str, Any] = {}
    sender_generation: dict[str, Any] | None = None


class _File(_Block):
    condition: Annotated[str, Field(min_length=1)]
    direction: Literal["fwd", "rev"]
    seed: int | None
    config: _Config = _Config()
    models: dict[str, Any] = {}
    injection: dict[str, Any] = {}
    per_sample: list[_Row]


def read_published(paths: Path | str | Iterable[Path | str], *, strict: bool = True) -> ResultSet:
    """Read published files, or folders of them (`h1_*.json`), into a result set.

    The order of the paths does not matter: cells are sorted by direction, condition and seed,
    rows stay as in the file. A path given twice is read once. A null prediction is kept as
    None. A file with fewer rows than it says it ran over gives a cell that is not `complete`.

    With `strict=False`, a file without rows, a row id given twice in one file, and a
    condition and seed given twice are let through, for a validation that reports all of them.

    Raises:
        ResultError: A missing path, a folder without such files, a file that is not JSON,
            has another schema version, lacks a field, contradicts its own name, or (strict)
            has no row, a row twice, or is the second of its condition and seed.
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    files = {path.resolve(): path for given in listed for path in _files(Path(given))}
    cells = [_read_cell(path, strict=strict) for path in files.values()]
    cells.sort(key=lambda cell: cell.order)
    if strict:
        for cell, following in itertools.pairwise(cells):
            if (cell.direction, cell.name) == (following.direction, following.name):
                raise ResultError(
                    f"{following.source}: {cell.name} ({cell.direction}) was already given in "
                    f"{cell.source}; give each condition and seed once"
                )
    if not cells:
        raise ResultError("no result file was given; give files named h1_*.json or their folder")
    return ResultSet(cells)


def _files(path: Path) -> Sequence[Path]:
    if path.is_dir():
        found = sorted(path.glob(FILES))
        if not found:
            raise ResultError(f"{path}: the folder holds no published result file (h1_*.json)")
        return found
    if not path.exists():
        raise ResultError(f"{path}: no such file or folder; give a result file or its folder")
    return [path]


def _read_cell(path: Path, *, strict: bool) -> CellResult:
    file = _parsed(path)
    _check_file_name(path, file)
    counts = Counter(row.sample_id for row in file.per_sample)
    if strict and not counts:
        raise ResultError(f"{path}: per_sample is empty; a result needs at least one row")
    twice = next((row_id for row_id, count in counts.items() if count > 1), None)
    if strict and twice is not None:
        raise ResultError(
            f"{path}: row {twice!r} is there {counts[twice]} times; each row may be there once"
        )
    by_index = {
        position if row.idx is None else row.idx: row.sample_id
        for position, row in enumerate(file.per_sample)
    }
    config = file.config
    decoding = dict(config.generation)
    if config.max_length is not None:
        decoding["max_prompt_tokens"] = config.max_length
    if config.sender_generation is not None:
        decoding["sender_generation"] = config.sender_generation
    excluded = file.injection.get("shuffle_excluded_singleton_count")
    return CellResult(
        condition=_condition(file),
        seed=file.seed,
        direction=file.direction,
        lanes=[_row_result(path, row, by_index) for row in file.per_sample],
        source=path,
        dataset_sha256=config.clean_eval_hash,
        decoding=decoding,
        models=file.models,
        published_injection=file.injection,
        complete=config.n_samples is None or len(file.per_sample) >= config.n_samples,
        source_rows=config.source_clean_eval_n_samples,
        excluded_rows=excluded if isinstance(excluded, int) else None,
    )


def _condition(file: _File) -> DeclaredCondition:
    """The condition that a file names, at its strength (`alpha` or `scale`)."""
    condition = named_condition(file.condition)
    strength = file.injection.get("alpha")
    if strength is None:
        strength = file.injection.get("scale")
    if (
        isinstance(condition, Condition)
        and isinstance(strength, int | float)
        and not isinstance(strength, bool)
    ):
        return condition.model_copy(update={"weight": float(strength)})
    return condition


def _parsed(path: Path) -> _File:
    try:
        payload = parse(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ResultError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ResultError(f"{path}: byte {error.start + 1} is not UTF-8; is it JSON?") from None
    except JsonError as fault:
        place = f", line {fault.line}, column {fault.column}" if fault.line else ""
        raise ResultError(f"{path}{place}: {fault.problem}") from None
    if not isinstance(payload, dict):
        raise ResultError(f"{path}: is not a JSON object; a result file is one")
    if payload.get("schema_version") not in SCHEMA_VERSIONS:
        raise ResultError(
            f"{path}: schema_version is {payload.get('schema_version')!r}; "
            f"accepted: {', '.join(SCHEMA_VERSIONS)}"
        )
    try:
        return _File.model_validate(payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        raise ResultError(f"{path}: {_fault(payload, first['loc'], first['msg'])}") from None


def _fault(payload: Mapping[str, Any], where: tuple[int | str, ...], problem: str) -> str:
    """Return in words which field of which row is wrong, and how."""
    field = ".".join(str(part) for part in where)
    if where[0] == "per_sample" and len(where) > 2:
        row = payload["per_sample"][where[1]]
        field = f"{where[2]} of row {where[1]}"
        if where[2] != "sample_id":
            field += f" ({row.get('sample_id')!r})"
    if problem == "Field required":
        return f"{field} is missing"
    return f"{field} is wrong: {problem[0].lower()}{problem[1:]}"


def _check_file_name(path: Path, file: _File) -> None:
    """Compare what a file says with its name, where it has a published name."""
    named = _FILE_NAME.fullmatch(path.name)
    if named is None:
        return
    seed = None if named["seed"] is None else int(named["seed"])
    inside = {"condition": file.condition, "direction": file.direction, "seed": file.seed}
    outside = {"condition": named["condition"], "direction": named["direction"], "seed": seed}
    for key, value in inside.items():
        if value != outside[key]:
            raise ResultError(
                f"{path}: {key} is {value!r} in the file but {outside[key]!r} in its name; "
                "one of the two is wrong"
            )


def _row_result(path: Path, row: _Row, by_index: Mapping[int, str]) -> LaneResult:
    donor = row.shuffle_donor_idx
    if donor is not None and donor not in by_index:
        raise ResultError(
            f"{path}: shuffle_donor_idx of row {row.sample_id!r} is {donor}, "
            "the idx of no row of the file"
        )
    return LaneResult(
        row_id=row.sample_id,
        gold=row.gold,
        prediction=row.prediction,
        prompt_len_sender=row.prompt_len_a,
        prompt_len_receiver=row.prompt_len_b,
        token_ids_match=row.token_ids_match,
        seq_len_match=row.seq_len_match,
        translated_norm_mean=row.translated_norm_mean,
        receiver_norm_mean=row.b_hidden_norm_mean,
        injected_norm_mean=row.injected_norm_mean,
        donor_row_id=None if donor is None else by_index[donor],
        donor_self_fallback=row.shuffle_self_fallback,
        relay=row.relay,
        relay_prompt_len=row.sender_prompt_len,
    )


def published_file_name(cell: CellResult) -> str:
    """Return the published name of a cell's file."""
    seed = "deterministic" if cell.seed is None else f"seed{cell.seed}"
    alpha = None
    if cell.condition.name in _WITH_ALPHA and cell.published_injection is not None:
        alpha = cell.published_injection.get("alpha")
    elif cell.condition.name in _WITH_ALPHA and isinstance(cell.condition, Condition):
        alpha = cell.condition.weight
    suffix = "" if alpha is None else f"_alpha{alpha}".replace(".", "p")
    return f"h1_{cell.condition.name}_{cell.direction}_{seed}{suffix}.json"
