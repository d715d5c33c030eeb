"""Each sentence at numbers at which it must change its mind, or say nothing."""

from __future__ import annotations

from typing import Any

import pytest

from statebridge.figures.wording import compared_label, interval_kind, interval_text, percent
from statebridge.report.words.sentences import (
    against_relay,
    by_logprob,
    chain_sentence,
    controls_sentence,
    gap_sentences,
    least_clear,
    own_content,
    sentence,
    share_text,
    within_only,
)
from statebridge.report.words.verdict import headline
from statebridge.stats import (
    Comparison,
    Counts,
    Difference,
    EffectSize,
    Equivalence,
    FailureChain,
    GapClosed,
    Interval,
    MarginVerdict,
    Settings,
    Share,
)
from statebridge.stats.setting import ChannelSetting

METRIC = "word_boundary_contains"


def interval(low: float, high: float, level: float = 0.95) -> Interval:
    return Interval(low=low, high=high, level=level, method="mover_mid_p")


def equivalence(
    met: float | None = 0.05, ruled_out: float = 0.04, relative_p: float | None = 0.001
) -> Equivalence:
    margins = tuple(
        MarginVerdict(margin=m, p=0.01, equivalent=met is not None and met <= m)
        for m in (0.05, 0.03)
    )
    return Equivalence(
        alpha=0.05,
        interval=interval(-ruled_out, ruled_out, 0.9),
        margins=margins,
        ruled_out=ruled_out,
        relative_margin=None if relative_p is None else 0.2,
        relative_p=relative_p,
    )


def made(**changes: Any) -> Difference:
    """A channel that is better than its baseline under all seeds, but for what is changed."""
    fields: dict[str, Any] = {
        "direction": "fwd",
        "condition": "channel",
        "baseline": "floor",
        "metric": METRIC,
        "seeds": (1, 2),
        "runs": 2,
        "n_rows": 100,
        "n_pooled": 200,
        "mean": 0.5,
        "baseline_mean": 0.2,
        "delta": 0.3,
        "standard_error": 0.05,
        "interval": interval(0.2, 0.4),
        "counts": Counts(gained=70, lost=10, tied=120),
        "p": 0.00001,
        "p_method": "exact_mcnemar_over_seeds",
        "p_holm": 0.0001,
        "family": 10,
        "effect": EffectSize(
            cohens_dz=1.0, discordant_odds_ratio=7.0, minimal_detectable=0.12, power=0.8
        ),
        "equivalence": equivalence(None),
        "same_sign_in_every_seed": True,
        "verdict": "better",
        "by_seed": (),
        "warnings": (),
    }
    return Difference(**(fields | changes))


UNCLEAR = {
    "verdict": "inconclusive",
    "delta": 0.01,
    "mean": 0.21,
    "interval": interval(-0.05, 0.07),
    "p": 0.6,
    "p_holm": 1.0,
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "Better than the baseline (p = 0.0001 after Holm's correction)."),
        ({"p_holm": 1e-9}, "Better than the baseline (p < 0.0001 after"),
        ({"same_sign_in_every_seed": False}, "correction), but not under every seed."),
        (
            {"same_sign_in_every_seed": False, "runs": 1, "seeds": (1,)},
            "after Holm's correction).",
        ),
        ({"verdict": "worse", "delta": -0.3}, "Worse than the baseline (p"),
        ({"verdict": "higher", "metric": "receiver_norm_mean"}, "Higher than the baseline (p"),
        (
            {"verdict": "different_within", "equivalence": equivalence(0.05)},
            "Better than the baseline (p = 0.0001 after Holm's correction), and within ±0.05 of",
        ),
        (
            {"verdict": "different_within", "delta": -0.02, "equivalence": equivalence(0.03)},
            "Worse than the baseline (p = 0.0001 after Holm's correction), and within ±0.03 of it.",
        ),
        (
            UNCLEAR | {"verdict": "equivalent", "equivalence": equivalence(0.05)},
            "Equivalent within ±0.05. A true difference beyond ±0.0400 is ruled out (TOST, "
            "one-sided 95 %).",
        ),
        (
            UNCLEAR,
            "Inconclusive: neither a difference nor equivalence was shown; with 100 rows and 10 "
            "tests only a difference of about 0.12 is likely found.",
        ),
        (
            UNCLEAR | {"interval": interval(0.001, 0.02), "p": 0.03, "p_holm": 0.3},
            "Inconclusive: a difference if it were tested alone (p = 0.0300), none after Holm's "
            "correction over 10 tests (p = 0.3000).",
        ),
        (
            UNCLEAR | {"interval": interval(0.007, 0.11), "p": 0.0625, "p_holm": 1.0},
            "Inconclusive: the interval leaves out 0, but the test does not reject (p = 0.0625); "
            "the two are different methods near the border, and the verdict is the test's.",
        ),
        (
            UNCLEAR | {"equivalence": equivalence(0.03, relative_p=0.4)},
            "Inconclusive: within ±0.03, but not shown to be within 20 % of the baseline's 0.2000.",
        ),
        (
            UNCLEAR | {"verdict": None, "no_verdict_because": "both at the floor", "mean": 0.0},
            "No verdict: both at the floor. A true difference beyond ±0.0400 is ruled out",
        ),
        (
            UNCLEAR | {"verdict": None, "equivalence": None},
            "No verdict: this mode gives none.",
        ),
    ],
)
def test_a_difference_is_worded_by_its_numbers(changes: dict[str, Any], words: str) -> None:
    assert words in sentence(made(**changes))


def test_a_narrow_difference_is_not_printed_as_zero() -> None:
    text = sentence(made(delta=-1.2e-6, interval=interval(-2.1e-6, -0.4e-6), metric="gold_logprob"))
    assert "a difference of −0.0000012 (95 % interval [−0.0000021, −0.0000004])" in text
    assert "gained" not in text


def test_without_an_interval_that_is_stated() -> None:
    assert "+0.3000 (no interval)" in sentence(made(interval=None))


def test_lists_are_empty_without_members() -> None:
    assert by_logprob([]) == controls_sentence([]) == own_content([]) == []
    empty = Comparison(
        mode="clustered",
        settings=Settings(),
        baselines=("floor",),
        metrics=(METRIC,),
        differences=(),
        stratifications=(),
        failure_chains=(),
        warnings=(),
    )
    assert against_relay(empty, "fwd", METRIC, [made()], [made(condition="nl_relay")]) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "channel +0.3000 (better)"),
        (UNCLEAR, "channel +0.0100 (inconclusive)"),
        (
            UNCLEAR | {"verdict": None, "no_verdict_because": "both at the floor"},
            "channel +0.0100 (no verdict: both at the floor)",
        ),
        (
            {"verdict": "different_within", "equivalence": equivalence(0.05), "delta": -0.01},
            "channel −0.0100 (worse, and within ±0.05)",
        ),
    ],
)
def test_controls_are_worded_by_their_numbers(changes: dict[str, Any], words: str) -> None:
    assert controls_sentence([made(**changes)]) == [f"Controls: {words}."]


def test_a_channel_is_judged_by_the_control_it_is_least_clear_of() -> None:
    clear, unclear = made(baseline="one"), made(baseline="other", **UNCLEAR)
    assert least_clear([clear, unclear]) == {"channel": unclear}
    assert least_clear([unclear, clear]) == {"channel": unclear}


def test_a_margin_alone_is_named_where_the_baseline_is_low() -> None:
    low = made(**UNCLEAR, equivalence=equivalence(0.03, relative_p=0.4))
    assert within_only("floor", low) == (
        "channel within ±0.03 of floor, but not shown to be within 20 % of its score"
    )
    assert within_only("floor", made(**UNCLEAR)) == ""
    assert within_only("floor", made()) == ""


# --- Headlines


def headline_of(
    *channels: Difference, controls: tuple[Difference, ...] = (), **own: Difference
) -> str:
    return headline("floor", METRIC, channels, controls, own)


def test_a_gain_within_the_margin_is_named_so() -> None:
    small = made(verdict="different_within", delta=0.02, equivalence=equivalence(0.05))
    assert headline_of(small).startswith("Gain over floor from channel (within ±0.05) (by")
    loss = made(verdict="different_within", delta=-0.02, equivalence=equivalence(0.05))
    assert headline_of(loss) == (
        "No stable gain; channel worse than floor, and within ±0.05 (by word-boundary containment)."
    )


def test_a_gain_needs_the_difference_from_another_rows_state() -> None:
    assert headline_of(made(), channel=made(baseline="other")).startswith(
        "Gain over floor from channel ("
    )
    doubtful = headline_of(made(), channel=made(baseline="other", **UNCLEAR))
    assert "but channel is not shown to be above another row's state, so no evidence" in doubtful


def test_a_control_that_gains_little_counts_too() -> None:
    control = made(
        condition="noise", verdict="different_within", delta=0.01, equivalence=equivalence(0.05)
    )
    assert "the control noise gains too: no evidence" in headline_of(made(), controls=(control,))
    assert "gains too" not in headline_of(made(), controls=(made(condition="noise", **UNCLEAR),))


def test_channels_without_a_verdict_are_not_called_inconclusive() -> None:
    none = made(**(UNCLEAR | {"verdict": None, "no_verdict_because": "both at the floor"}))
    text = headline_of(none)
    assert text.startswith("No gain shown; no verdict on channel: both at the floor (by")
    assert "inconclusive" not in text


def test_a_better_rank_is_a_gain_and_a_worse_one_is_harm() -> None:
    rank = {"metric": "gold_rank", "counts": Counts(gained=90, lost=10, tied=0)}
    lower = made(**rank, delta=-1.0, verdict="better")
    assert headline("floor", "gold_rank", [lower], [], {}).startswith("Gain over floor")
    higher = made(**rank, delta=1.0, verdict="worse")
    assert headline("floor", "gold_rank", [higher], [], {}) == (
        "No stable gain; channel harmful (by gold rank)."
    )


# --- Shares


def chain(loss: Interval | None, share: Share | None) -> FailureChain:
    return FailureChain(
        direction="fwd",
        baseline="no_inject",
        replaced="replace",
        corrected="scale_corrected",
        metric=METRIC,
        seeds=(1,),
        n_rows=100,
        total_loss=0.2,
        total_loss_interval=loss,
        norm_loss=0.01,
        norm_loss_interval=None,
        direction_loss=0.19,
        direction_loss_interval=None,
        norm_share=share,
        direction_share=share,
        no_shares_because=None if share else "some resamples hold no loss",
    )


def test_a_chain_is_silent_without_a_clear_loss() -> None:
    share = Share(value=0.07, interval=interval(0.0, 0.2))
    assert chain_sentence(chain(interval(-0.01, 0.3), share)) == ""
    assert chain_sentence(chain(None, share)) == ""
    clear = chain_sentence(chain(interval(0.1, 0.3), share))
    assert "wins back +0.0100, 7 % [0 %, 20 %] of the loss" in clear
    assert "not of two causes" in clear
    without = chain_sentence(chain(interval(0.1, 0.3), None))
    assert without.endswith("no shares: some resamples hold no loss.")


def gap(share: Share | None, condition: str = "channel") -> GapClosed:
    return GapClosed(
        direction="fwd",
        prompt="question_only",
        condition=condition,
        floor="floor",
        ceiling="skyline",
        metric=METRIC,
        runs=1,
        n_rows=100,
        gap=0.5 if share else -0.02,
        gap_interval=interval(0.4, 0.6),
        closed=0.1,
        share=share,
        no_share_because=None if share else "the skyline is not clearly above the floor",
    )


def test_a_gap_without_shares_gives_the_reason_alone() -> None:
    setting = ChannelSetting(
        "fwd", "question_only", "floor", "skyline", frozenset({"floor", "skyline", "channel"})
    )
    empty = Comparison(
        mode="clustered",
        settings=Settings(),
        baselines=("floor",),
        metrics=(METRIC,),
        differences=(),
        stratifications=(),
        failure_chains=(),
        warnings=(),
    )
    shared = Share(value=0.2, interval=interval(0.1, 0.3))
    (text,) = gap_sentences(
        empty.model_copy(update={"gaps_closed": (gap(shared), gap(None, "other"))}), setting, METRIC
    )
    assert "channel 20 % [10 %, 30 %]; other not known (the skyline is not" in text
    (none,) = gap_sentences(empty.model_copy(update={"gaps_closed": (gap(None),)}), setting, METRIC)
    assert "is −0.0200" in none
    assert "no share of it can be given: the skyline is not clearly above the floor." in none
    assert "above floor" not in none
    assert gap_sentences(empty, setting, METRIC) == []


def test_a_share_that_is_nearly_whole_has_the_digits_it_needs() -> None:
    nearly = Share(value=0.99999, interval=interval(0.99998, 1.0))
    assert share_text(nearly) == "99.999 % [99.998 %, 100.000 %]"
    assert share_text(Share(value=0.5, interval=interval(0.4, 0.6))) == "50 % [40 %, 60 %]"


# --- Words of figures and tables


def test_words_for_intervals_and_metrics() -> None:
    assert interval_text(None) == "–"
    assert interval_text(interval(-0.1, 0.1), 2) == "[−0.10, +0.10]"
    assert interval_text(interval(-0.001, 0.001), 2) == "[−0.001, +0.001]"
    assert interval_kind([None]) == "no interval"
    levels = [interval(0, 1), interval(0, 1, 0.99)]
    assert interval_kind(levels).startswith("95 and 99 % intervals")
    assert compared_label("gold_rank") == "log gold rank"
    assert compared_label(METRIC) == "word-boundary containment"
    assert percent(-0.001) == "0 %"
    assert percent(-0.5) == "−50 %"


def test_made_differences_are_possible_ones() -> None:
    assert made().is_better
    assert not made().is_worse
