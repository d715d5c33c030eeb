"""The long table: one row per dataset row and cell, with every score and measurement."""

from __future__ import annotations

from collections.abc import Sequence

from statebridge.errors import ResultError
from statebridge.records import CellResult, DatasetRow, LaneResult, ResultSet
from statebridge.scoring.aggregate import lane_value
from statebridge.scoring.measures import MEASURES
from statebridge.scoring.metrics import METRICS
from statebridge.tables.summary_tables import HEADERS
from statebridge.tables.table import Column, Kind, Table, Value

RECORDED: dict[str, Kind] = {
    "prompt_len_sender": "integer",
    "prompt_len_receiver": "integer",
    "task_correct": "boolean",
    "token_ids_match": "boolean",
    "seq_len_match": "boolean",
    "translated_norm_mean": "number",
    "receiver_norm_mean": "number",
    "injected_norm_mean": "number",
    "source_cosine_mean": "number",
    "message_positions": "integer",
    "message_bytes": "integer",
    "message_one_to_one": "number",
    "donor_row_id": "text",
    "donor_self_fallback": "boolean",
    "relay": "text",
    "relay_prompt_len": "integer",
    "gold_logprob": "number",
    "gold_token_count": "integer",
    "gold_end_logprob": "number",
    "answer_logprob": "number",
    "gold_rank": "integer",
    "kl_from_no_inject": "number",
    "prediction_changed": "boolean",
    "first_changed_token": "integer",
}
"""Fields of `LaneResult` that become columns as they are."""

_COMPUTED: dict[str, Kind] = {
    name: "boolean" if measure.kind == "zero_one" else "number"
    for name, measure in MEASURES.items()
    if measure.numbers
}
"""Measures that are worked out from a lane's recorded numbers."""

DATASET = "data_"
"""Begins the columns of what the dataset says of a row: `data_hops`, `data_context`."""


def row_table(results: ResultSet) -> Table:
    """Return one row per dataset row and cell, cells and rows in the order of the results.

    Columns: direction, condition, seed, row_id, gold, prediction, the number of new tokens,
    the five text metrics (empty without a prediction), every recorded number and what is worked
    out from them, and `data_...` for what the dataset holds. New tokens themselves, what was
    written before the answer and the log-probabilities of other answers are in the run directory.

    Raises:
        ResultError: There is no row.
        NumericError: A measurement is NaN or infinite.
    """
    lanes = [(cell, row) for cell in results.cells for row in cell.lanes]
    if not lanes:
        raise ResultError("there is no row to list; give at least one result with rows")
    attributes = _attribute_kinds(results)
    texts = ("context", "question") if results.dataset else ()
    columns = (
        Column("direction", "direction"),
        Column("condition", "condition"),
        Column("seed", "seed", "integer"),
        Column("row_id", "row"),
        Column("gold", "gold"),
        Column("prediction", "prediction"),
        Column("new_tokens", "new tokens", "integer", printed=False),
        *(Column(name, HEADERS[name], "boolean") for name in METRICS),
        *(
            Column(name, HEADERS.get(name, name), kind, printed=False)
            for name, kind in (_COMPUTED | RECORDED).items()
        ),
        *(Column(f"{DATASET}{name}", name, printed=False) for name in texts),
        *(
            Column(f"{DATASET}{name}", name, kind, printed=False)
            for name, kind in attributes.items()
        ),
    )
    return Table(
        title="Rows by condition and seed",
        columns=columns,
        rows=tuple(
            (
                *_lane(cell, row),
                *_example(results.dataset.get(row.row_id), texts, attributes),
            )
            for cell, row in lanes
        ),
    )


def _lane(cell: CellResult, row: LaneResult) -> tuple[Value, ...]:
    text = row.prediction
    return (
        cell.direction,
        cell.condition.name,
        cell.seed,
        row.row_id,
        row.gold,
        text,
        None if row.token_ids is None else len(row.token_ids),
        *(None if text is None else metric(text, row.gold) for metric in METRICS.values()),
        *(lane_value(cell, row, name) for name in _COMPUTED),
        *(getattr(row, name) for name in RECORDED),
    )


def _example(
    example: DatasetRow | None, texts: Sequence[str], attributes: dict[str, Kind]
) -> tuple[Value, ...]:
    if example is None:
        return (None,) * (len(texts) + len(attributes))
    values: list[Value] = [getattr(example, name) for name in texts]
    for name, kind in attributes.items():
        value = example.attributes.get(name)
        values.append(str(value) if kind == "text" and value is not None else value)
    return tuple(values)


def _attribute_kinds(results: ResultSet) -> dict[str, Kind]:
    """The attributes that any row has, and the kind that fits all their values."""
    types: dict[str, set[type]] = {}
    for example in results.dataset.values():
        for name, value in example.attributes.items():
            held = types.setdefault(name, set())
            if value is not None:
                held.add(type(value))
    taken = {"context", "question"}
    return {name: _kind(held) for name, held in sorted(types.items()) if name not in taken}


def _kind(held: set[type]) -> Kind:
    if held == {bool}:
        return "boolean"
    if held == {int}:
        return "integer"
    return "number" if held and held <= {int, float} else "text"
