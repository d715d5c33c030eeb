"""Carrying out a layer search: one run for each pair of layers, of a pair that is loaded once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from statebridge.engine.commit import Progress
from statebridge.engine.executors.executor import check_names, held
from statebridge.engine.layer_captures import searched_pair
from statebridge.engine.layer_search.lanes import SearchLanes
from statebridge.engine.run_experiment import run_experiment
from statebridge.errors import DatasetError, ExperimentError, PairError
from statebridge.experiment.declared import Layer
from statebridge.experiment.experiment import Experiment
from statebridge.experiment.layer_search import LayerSearch
from statebridge.models.families import resolve_layer
from statebridge.models.pair import Pair, declared_pair
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.results.layer_search import (
    LANES,
    LayerRun,
    LayerSearchPlan,
    Split,
    open_plan,
    split_rows,
    started_as,
)
from statebridge.runs.same_run import as_started
from statebridge.scoring.conventions import row_convention
from statebridge.tasks.declared_rows import at_commit, resolve_dataset


@dataclass(frozen=True, slots=True)
class LayerSearchSummary:
    """Result of a call of `run_layer_search`."""

    directory: Path
    runs: int
    """Pairs of layers."""
    lanes: int
    """Lanes of all runs."""
    resumed_lanes: int
    """Lanes that were there already."""
    reused_lanes: int
    """Lanes that were taken from the run of another pair of layers."""
    seconds: float
    """Wall time of this call, loading left out."""


def run_layer_search(
    experiment: Experiment,
    out: str | Path,
    *,
    pair: Pair | None = None,
    progress: Progress = lambda *_: None,
    show_caution: Callable[[str], None] = lambda _: None,
) -> LayerSearchSummary:
    """Carry out a layer search in a directory; go on where an earlier call stopped.

    Each pair of layers is an ordinary run of the same experiment, in a directory of its own,
    with translators fitted at its layers. Shared between them are the loaded pair, passes that
    capture states (one for all layers, as far as memory allows), and lanes that do not depend on
    the sender.

    Args:
        experiment: As declared, with `layer_search`.
        out: Directory of the layer search; made if needed.
        pair: A pair that is loaded already, at any layers; loaded from the experiment if not given.
        progress: Called with the stages of a run, and with `layer_search`, pairs of layers that
            are done, and all pairs.
        show_caution: Called with each caution of the first run; those of the others are alike.

    Raises:
        ExperimentError: The experiment has no layer search.
        PairError: A layer does not exist, or two that are listed are one.
        ResultError: Too few rows to split, or a directory that holds something else.
        StatebridgeError: Whatever is wrong with a run.
    """
    search = experiment.layer_search
    if search is None:
        raise ExperimentError(
            "layer_search: missing; declare the layers to search, or start the file with "
            "`statebridge run`"
        )
    check_names(experiment)
    out = Path(out)
    experiment = as_started(experiment, started_as(out))
    experiment = experiment.model_copy(update={"dataset": at_commit(experiment.dataset)})
    rows, dataset_sha256 = resolve_dataset(experiment.dataset)
    rows = rows[: experiment.limit]
    split = split_declared(experiment, rows)
    # The actors of a cluster, if there are any, keep their models from one run to the next.
    with held(_at(experiment, (0, 0))):
        # Which layers exist is known once the models are loaded; every model has a first one.
        pair = declared_pair(_at(experiment, (0, 0)), pair, progress)
        layers = searched_layers(pair, search)
        runs = _named(layers, pair)
        plan = LayerSearchPlan(
            experiment=experiment.model_dump(mode="json", exclude={"execution"}),
            dataset_sha256=dataset_sha256,
            split=split,
            runs=runs,
        )
        open_plan(out, plan)
        searched = searched_pair(pair, [own for own, _ in layers], [other for _, other in layers])
        clock = time.monotonic()
        total, resumed, reused = 0, 0, 0
        for place, run in enumerate(runs):
            progress("layer_search", place, len(runs))
            summary = run_experiment(
                _at(experiment, run.layers),
                out / run.directory,
                pair=Pair(
                    searched.sender.at_layer(run.sender_layer),
                    searched.receiver.at_layer(run.receiver_layer),
                ),
                progress=lambda stage, *counts: (
                    # The pair is loaded once, above.
                    None if stage == "load" else progress(stage, *counts)
                ),
                show_caution=show_caution if place == 0 else lambda _: None,
                reuse=SearchLanes(out / LANES, run.directory),
            )
            total += summary.lanes
            resumed += summary.resumed_lanes
            reused += summary.reused_lanes
        (out / LANES).unlink(missing_ok=True)
        progress("layer_search", len(runs), len(runs))
        return LayerSearchSummary(out, len(runs), total, resumed, reused, time.monotonic() - clock)


def split_declared(experiment: Experiment, rows: Sequence[DatasetRow]) -> Split:
    """Split the rows of a layer search into those to choose on and those to report on.

    Of an experiment without one, nothing is chosen on.

    Raises:
        ResultError: Too few rows.
        DatasetError: The metric needs a scoring convention, and a row names none.
    """
    search = experiment.layer_search
    ids = [row.row_id for row in rows]
    if search is None:
        return Split(share=0.0, seed=0, choosing=(), reporting=tuple(ids))
    if search.choose.metric == "task_correct":
        _check_conventions(rows)
    return split_rows(ids, search.choose.share, search.choose.seed)


def searched_layers(pair: Pair, search: LayerSearch) -> list[tuple[int, int]]:
    """Return the sender's and the receiver's block of each run, counted from 0.

    Raises:
        PairError: A layer does not exist, or two pairs that are listed are one.
    """
    found: dict[tuple[int, int], tuple[Layer, Layer]] = {}
    theirs = "sender_layers" if search.pairs == "same" else "receiver_layers"
    for declared in search.layer_pairs:
        layers = (
            _block(pair.sender, declared[0], "sender_layers"),
            _block(pair.receiver, declared[1], theirs),
        )
        if layers in found:
            raise PairError(
                f"layer_search: {_both(found[layers])} and {_both(declared)} are the same blocks, "
                f"{_both(layers)}; list each once"
            )
        found[layers] = declared
    return list(found)


def _block(model: TracedModel, layer: Layer, where: str) -> int:
    try:
        return resolve_layer(layer, model.block_paths, model.name)
    except PairError as error:
        raise PairError(f"layer_search.{where}: {error}") from None


def _both(layers: tuple[Layer, Layer]) -> str:
    return f"{layers[0]} to {layers[1]}"


def _named(layers: Sequence[tuple[int, int]], pair: Pair) -> tuple[LayerRun, ...]:
    blocks = max(len(pair.sender.block_paths), len(pair.receiver.block_paths))
    digits = max(2, len(str(blocks - 1)))
    return tuple(
        LayerRun(
            sender_layer=own,
            receiver_layer=other,
            directory=f"s{own:0{digits}}-r{other:0{digits}}",
        )
        for own, other in layers
    )


def _at(experiment: Experiment, layers: tuple[int, int]) -> Experiment:
    """Return the experiment of one pair of layers."""
    sides = {
        side: getattr(experiment, side).model_copy(update={"layer": layer})
        for side, layer in zip(("sender", "receiver"), layers, strict=True)
    }
    return experiment.model_copy(update={**sides, "layer_search": None})


def _check_conventions(rows: Sequence[DatasetRow]) -> None:
    lacking = next((row.row_id for row in rows if row_convention(row) is None), None)
    if lacking is not None:
        raise DatasetError(
            f"layer_search.choose.metric: row {lacking} names no scoring convention, so it has no "
            "task_correct; choose by word_boundary_contains or gold_logprob"
        )
