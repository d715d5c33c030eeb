"""`statebridge fit`: fit the translators that an experiment declares, and measure them."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from statebridge.actions import need_engine
from statebridge.commands.options import (
    Address,
    AsJson,
    Device,
    Executor,
    ExperimentFile,
    Set,
    Workers,
    executor_changes,
    read_declared,
    read_layers,
)
from statebridge.progress import show_progress

if TYPE_CHECKING:
    from statebridge.experiment import Experiment
    from statebridge.models.pair import Pair
    from statebridge.progress import ShowProgress
    from statebridge.results.translator_card import KeyValueQuality, QualityReport, TranslatorCard

Layers = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Such as 0.25,0.5,8: also report a ridge map for each pair of layers.",
        show_default=False,
    ),
]


def fit(
    file: ExperimentFile,
    out: Annotated[Path, typer.Option(help="Folder for seedN.safetensors and their cards.")],
    device: Device = None,
    executor: Executor = None,
    workers: Workers = None,
    address: Address = None,
    sender_layers: Layers = None,
    receiver_layers: Layers = None,
    stitched: Annotated[
        bool, typer.Option(help="Also measure the receiver's cross-entropy on translated states.")
    ] = True,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Fit the translators of an experiment file (translators: {fit: ...}) and measure them.

    Of several sets, each that declares a fit gets a folder of its own.
    """
    from statebridge.actions import fit as fit_experiment

    given = {"execution.device": device, **executor_changes(executor, workers, address)}
    experiment = read_declared(file, changes, given)
    pair: Pair | None = None
    by_layer: list[QualityReport] = []
    with show_progress(quiet=as_json) as progress:
        if sender_layers or receiver_layers:
            need_engine()
            from statebridge.models.pair import declared_pair

            pair = declared_pair(experiment, progress=progress)
        made = fit_experiment(experiment, out, pair=pair, stitched=stitched, progress=progress)
        if pair is not None:
            by_layer = _by_layer(experiment, pair, sender_layers, receiver_layers, progress)
    cards = {name: card for name, made_one in made.items() if (card := made_one.card) is not None}
    if as_json:
        shown: dict[str, Any] = {
            "translators": {seed: card.model_dump(mode="json") for seed, card in cards.items()},
            "layers": [report.model_dump(mode="json") for report in by_layer],
        }
        print(json.dumps(shown))
        return
    _print(cards, by_layer, out)


def _by_layer(
    experiment: Experiment,
    pair: Pair,
    sender_layers: str | None,
    receiver_layers: str | None,
    progress: ShowProgress,
) -> list[QualityReport]:
    """Measure a ridge map for each pair of layers, on the corpus of the first set."""
    from statebridge.engine.fitting.corpus import read_corpus
    from statebridge.engine.fitting.corpus_fit import layer_quality
    from statebridge.errors import ExperimentError
    from statebridge.experiment.experiment import Fit
    from statebridge.tasks.declared_rows import resolve_dataset

    fits = (each for each in experiment.translator_sets.values() if isinstance(each, Fit))
    settings = next((fit for fit in fits if fit.corpus is not None), None)
    if settings is None:
        raise ExperimentError(
            "translators: none has a corpus, so no pair of layers can be measured"
        )
    rows, _ = resolve_dataset(experiment.dataset)
    return layer_quality(
        pair,
        settings,
        read_corpus(settings.corpus, experiment.prompts, rows),
        read_layers(sender_layers) or [pair.sender.layer],
        read_layers(receiver_layers) or [pair.receiver.layer],
        progress,
    )


def _print(cards: dict[str, TranslatorCard], by_layer: list[QualityReport], out: Path) -> None:
    console = Console()
    table = Table(
        box=None, pad_edge=False, title="held-out quality (the mean vector's in brackets)"
    )
    for column in ("translator", "R² norm.", "cosine norm.", "R² raw", "positions"):
        table.add_column(column, justify="left" if column == "translator" else "right")
    for seed, card in cards.items():
        for report in card.quality:
            table.add_row(f"seed {seed}", *_figures(report))
    for report in by_layer:
        table.add_row(f"{report.sender_layer} to {report.receiver_layer}", *_figures(report))
    console.print(table)
    for seed, card in cards.items():
        if card.key_values is not None:
            console.print(f"seed {seed} {_in_words(card.key_values)}", highlight=False)
        if card.stitched is not None:
            entropies = ", ".join(
                f"{name.replace('_', ' ')} {getattr(card.stitched, name):.3f}"
                for name in card.stitched.VARIANTS
            )
            console.print(
                f"seed {seed} next-token cross-entropy, nats: {entropies}", highlight=False
            )
    console.print(f"{len(cards)} translators written to {out}", highlight=False)


def _in_words(found: KeyValueQuality) -> str:
    """Return a map's quality, averaged over the receiver's blocks, with the mean cache's."""
    parts = (
        ("R² of keys", found.r2_keys, found.baseline_r2_keys),
        ("of values", found.r2_values, found.baseline_r2_values),
        (
            "cosine of the attention's output",
            found.attention_cosine,
            found.baseline_attention_cosine,
        ),
    )
    listed = ", ".join(f"{name} {fmean(own):.4f} ({fmean(base):.4f})" for name, own, base in parts)
    return f"keys and values over {found.positions} positions: {listed}"


def _figures(report: QualityReport) -> tuple[str, ...]:
    normalised, raw = report.normalised, report.raw
    return (
        f"{normalised.r2:.4f} ({normalised.baseline_r2:.4f})",
        f"{normalised.cosine:.4f} ({normalised.baseline_cosine:.4f})",
        f"{raw.r2:.4f} ({raw.baseline_r2:.4f})",
        str(report.positions),
    )
