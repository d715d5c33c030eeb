"""Expectations of results: declared, or taken from the manifest of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from statebridge.errors import ExperimentError, ResultError, nearest
from statebridge.experiment.declared import Sha256
from statebridge.records import Direction, Record, ResultSet
from statebridge.registry import Registry
from statebridge.validation.report import Severity

# Not those of `statebridge.experiment.experiment`, which may itself hold an expectation.
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
Count = Annotated[int, Field(ge=1)]
Setting = bool | int | float | str | None


class ExpectedCondition(Record):
    """A condition that must be there."""

    condition: Annotated[str, Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = None
    """None for a deterministic condition: one cell without a seed."""
    rows: Count | None = None
    """Rows of each cell."""
    source_rows: Count | None = None
    """Rows of the dataset, of which `rows` are left after exclusions."""
    self_fallback: Severity = "warning"
    """Severity of a row of a shuffled condition that got its own state."""

    @property
    def excluded_rows(self) -> int | None:
        """How many rows must have been excluded; None where that is not declared."""
        if self.source_rows is None or self.rows is None:
            return None
        return self.source_rows - self.rows

    @property
    def cells(self) -> tuple[tuple[str, int | None], ...]:
        """The (condition, seed) of every cell."""
        return tuple((self.condition, seed) for seed in self.seeds or (None,))

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if seeds is not None and len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed is listed twice in {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _counts_fit(self) -> ExpectedCondition:
        if self.source_rows is not None and self.source_rows < (self.rows or 0):
            raise ValueError(
                f"rows {self.rows} of source_rows {self.source_rows}: more than there are"
            )
        return self


class Original(Record):
    """A file whose content is known: who claims to be it must hold its rows."""

    condition: str
    seed: Seed | None
    created_at: str
    """As written in the file; a run of one's own has another and is not held to this."""
    rows_sha256: Sha256
    """See `statebridge.papers.linear_translation.checks.rows_digest`."""


class Expectation(Record):
    """Requirements on a set of results; can be declared in an experiment file (`expect:`)."""

    name: Annotated[str, Field(min_length=1)] = "declared"
    direction: Direction = "fwd"
    conditions: Annotated[tuple[ExpectedCondition, ...], Field(min_length=1)]
    dataset_sha256: Sha256 | None = None
    decoding: dict[str, Setting] = {}  # noqa: RUF012 - pydantic copies it
    """Settings as `statebridge.validation.agreement.decoding_settings` names them; those
    that begin with `relay_` are asked of relay conditions only."""
    decoded: bool = True
    """False where the run measured probabilities only and made no text."""
    row_ids: tuple[str, ...] | None = None
    """Every row of the dataset; None takes them from the dataset or the cells themselves."""
    originals: tuple[Original, ...] = ()

    @field_validator("conditions")
    @classmethod
    def _distinct(cls, conditions: tuple[ExpectedCondition, ...]) -> tuple[ExpectedCondition, ...]:
        names = [one.condition for one in conditions]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"condition {twice} is listed twice; give all its seeds at once")
        return conditions

    @property
    def cells(self) -> tuple[tuple[str, int | None], ...]:
        """The (condition, seed) of every cell that must be there."""
        return tuple(cell for condition in self.conditions for cell in condition.cells)

    def condition(self, name: str) -> ExpectedCondition | None:
        """Return what is expected of a condition, or None."""
        return next((one for one in self.conditions if one.condition == name), None)

    @classmethod
    def from_cells(
        cls,
        cells: Iterable[tuple[str, int | None]],
        rows: int | Mapping[str, int],
        dataset_sha256: str | None = None,
        *,
        source_rows: int | None = None,
        **declared: Any,
    ) -> Expectation:
        """Return the expectation that a list of cells amounts to.

        Args:
            cells: (condition, seed) of every cell, seed None where there is none.
            rows: Rows of each cell, for all conditions or by condition.
            dataset_sha256: The dataset's hash.
            source_rows: Rows of the dataset before exclusions. A condition with fewer
                `rows` excludes the difference, and no row of it may get its own state.
            declared: `name`, `direction`, `decoding`, `decoded`, `row_ids`.

        Raises:
            ExperimentError: No cell, a cell twice, a condition without a row count, or a
                wrong value.
        """
        seeds: dict[str, list[int | None]] = {}
        for condition, seed in cells:
            seeds.setdefault(condition, []).append(seed)
        counts = rows if isinstance(rows, Mapping) else dict.fromkeys(seeds, rows)
        listed = []
        for condition, of_condition in seeds.items():
            if condition not in counts:
                raise ExperimentError(
                    f"expect: rows of {condition} are not given; {nearest(condition, counts)}"
                )
            if None in of_condition and len(of_condition) > 1:
                raise ExperimentError(
                    f"expect: {condition} has a cell without a seed beside another; "
                    "give one cell without a seed, or a distinct seed for each"
                )
            excludes = source_rows is not None and counts[condition] < source_rows
            listed.append(
                {
                    "condition": condition,
                    "seeds": None if of_condition == [None] else of_condition,
                    "rows": counts[condition],
                    "source_rows": source_rows if excludes else None,
                    "self_fallback": "blocking" if excludes else "warning",
                }
            )
        fields = {"name": "run", **declared}
        try:
            return cls.model_validate(
                {**fields, "conditions": listed, "dataset_sha256": dataset_sha256}
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            problem = str(first["msg"]).removeprefix("Value error, ")
            raise ExperimentError(f"expect: {field}: {problem}, not {first['input']!r}") from None


EXPECTATIONS: Registry[Callable[[], Expectation]] = Registry(
    "expected set",
    package="statebridge.papers",
    module="expectation",
    group="statebridge.expectations",
)
"""Sets of results with names; each is made when it is asked for."""


def run_expectation(results: ResultSet) -> Expectation:
    """Return the expectation that a run's manifest amounts to.

    It is the experiment's own `expect`, where it declares one; else every cell of the plan
    with its rows, the dataset's hash and the decoding settings.

    Raises:
        ResultError: The results are not those of one run directory.
    """
    manifest = results.manifest
    if manifest is None:
        raise ResultError(
            "the sources are not one run directory, so nothing declares what must be there; "
            "give --expect published, published-strict, or an experiment file"
        )
    experiment: dict[str, Any] = manifest["experiment"]
    if experiment.get("expect") is not None:
        return Expectation.model_validate(experiment["expect"])
    cells = [cell for cell in manifest["cells"] if cell["rows"] > 0]
    return Expectation.from_cells(
        [(cell["condition"]["name"], cell["seed"]) for cell in cells],
        {cell["condition"]["name"]: cell["rows"] for cell in cells},
        manifest["dataset"]["sha256"],
        source_rows=len(results.dataset),
        name=experiment["name"],
        direction=experiment["direction"],
        decoded=experiment["decode"],
        row_ids=tuple(results.dataset),
    )
