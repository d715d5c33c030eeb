"""Sources, channels and executors that users add are checked, and named where they are wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import statebridge
from statebridge.channels.channel import CHANNELS
from statebridge.demo.experiment import taught_control_fields
from statebridge.engine import manifest
from statebridge.engine.executors.executor import EXECUTORS
from statebridge.engine.executors.in_process import InProcess
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import ExperimentError, ResultError, StatebridgeError
from statebridge.experiment import Experiment
from statebridge.experiment.sources import SOURCES, Source
from statebridge.records import DatasetRow
from statebridge.registry import Registry
from statebridge.results.run_results import read_run
from statebridge.runs.directory import RunDirectory, read_manifest
from statebridge.scoring.conventions import CONVENTIONS


class NoMethod(Source):
    """Lacks `states`."""


class NoArgument(Source):
    """Its method takes no request."""

    def states(self) -> Any:  # type: ignore[override]
        return None


class NoBase:
    """Is no source."""

    def states(self, request: Any) -> Any:
        return request.own, request.batch


class NoCheck:
    """Lacks `check`."""

    def carry(self, operations: Any, cells: Any, rows: Any) -> list[Any]:
        return []


class NoClose:
    """Takes no workload and cannot be closed."""

    def run(self, groups: Any) -> Any:
        return iter(groups)


@pytest.mark.parametrize(
    ("registry", "thing", "words"),
    [
        (SOURCES, NoMethod, "source 'mine': NoMethod needs the method states(request)"),
        (SOURCES, NoArgument, "NoArgument needs the method states(request)"),
        (SOURCES, NoBase, "derive NoBase from statebridge.experiment.sources.Source"),
        (SOURCES, NoBase(), "source 'mine': give the class, not <"),
        (CHANNELS, NoCheck, "channel 'mine': NoCheck needs the method check(workload, cells)"),
        (EXECUTORS, NoClose, "NoClose needs the method __init__(workload) and close()"),
    ],
)
def test_a_part_that_cannot_work_is_refused_when_added(
    registry: Registry[Any], thing: Any, words: str
) -> None:
    with pytest.raises(ExperimentError) as caught:
        registry.add("mine")(thing)
    assert words in str(caught.value)
    assert "mine" not in registry


def test_a_decorator_without_a_name_is_refused() -> None:
    with pytest.raises(ExperimentError, match=r"NoBase: give it a name, as in add\(\"name\"\)"):
        SOURCES.add(NoBase)  # type: ignore[arg-type]


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ExperimentError, match="unknown role 'controll'; did you mean control"):
        type("Misspelt", (Source,), {"role": "controll"})


def _run(out: Path, **changes: Any) -> None:
    run_experiment(
        Experiment.model_validate(taught_control_fields(rows=4) | {"name": "t"} | changes), out
    )


class _Answers(Source):
    answer: Any = None

    def states(self, request: Any) -> Any:
        return type(self).answer(request)


SOURCES.add("test_answers")(_Answers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda request: (request.own[:1], request.batch), "states of shape (1, "),
        (lambda request: (request.own[:, :1], request.batch), ", 1, "),
        (lambda request: (request.own[0], request.batch), "returned tuple; it must"),
        (lambda request: request.own, "returned Tensor; it must"),
        (lambda _: None, "returned NoneType; it must"),
    ],
    ids=["one row", "one position", "two dimensions", "no prompts", "nothing"],
)
def test_states_of_another_form_are_refused(answer: Any, words: str, tmp_path: Path) -> None:
    _Answers.answer = staticmethod(answer)
    condition = {"name": "mine", "source": "test_answers"}
    with pytest.raises(ExperimentError) as caught:
        _run(tmp_path, conditions=["no_inject", condition])
    assert str(caught.value).startswith("condition mine: source test_answers returned ")
    assert words in str(caught.value)


def test_donors_are_asked_for_by_a_source_that_declares_them(tmp_path: Path) -> None:
    _Answers.answer = staticmethod(lambda request: request.translated_states(request.donors))
    conditions = ["no_inject", {"name": "mine", "source": "test_answers"}]
    with pytest.raises(ExperimentError, match="asks for donors and does not declare shuffled"):
        _run(tmp_path, conditions=conditions)


class _Mixed(Source):
    """Declares the states of donors, and asks for those of the rows."""

    seeded = reads_sender = translates = shuffled = True

    def states(self, request: Any) -> Any:
        return request.translated_states(request.rows)


SOURCES.add("test_mixed")(_Mixed)


def test_states_that_a_source_does_not_read_are_refused(tmp_path: Path) -> None:
    last = {"positions": "last", "source_positions": "last", "lone_rows": "nearest"}
    conditions = ["no_inject", {"name": "mine", "source": "test_mixed", **last}]
    with pytest.raises(
        ExperimentError, match=r"of other rows than it reads; take those of request\.donors"
    ):
        _run(tmp_path, conditions=conditions)


def test_a_run_is_another_one_with_another_file_of_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Answers.answer = staticmethod(lambda request: (request.own, request.batch))
    conditions = ["no_inject", {"name": "mine", "source": "test_answers"}]
    _run(tmp_path, conditions=conditions)
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert (read_manifest(tmp_path) or {})["added_parts"] == {"source test_answers": digest}
    monkeypatch.setattr(manifest, "parts_added", lambda _: {"source test_answers": "0" * 64})
    with pytest.raises(ResultError, match=r"another added_parts.source test_answers \("):
        _run(tmp_path, conditions=conditions)


def test_a_convention_that_only_rows_name_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CONVENTIONS, "_things", CONVENTIONS._things.copy())
    CONVENTIONS.add("test_any")(lambda prediction, gold: True)
    row = DatasetRow("a", "Bob is in Rome.", "Where is Bob?", "Rome", {"scoring": "test_any"})
    fields = taught_control_fields(rows=1) | {"name": "mine", "conditions": ["no_inject"]}
    fields |= {"translators": None, "decode": False}
    statebridge.run(fields, tmp_path, rows=[row], progress=False)
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    assert (read_manifest(tmp_path) or {})["added_parts"] == {"scoring convention test_any": digest}


class _Odd(InProcess):
    """Yields groups in another way than it should."""

    way = "none"

    def run(self, groups: Any) -> Iterator[Any]:
        if self.way == "backwards":
            yield from reversed(list(super().run(groups)))
            return
        for place, finished in enumerate(super().run(groups)):
            if self.way == "twice" or (self.way == "first" and place == 0):
                yield finished
            if self.way == "twice":
                yield finished


EXECUTORS.add("test_odd")(_Odd)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("none", r"test_odd: ended after 0 of \d+ groups"),
        ("first", r"test_odd: ended after 1 of \d+ groups"),
        ("twice", "test_odd: yielded group 0, which it was not given or has yielded before"),
    ],
)
def test_an_executor_that_loses_or_doubles_groups_is_refused(
    way: str, words: str, tmp_path: Path
) -> None:
    _Odd.way = way
    execution = {"executor": "test_odd", "max_lanes": 4}
    with pytest.raises(StatebridgeError, match=words):
        _run(tmp_path, execution=execution, conditions=["question_only", "skyline"])
    committed = sum(len(cell.lanes) for cell in read_run(tmp_path).cells)
    assert (committed == 0) == (way == "none")


@pytest.mark.slow
def test_groups_that_wait_for_their_turn_are_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Odd.way, commit, sizes = "backwards", RunDirectory.commit, []

    def counted(self: RunDirectory, lines: Any) -> None:
        sizes.append(len(lines))
        commit(self, lines)

    monkeypatch.setattr(RunDirectory, "commit", counted)
    execution = {"executor": "test_odd", "max_lanes": 4}
    _run(tmp_path, execution=execution, conditions=["question_only", "skyline"])
    counts = (read_manifest(tmp_path) or {})["plan"]["lanes"]
    assert len(counts) > 1
    assert sizes == [sum(counts)]
