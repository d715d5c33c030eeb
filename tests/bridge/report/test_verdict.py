"""The verdict in words: each wording from the data that calls for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from statebridge.experiment.conditions import Condition
from statebridge.records import CellResult, ResultSet
from statebridge.report import Verdict, verdicts
from statebridge.stats import Settings, compare
from tests.bridge.figures.made_run import made_run
from tests.bridge.stats.tables import SEEDS, cell, measured, results
from tests.shared_data import SHARED, needs_shared

ROWS, RIGHT = 400, 80
BASE = [1] * RIGHT + [0] * (ROWS - RIGHT)
QUICK = Settings(stratify_by=())


def changed(*, gained: int = 0, lost: int = 0) -> list[int]:
    """The baseline's outcomes with so many rows gained and lost."""
    return [0] * lost + [1] * (RIGHT - lost) + [1] * gained + [0] * (ROWS - RIGHT - gained)


def condition(name: str, *by_seed: Sequence[int], seeds: Sequence[int] = SEEDS) -> list[CellResult]:
    return [cell(name, outcomes, seed) for seed, outcomes in zip(seeds, by_seed, strict=False)]


def judged(*cells: CellResult, relay: bool = False) -> Verdict:
    found = results(cell("no_inject", BASE), *cells)
    baselines = ["no_inject", "nl_relay"] if relay else ["no_inject"]
    (verdict,) = verdicts(found, compare(found, baselines, settings=QUICK))
    return verdict


SAME = changed(gained=3, lost=3)
BETTER = changed(gained=60)
GONE = changed(lost=76)


def test_nothing_gained_equivalent_and_destructive() -> None:
    verdict = judged(*condition("additive", SAME, SAME, SAME), *condition("replace", GONE, GONE))
    assert verdict.headline == (
        "No stable gain; additive equivalent to no_inject within ±0.03; replace destructive "
        "(by word-boundary containment)."
    )
    assert verdict.findings[0].startswith(
        "additive: 0.2000 against 0.2000 under no_inject, a difference of 0.0000 (95 % interval ["
    )
    assert "9 rows gained and 9 lost over 3 runs. Equivalent within ±0.03" in verdict.findings[0]
    assert "Worse than the baseline (p < 0.0001 after Holm's correction)" in verdict.findings[1]


def test_harmful_is_less_than_destructive() -> None:
    half = changed(lost=40)
    headline = judged(*condition("best_alpha", half, half)).headline
    assert headline == "No stable gain; best_alpha harmful (by word-boundary containment)."


def test_a_gain_in_every_seed() -> None:
    headline = judged(*condition("additive", BETTER, BETTER, BETTER)).headline
    assert headline == "Gain over no_inject from additive (by word-boundary containment)."


def test_a_gain_that_one_seed_lacks_is_not_stable() -> None:
    headline = judged(*condition("additive", BETTER, BETTER, changed(lost=4))).headline
    assert headline.startswith("No stable gain: gain over no_inject from additive, but not under")


def test_a_gain_under_a_single_seed_is_not_stable() -> None:
    verdict = judged(*condition("additive", BETTER))
    assert "No stable gain: gain over no_inject from additive under one seed" in verdict.headline
    assert any(c.startswith("One seed only for additive") for c in verdict.cautions)


def test_a_control_that_gains_too_is_no_transfer() -> None:
    verdict = judged(
        *condition("additive", BETTER, BETTER), *condition("same_norm_random", BETTER, BETTER)
    )
    assert "but the control same_norm_random gains too: no evidence of transfer" in verdict.headline


def test_what_a_row_has_above_another_rows_state_is_transfer() -> None:
    much = changed(gained=150)
    headline = judged(
        *condition("scale_corrected", much, much),
        *condition("shuffled_translation", BETTER, BETTER),
    ).headline
    assert headline == (
        "Gain over no_inject from scale_corrected, but the control shuffled_translation gains too: "
        "transfer is only what scale_corrected has above another row's state "
        "(by word-boundary containment)."
    )
    alike = judged(
        *condition("scale_corrected", BETTER, BETTER),
        *condition("shuffled_translation", BETTER, BETTER),
    ).headline
    assert "gains too: no evidence of transfer" in alike


def test_few_rows_are_inconclusive_and_state_what_is_detectable() -> None:
    few = results(cell("no_inject", BASE[70:90]), *condition("additive", SAME[70:90]))
    (verdict,) = verdicts(few, compare(few, settings=QUICK))
    assert (
        verdict.headline == "No gain shown; additive inconclusive (by word-boundary containment)."
    )
    assert any(
        "20 rows are too few for the declared margin of ±0.05" in c for c in verdict.cautions
    )


def test_nothing_right_anywhere_is_no_verdict() -> None:
    none = [0] * 30
    found = results(cell("no_inject", none), *condition("replace", none))
    (verdict,) = verdicts(found, compare(found, settings=QUICK))
    assert verdict.headline == (
        "No verdict on answers: word-boundary containment is 0 under no_inject and under every "
        "condition that writes the sender's states, so neither a gain nor a loss could show."
    )


def test_where_nothing_is_right_log_probability_is_judged_by() -> None:
    run = made_run()
    cells = [replace(c, lanes=[replace(r, prediction="lead") for r in c.lanes]) for c in run.cells]
    run = replace(run, cells=cells)
    (verdict,) = verdicts(run, compare(run, ["no_inject", "nl_relay"], settings=QUICK))
    assert "neither a gain nor a loss could show. No stable gain; additive" in verdict.headline
    assert verdict.headline.endswith("(by gold log-probability).")
    assert verdict.findings[0].startswith("additive: −")


def test_no_text_is_judged_by_log_probability() -> None:
    run = made_run(decoded=False)
    (verdict,) = verdicts(run, compare(run, ["no_inject", "nl_relay"], settings=QUICK))
    assert verdict.headline.endswith("harmful (by gold log-probability).")
    assert any("No row has a prediction (a run without decoding)" in c for c in verdict.cautions)


@pytest.mark.slow
def test_text_and_log_probability_are_both_given() -> None:
    run = made_run()
    (verdict,) = verdicts(run, compare(run, ["no_inject", "nl_relay"], settings=QUICK))
    found = [f for f in verdict.findings if f.startswith("By gold log-probability")]
    assert len(found) == 1
    assert "additive −" in found[0]


def test_without_a_baseline_there_is_no_verdict() -> None:
    found = results(*condition("additive", SAME, SAME))
    (verdict,) = verdicts(found, None)
    assert verdict.headline == (
        "No verdict: the results hold no run without injection (no_inject) to compare with."
    )
    assert not verdict.findings


def test_a_baseline_alone_is_no_verdict() -> None:
    (verdict,) = verdicts(results(cell("no_inject", BASE)), None)
    assert verdict.headline == "No verdict: there is nothing but no_inject to report."


def test_controls_alone_say_nothing_on_transfer() -> None:
    verdict = judged(*condition("same_norm_random", GONE, GONE))
    assert verdict.headline.startswith("No verdict on transfer")
    assert any(f.startswith("Controls: same_norm_random") for f in verdict.findings)


def test_the_relay_is_compared_with() -> None:
    verdict = judged(
        cell("nl_relay", changed(lost=3)), *condition("additive", SAME, SAME), relay=True
    )
    assert any(f.startswith("Text relay. nl_relay: 0.1925 against 0.2") for f in verdict.findings)
    assert any(f.startswith("Against nl_relay: additive +0.0075") for f in verdict.findings)


def test_the_rows_own_state_is_compared_with_another_rows() -> None:
    verdict = judged(
        *condition("scale_corrected", BETTER, BETTER),
        *condition("shuffled_translation", GONE, GONE),
    )
    (own,) = [f for f in verdict.findings if f.startswith("The row's own state")]
    assert own.startswith(
        "The row's own state (scale_corrected) against another row's (shuffled_translation), by "
        "word-boundary containment: +0.3400 (95 % interval ["
    )
    assert own.endswith("better.")


def test_the_strict_shuffle_is_compared_over_its_own_rows() -> None:
    strict = [
        replace(one, lanes=one.lanes[10:], excluded_rows=10)
        for one in condition("shuffled_translation_strict_matched", GONE, GONE)
    ]
    verdict = judged(*condition("scale_corrected", GONE, GONE), *strict)
    assert any(
        "(shuffled_translation_strict_matched), by word-boundary containment: 0.0000" in f
        for f in verdict.findings
    )


def test_rows_with_their_own_state_are_not_compared() -> None:
    # The one row that the channel alone gets right got its own state in the control.
    control = cell("shuffled_translation", changed(), 42)
    control.lanes = [
        replace(row, donor_self_fallback=place == RIGHT) for place, row in enumerate(control.lanes)
    ]
    verdict = judged(*condition("scale_corrected", changed(gained=1)), control)
    assert any(
        "(shuffled_translation), by word-boundary containment: 0.0000" in f
        for f in verdict.findings
    )
    control.lanes = [replace(row, donor_self_fallback=True) for row in control.lanes]
    verdict = judged(*condition("scale_corrected", changed(gained=1)), control)
    assert not any(f.startswith("The row's own state") for f in verdict.findings)


def test_the_failure_chain_is_told() -> None:
    half = changed(lost=38)
    verdict = judged(*condition("replace", GONE, GONE), *condition("scale_corrected", half, half))
    (chain,) = [f for f in verdict.findings if f.startswith("Of what replace loses")]
    assert chain.startswith(
        "Of what replace loses (0.1900), rescaling to the receiver's norm (scale_corrected) wins "
        "back +0.0950, 50 % ["
    )
    assert "not of two causes" in chain


def test_self_injection_shows_the_apparatus_intact_or_not() -> None:
    same = judged(cell("b_to_b_self_inject", BASE), *condition("additive", SAME))
    assert any(
        "b_to_b_self_inject gives the text of no_inject in all 400" in f for f in same.findings
    )
    other = judged(cell("b_to_b_self_inject", SAME), *condition("additive", SAME))
    assert any("changes 6 of 400 texts: the apparatus itself" in c for c in other.cautions)
    assert not any(f.startswith("Apparatus") for f in other.findings)


def with_own_donor(one: CellResult) -> CellResult:
    return replace(one, lanes=[replace(one.lanes[0], donor_self_fallback=True), *one.lanes[1:]])


@pytest.mark.parametrize(
    ("cells", "caution"),
    [
        ([replace(cell("additive", SAME, 42), complete=False)], "The run is not finished: 1 of 2"),
        ([cell("additive", SAME, 42), replace(cell("replace", [], 42))], "No row is left in"),
        (
            [cell("additive", [None, *SAME[1:]], 42)],
            "1 of 800 predictions are missing (additive 1)",
        ),
        ([cell("additive", SAME, 42)], "No control (another row's, random or zero states)"),
        ([cell("additive", SAME, 42)], "No text relay (nl_relay)"),
        ([cell("additive", SAME, 42)], "No self-injection is among the results"),
        (
            [with_own_donor(cell("shuffled_translation", SAME, 42))],
            "shuffled_translation: 1 of 400 rows got their own state",
        ),
        ([cell("my_own", SAME, 42)], "my_own: the results do not say what this writes"),
    ],
)
def test_cautions(cells: list[CellResult], caution: str) -> None:
    found = results(cell("no_inject", BASE), *cells)
    held = ResultSet([c for c in found.cells if c.lanes])
    (verdict,) = verdicts(found, compare(held, settings=QUICK))
    assert any(caution in c for c in verdict.cautions), verdict.cautions


def test_seeds_with_one_translator_are_no_independent_evidence() -> None:
    run = made_run(rows=6)
    assert run.manifest is not None
    manifest = dict(run.manifest)
    manifest["translators"] = {s: {"sha256": "7" * 64} for s in ("42", "123")}
    (verdict,) = verdicts(replace(run, manifest=manifest), compare(run, settings=QUICK))
    assert any(c.startswith("Seeds 42 and 123 have the same translator") for c in verdict.cautions)


def test_directions_are_judged_apart() -> None:
    found = results(
        cell("no_inject", BASE),
        *condition("replace", GONE, GONE),
        cell("no_inject", BASE, direction="rev"),
        cell("replace", SAME, 42, "rev"),
    )
    forward, reverse = verdicts(found, compare(found, settings=QUICK))
    assert (forward.direction, reverse.direction) == ("fwd", "rev")
    assert "replace destructive" in forward.headline
    assert "replace equivalent" in reverse.headline


def test_a_channel_is_known_by_what_it_writes_not_by_its_name() -> None:
    own = Condition(name="my_own", source="sender", align="last_dimensions")
    verdict = judged(replace(cell("my_own", GONE), condition=own))
    assert "my_own destructive" in verdict.headline


def test_a_continuous_metric_alone_has_no_margin() -> None:
    found = results(
        measured("no_inject", "gold_logprob", [-1.0, -2.0, -3.0, -4.0]),
        measured("additive", "gold_logprob", [-1.1, -1.9, -3.2, -3.9], 42),
    )
    (verdict,) = verdicts(found, compare(found, settings=QUICK))
    assert verdict.headline == ("No gain shown; additive inconclusive (by gold log-probability).")


@needs_shared
def test_the_published_files() -> None:
    from statebridge.papers.linear_translation.result_reader import read_published

    found = read_published(SHARED / "published")
    (verdict,) = verdicts(found, compare(found, ["no_inject", "nl_relay"], settings=QUICK))
    assert verdict.headline == (
        "No gain shown; replace destructive; additive within ±0.03 of no_inject, but not shown to "
        "be within 20 % of its score (by word-boundary containment)."
    )
    assert "0.0926 against 0.0884 under no_inject, a difference of +0.0042" in verdict.findings[0]


def test_a_private_channel_is_judged_by_the_gap_that_it_closes() -> None:
    skyline = [1] * 300 + [0] * 100
    channel = [1] * 190 + [0] * 210
    found = results(
        cell("question_only", BASE),
        cell("skyline", skyline),
        *condition("private_last", channel, channel, channel),
        *condition("private_last_shuffled", BASE, BASE, BASE),
    )
    (verdict,) = verdicts(found, compare(found, settings=QUICK))
    assert verdict.headline.startswith("Gain over question_only from private_last")
    assert "the gap from question_only to skyline is 0.5500 [" in verdict.findings[0]
    assert "private_last 50 % [" in verdict.findings[0]
    assert "private_last_shuffled 0 % [−1 %, 1 %]" in verdict.findings[0]


def test_shared_and_private_settings_have_a_verdict_each() -> None:
    found = results(
        cell("no_inject", BASE),
        *condition("additive", SAME, SAME, SAME),
        cell("question_only", GONE),
        *condition("private_last", BASE, BASE, BASE),
    )
    shared, private = verdicts(found, compare(found, settings=QUICK))
    assert shared.setting.startswith("Shared setting")
    assert private.setting.startswith("Private setting")
    assert "private_last" not in shared.headline
    assert "additive" not in private.headline


def test_nothing_is_cautioned_where_nothing_limits_the_results() -> None:
    verdict = judged(
        cell("nl_relay", changed(lost=3)),
        cell("b_to_b_self_inject", BASE),
        *condition("additive", SAME, SAME, SAME),
        *condition("same_norm_random", GONE, GONE, GONE),
        relay=True,
    )
    assert verdict.cautions == ()


def test_few_rows_are_cautioned_only_where_the_margin_needs_more() -> None:
    some = [changed(gained=8, lost=2)] * 3
    wide = judged(*condition("additive", *some))
    assert not any("too few for the declared margin" in c for c in wide.cautions)
    few = [changed(gained=3)[60:110]] * 3
    small = results(cell("no_inject", BASE[60:110]), *condition("additive", *few))
    (narrow,) = verdicts(small, compare(small, settings=QUICK))
    assert any("50 rows are too few for the declared margin" in c for c in narrow.cautions)
