"""Cautions of a run: what was asked for and does not happen as it reads, or limits its results.

Each is a sentence or two. They are known before a row is run; the manifest records them, and
`doctor`, `run`, `score` and the report show them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from statebridge.channels.workload import Workload
from statebridge.data.jsonl import FieldMap, left_out_fields
from statebridge.errors import DatasetError
from statebridge.experiment.experiment import Experiment
from statebridge.records import DatasetRow
from statebridge.scoring.conventions import row_convention, row_correct
from statebridge.scoring.metrics import word_boundary_contains
from statebridge.tasks.declared_rows import dataset_files, unusable_rows

NAMED = 3
"""Rows that a sentence names."""


def run_cautions(workload: Workload) -> tuple[str, ...]:
    """Return the cautions of a run that was prepared."""
    plan = workload.plan
    rows = plan.rows[: plan.limit]
    return (
        *_of_limit(plan.experiment, len(plan.rows)),
        *_of_cut_prompts(workload),
        *_of_templates(plan.experiment),
        *_of_fields(plan.experiment, plan.rows),
        *_of_answers(rows),
        *(
            f"{side}: {caution}"
            for side, model in (
                ("sender", workload.pair.sender),
                ("receiver", workload.pair.receiver),
            )
            for caution in model.cautions
        ),
    )


def check_scoring(rows: Sequence[DatasetRow]) -> None:
    """Refuse rows that could not be scored once they have run.

    Raises:
        DatasetError: A row names an unknown scoring convention, or lacks what it needs.
    """
    for row in rows:
        if row_convention(row) is not None:
            row_correct(row.answer, row)


def _of_limit(experiment: Experiment, rows: int) -> Iterator[str]:
    if experiment.limit is not None and experiment.limit > rows:
        yield f"limit is {experiment.limit}, and the dataset has {rows} rows: all of them run."


def _of_cut_prompts(workload: Workload) -> Iterator[str]:
    plan = workload.plan
    cut = [plan.rows[place].row_id for place in sorted(plan.prompts.cut) if place < plan.limit]
    if not cut:
        return
    decoding = plan.experiment.decoding
    what = (
        "prompts are cut on the right, and with them the question"
        if decoding.truncate == "right"
        else "contexts are cut at their end, so that the prompt keeps the question"
    )
    yield (
        f"{len(cut)} of {plan.limit} {what} (decoding.truncate: {decoding.truncate}, "
        f"max_prompt_tokens {decoding.max_prompt_tokens}): {_named(cut)}."
    )


def _of_templates(experiment: Experiment) -> Iterator[str]:
    prompts = experiment.prompts.model_dump(exclude_none=True)
    used = {condition.prompt for condition in experiment.resolved_conditions}
    if "{context}" not in experiment.prompts.task and used & {"task", "placeholder"}:
        yield "prompts.task has no {context}: the receiver reads none in a shared setting."
    for name, template in prompts.items():
        if isinstance(template, str) and template != template.rstrip() and name != "chat":
            yield (
                f"prompts.{name} ends in white space. Most tokenizers put a space at the beginning "
                "of a word's token, so that a model seldom answers well after one."
            )


def _of_fields(experiment: Experiment, rows: Sequence[DatasetRow]) -> Iterator[str]:
    dataset = experiment.dataset
    if dataset.path is None or dataset.format != "jsonl":
        return
    dropped = unusable_rows(dataset)
    if dropped:
        yield (
            f"dataset: {len(dropped)} rows that cannot be used are left out: "
            f"{'; '.join(dropped[:NAMED])}{' ...' if len(dropped) > NAMED else ''}."
        )
    files = dataset_files(dataset)
    if dropped or len(files) > 1:
        return  # lines and rows are no longer in step
    for name, count in left_out_fields(
        files[0], rows, FieldMap(**dataset.fields.model_dump())
    ).items():
        yield (
            f"dataset: field {name!r} holds lists or objects in {count} rows, which are not read; "
            "give text, a number, true or false to compare by it."
        )


def _of_answers(rows: Sequence[DatasetRow]) -> Iterator[str]:
    never = [row.row_id for row in rows if not word_boundary_contains(row.answer, row.answer)]
    if never:
        yield (
            f"{len(never)} of {len(rows)} gold answers hold nothing that a text can be compared "
            f"with (no letter or digit is left of them): {_named(never)}. No prediction is right."
        )
    wrong = [row.row_id for row in rows if _is_wrong(row)]
    if wrong:
        yield (
            f"{len(wrong)} of {len(rows)} gold answers are wrong by their own row's scoring "
            f"convention: {_named(wrong)}. No prediction that repeats them is right."
        )


def _is_wrong(row: DatasetRow) -> bool:
    try:
        return row_convention(row) is not None and not row_correct(row.answer, row)
    except DatasetError:
        return False  # refused, by `check_scoring`


def _named(row_ids: Sequence[str]) -> str:
    more = f" and {len(row_ids) - NAMED} more" if len(row_ids) > NAMED else ""
    return f"{', '.join(row_ids[:NAMED])}{more}"
