"""Mistakes in experiment files: one line that names the file, the line and the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from statebridge.errors import ExperimentError
from statebridge.experiment import Experiment, load_experiment
from statebridge.experiment.experiment import Fit
from statebridge.experiment.reading.files import MAX_BYTES
from tests.bridge.experiment.refusal import BASE, PLAIN, parsed, refusal

SETS = (
    BASE
    + """\
translators:
  sets: {causal: {7: a}, other: {7: b}}
conditions:
- {name: c, source: translated, translator: causl}
"""
)
FIT = BASE + "translators:\n  fit:\n    corpus: {path: text.txt}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Conditions: a list of names or objects.
        (BASE + "conditions: no_injct\n", ", line 5: conditions: unknown condition or preset"),
        (BASE + "conditions:\n- no_inject\n- replce\n", "did you mean replace"),
        (BASE + "conditions: [5]\n", ", line 5: conditions.0: give text, not 5"),
        (
            BASE + "conditions:\n- no_inject\n- {name: a}\n",
            ", line 7: conditions.1.source: missing",
        ),
        (
            BASE + "conditions:\n- name: a\n  source: zero\n  wieght: 1\n",
            ", line 8: conditions.0.wieght: unknown field; did you mean weight?",
        ),
        (
            BASE + "conditions:\n- {name: a, source: zero, weight: .nan}\n",
            "conditions.0.weight: give a finite number, not nan",
        ),
        (
            BASE + "conditions:\n- {name: a, source: zero, positions: [0, x]}\n",
            "conditions.0.positions.1: give a whole number, not 'x'",
        ),
        (
            BASE + "conditions:\n- {name: a, channel: kv, layers: {share: 3}}\n",
            "conditions.0.layers.share: give a number of at most 1, not 3",
        ),
        (
            BASE + "conditions:\n- {name: a, source: none, weight: 2}\n",
            "conditions.0: source none writes nothing",
        ),
        (
            BASE + "conditions: {a: b}\n",
            "conditions: give the name of a condition or preset, or a list",
        ),
        (BASE + "conditions: []\n", ", line 5: conditions: the list is empty"),
        (
            PLAIN + "seeds: [1]\nsender_checks: true\n",
            ", line 7: sender_checks: no condition reads the sender's states",
        ),
        # Translators: files by seed, or a fit.
        (BASE, ": translators: missing, and additive needs them"),
        (BASE + "translators: {42: a.pt}\n", ", line 5: translators: no file for seed 123"),
        (
            BASE + "translators: {x: a.pt}\n",
            ", line 5: translators.x: give a whole number, not 'x'",
        ),
        (BASE + "translators: a.pt\n", ", line 5: translators: give a file for each seed, or fit"),
        (
            BASE + "translators: {42: a, '42': b}\n",
            ", line 5, column 22: not valid YAML: field '42'",
        ),
        (
            FIT + "    kind: afine\n",
            ", line 8: translators.fit.kind: unknown translator kind 'afine'",
        ),
        (FIT + "    knd: affine\n", "translators.fit.knd: unknown field; did you mean kind?"),
        (FIT + "    training:\n      epochs: 0\n", ", line 9: translators.fit.training.epochs:"),
        (FIT + "    training: {epoch: 1}\n", "training.epoch: unknown field; did you mean epochs"),
        (
            FIT + "    kind: mlp_1hidden\n",
            "translators.fit: kind mlp_1hidden needs training.hidden",
        ),
        (FIT + "    training: {hidden_dim: 3}\n", "kind affine takes no training.hidden_dim"),
        (FIT + "  42: a.pt\n", "translators.fit: give either fit or files by seed, not both"),
        (BASE + "translators: {fit: {}}\n", "translators.fit.corpus: missing"),
        (BASE + "translators: {fit: 3}\n", "translators.fit: give fields (kind, corpus, "),
        (BASE + "translators: {fit: {corpus: {}}}\n", "translators.fit.corpus: give either path"),
        (
            BASE + "translators: {fit: {corpus: {generate: {rows: 9}, name: x}}}\n",
            "translators.fit.corpus: name is that of a text file; leave it out with generate",
        ),
        (FIT.replace("path: text.txt", "path: a, name: ''"), "translators.fit.corpus.name"),
        # Plain fields.
        (PLAIN + "seeds: [1, 2, 1]\n", ", line 6: seeds: a seed is listed twice in [1, 2, 1]"),
        (PLAIN + "seeds: []\n", ", line 6: seeds: is empty; give at least 1"),
        (PLAIN + "seeds: 42\n", ", line 6: seeds: give a list, such as [1, 2], not 42"),
        (PLAIN + "seeds: [-1]\n", ", line 6: seeds.0: give a number of at least 0, not -1"),
        (PLAIN + "limit: 0\n", ", line 6: limit: give a number of at least 1, not 0"),
        (PLAIN + "dtype: float8\n", ", line 6: dtype: give 'float32', 'float64'"),
        (PLAIN + "direction: up\n", ", line 6: direction: give 'fwd' or 'rev', not 'up'"),
        (
            PLAIN + "rng: global\n",
            ", line 6: rng: unknown rng 'global'; known: derangement, per-row",
        ),
        (PLAIN + "remote: example.org\n", ", line 6: remote: give local, ndif, or a URL"),
        (
            PLAIN + "remote: local\nexecution: {path: shared}\n",
            ", line 6: remote: needs execution.path plain",
        ),
        (
            PLAIN + "execution: {device: gpu}\n",
            ", line 6: execution.device: give auto, cpu, cuda or cuda:N",
        ),
        (
            PLAIN + "execution: {max_lanes: 0}\n",
            ", line 6: execution.max_lanes: give a number of at",
        ),
        (PLAIN + "dataste: {}\n", ", line 6: dataste: unknown field; did you mean dataset"),
        (
            PLAIN + "decoding:\n  max_new_tokns: 3\n",
            ", line 7: decoding.max_new_tokns: unknown field; did you mean max_new_tokens",
        ),
        (
            PLAIN + "decoding: {repetition_penalty: .inf}\n",
            "repetition_penalty: give a finite number",
        ),
        (
            PLAIN + "decoding: {repetition_penalty: 0}\n",
            "repetition_penalty: give a number above 0, not 0",
        ),
        (
            PLAIN + "decoding: {no_repeat_ngram_size: -1}\n",
            "no_repeat_ngram_size: give a number of at",
        ),
        (
            PLAIN + "decoding: {max_new_tokens: 1.5}\n",
            "max_new_tokens: give a whole number, not 1.5",
        ),
        (PLAIN + "decoding: nothing\n", ", line 6: decoding: give fields (max_new_tokens, "),
        # Templates.
        (PLAIN + "prompts: {task: '{relay}'}\n", ", line 6: prompts.task: unknown placeholder"),
        (
            PLAIN + "prompts: {relay_sender: '{relay}'}\n",
            "prompts.relay_sender: unknown placeholder",
        ),
        (PLAIN + "prompts: {task: '{context'}\n", "prompts.task: not a template"),
        (PLAIN + "prompts: {task: '{}'}\n", "prompts.task: unknown placeholder"),
        (PLAIN + "prompts: {task: '{context.__class__}'}\n", "prompts.task: unknown placeholder"),
        (
            PLAIN + "prompts: {task: '{question:d}'}\n",
            "prompts.task: a placeholder takes no conver",
        ),
        (PLAIN + "prompts: {task: '{context!x}'}\n", "prompts.task: a placeholder takes no conver"),
        (PLAIN + "prompts: {task: '{context:{question}}'}\n", "a placeholder takes no conversion"),
        (PLAIN + "prompts: {task: ''}\n", "prompts.task: the template is empty"),
        (PLAIN + "prompts: {sender: ''}\n", "prompts.sender: the template is empty"),
        (PLAIN + "prompts: {sender: '{relay}'}\n", "prompts.sender: unknown placeholder"),
        # What the receiver reads is private: the context has no place in it.
        (
            PLAIN + "prompts: {question_only: '{context}{question}'}\n",
            ", line 6: prompts.question_only: unknown placeholder ['context']; allowed: ['quest",
        ),
        (
            PLAIN + "prompts: {placeholder_token: ''}\n",
            "prompts.placeholder_token: give at least 1",
        ),
        (PLAIN + "prompts: {placeholder_token: 3}\n", "prompts.placeholder_token: give text"),
        # Several sets of translators.
        (
            BASE + "translators: {sets: {}}\n",
            ", line 5: translators.sets: is empty; give at least 1",
        ),
        (BASE + "translators: {sets: 3}\n", "translators.sets: give translators by the name"),
        (BASE + "translators: {sets: {a: {fit: {}}}}\n", "translators.sets.a.fit.corpus: missing"),
        (BASE + "translators: {sets: {a: {7: b}}}\n", "translators: no file for seed 42 in a"),
        (
            BASE + "seeds: [7]\ntranslators:\n  sets: {a: {7: x}, b: {8: x}}\n",
            "translators: no file for seed 7 in b",
        ),
        (
            BASE + "translators: {sets: {'../a': {7: b}}}\n",
            "translators.sets.../a: give lower-case letters",
        ),
        (BASE + "translators: {sets: {a: {7: b}}, 42: c}\n", "translators.42:"),
        (SETS.replace("causl", "causal"), "translators: no file for seed 42 in causal"),
        (SETS + "seeds: [7]\n", "c uses the translators 'causl'; did you mean causal?"),
        (
            SETS.replace("sets: {causal: {7: a}, other: {7: b}}", "7: a") + "seeds: [7]\n",
            "c uses the translators 'causl'; did you mean default?",
        ),
    ],
)
def test_a_wrong_field_is_named_with_its_line(text: str, message: str) -> None:
    found = refusal(text)
    assert message in found, found


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ("sender: {model: a, layer: 1.5}", "sender.layer: give a relative depth"),
        ("sender: {model: a, layer: 0.0}", "sender.layer: give a relative depth"),
        ("sender: {model: a, layer: -0.5}", "sender.layer: give a relative depth"),
        ("sender: {model: a, layer: .nan}", "sender.layer: give a relative depth"),
        ("sender: {model: a, layer: 1.0}", "sender.layer: 1.0 would be the last block and 1 the s"),
        (
            "sender: {model: ./a, revision: x, layer: 1}",
            "sender: revision goes with a model of the",
        ),
        ("sender: {model: a, layer: yes}", "sender.layer: give a relative depth"),
        ("sender: {model: a, layer: [1]}", "sender.layer: give a relative depth"),
        ("sender: {model: a, layer: null}", "sender.layer: give a relative depth"),
        ("sender: {model: a, layer: ''}", "sender.layer: give a relative depth"),
        ("sender: {model: a}", "sender.layer: missing"),
        ("sender: {model: '', layer: 1}", "sender.model: give at least 1 character"),
        ("sender: {model: 5, layer: 1}", "sender.model: give text, not 5"),
        (
            "sender: {model: a, layer: 1, revison: x}",
            "sender.revison: unknown field; did you mean rev",
        ),
        ("sender: a", "sender: give fields (model, layer, revision, adapter, ...)"),
    ],
)
def test_a_wrong_side_is_named(sides: str, message: str) -> None:
    text = PLAIN.replace("sender: {model: ./sender, layer: 0.67}", sides)
    found = refusal(text)
    assert found.startswith(", line 2: ")
    assert message in found, found


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("{}", "dataset: give either path (a file) or generate (rows made here)"),
        ("{path: a, generate: {rows: 3}}", "dataset: give either path (a file) or generate"),
        (
            "{path: a, sha256: 504e}",
            "dataset.sha256: give the 64 lower-case hex digits of a SHA-256, not '504e'",
        ),
        ("{path: 5}", "dataset.path: give the path of a file"),
        ("{path: a, format: csv}", "dataset.format: give 'jsonl', 'hotpotqa'"),
        ("{path: a, fields: {id: 3}}", "dataset.fields.id: give text, not 3"),
        ("{generate: {rows: 0}}", "dataset.generate.rows: give a number of at least 1"),
        (
            "{generate: {rows: 3, hops: [1]}}",
            "dataset.generate.hops.0: give a number of at least 2",
        ),
        ("{generate: {rows: 3, hops: []}}", "dataset.generate.hops: is empty; give"),
        ("{generate: {row: 3}}", "unknown field; did you mean rows?"),
        ("{path: a, limit: 5}", "dataset.limit: unknown field; limit is one of the whole exp"),
    ],
)
def test_a_wrong_dataset_is_named(dataset: str, message: str) -> None:
    found = refusal(PLAIN.replace("{path: rows.jsonl}", dataset))
    assert found.startswith(", line 4: ")
    assert message in found, found


def test_all_mistakes_are_counted_once() -> None:
    found = refusal("name: ''\nsender: {model: a}\nconditions: [no_inject, {name: b}]\n")
    # sender.layer, conditions.1.source; name, receiver, dataset: one is named, four remain.
    assert found.endswith("(and 4 more mistakes)")
    assert "mistake" not in refusal(PLAIN + "limit: 0\n")
    assert refusal(PLAIN + "limit: 0\nrng: x\n").endswith("(and 1 more mistake)")


# ---------------------------------------------------------------- what is not YAML, or too much


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": holds nothing; an experiment is a mapping"),
        ("# only a comment\n", ": holds nothing"),
        ("- a\n", ": holds a list; an experiment is a mapping"),
        ("just words\n", ": holds text"),
        ("42\n", ": holds a single value"),
        ("a: [1\nb: 2\n", ", line 2, column 2: not valid YAML"),
        (PLAIN + "\tx: 1\n", ", line 6, column 1: not valid YAML: found character"),
        (PLAIN + "x: *nowhere\n", ", line 6, column 4: not valid YAML: found undefined alias"),
        (PLAIN + "x: !!python/object:os.system y\n", ", line 6, column 4: not valid YAML"),
        (PLAIN + "x: !custom y\n", ", line 6, column 4: not valid YAML"),
        (PLAIN + "---\nname: two\n", "not valid YAML"),
        (PLAIN + "x: 2026-13-45\n", ", line 6: x: unknown field"),
        (PLAIN + f"limit: {'9' * 5000}\n", ": not valid YAML: Exceeds the limit (4300 digits)"),
        (PLAIN + "x: \x07\n", ": not valid YAML: unacceptable character #x0007"),
        (
            PLAIN + "name: again\n",
            ", line 6, column 1: not valid YAML: field 'name' is given twice",
        ),
        (PLAIN + "decoding:\n  max_new_tokens: 1\n  max_new_tokens: 2\n", ", line 8, column 3:"),
        (PLAIN + "? [a]\n: 1\n", ", line 6, column 3: not valid YAML: a field name is not text"),
        (PLAIN + "yes: 1\n", ", line 6, column 1: not valid YAML: a field name is not text"),
        (PLAIN + "null: 1\n", ", line 6, column 1: not valid YAML: a field name is not text"),
        (PLAIN + "42: 1\n", ": 42: keys should be strings, not 42"),
        (PLAIN + "<<: {limt: 3}\n", ": limt: unknown field; did you mean limit?"),
        (PLAIN + '"a\\nb": 1\n', r": a\nb: unknown field"),
        (PLAIN + '"a\\nb": 1\n"a\\nb": 2\n', r"field 'a\nb' is given twice"),
        (PLAIN + '"a[0]": 1\n', ", line 6: a[0]: unknown field"),
        (PLAIN + "str: 1\n", ", line 6: str: unknown field"),
        (PLAIN + '"\\e[31mred": 1\n', r": \x1b[31mred: unknown field"),
        (PLAIN + "limit: " + "x" * 5000 + "\n", ", line 6: limit: give a whole number"),
    ],
)
def test_what_is_not_an_experiment_is_refused(text: str, message: str) -> None:
    found = refusal(text)
    assert message in found, found


@pytest.mark.slow
@pytest.mark.parametrize("depth", [600, 100_000])
@pytest.mark.parametrize("bracket", ["[", "{a: ", "[]"])
def test_deep_nesting_is_refused(depth: int, bracket: str) -> None:
    closed = bracket == "[]"
    text = "[" * depth + "]" * depth if closed else bracket * depth
    assert "nested too deeply" in refusal(PLAIN + f"x: {text}\n")


def test_an_alias_that_holds_itself_is_refused() -> None:
    assert "mine.yaml" not in refusal(PLAIN + "x: &a [*a]\n")
    refusal(PLAIN + "x: &a {b: *a}\n")


def test_an_alias_bomb_is_refused_before_it_goes_off() -> None:
    lines = ["a0: &a0 [" + "x, " * 9 + "x]"]
    lines += [f"a{i}: &a{i} [" + f"*a{i - 1}, " * 9 + f"*a{i - 1}]" for i in range(1, 12)]
    assert "too many nodes" in refusal(PLAIN + "\n".join(lines) + "\n")


def test_ordinary_aliases_are_allowed() -> None:
    text = PLAIN.replace("sender: {", "sender: &side {").replace(
        "receiver: {model: ./receiver, layer: 1}", "receiver: *side"
    )
    experiment = parsed(text)
    assert experiment.receiver == experiment.sender


def test_json_is_read_too_and_seeds_are_its_text_keys() -> None:
    declared = {
        "name": "mine",
        "sender": {"model": "a", "layer": 8},
        "receiver": {"model": "b", "layer": -1},
        "dataset": {"path": "rows.jsonl"},
        "translators": {"42": "a.pt", "7": "b.pt"},
        "seeds": [7, 42],
    }
    experiment = parsed(json.dumps(declared, indent=2))
    assert experiment.translators == {42: Path("a.pt"), 7: Path("b.pt")}
    assert experiment.seeds == (7, 42)


# ---------------------------------------------------------------- overrides


def test_overrides_reach_into_sections() -> None:
    overrides: dict[str, Any] = {"decoding.max_new_tokens": 3, "seeds": [1], "limit": 2}
    experiment = parsed(PLAIN, overrides)
    assert experiment.decoding.max_new_tokens == 3
    assert experiment.decoding.no_repeat_ngram_size == 3
    assert (experiment.seeds, experiment.limit) == ((1,), 2)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("conditions.0.weight", "conditions.0.weight cannot be set: conditions holds a list"),
        ("sender.model.x", "sender.model.x cannot be set: sender.model holds text"),
        ("limt", "limt: unknown field; did you mean limit?"),
        ("decoding.max", "decoding.max: unknown field"),
        ("nowhere.at.all", "nowhere: unknown field"),
        ("decoding.", "decoding.: unknown field"),
    ],
)
def test_an_override_that_reaches_nothing_is_refused(field: str, message: str) -> None:
    found = refusal(PLAIN, {field: 3})
    assert message in found, found


# ---------------------------------------------------------------- files and paths


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "experiments"
    folder.mkdir()
    text = BASE + "translators: {42: a.pt, 123: ../b.pt, 456: /c.pt}\n"
    text = text.replace("./receiver", "hub/id, adapter: ./lora")
    (folder / "mine.yaml").write_text(text)
    experiment = load_experiment(folder / "mine.yaml")
    assert experiment.sender.model == str(folder / "sender")
    assert experiment.receiver.model == "hub/id"
    assert experiment.receiver.adapter == str(folder / "lora")
    assert experiment.dataset.path == folder / "rows.jsonl"
    assert isinstance(experiment.translators, dict)
    assert experiment.translators[42] == folder / "a.pt"
    assert experiment.translators[123].resolve() == tmp_path / "b.pt"
    assert experiment.translators[456] == Path("/c.pt")
    sets = {"a": {"42": "a.pt"}, "b": {"fit": {"corpus": {"path": "text.txt"}}}}
    text = (
        BASE + "seeds: [42]\nconditions: [replace]\n" + f"translators: {json.dumps({'sets': sets})}"
    )
    (folder / "mine.yaml").write_text(text)
    found = load_experiment(folder / "mine.yaml").translator_sets
    assert found["a"] == {42: folder / "a.pt"}
    assert isinstance(found["b"], Fit)
    assert found["b"].corpus.path == folder / "text.txt"
    (folder / "mine.yaml").write_text(FIT)
    fit = load_experiment(folder / "mine.yaml").translators
    assert isinstance(fit, Fit)
    assert fit.corpus.path == folder / "text.txt"


def test_an_experiment_is_the_same_from_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run that is resumed from another folder must not be another experiment.
    (tmp_path / "sub").mkdir()
    (tmp_path / "mine.yaml").write_text(BASE + "translators: {42: a.pt, 123: b.pt, 456: c.pt}\n")
    monkeypatch.chdir(tmp_path)
    here = load_experiment("mine.yaml")
    monkeypatch.chdir(tmp_path / "sub")
    assert load_experiment(tmp_path / "mine.yaml") == here


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; give the path of an experiment file"),
        (b"\xff\xfe\x00", "not UTF-8 text (byte 0)"),
        (b"name: \xc3(", "not UTF-8 text (byte 6)"),
        (b"x" * (MAX_BYTES + 1), "larger than 1000000 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExperimentError) as caught:
        load_experiment(path)
    assert str(caught.value) == f"{path}: {message}" or message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_is_not_an_experiment(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="cannot be read"):
        load_experiment(tmp_path)


# ---------------------------------------------------------------- sets of translators


def test_a_condition_uses_the_set_it_names_or_the_first() -> None:
    text = SETS.replace("causl", "other") + "- private_last\nseeds: [7]\n"
    experiment = parsed(text)
    own, named = experiment.resolved_conditions
    assert experiment.translator_set(own) == "other"
    assert experiment.translator_set(named) == "causal"
    assert list(experiment.translator_sets) == ["causal", "other"]
    assert Experiment.model_validate(experiment.model_dump(mode="json")) == experiment


def test_one_set_is_the_default_one_and_none_is_none() -> None:
    one = parsed(BASE + "translators: {7: a}\nseeds: [7]\nconditions: [replace]\n")
    assert one.translator_sets == {"default": {7: Path("a")}}
    assert one.translator_set(one.resolved_conditions[0]) == "default"
    by_name = "- {name: c, source: translated, translator: default}\n"
    parsed(BASE + f"translators: {{7: a}}\nseeds: [7]\nconditions:\n{by_name}")
    assert parsed(PLAIN).translator_sets == {}
