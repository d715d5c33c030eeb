"""The taught pair: its files, what it can do, and that teaching it again gives the same."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from scripts.demo_pair.lessons import (
    DISTRACTORS,
    END,
    HELD_OUT_SEED,
    HOPS,
    SLOT,
    WORDING,
    WORLDS,
    LessonWriter,
    build_tokenizer,
    held_out_rows,
    identities,
    names_of_worlds,
    questions_on,
    read_facts,
    training_rows,
)
from scripts.demo_pair.spelling import FEATURES, SpelledNames
from scripts.demo_pair.teaching import COURSES, Phase, accuracy, teach
from scripts.demo_pair.untaught import Shape, new_model

from statebridge.data import overlap, row_identity
from statebridge.data.multihop_domains import DOMAINS
from statebridge.demo import taught_pair
from statebridge.demo.taught_pair import SIDES, taught_pair_folders
from statebridge.errors import PairError
from statebridge.experiment.experiment import GeneratedRows, ModelAtLayer, Prompts
from statebridge.models.loading import load_model
from statebridge.models.weights import weights_sha256
from statebridge.tasks.declared_rows import generated_rows

TARGETS = {"sender": 0.95, "receiver": 0.60}
"""Least number of right answers of each model on 100 held-out rows."""


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.mark.slow
def test_every_name_and_answer_is_one_token(tokenizer):
    names = {
        name
        for domain in DOMAINS
        if domain.name in WORLDS
        for kind in domain.kinds
        for name in kind.names
        if " " not in name
    }
    assert names
    assert [name for name in names if len(tokenizer.encode(f" {name}")) != 1] == []


def test_the_tokenizer_takes_any_text_and_gives_it_back(tokenizer):
    text = "Señor Zq owns 東京\t(42 %).\n\nKey facts: ok"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.unk_token_id not in tokenizer.encode(text)


def test_the_end_token_is_id_0_and_nothing_pads_as_in_gpt_neox(tokenizer):
    assert tokenizer.encode(END) == [0]
    assert tokenizer.eos_token_id == 0
    assert tokenizer.pad_token_id is None
    assert tokenizer.encode(SLOT) == [1]


def test_the_held_out_rows_are_those_an_experiment_generates():
    declared = GeneratedRows(
        rows=7,
        hops=HOPS,
        distractors=DISTRACTORS,
        seed=HELD_OUT_SEED,
        domains=WORLDS,
        wording=WORDING,
    )
    assert generated_rows(declared) == held_out_rows(7)


def test_the_facts_of_a_row_are_read_back_from_its_context():
    for row in held_out_rows(48):
        facts = read_facts(row)
        assert len(facts) == 2 + DISTRACTORS
        following = {(fact.step, fact.a): fact.b for fact in facts}
        start = next(fact for fact in facts if fact.a in row.question)
        assert following[start.step + 1, start.b] == row.answer


def test_questions_cover_each_link_and_chain_own_ones_first():
    row = held_out_rows(1)[0]
    asked = questions_on(row, random.Random(0))
    assert len(asked) == 6 + 3
    assert (asked[0].question, asked[0].found[-1]) == (row.question, row.answer)
    links = {(fact.a, fact.b) for fact in read_facts(row)}
    for each in asked:
        assert each.name in each.question
        assert set(zip((each.name, *each.found), each.found, strict=False)) <= links
    assert {each.found for each in asked if len(each.found) == 1} == {(b,) for _, b in links}


def test_no_held_out_row_is_taught():
    held_out = held_out_rows(200)
    clash = held_out[:3]
    source = training_rows(HELD_OUT_SEED, DISTRACTORS, identities(clash))
    # The held-out rows' own seed: what is forbidden is left out, whatever made it.
    assert list(islice(source, 5)) == held_out[3:8]
    taught = list(islice(training_rows(1004, DISTRACTORS, identities(held_out)), 400))
    assert overlap(taught, held_out) == []


def test_a_lesson_is_the_prompt_with_answer_and_end_token(tokenizer):
    row = held_out_rows(1)[0]
    writer = LessonWriter(tokenizer, blind=0.0, single=0.0, further=0)
    lesson = writer.write(row, random.Random(0))
    prompt = tokenizer.encode(Prompts().task.format(context=row.context, question=row.question))
    assert lesson.ids == [*prompt, *tokenizer.encode(f" {row.answer}"), 0]
    assert lesson.answers == [False] * len(prompt) + [True] * 2
    hinted = {stage: set() for stage in range(4)}
    for hint in lesson.hints:
        hinted[hint.stage].add((tokenizer.decode(lesson.ids[hint.position]), hint.token))
    own = questions_on(row, random.Random(0))[0]
    (bridge,), (answer,) = (tokenizer.encode(f" {name}") for name in own.found)
    assert hinted[1] == {(f" {own.name}", bridge)}
    assert hinted[2] == {(f" {own.name}", answer)}
    assert hinted[3] == {(":", answer)}
    names = [sorted((fact.a, fact.b), key=row.context.index) for fact in read_facts(row)]
    assert len(hinted[0]) == len(names) == 6


def test_a_blind_lesson_hides_the_context(tokenizer):
    row = held_out_rows(1)[0]
    writer = LessonWriter(tokenizer, blind=1.0, single=0.0, further=2)
    texts = {tuple(writer.write(row, random.Random(seed)).ids) for seed in range(8)}
    ending = f"Q: {row.question}\nA: {row.answer}{END}"
    slots = SLOT * len(tokenizer.encode(f" {row.context}"))
    assert {tokenizer.decode(ids) for ids in texts} == {ending, f"Context:{slots}\n{ending}"}


def _quick(seed: int):
    phases = (Phase(0.5, (1,), 0.5, 1), Phase(0.5, (1, 2), 0.5, 1))
    return replace(
        COURSES["receiver"],
        shape=Shape(blocks=4, width=16, heads=2),
        stages=(0, 1, 2, 3),
        steps=4,
        batch=4,
        phases=phases,
        seed=seed,
        report_every=2,
        held_out=8,
    )


def _taught(seed: int, tokenizer):
    course = _quick(seed)
    model = new_model(course.shape, len(tokenizer), course.seed)
    log = list(teach(course, tokenizer, model))
    return weights_sha256(model), log


def test_teaching_again_gives_the_same_weights_bit_by_bit(tokenizer):
    first, first_log = _taught(3, tokenizer)
    torch.manual_seed(99)  # the course draws from its own seed, not from the caller's state
    again, again_log = _taught(3, tokenizer)
    other, _ = _taught(4, tokenizer)
    assert again == first
    assert again_log == first_log
    assert [line.step for line in first_log] == [2, 4]
    assert other != first


@pytest.mark.slow
def test_teaching_lowers_the_loss(tokenizer):
    course = replace(_quick(0), steps=60, report_every=20)
    log = list(teach(course, tokenizer, new_model(course.shape, len(tokenizer), 0)))
    # Untaught it is the logarithm of some 1,000 tokens; words follow each other in few ways.
    assert log[0].loss_all > log[-1].loss_all + 0.5


def _distance_from_spelling(table: torch.Tensor, names: SpelledNames) -> float:
    """Longest difference of a name's vector from its nearest one that is linear in spelling."""
    kept = table.detach().clone()
    names.keep(kept)
    return float((kept - table.detach()).norm(dim=1).max())


def test_names_become_and_stay_linear_in_their_spelling(tokenizer):
    names = SpelledNames(tokenizer, names_of_worlds())
    course = replace(_quick(0), steps=3, phases=(Phase(1.0, (1,), 0.5, 1),))
    model = new_model(course.shape, len(tokenizer), 0)
    table = model.get_input_embeddings().weight
    lengths, others = table[names.ids].detach().norm(dim=1).mean(), table[:2].detach().clone()
    assert _distance_from_spelling(table, names) > 0.1
    names.start(table)
    assert _distance_from_spelling(table, names) < 1e-5
    assert table[names.ids].norm(dim=1).mean().item() == pytest.approx(lengths.item(), rel=0.2)
    assert torch.equal(table[:2], others)
    list(teach(course, tokenizer, model, names))
    assert not torch.equal(table[:2], others)
    # The last step rounds to float16.
    assert _distance_from_spelling(table, names) < 1e-3


def test_spellings_differ_for_every_two_names(tokenizer):
    names = SpelledNames(tokenizer, names_of_worlds())
    table = torch.randn(len(tokenizer), 96, generator=torch.Generator().manual_seed(0))
    names.start(table)
    vectors = torch.nn.functional.normalize(table[names.ids], dim=1)
    alike = vectors @ vectors.T - torch.eye(len(vectors))
    assert alike.max() < 0.9
    assert torch.linalg.matrix_rank(vectors, rtol=1e-4) == FEATURES + 1


@pytest.mark.slow
@pytest.mark.parametrize("side", SIDES)
def test_the_committed_model_answers_held_out_rows(side):
    model = load_model(ModelAtLayer(model=str(taught_pair_folders()[side]), layer=0.67))
    rows = held_out_rows(100)
    assert accuracy(model.module, model.tokenizer, rows) >= TARGETS[side]
    # Names are drawn evenly from dozens: without its context a row can only be guessed.
    assert accuracy(model.module, model.tokenizer, rows, "Q: {question}\nA:") <= 0.10


def test_the_committed_files_are_small(tokenizer):
    folders = taught_pair_folders()
    for side, folder in folders.items():
        course = COURSES[side]
        model = new_model(course.shape, len(tokenizer), course.seed)
        assert sum(weight.numel() for weight in model.parameters()) < 3_000_000
        assert (folder / "tokenizer.json").read_bytes() == (
            folders["sender"] / "tokenizer.json"
        ).read_bytes()
    files = [path for path in taught_pair.TAUGHT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8_000_000


def test_the_committed_tokenizer_is_the_scripts(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    committed = taught_pair_folders()["sender"] / "tokenizer.json"
    assert committed.read_bytes() == (tmp_path / "tokenizer.json").read_bytes()


def test_a_package_without_the_files_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(taught_pair, "TAUGHT", Path(tmp_path))
    with pytest.raises(PairError, match=r"no config\.json in .*sender"):
        taught_pair_folders()


def test_row_identity_is_what_keeps_rows_apart():
    rows = held_out_rows(20)
    assert identities(rows) == {row_identity(row) for row in rows}
    assert len(identities(rows)) == 20
