"""Tasks of lm-evaluation-harness, as its YAML files declare them (lm_eval 0.4.13, `TaskConfig`).

Fields that are read: `dataset_path`, `dataset_name`, `dataset_kwargs` (`data_files`, `revision`),
`test_split`, `validation_split`, `doc_to_text`, `doc_to_target`, `doc_to_choice`, `description`,
`output_type`, `generation_kwargs.until`, `filter_list`, `metric_list`, `include`. A task that needs
Python code (`!function`) is refused.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment

from statebridge.data.answers import ALIASES, OPTIONS, SCORING, SETTINGS, join_names
from statebridge.data.files import read_text
from statebridge.data.hub import HubData, hub_files
from statebridge.data.jsonl import iter_records
from statebridge.data.rows import Place, make_row
from statebridge.errors import DatasetError, nearest
from statebridge.records import DatasetRow

_CODE = ("process_docs", "process_results", "custom_dataset", "class", "use_prompt", "group")
_NOT_READ = ("fewshot_config", "metric_list", "doc_to_decontamination_query", "metadata")
"""Fields in which code does no harm: they are not read, or only the names of metrics are."""
_LOCAL = ("json", "csv", "parquet", "arrow")
"""Values of `dataset_path` that name a kind of file rather than a data set of the hub."""

_JINJA = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
_JINJA.filters["regex_replace"] = lambda text, pattern, new, count=0: re.sub(
    pattern, new, text, count=count
)


class _Loader(yaml.SafeLoader):
    """YAML in which `!function` is kept as a mark."""


class _Code(str):
    """Name of a Python function, as `!function` gives it."""

    __slots__ = ()


_Loader.add_constructor("!function", lambda _, node: _Code(str(node.value)))


def iter_lm_eval(
    path: Path, *, context: str = "", filter: str = "", fewshot: str = ""
) -> Iterator[tuple[Place, DatasetRow]]:
    """Yield the rows of a task: its prompt as the question, its target as the answer.

    Attributes: aliases (further targets), options (of a multiple-choice task), and, of a task that
    generates, scoring `harness` with its settings.

    Args:
        path: The YAML file.
        context: Field of a document, or template, whose text is the row's context: it is taken out
            of the prompt, so that it can be private to the sender. Without it the context is empty.
        filter: Name of the filter of `filter_list`; the first if not given.
        fewshot: `none` leaves out the examples that a task with `num_fewshot` puts in its prompt.

    Raises:
        DatasetError: The file cannot be read, the task needs code or is of another kind, or a
            document does not fit it.
    """
    task = _read_task(path)
    _check(path, task, fewshot)
    settings = _settings(path, task, filter)
    for index, (place, document) in enumerate(_documents(path, task)):
        try:
            yield place, _row(task, document, place, f"doc_{index:06d}", context, settings)
        except DatasetError:
            raise
        except Exception as error:  # a template computes, and may raise anything
            raise DatasetError(
                f"{place}: does not fit task {path}: {type(error).__name__}: {error}"
            ) from None


def _read_task(path: Path, depth: int = 0) -> dict[str, Any]:
    try:
        held = yaml.load(read_text(path), Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise DatasetError(f"{path}: not YAML: {' '.join(str(error).split()):.160}") from None
    if not isinstance(held, dict):
        raise DatasetError(f"{path}: holds no row and no task; give the YAML file of a task")
    included = held.pop("include", None)
    if included is None:
        return held
    if depth == 9:
        raise DatasetError(f"{path}: includes files that include each other")
    return _read_task(path.parent / str(included), depth + 1) | held


def _check(path: Path, task: Mapping[str, Any], fewshot: str) -> None:
    """Refuse what would need code or another kind of prompt."""
    for name, value in _flat({key: task[key] for key in task if key not in _NOT_READ}):
        if isinstance(value, _Code):
            raise DatasetError(
                f"{path}: {name} is Python code (!function {value}), which is not run; write the "
                "rows into a file, and name its fields"
            )
    for name in (*_CODE, "gen_prefix"):
        if task.get(name) is not None:
            raise DatasetError(f"{path}: {name} is not read; write the rows into a file")
    kind = task.get("output_type", "generate_until")
    if kind not in ("generate_until", "multiple_choice"):
        raise DatasetError(
            f"{path}: output_type {kind} has no answer to a question; give a task of "
            "generate_until or multiple_choice"
        )
    needed = ["dataset_path", "doc_to_text", "doc_to_target"]
    needed += ["doc_to_choice"] if kind == "multiple_choice" else []
    lacking = next((name for name in needed if task.get(name) is None), None)
    if lacking is not None:
        raise DatasetError(f"{path}: has no {lacking}; give the YAML file of a task")
    if fewshot not in ("", "none"):
        raise DatasetError(f"option fewshot: {fewshot!r}: give none, or leave it out")
    if task.get("num_fewshot") and not fewshot:
        raise DatasetError(
            f"{path}: puts {task['num_fewshot']} examples in its prompt (num_fewshot), which are "
            "not made here; leave them out with options: {fewshot: none}"
        )


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, held in value.items():
            yield from _flat(held, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for held in value:
            yield from _flat(held, name)
    else:
        yield name, value


def _settings(path: Path, task: Mapping[str, Any], filter: str) -> str | None:
    """Return how a generated text is scored, as JSON; None of a multiple-choice task."""
    metrics = {str(held.get("metric")): held for held in task.get("metric_list") or ()}
    if task.get("output_type") == "multiple_choice":
        return None
    if "exact_match" not in metrics:
        raise DatasetError(
            f"{path}: is scored by {', '.join(metrics) or 'no metric'}, not by exact_match; write "
            "the rows into a file, and name a scoring convention"
        )
    filters = {str(held["name"]): held["filter"] for held in task.get("filter_list") or ()}
    if filter and filter not in filters:
        raise DatasetError(f"option filter: {filter!r}: {nearest(filter, filters)}")
    steps: list[dict[str, Any]] = filters.get(filter) or next(iter(filters.values()), [])
    unknown = [s["function"] for s in steps if s["function"] not in (*FILTERS, "take_first")]
    if unknown:
        raise DatasetError(
            f"{path}: filter {unknown[0]} is not one of {', '.join(FILTERS)}; choose another with "
            "options: {filter: NAME}"
        )
    until = (task.get("generation_kwargs") or {}).get("until", ["\n\n"])
    kept = ("ignore_case", "ignore_punctuation", "ignore_numbers", "regexes_to_ignore")
    found = {
        "until": [until] if isinstance(until, str) else until,
        "filters": [step for step in steps if step["function"] != "take_first"],
        **{name: metrics["exact_match"][name] for name in kept if name in metrics["exact_match"]},
    }
    return json.dumps(found, ensure_ascii=False, sort_keys=True)


FILTERS = ("regex", "remove_whitespace", "lowercase", "uppercase", "map")
"""Filters of a text that the convention `harness` knows, besides `take_first`."""


def _documents(path: Path, task: Mapping[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    given = task.get("dataset_kwargs") or {}
    split = task.get("test_split") or task.get("validation_split")
    if split is None:
        raise DatasetError(f"{path}: has neither test_split nor validation_split; give one")
    name, files = str(task["dataset_path"]), given.get("data_files")
    if files is None and name not in _LOCAL:
        held = HubData(name, task.get("dataset_name"), str(split), given.get("revision"))
        found = hub_files(held)
    else:
        named = files.get(split) if isinstance(files, dict) else files
        if named is None:
            raise DatasetError(f"{path}: dataset_kwargs.data_files names no file of {split}")
        found = [path.parent / str(one) for one in ([named] if isinstance(named, str) else named)]
    for file in found:
        yield from iter_records(file)


def _row(
    task: Mapping[str, Any],
    document: dict[str, Any],
    place: Place,
    row_id: str,
    context: str,
    settings: str | None,
) -> DatasetRow:
    text = _rendered(str(task.get("description") or ""), document)
    text += str(_value(task["doc_to_text"], document))
    private = "" if not context else str(_value(context, document)).strip()
    if private:
        before, found, after = text.partition(private)
        if not found:
            raise DatasetError(
                f"{place}: the text of option context ({context}) is not in the prompt; name a "
                "field that doc_to_text shows as it is"
            )
        text = (before + after).lstrip()
    choices = _choices(task.get("doc_to_choice"), document)
    golds = _targets(_value(task["doc_to_target"], document), choices)
    attributes: dict[str, str] = {}
    if len(golds) > 1:
        attributes[ALIASES] = join_names(golds[1:])
    if task.get("output_type") == "multiple_choice":
        attributes[OPTIONS] = join_names(choice.strip() for choice in choices)
    if settings is not None:
        attributes |= {SCORING: "harness", SETTINGS: settings}
    return make_row(
        place,
        row_id=row_id,
        context=private,
        question=text,
        answer=golds[0],
        attributes=attributes,
    )


def _rendered(template: str, document: Mapping[str, Any]) -> str:
    return _JINJA.from_string(template).render(**document)


def _value(declared: Any, document: Mapping[str, Any]) -> Any:
    """Return the value of a field's name, a template, or what is not a text as it is."""
    if not isinstance(declared, str):
        return declared
    return document[declared] if declared in document else _rendered(declared, document)


def _choices(declared: Any, document: Mapping[str, Any]) -> list[str]:
    found = list(declared.values()) if isinstance(declared, dict) else _value(declared, document)
    if isinstance(found, str):
        found = ast.literal_eval(found)
    return [] if found is None else [str(choice) for choice in found]


def _targets(found: Any, choices: list[str]) -> list[str]:
    """Return the right answers; of a task with choices a target may be the place of one."""
    if isinstance(found, str):
        with suppress(ValueError, SyntaxError):
            read = ast.literal_eval(found) if found.startswith("[") else found
            found = int(found) if choices and found.isdigit() else read
    targets = found if isinstance(found, list) else [found]
    if choices:
        targets = [t if isinstance(t, str) else choices[int(t)] for t in targets]
    return list(dict.fromkeys(str(target).strip() for target in targets))
