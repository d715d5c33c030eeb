"""The first screen: the answer, its figure and its numbers, from data that calls for each."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from statebridge.experiment.conditions import Condition
from statebridge.experiment.presets import CONDITIONS
from statebridge.figures.channels import channel_chart, channel_drawing, line_text
from statebridge.records import CellResult, ResultSet
from statebridge.report import write_report
from statebridge.report.words.answer import Answer, answer
from statebridge.report.words.glossary import TERMS
from statebridge.stats import Settings, compare
from statebridge.stats.setting import channel_settings
from statebridge.tables.condition_words import condition_words, control_word
from tests.bridge.figures.made_run import made_run
from tests.bridge.report.contradictions import unlinked
from tests.bridge.stats.tables import SEEDS, cell, measured, results

ROWS = 64
QUICK = Settings(stratify_by=(), permutations=99)


def right(count: int) -> list[int]:
    return [1] * count + [0] * (ROWS - count)


def seeded(name: str, count: int) -> list[CellResult]:
    return [cell(name, right(count), seed) for seed in SEEDS]


def private(*cells: CellResult, floor: int = 2, skyline: int = 60) -> Answer:
    found = results(cell("question_only", right(floor)), cell("skyline", right(skyline)), *cells)
    (setting,) = channel_settings(found)
    return answer(found, compare(found, settings=QUICK), setting)


def test_transfer_is_a_gain_over_floor_and_another_rows_state() -> None:
    found = private(*seeded("private_last", 40), *seeded("private_last_shuffled", 3))
    assert found.outcome == "yes"
    assert found.sentence == (
        "The sender's state, translated, at the last token (private_last), gives 62 % right "
        "answers: 3 % without it, 5 % with another row's state and 94 % for a receiver that reads "
        "the context."
    )
    assert [number.label for number in found.numbers] == [
        "of the gap closed by private_last, with its 95 % interval",
        "of the gap closed by its control, another row's",
        "rows, 3 seeds",
    ]
    assert (found.numbers[0].value, found.numbers[0].ends[0]) == ("66 %", "[")
    assert found.numbers[2].value == "n = 64"


def test_a_gain_that_another_rows_state_has_too_is_not_shown() -> None:
    found = private(*seeded("private_last", 40), *seeded("private_last_shuffled", 40))
    assert found.outcome == "not shown"
    assert "it is not shown to be above another row's state" in found.sentence


def test_a_gain_without_a_control_is_not_shown() -> None:
    found = private(*seeded("private_last", 40))
    assert found.outcome == "not shown"
    assert "no control with another row's state was run" in found.sentence


def test_a_control_that_gains_in_part_is_named() -> None:
    found = private(*seeded("private_last", 60), *seeded("private_last_shuffled", 25))
    assert found.outcome == "yes"
    assert found.sentence.endswith("but so does the control with another row's state, in part.")


def test_one_seed_is_said_and_so_is_a_seed_that_disagrees() -> None:
    one = private(cell("private_last", right(40), 1), cell("private_last_shuffled", right(2), 1))
    assert "under one seed only" in one.sentence
    channel = [cell("private_last", right(n), s) for n, s in zip((60, 60, 1), SEEDS, strict=True)]
    some = private(*channel, *seeded("private_last_shuffled", 2))
    assert "though not under every seed" in some.sentence
    steady = private(*seeded("private_last", 40), *seeded("private_last_shuffled", 2))
    assert "seed" not in steady.sentence


def test_only_harm_is_no_and_doubt_is_not_shown() -> None:
    harm = private(*seeded("private_last", 0), floor=40)
    assert harm.outcome == "no"
    assert harm.sentence == (
        "The channel is not shown to be better than question_only (62 %): 1 is worse."
    )
    doubt = private(*seeded("private_last", 3))
    assert doubt.outcome == "not shown"
    assert doubt.sentence.endswith("1 is inconclusive.")
    assert doubt.numbers[0].label.endswith(
        "private_last, the highest, not shown to be above the floor"
    )


def test_without_a_right_answer_there_is_no_verdict() -> None:
    found = private(*seeded("private_last", 0), floor=0, skyline=0)
    assert found.outcome == "no verdict"
    assert found.sentence.startswith("No answer is right, with the channel or without it")


def test_of_a_number_it_is_the_median_rows_change() -> None:
    draw = np.random.default_rng(0)

    def logprobs(name: str, level: float, seed: int | None = None) -> CellResult:
        return measured(name, "gold_logprob", list(draw.normal(level, 0.5, ROWS)), seed)

    found = results(
        logprobs("question_only", -5.0),
        logprobs("skyline", -0.5),
        logprobs("private_last", -1.0, 1),
        measured(
            "private_last_shuffled", "gold_logprob", [-7.0 - 0.1 * (k % 7) for k in range(ROWS)], 1
        ),
    )
    (setting,) = channel_settings(found)
    got = answer(found, compare(found, settings=QUICK), setting)
    assert got.chart is not None
    assert got.outcome == "yes"
    assert re.search(
        r"changes the median row's gold log-probability \(nats\) by \+[34]\.\d\d; it is "
        r"−[12]\.\d\d with another row's state and \+4\.\d\d for a receiver that reads the context",
        got.sentence,
    )
    assert (got.chart.floor, got.chart.axis) == (
        0.0,
        "change in gold log-probability (nats) of the median row",
    )


def test_without_a_channel_or_a_comparison_there_is_no_verdict() -> None:
    assert private(cell("nl_relay", right(4))).outcome == "no verdict"
    alone = results(cell("question_only", right(4)))
    (setting,) = channel_settings(alone)
    assert answer(alone, None, setting).sentence == "There is nothing but question_only to report."


def test_where_lower_is_better_the_right_end_is_still_better() -> None:
    # Ranks: 1 is best. The channel's are near 1, the floor's near 100.
    ranks = [100.0 + k % 7 for k in range(ROWS)]
    found = results(
        measured("question_only", "gold_rank", ranks),
        measured("private_last", "gold_rank", [2.0 + k % 3 for k in range(ROWS)], 1),
        measured("private_last_shuffled", "gold_rank", [150.0 + k % 9 for k in range(ROWS)], 1),
    )
    comparison = compare(found, metrics=["gold_rank"], settings=QUICK)
    (setting,) = channel_settings(found)
    chart = channel_chart(found, comparison, setting, "gold_rank")
    assert chart is not None
    (line,) = chart.lines
    assert line.point.side == "good"
    assert line.controls[0].side == "bad"
    assert chart.place(line.point.value) > chart.place(chart.floor)
    assert chart.place(line.controls[0].value) < chart.place(chart.floor)
    axes = channel_drawing([chart], ["Private"]).figure.axes[0]  # type: ignore[union-attr]
    assert axes.get_xlim()[0] > axes.get_xlim()[1]


def test_each_channel_has_its_own_controls_in_its_line() -> None:
    cells = [c for n in ("private_last", "private_last_matched") for c in seeded(n, 40)]
    cells += seeded("private_last_shuffled", 2) + seeded("private_last_matched_shuffled", 3)
    cells += [*seeded("private_last_null", 2), cell("private_last_zero", right(1))]
    found = private(*cells)
    assert found.chart is not None
    lines = {
        line.point.name: {point.name: point.word for point in line.controls}
        for line in found.chart.lines
    }
    assert lines == {
        "private_last": {
            "private_last_shuffled": "another row's",
            "private_last_null": "no context",
            "private_last_zero": "zeros",
        },
        "private_last_matched": {
            "private_last_matched_shuffled": "another row's",
            "private_last_zero": "zeros",
        },
    }
    # All three are near the floor, so each is below the one before; the channel is far from them.
    assert found.chart.levels(found.chart.lines[0]) == (0, 1, 2)
    assert not found.chart.uneven
    text = line_text(found.chart.lines[0], found.chart)
    assert "n = " not in text
    assert "control with another row's, private_last" in text
    assert ", better" in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_inject", "the receiver alone, which reads context and question"),
        ("additive", "the sender's state, translated, added 0.01 times, at every token"),
        ("private_last_null", "the sender's state, translated, the sender reading no context, at "
         "the last token"),
        ("kvcomm", "the sender's keys and values of 30 % of the layers (importance)"),
        ("kv_mapped", "the sender's keys and values, translated"),
        ("kv_mapped_mean", "the receiver's mean keys and values"),
        ("activation_mean", "the sender's state as it is, averaged with the receiver's own, at the "
         "last token"),
    ],
)  # fmt: skip
def test_conditions_are_named_in_words(name: str, words: str) -> None:
    assert condition_words(CONDITIONS[name]) == words


def test_presets_have_words_of_their_own() -> None:
    # Two names of one thing: the receiver with the whole prompt, and the strict control's rows.
    words = [
        condition_words(condition)
        for name, condition in CONDITIONS.items()
        if name not in ("skyline", "private_relay", "shuffled_translation_strict_matched")
    ]
    assert len(set(words)) == len(words)


def test_a_control_of_another_place_is_none_of_a_channels() -> None:
    channel = CONDITIONS["private_last"]
    assert control_word(channel, CONDITIONS["private_question_shuffled"]) is None
    assert control_word(channel, CONDITIONS["zero_replacement"]) is None
    half = Condition.model_validate({**channel.model_dump(), "name": "half", "weight": 0.5})
    assert control_word(half, CONDITIONS["private_last_zero"]) is None


def test_terms_are_words_of_the_glossary() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "glossary.md").read_text("utf-8")
    for term in ("sender", "receiver", "channel", "floor", "skyline", "baseline", "control"):
        assert term in TERMS
        assert f"**{term}**" in page


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run: ResultSet = made_run(rows=12)
    comparison = compare(run, settings=QUICK)
    out = tmp_path_factory.mktemp("report")
    files = write_report(run, out, figures=False, comparison=comparison)
    return {path.suffix: path.read_text("utf-8") for path in files}


def test_the_head_has_models_layers_dataset_and_date(report: dict[str, str]) -> None:
    page = unlinked(report[".html"])
    head = page[page.index('<dl class="head">') : page.index('class="answers"')]
    for fact in ("tiny, layer 8 of 24", "tiny, layer 16 of 24", "12 rows", "2026-01-02"):
        assert fact in head
        assert fact in report[".md"][:600]


def test_no_sentence_mixes_signs_and_per_cents(report: dict[str, str]) -> None:
    page = report[".html"]
    page = re.sub(r"<(script|style|pre|code)\b.*?</\1>", " ", page, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", " ", page)
    assert re.findall(r"\d%.{0,20}", text) == []
    # Of a date the hyphens are right.
    assert re.findall(r"(?<![\w.])-\d.{0,20}", re.sub(r"\d{4}-\d\d-\d\d", "", text)) == []


def test_the_first_screen_comes_before_any_list_of_findings(report: dict[str, str]) -> None:
    page = report[".html"]
    assert page.index('class="chart"') < page.index('class="findings"')
    assert page.index("<details") < page.index('class="findings"')
