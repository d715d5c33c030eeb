"""The experiment as a reader needs it: kinds and corpora as declared, conditions by setting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from statebridge.audit import audit
from statebridge.experiment.conditions import Condition
from statebridge.records import ResultSet
from statebridge.report.sections.experiment import experiment_view, head_facts
from statebridge.report.sections.validation import audit_view
from statebridge.results.by_condition import condition_cells
from tests.bridge.figures.made_run import made_run

RIDGE = {"kind": "ridge", "corpus": {"path": "texts/alice.txt"}}


def declaring(run: ResultSet, translators: Any, **more: Any) -> ResultSet:
    assert run.manifest is not None
    experiment = {**run.manifest["experiment"], "translators": translators, **more}
    return replace(run, manifest={**run.manifest, "experiment": experiment})


def test_a_ridge_fit_is_called_ridge_and_its_corpus_is_named() -> None:
    facts = dict(experiment_view(declaring(made_run(rows=2), RIDGE), None).facts)
    assert "seed42.safetensors, ridge, fitted on alice.txt" in facts["translator, seed 42"]
    given = {"42": "maps/seed42.safetensors"}
    facts = dict(experiment_view(declaring(made_run(rows=2), given), None).facts)
    assert "an affine map from a file" in facts["translator, seed 42"]


def test_the_head_names_the_dataset_and_where_rows_were_made() -> None:
    run = declaring(made_run(rows=2), RIDGE, dataset={"path": "/data/hotpot.jsonl"})
    assert dict(head_facts(run))["dataset"] == "hotpot.jsonl, 2 rows"
    made = {"generate": {"task": "multihop", "seed": 5}}
    run = declaring(made_run(rows=2), RIDGE, dataset=made)
    assert dict(head_facts(run))["dataset"] == "generated (multihop, seed 5), 2 rows"
    published = replace(made_run(rows=2), manifest=None)
    assert dict(head_facts(published))["rows"] == "2, seeds 42, 123, 456"


def test_a_condition_of_ones_own_is_beside_those_of_its_setting() -> None:
    own = Condition(name="my_own", source="translated", weight=0.5)
    run = made_run(["no_inject", "skyline", "question_only", "private_last", own], rows=2)
    names = [group.condition for group in condition_cells(run)]
    assert names == ["no_inject", "my_own", "question_only", "skyline", "private_last"]


def test_the_audit_does_not_call_a_sentence_an_accident() -> None:
    run = made_run(["no_inject", "nl_relay"], rows=2)
    for cell in run.cells:
        cell.lanes = [
            replace(row, gold="Germany", prediction="Zo\u00eb lives in Germany.")
            for row in cell.lanes
        ]
    view = audit_view(audit(run))
    headers = [column.header for column in view.columns]
    assert "elsewhere" in headers
    assert not [header for header in headers if "accident" in header]
    assert "a whole sentence that answers is among these" in " ".join(view.notes)
