"""Logs of Inspect (`inspect_ai`): one `.eval` file for each cell."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statebridge.data.files import make_folder
from statebridge.errors import EnvironmentFault
from statebridge.interchange.samples import (
    Evaluation,
    Sample,
    evaluations,
    model_name,
    run_manifest,
)
from statebridge.records import ResultSet
from statebridge.results.formats import RESULT_FORMATS

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

_NAME = "inspect"


class InspectLogs:
    """Logs of Inspect, one `.eval` file for each cell; needs the extra `[inspect]`."""

    def write(self, results: ResultSet, folder: Path) -> list[Path]:
        """Write the logs; `inspect view --log-dir FOLDER` shows them.

        Raises:
            ResultError: Not one run's results.
            EnvironmentFault: `inspect_ai` is not installed, or a file cannot be written.
        """
        try:
            from inspect_ai.log import write_eval_log  # noqa: PLC0415 - an extra
        except ImportError:
            raise EnvironmentFault(
                "inspect_ai is not installed; pip install 'statebridge[inspect]'"
            ) from None
        manifest = run_manifest(results, _NAME)
        make_folder(folder)
        files = []
        for cell in evaluations(results, _NAME):
            log = _log(cell, manifest, results.cautions)
            # Date, task and id, as Inspect names its own; `_` is between the three only.
            parts = manifest["created_at"].replace(":", "-"), cell.name.replace("_", "-")
            files.append(folder / f"{'_'.join(parts)}_{log.eval.task_id}.eval")
            try:
                write_eval_log(log, files[-1])
            except OSError as error:
                raise EnvironmentFault(
                    f"{files[-1]}: cannot be written: {error.strerror}; give a folder that can be"
                ) from None
        return files


RESULT_FORMATS.add(_NAME)(InspectLogs())


def _log(cell: Evaluation, manifest: Mapping[str, Any], cautions: tuple[str, ...]) -> EvalLog:
    from inspect_ai import log as logs  # noqa: PLC0415 - an extra

    created = manifest["created_at"]
    receiver, sender = (manifest["pair"][side] for side in ("receiver", "sender"))
    # The same run gives the same log.
    known = f"{created} {manifest['dataset']['sha256']} {cell.name}"
    mark = hashlib.sha256(known.encode()).hexdigest()[:22]
    found = cell.mean(cell.metric)
    means = {} if found is None else {"mean": found[0], "stderr": found[1]}
    return logs.EvalLog(
        status="success",
        eval=logs.EvalSpec(
            eval_id=mark,
            run_id=mark,
            task_id=mark,
            created=created,
            task=cell.name,
            task_args={"condition": cell.cell.condition.name, "seed": cell.cell.seed},
            dataset=logs.EvalDataset(
                name=manifest["experiment"].get("name"),
                samples=len(cell.samples),
                sample_ids=[sample.row.row_id for sample in cell.samples],
            ),
            model=f"statebridge/{model_name(receiver['model'])}",
            config=logs.EvalConfig(),
            packages={name: text for name, text in manifest.get("versions", {}).items() if text},
            metadata={
                **cell.facts,
                "primary_metric": cell.metric,
                "sender": model_name(sender["model"]),
                "sender_layer": sender.get("layer"),
                "receiver_layer": receiver.get("layer"),
                "decoding": dict(cell.cell.decoding),
                "cautions": list(cautions),
            },
        ),
        results=logs.EvalResults(
            total_samples=len(cell.samples),
            completed_samples=len(cell.samples),
            scores=[
                logs.EvalScore(
                    name=cell.metric,
                    scorer=cell.metric,
                    metrics={
                        name: logs.EvalMetric(name=name, value=value)
                        for name, value in means.items()
                        if value is not None
                    },
                )
            ],
        ),
        stats=logs.EvalStats(started_at=created, completed_at=created),
        samples=[_sample(cell, sample, receiver["model"]) for sample in cell.samples],
    )


def _sample(cell: Evaluation, sample: Sample, receiver: str) -> EvalSample:
    from inspect_ai.log import EvalSample  # noqa: PLC0415 - an extra
    from inspect_ai.model import (  # noqa: PLC0415
        ChatMessageAssistant,
        ChatMessageUser,
        ModelOutput,
    )
    from inspect_ai.scorer import Score  # noqa: PLC0415

    row, lane = sample.row, sample.lane
    text = lane.prediction or ""
    value = sample.values.get(cell.metric)
    return EvalSample(
        id=row.row_id,
        epoch=1,
        input=sample.prompt,
        target=list(sample.golds) if len(sample.golds) > 1 else row.answer,
        messages=[ChatMessageUser(content=sample.prompt), ChatMessageAssistant(content=text)],
        output=ModelOutput.from_content(model_name(receiver), text),
        scores=None if value is None else {cell.metric: Score(value=value, answer=lane.prediction)},
        metadata={
            **cell.facts,
            "measures": dict(sample.values),
            "context": row.context,
            "question": row.question,
            **({} if lane.donor_row_id is None else {"donor_row_id": lane.donor_row_id}),
            "attributes": dict(row.attributes),
        },
    )
