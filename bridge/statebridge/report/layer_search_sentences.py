"""What a sweep's choice was, and what holds of it, in words."""

from __future__ import annotations

from statebridge.figures.wording import joined, metric_label, plain
from statebridge.report.gap_sentences import gap_sentences
from statebridge.report.roles import shuffled_twins
from statebridge.report.sentences import own_against_anothers, own_content, sentence
from statebridge.results.by_condition import condition_cells
from statebridge.stats.held_out_choice import RESAMPLES, Choice, HeldOutChoice
from statebridge.stats.setting import ChannelSetting, channel_settings


def chosen_setting(choice: HeldOutChoice) -> ChannelSetting:
    """Return the setting of what was chosen: its floor, and its ceiling where it has one."""
    name = choice.on_choosing.chosen.condition
    return next(
        setting for setting in channel_settings(choice.reported) if name in setting.conditions
    )


def choice_headline(choice: HeldOutChoice) -> str:
    """Say what was chosen, on which rows and by what."""
    made = choice.on_choosing
    total = len(choice.split.choosing) + len(choice.split.reporting)
    return (
        f"Chosen: {_cell(made.chosen)}, the highest of {made.cells} cells by mean "
        f"{metric_label(made.metric)} on {made.n_rows} of the {total} rows."
    )


def reported_findings(choice: HeldOutChoice) -> list[str]:
    """Say what holds of the chosen cell on the rows that had no part in the choice."""
    made, setting = choice.on_choosing, chosen_setting(choice)
    name = made.chosen.condition
    found = [
        difference
        for metric in choice.comparison.metrics
        if (
            difference := choice.comparison.difference(
                name, setting.floor, metric, setting.direction
            )
        )
        is not None
    ]
    opening = f"On the {len(choice.split.reporting)} rows that had no part in the choice, by "
    findings = [f"{opening}{metric_label(d.metric)}: {sentence(d)}" for d in found]
    of_chosen = choice.comparison.model_copy(
        update={
            "gaps_closed": tuple(
                gap for gap in choice.comparison.gaps_closed if gap.condition == name
            )
        }
    )
    findings += gap_sentences(of_chosen, setting, made.metric)
    groups = condition_cells(choice.reported)
    twins = {control for channel, control in shuffled_twins(groups) if channel == name}
    alike = [group for group in groups if group.condition in {name, *twins}]
    own = own_against_anothers(alike, made.metric, choice.comparison.settings)
    return findings + own_content(own)


def firmness(choice: HeldOutChoice) -> list[str]:
    """Say how firm the choice is; from the choosing rows alone."""
    made = choice.on_choosing
    sentences = [
        f"On the rows that it was chosen on, its mean is {plain(made.mean)} and that of the next, "
        f"{_cell(made.runner_up)}, {plain(made.runner_up_mean)}. The highest of many is too high "
        "by chance: these are no results."
    ]
    if made.tied:
        sentences.append(
            f"{made.tied} other cell{'s have' if made.tied > 1 else ' has'} the same mean; the "
            "first in the order of the sweep was taken."
        )
    sentences.append(
        f"The same cell is chosen in {100 * made.chosen_again:.0f} % of {RESAMPLES:,} bootstrap "
        "resamples of these rows."
    )
    return [*sentences, _seeds(choice)]


def _seeds(choice: HeldOutChoice) -> str:
    made = choice.on_choosing
    if not made.by_seed:
        return "Nothing that was chosen among depends on a seed."
    if len(made.by_seed) == 1:
        return "There is one seed, so seeds cannot disagree on the choice."
    others = [
        f"seed {seed.seed}: {_cell(seed.choice)}"
        for seed in made.by_seed
        if seed.choice != made.chosen
    ]
    text = (
        f"Chosen under each seed alone, on the same rows: {made.seeds_agreeing} of "
        f"{len(made.by_seed)} seeds choose this cell"
    )
    text += f" ({joined(others)})." if others else "."
    if made.rank_correlation is None:
        return f"{text} Their maps have no rank correlation: one is the same everywhere."
    return (
        f"{text} Spearman's rank correlation of two seeds' maps is "
        f"{plain(made.rank_correlation, 2)} on average."
    )


def _cell(choice: Choice) -> str:
    return (
        f"{choice.condition} from sender layer {choice.sender_layer} to receiver layer "
        f"{choice.receiver_layer}"
    )
