"""Tasks of lm-evaluation-harness as datasets: rows, prompts, scores, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from statebridge.data import read_dataset
from statebridge.errors import DatasetError
from statebridge.experiment.dataset import Dataset
from statebridge.records import DatasetRow
from statebridge.scoring.conventions import row_correct
from statebridge.tasks.declared_rows import resolve_dataset
from tests.bridge.data.refusal import refused

DOCUMENTS = [
    {
        "passage": "Lima is in Peru.",
        "question": "Where is Lima",
        "label": 1,
        "names": ["in Chile", "in Peru"],
        "answer": {"aliases": ["Peru", "PE"]},
        "solution": "3 + 4 = 7\n#### 1,007",
    },
    {
        "passage": "Oslo is old.",
        "question": "Is Oslo old",
        "label": 0,
        "names": ["yes", "no"],
        "answer": {"aliases": ["Yes"]},
        "solution": "#### 5",
    },
]
CHOICE = {
    "task": "mine",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "documents.json"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{passage}}\nQuestion: {{question}}?\nAnswer:",
    "doc_to_target": "label",
    "doc_to_choice": "names",
    "metric_list": [{"metric": "acc"}],
}
GENERATE = {
    **{name: value for name, value in CHOICE.items() if name != "doc_to_choice"},
    "output_type": "generate_until",
    "doc_to_target": "{{answer.aliases}}",
    "generation_kwargs": {"until": ["\n", "."]},
    "metric_list": [{"metric": "exact_match", "ignore_case": True, "ignore_punctuation": True}],
}
GSM8K = {
    **GENERATE,
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{solution}}",
    "generation_kwargs": {"until": ["Question:"]},
    "metric_list": [
        {"metric": "exact_match", "regexes_to_ignore": [",", "\\$", "(?s).*#### ", "\\.$"]}
    ],
    "filter_list": [
        {
            "name": "strict-match",
            "filter": [
                {"function": "regex", "regex_pattern": "#### (\\-?[0-9\\.\\,]+)"},
                {"function": "take_first"},
            ],
        },
        {
            "name": "flexible-extract",
            "filter": [
                {
                    "function": "regex",
                    "group_select": -1,
                    "regex_pattern": "(-?[$0-9.,]{2,})|(-?[0-9]+)",
                },
                {"function": "take_first"},
            ],
        },
    ],
}


def task(folder: Path, declared: dict[str, Any], more: str = "") -> Path:
    (folder / "documents.json").write_text(json.dumps(DOCUMENTS), encoding="utf-8")
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(declared) + more, encoding="utf-8")
    return path


def rows(folder: Path, declared: dict[str, Any], **options: str) -> list[DatasetRow]:
    return read_dataset(task(folder, declared), "lm-eval", **options)


def test_a_multiple_choice_task_has_options(tmp_path: Path) -> None:
    first, second = rows(tmp_path, CHOICE)
    assert first.question == "Lima is in Peru.\nQuestion: Where is Lima?\nAnswer:"
    assert (first.context, first.answer, second.answer) == ("", "in Peru", "yes")
    assert first.attributes == {"options": "in Chile|in Peru"}


@pytest.mark.parametrize("context", ["passage", "{{passage}}"])
def test_the_context_is_taken_out_of_the_prompt(tmp_path: Path, context: str) -> None:
    (row, _) = rows(tmp_path, CHOICE, context=context)
    assert row.context == "Lima is in Peru."
    assert row.question == "Question: Where is Lima?\nAnswer:"
    with refused(DatasetError, "the text of option context (solution) is not in the prompt"):
        rows(tmp_path, CHOICE, context="solution")


@pytest.mark.parametrize(
    ("target", "choices"),
    [
        ("{{label}}", ["in Chile", "in Peru"]),
        ("{{names[label]}}", "{{names}}"),
        (1, {"a": "in Chile", "b": "in Peru"}),
        ("label", "{{[names[0], names[1]]}}"),
    ],
)
def test_targets_and_choices_are_read_as_the_harness_does(
    tmp_path: Path, target: Any, choices: Any
) -> None:
    declared = {**CHOICE, "doc_to_target": target, "doc_to_choice": choices}
    assert rows(tmp_path, declared)[0].answer == "in Peru"


def test_generated_texts_are_scored_by_the_task(tmp_path: Path) -> None:
    first, second = rows(tmp_path, GENERATE)
    assert (first.answer, first.attributes["aliases"]) == ("Peru", "PE")
    assert row_correct("PERU.\nQuestion: and", first)
    assert row_correct("pe", first)
    assert not row_correct("in Peru", first)
    assert row_correct("yes!", second)


def test_filters_choose_what_is_compared(tmp_path: Path) -> None:
    options = {"fewshot": "none"}
    declared = {**GSM8K, "num_fewshot": 5}
    (strict, _) = rows(tmp_path, declared, **options)
    (flexible, _) = rows(tmp_path, declared, filter="flexible-extract", **options)
    text = "It is $1,007 in all. #### 1007"
    assert row_correct(text, strict)
    assert row_correct("It is $1,007", flexible)
    assert not row_correct("It is $1,007", strict)
    assert not row_correct("It is 8. Question: 1007", flexible)
    with refused(DatasetError, "option filter: 'x': "):
        rows(tmp_path, declared, filter="x", **options)


def test_the_hash_is_that_of_the_rows(tmp_path: Path) -> None:
    path = task(tmp_path, CHOICE)
    _, before = resolve_dataset(Dataset(path=path, format="lm-eval"))
    DOCUMENTS_TOO = [{**one, "question": "What"} for one in DOCUMENTS]  # noqa: N806
    (tmp_path / "documents.json").write_text(json.dumps(DOCUMENTS_TOO), encoding="utf-8")
    assert resolve_dataset(Dataset(path=path, format="lm-eval"))[1] != before


def test_an_included_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(CHOICE), encoding="utf-8")
    declared = {"include": "base.yaml", "description": "Read.\n\n"}
    assert rows(tmp_path, declared)[0].question.startswith("Read.\n\nLima is")
    with refused(DatasetError, "include each other"):
        rows(tmp_path, {"include": "task.yaml"})


@pytest.mark.parametrize(
    ("declared", "more", "problem"),
    [
        (
            CHOICE,
            "process_docs: !function utils.process_docs\n",
            "process_docs is Python code (!fun",
        ),
        (CHOICE, "x: !!python/object/apply:os.system [ls]\n", "not YAML"),
        ({**CHOICE, "use_prompt": "promptsource:*"}, "", "use_prompt is not read"),
        ({**CHOICE, "output_type": "loglikelihood_rolling"}, "", "output_type loglikelihood_roll"),
        ({**CHOICE, "doc_to_choice": None}, "", "has no doc_to_choice"),
        ({**CHOICE, "num_fewshot": 5}, "", "puts 5 examples in its prompt"),
        ({**CHOICE, "test_split": None}, "", "has neither test_split nor validation_split"),
        ({**CHOICE, "doc_to_text": "{{passages}}"}, "", "row 1: does not fit task"),
        ({**CHOICE, "doc_to_text": "{{1 / 0}}"}, "", "ZeroDivisionError: division by zero"),
        ({**CHOICE, "doc_to_text": "{{''.__class__.__mro__}}"}, "", "SecurityError"),
        ({**CHOICE, "doc_to_target": 7}, "", "IndexError"),
        ({**GENERATE, "metric_list": [{"metric": "bleu"}]}, "", "is scored by bleu, not by exact"),
        (
            {**GENERATE, "filter_list": [{"name": "x", "filter": [{"function": "majority_vote"}]}]},
            "",
            "filter majority_vote is not one of regex",
        ),
    ],
)
def test_what_needs_code_or_does_not_fit_is_refused(
    tmp_path: Path, declared: dict[str, Any], more: str, problem: str
) -> None:
    path = task(tmp_path, declared, more)
    with refused(DatasetError, str(tmp_path), problem):
        read_dataset(path, "lm-eval")


@pytest.mark.parametrize("name", ["choice", "generate", "gsm8k"])
def test_rows_and_scores_are_those_of_the_harness(tmp_path: Path, name: str) -> None:
    """Our prompts, targets and exact match equal those of the package on the same task."""
    pytest.importorskip("lm_eval", reason="lm_eval is not installed")
    from lm_eval.api.task import ConfigurableTask

    declared = {"choice": CHOICE, "generate": GENERATE, "gsm8k": GSM8K}[name]
    found = rows(tmp_path, declared)
    files = {"data_files": {"test": str(tmp_path / "documents.json")}}
    theirs = ConfigurableTask(config={**declared, "dataset_kwargs": files})
    for row, document in zip(found, theirs.test_docs(), strict=True):
        assert row.question == theirs.doc_to_text(document)
        target = theirs.doc_to_target(document)
        if name == "choice":
            assert row.attributes["options"].split("|") == theirs.doc_to_choice(document)
            assert row.answer == theirs.doc_to_choice(document)[target]
            continue
        golds = target if isinstance(target, list) else [target]
        assert [
            row.answer,
            *filter(None, str(row.attributes.get("aliases", "")).split("|")),
        ] == golds
        for text in ("Peru", "PE!", "in Peru", "#### 1,007", "so #### 5.", "It is 5", "", "YES"):
            # The harness filters what its model gives it, cut at a stop text.
            cut = text
            for stop in declared["generation_kwargs"]["until"]:
                cut = cut.split(stop)[0]
            instance = type(
                "Instance", (), {"resps": [cut], "doc": document, "filtered_resps": {}}
            )()
            ensemble = theirs._filters[0]
            ensemble.apply([instance])
            (filtered,) = instance.filtered_resps.values()
            score = theirs.process_results(document, [filtered])["exact_match"]
            assert row_correct(text, row) == bool(score), (text, filtered, target)
