"""Every figure: that it is drawn, what it shows, what its caption says, why it is absent."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from statebridge import figures
from statebridge.audit import audit
from statebridge.experiment.conditions import Condition, UnknownCondition
from statebridge.figures import Drawing
from statebridge.figures.differences import is_clear
from statebridge.figures.norms import _ratios
from statebridge.figures.strength import strength_series
from statebridge.figures.style import house_style, series_styles
from statebridge.figures.wording import percent
from statebridge.records import CellResult, ResultSet
from statebridge.results.by_condition import condition_cells
from statebridge.scoring import row_values
from statebridge.stats import Comparison, Settings, compare
from tests.bridge.figures.made_run import PUBLISHED, SEEDS, TOKENS, made_run, strengths, without

FEW = Settings(stratify_by=(), permutations=99)
"""The figures show intervals; how good they are is tested with the statistics."""


def compared(results: ResultSet, *baselines: str, metrics: tuple[str, ...] = ()) -> Comparison:
    return compare(results, baselines or ("no_inject",), metrics=metrics or None, settings=FEW)


@pytest.fixture(scope="module")
def run() -> ResultSet:
    return made_run()


@pytest.fixture(scope="module")
def comparison(run: ResultSet) -> Comparison:
    return compared(run, "no_inject", "nl_relay")


@pytest.fixture(scope="module")
def drawings(run: ResultSet, comparison: Comparison) -> dict[str, Drawing]:
    varied = made_run(["no_inject", *strengths(0.1, 0.3, 1.0)])
    others = [made_run(["no_inject", "replace"], layers=(4, 16), shift=0.5)]
    return {
        "containment": figures.containment(run),
        "paired_delta": figures.paired_delta(comparison),
        "paired_delta, continuous": figures.paired_delta(comparison, "gold_logprob"),
        "forest": figures.forest(comparison),
        "norm_mismatch": figures.norm_mismatch(run),
        "norm_distribution": figures.norm_distribution(run),
        "cosine_distribution": figures.cosine_distribution(run),
        "translator_cosine": figures.translator_cosine(run.manifest),
        "strength_curve": figures.strength_curve(varied, compared(varied)),
        "layer_map": figures.layer_map([run, *others], "gold_logprob"),
        "divergence_survival": figures.divergence_survival(run),
        "audit_labels": figures.audit_labels(audit(run)),
    }


NAMES = (
    "containment",
    "paired_delta",
    "paired_delta, continuous",
    "forest",
    "norm_mismatch",
    "norm_distribution",
    "cosine_distribution",
    "translator_cosine",
    "strength_curve",
    "layer_map",
    "divergence_survival",
    "audit_labels",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_caption_states_rows_seeds_and_kind_of_interval(
    drawings: dict[str, Drawing], name: str
) -> None:
    drawing = drawings[name]
    assert drawing.figure is not None
    assert drawing.reason is None
    assert re.search(r"n = [\d,]+", drawing.caption)
    assert "seeds 42, 123, 456" in drawing.caption
    assert "interval" in drawing.caption


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_cut_off(drawings: dict[str, Drawing], name: str) -> None:
    figure = drawings[name].figure
    assert figure is not None
    with house_style():
        FigureCanvasAgg(figure).draw()
    width, height = figure.bbox.width, figure.bbox.height
    ticks = {
        label
        for axes in figure.axes
        for label in (*axes.get_xticklabels(), *axes.get_yticklabels())
    }
    for text in figure.findobj(Text):
        # Tick labels beyond the axes' limits are never painted.
        if text.get_text().strip() and text.get_visible() and text not in ticks:
            box = text.get_window_extent()
            inside = box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
            assert inside, text.get_text()


def test_intervals_in_captions_are_the_comparisons(comparison: Comparison) -> None:
    published = compare(made_run(), "no_inject", mode="published")
    assert "mid-P limits of gained" in figures.paired_delta(comparison).caption
    assert "as published" in figures.paired_delta(published).caption
    assert "±0.03 and ±0.05" in figures.paired_delta(comparison).caption


def test_containment_bars_are_means_over_seeds(run: ResultSet) -> None:
    figure = figures.containment(made_run(tuple(reversed(PUBLISHED)))).figure
    assert figure is not None
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == list(PUBLISHED)
    lengths = [bar.get_width() for bar in axes.containers[0]]
    for condition, length in zip(labels, lengths, strict=True):
        cells = [cell for cell in run.cells if cell.condition.name == condition]
        means = [np.mean(list(row_values(c, "word_boundary_contains").values())) for c in cells]
        # Rounding of the mean of means.
        assert length == pytest.approx(np.mean(means), abs=1e-12)


def test_survival_counts_the_texts_that_still_agree(run: ResultSet) -> None:
    drawing = figures.divergence_survival(run)
    assert drawing.figure is not None
    curves = {line.get_label(): line for line in drawing.figure.axes[0].get_lines()}
    assert "no_inject" not in curves
    assert np.asarray(curves["b_to_b_self_inject"].get_ydata()).tolist() == [1.0] * (TOKENS + 1)
    rows = [row for c in run.cells if c.condition.name == "replace" for row in c.lanes]
    for tokens, share in enumerate(np.asarray(curves["replace"].get_ydata())):
        same = sum(
            row.token_ids is not None
            and row.token_ids[:tokens] == tuple(range(1000, 1000 + tokens))
            for row in rows
        )
        assert share == pytest.approx(same / len(rows), abs=1e-12)


def test_strength_groups_conditions_that_differ_in_weight_only() -> None:
    other = strengths(0.5, positions="last", source_positions="last")
    run = made_run(["no_inject", *strengths(1.0, 0.1), *other])
    (series,) = strength_series(run)
    assert series.names == ("alpha_0.1", "alpha_1")
    assert series.weights == (0.1, 1.0)
    assert series.ends_at_baseline


def test_strength_takes_published_conditions_together() -> None:
    run = made_run(["no_inject", "best_alpha", "scale_corrected"])
    (series,) = strength_series(run)
    assert series.names == ("best_alpha", "scale_corrected")
    assert series.weights == (0.30, 1.0)
    drawing = figures.strength_curve(run, compared(run))
    assert drawing.figure is not None


def test_layer_map_holds_each_runs_difference() -> None:
    runs = [
        made_run(["no_inject", "replace"], layers=(sender, receiver), shift=sender + receiver / 100)
        for sender in (2, 5)
        for receiver in (10, 11, 12)
    ]
    drawing = figures.layer_map(runs, "gold_logprob")
    assert drawing.figure is not None
    axes = drawing.figure.axes[0]
    grid = np.asarray(axes.get_images()[0].get_array())
    first = compared(runs[0], metrics=("gold_logprob",)).differences[0]
    plain = first.mean - first.baseline_mean + 2 + 0.10
    expected = [[plain - s - r / 100 for r in (10, 11, 12)] for s in (2, 5)]
    np.testing.assert_allclose(grid, expected, atol=1e-9)  # rounding of sums
    assert [label.get_text() for label in axes.get_xticklabels()] == ["10", "11", "12"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "5"]


def test_layer_map_of_many_layers_marks_signs_instead_of_numbers() -> None:
    runs = [made_run(["no_inject", "replace"], rows=3, layers=(0, j)) for j in range(14)]
    drawing = figures.layer_map(runs, "gold_logprob")
    assert drawing.figure is not None
    assert not [text for text in drawing.figure.axes[0].texts if text.get_text()]


def test_layers_of_published_files_are_read_from_module_names(run: ResultSet) -> None:
    from statebridge.figures.layers import layers_of

    models = {"layer_a": "gpt_neox.layers.8", "layer_b": "gpt_neox.layers.16"}
    assert layers_of(replace(run.cells[0], models=models)) == (8, 16)
    assert layers_of(replace(run.cells[0], models={})) is None
    assert layers_of(replace(run.cells[0], models={"layer_a": "head", "layer_b": "x.1"})) is None


def test_a_norm_of_zero_is_written_out(run: ResultSet) -> None:
    cell = next(cell for cell in run.cells if cell.condition.name == "replace")
    zero = replace(cell, lanes=[replace(row, injected_norm_mean=0.0) for row in cell.lanes])
    drawing = figures.norm_mismatch(ResultSet([zero]))
    assert drawing.figure is not None
    assert [text.get_text() for text in drawing.figure.axes[0].texts] == ["injected 0"]
    assert "written out" in drawing.caption
    assert figures.norm_distribution(ResultSet([zero])).reason is not None


def test_both_directions_are_told_apart() -> None:
    both = made_run(["no_inject", "additive"])
    both.cells += made_run(["no_inject", "additive"], direction="rev").cells
    drawing = figures.paired_delta(compared(both))
    assert drawing.figure is not None
    labels = [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()]
    assert labels == ["additive (fwd)", "additive (rev)"]


def blank(cell: CellResult) -> CellResult:
    return replace(cell, lanes=[replace(row, prediction="") for row in cell.lanes])


@pytest.mark.parametrize(
    ("draw", "reason"),
    [
        (lambda: figures.containment(made_run(decoded=False)), "no row has a prediction"),
        (lambda: figures.paired_delta(compared(made_run()), "exact_match"), "exact match"),
        (
            lambda: figures.norm_mismatch(
                without(
                    made_run(), "translated_norm_mean", "receiver_norm_mean", "injected_norm_mean"
                )
            ),
            "no row records a norm",
        ),
        (lambda: figures.translator_cosine(None), "no translator"),
        (lambda: figures.translator_cosine({"translators": {}}), "no translator"),
        (
            lambda: figures.strength_curve(made_run(), compared(made_run())),
            "no two compared conditions differ in weight only",
        ),
        (
            lambda: figures.strength_curve(made_run(), compared(made_run(), "nl_relay")),
            "without injection",
        ),
        (lambda: figures.layer_map([made_run()]), "one sender layer and one receiver layer"),
        (
            lambda: figures.divergence_survival(made_run(decoded=False)),
            "no row records its new tokens",
        ),
        (
            lambda: figures.audit_labels(audit(ResultSet([blank(c) for c in made_run().cells]))),
            "disagree in no row",
        ),
    ],
)
def test_says_why_it_is_not_drawn(draw: Callable[[], Drawing], reason: str) -> None:
    drawing = draw()
    assert drawing.figure is None
    assert drawing.reason is not None
    assert reason in drawing.reason


def test_gallery_holds_every_figure_or_its_reason(run: ResultSet, comparison: Comparison) -> None:
    found = figures.gallery(run, comparison, audit(run))
    names = [drawing.name for drawing in found]
    assert len(set(names)) == len(names)
    assert all((d.figure is None) == (d.reason is not None) for d in found)
    drawn = [d.name for d in found if d.figure is not None]
    assert drawn[:2] == ["containment", "forest"]
    titles = [drawing.title for drawing in found]
    assert len(set(titles)) == len(titles)
    assert {d.name for d in found} - set(drawn) == {
        "strength_curve_word_boundary_contains",
        "layer_map_word_boundary_contains",
    }
    alone = figures.gallery(made_run(["no_inject"]), None)
    assert "no baseline" in str(next(d.reason for d in alone if d.name == "forest"))


def test_names_are_shown_as_they_are_and_not_as_mathematics() -> None:
    run = made_run(["no_inject", "replace"], rows=6)
    odd_name = UnknownCondition("$x^{2$ " + "long " * 20)
    odd = [
        replace(cell, condition=odd_name) if cell.condition.name == "replace" else cell
        for cell in run.cells
    ]
    drawing = figures.containment(ResultSet(odd))
    assert drawing.figure is not None
    with house_style():
        FigureCanvasAgg(drawing.figure).draw()
    label = drawing.figure.axes[0].get_yticklabels()[1].get_text()
    assert label.startswith(r"\$x^{2\$")
    assert label.endswith("…")


def test_seeds_are_those_of_the_results() -> None:
    assert "one seed (7)" in figures.containment(made_run(seeds=(7,))).caption
    assert "no seeded condition" in figures.containment(made_run(["no_inject"])).caption
    assert len(SEEDS) == 3


def test_thirty_conditions_are_told_apart_by_their_look() -> None:
    names = [*PUBLISHED, *(f"own_{number}" for number in range(20))]
    styles = series_styles(names)
    looks = {(styles[name].colour, styles[name].marker) for name in names}
    assert len(looks) == len(names)
    assert all(series_styles(PUBLISHED)[name] == styles[name] for name in PUBLISHED)


@pytest.mark.parametrize(
    ("share", "text"), [(0.43, "43 %"), (-0.04, "−4 %"), (-0.0001, "0 %"), (1.35, "135 %")]
)
def test_a_share_has_no_sign_before_zero(share: float, text: str) -> None:
    assert percent(share) == text


def test_self_injection_is_written_at_the_receivers_norm() -> None:
    last = {"prompt": "question_only", "positions": "last", "source_positions": "last"}
    own = Condition(name="own", source="receiver", **last)
    sent = Condition(name="sent", source="translated", **last)
    run = made_run(["question_only", own, sent], seeds=(1,))
    # The first token's norm makes that of the whole prompt tens of times that of the last one.
    for cell in run.cells:
        cell.lanes = [
            replace(row, receiver_norm_mean=2e3, injected_norm_mean=60.0 + 60.0 * (cell.seed or 0))
            for row in cell.lanes
        ]
    groups = condition_cells(run)
    ratios = {group.condition: _ratios(group, groups) for group in groups}
    assert set(ratios["own"]) == {1.0}
    assert set(ratios["sent"]) == {2.0}
    alone = condition_cells(made_run(["question_only", sent]))
    assert [_ratios(group, alone) for group in alone] == [[], []]


def test_a_mark_is_filled_by_the_verdict_and_not_by_its_interval(comparison: Comparison) -> None:
    found = next(d for d in comparison.differences if d.verdict == "worse")
    assert is_clear(found)
    unclear = found.model_copy(update={"verdict": "inconclusive", "p_holm": 0.2})
    assert unclear.interval is not None
    assert unclear.interval.excludes(0)
    assert not is_clear(unclear)
    published = found.model_copy(update={"verdict": None, "p_holm": None})
    assert is_clear(published)


def test_the_forests_marks_are_on_the_rows_of_their_labels(comparison: Comparison) -> None:
    figure = figures.forest(comparison).figure
    assert figure is not None
    diamonds = [
        float(y)
        for axes in figure.axes
        for line in axes.get_lines()
        if line.get_marker() in ("D", "o") and line.get_markersize() > 5
        for y in np.asarray(line.get_ydata())
    ]
    assert diamonds
    assert all(y == round(y) for y in diamonds)


def test_of_ranks_the_lower_squares_are_the_lighter_ones() -> None:
    runs = [made_run(["no_inject", "replace"], rows=6, layers=(at, 16)) for at in (4, 8)]
    for metric, name in (("gold_logprob", "cividis"), ("gold_rank", "cividis_r")):
        figure = figures.layer_map(runs, metric).figure
        assert figure is not None
        (image,) = figure.axes[0].get_images()
        assert image.get_cmap().name == name
