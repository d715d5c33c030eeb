"""Files of lm-evaluation-harness: `samples_TASK_DATE.jsonl` for each cell, and `results_DATE.json`.

The fields are those that lm_eval 0.4.13 writes (`lm_eval.evaluator`,
`lm_eval.loggers.evaluation_tracker`, `lm_eval.result_schema`). A cell is a task.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from statebridge.data.files import atomic_writer, make_folder
from statebridge.errors import ResultError
from statebridge.interchange.samples import (
    Evaluation,
    Sample,
    evaluations,
    model_name,
    run_manifest,
)
from statebridge.records import ResultSet
from statebridge.results.formats import RESULT_FORMATS
from statebridge.scoring.measures import MEASURES

_NAME = "lm-eval"
_FILTER = "none"
"""The filter's name where a response is scored as it is."""


class LmEvalFiles:
    """Sample files of lm-evaluation-harness, a task for each cell, and the file of results."""

    def write(self, results: ResultSet, folder: Path) -> list[Path]:
        """Write the files into a folder of the receiver's name, as the harness does.

        Raises:
            ResultError: Not one run's results, or it decoded no text.
            EnvironmentFault: A file cannot be written.
        """
        manifest = run_manifest(results, _NAME)
        tasks = evaluations(results, _NAME)
        for task in tasks:
            if any(sample.lane.prediction is None for sample in task.samples):
                raise ResultError(
                    f"format {_NAME}: {task.cell.name} has rows without a text, and a sample file "
                    "holds responses; run without --no-decode, or take format parquet"
                )
        receiver = model_name(manifest["pair"]["receiver"]["model"])
        # As lm_eval.utils.sanitize_model_name does.
        safe = re.sub(r"[\"<>:/|\\?*\[\]]+", "__", receiver)
        date = manifest["created_at"].replace(":", "-")
        folder = folder / safe
        make_folder(folder)
        places = {row_id: place for place, row_id in enumerate(results.dataset)}
        lines = {
            task.name: [_line(places[sample.row.row_id], task, sample) for sample in task.samples]
            for task in tasks
        }
        summary = _summary(manifest, tasks, receiver, safe)
        summary["task_hashes"] = {
            name: _sha256(
                "".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in held)
            )
            for name, held in lines.items()
        }
        files = [folder / f"samples_{name}_{date}.jsonl" for name in lines]
        for file, held in zip(files, lines.values(), strict=True):
            with atomic_writer(file) as stream:
                stream.writelines(_json(line) + b"\n" for line in held)
        files.append(folder / f"results_{date}.json")
        with atomic_writer(files[-1]) as stream:
            stream.write(_json(summary, indent=2))
        return files


RESULT_FORMATS.add(_NAME)(LmEvalFiles())


def _line(index: int, task: Evaluation, sample: Sample) -> dict[str, Any]:
    row = sample.row
    doc = {
        "id": row.row_id,
        "context": row.context,
        "question": row.question,
        "answer": row.answer,
        **row.attributes,
    }
    return {
        "doc_id": index,
        "doc": doc,
        "target": row.answer,
        "arguments": {"gen_args_0": {"arg_0": sample.prompt, "arg_1": _decoding(task)}},
        "resps": [[sample.lane.prediction]],
        "filtered_resps": [sample.lane.prediction],
        "filter": _FILTER,
        "metrics": list(sample.values),
        "doc_hash": _sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha256(sample.prompt),
        "target_hash": _sha256(row.answer),
        **sample.values,
    }


def _summary(
    manifest: Mapping[str, Any], tasks: list[Evaluation], receiver: str, safe: str
) -> dict[str, Any]:
    sender = manifest["pair"]["sender"]
    return {
        "results": {task.name: _means(task) for task in tasks},
        "group_subtasks": {task.name: [] for task in tasks},
        "configs": {task.name: _config(task) for task in tasks},
        "versions": {task.name: manifest["format"] for task in tasks},
        "n-shot": {task.name: 0 for task in tasks},
        "higher_is_better": {
            task.name: {name: _higher(name) for name in _measures(task)} for task in tasks
        },
        "n-samples": {
            task.name: {
                "original": task.cell.source_rows or len(task.samples),
                "effective": len(task.samples),
            }
            for task in tasks
        },
        "config": {
            "model": "statebridge",
            "model_args": {
                "pretrained": receiver,
                "sender": model_name(sender["model"]),
                "sender_layer": sender.get("layer"),
                "receiver_layer": manifest["pair"]["receiver"].get("layer"),
            },
            "device": manifest.get("device"),
            "limit": manifest["experiment"].get("limit"),
        },
        "git_hash": manifest.get("git_revision"),
        "date": datetime.fromisoformat(manifest["created_at"]).timestamp(),
        "transformers_version": manifest.get("versions", {}).get("transformers"),
        "model_source": "statebridge",
        "model_name": receiver,
        "model_name_sanitized": safe,
    }


def _means(task: Evaluation) -> dict[str, Any]:
    found: dict[str, Any] = {"name": task.name, "alias": task.name, "sample_len": len(task.samples)}
    for name in _measures(task):
        mean = task.mean(name)
        if mean is not None:
            found[f"{name},{_FILTER}"] = mean[0]
            found[f"{name}_stderr,{_FILTER}"] = "N/A" if mean[1] is None else mean[1]
    return found


def _measures(task: Evaluation) -> list[str]:
    """Return the measures that any sample has, the primary metric first."""
    return list(dict.fromkeys(name for sample in task.samples for name in sample.values))


def _config(task: Evaluation) -> dict[str, Any]:
    return {
        "task": task.name,
        "output_type": "generate_until",
        "num_fewshot": 0,
        "repeats": 1,
        "generation_kwargs": _decoding(task),
        "metric_list": [
            {"metric": name, "aggregation": "mean", "higher_is_better": _higher(name)}
            for name in _measures(task)
        ],
        "metadata": {**task.facts, "primary_metric": task.metric},
    }


def _decoding(task: Evaluation) -> dict[str, Any]:
    """Return how texts were decoded, with the field of the harness for their length."""
    declared = {name: value for name, value in task.cell.decoding.items() if value is not None}
    return {**declared, "until": [], "max_gen_toks": declared.get("max_new_tokens")}


def _higher(measure: str) -> bool | None:
    better = MEASURES[measure].better
    return None if better is None else better == "higher"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=indent).encode()
