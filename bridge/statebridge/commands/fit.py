"""`statebridge fit`: fit the translators that an experiment declares, and measure them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from statebridge.commands.engine_extra import need_engine
from statebridge.commands.layer_list import read_layers
from statebridge.commands.options import AsJson, Device, ExperimentFile, Set, read_changes
from statebridge.commands.progress import progress_bars
from statebridge.errors import ExperimentError

if TYPE_CHECKING:
    from statebridge.results.translator_card import QualityReport, TranslatorCard

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
    from statebridge.experiment import load_experiment
    from statebridge.experiment.experiment import DEFAULT_SET, Fit

    overrides = read_changes(changes) | ({"execution.device": device} if device else {})
    experiment = load_experiment(file, overrides)
    sets = {name: s for name, s in experiment.translator_sets.items() if isinstance(s, Fit)}
    if not sets:
        raise ExperimentError(f"{file}: translators: declares files, not fit: {{...}}")
    if out.exists() and not out.is_dir():
        raise ExperimentError(f"--out {out}: is a file; give a folder for the translators")
    need_engine()
    from statebridge.engine.fitting.corpus_fit import fit_translators, layer_quality, read_corpus
    from statebridge.models.pair import load_pair
    from statebridge.tasks.declared_rows import resolve_dataset
    from statebridge.translators import save_translator

    rows, _ = resolve_dataset(experiment.dataset)
    corpora = {name: read_corpus(s.corpus, experiment.prompts, rows) for name, s in sets.items()}
    by_layer: list[QualityReport] = []
    cards: dict[str, TranslatorCard] = {}
    with progress_bars(quiet=as_json) as progress:
        progress("load", 0, 1)
        pair = load_pair(experiment)
        progress("load", 1, 1)
        for name, settings in sets.items():
            fitted = fit_translators(
                pair,
                settings,
                corpora[name],
                experiment.seeds,
                progress,
                stitched=stitched,
                experiment=experiment,
                evaluated=rows,
            )
            folder, prefix = (out, "") if name == DEFAULT_SET else (out / name, f"{name}/")
            for seed, translator in fitted.items():
                card = save_translator(translator, folder / f"seed{seed}.safetensors")
                cards[f"{prefix}{seed}"] = card
        if sender_layers or receiver_layers:
            first = next(iter(sets))
            by_layer = layer_quality(
                pair,
                sets[first],
                corpora[first],
                read_layers(sender_layers) if sender_layers else [pair.sender.layer],
                read_layers(receiver_layers) if receiver_layers else [pair.receiver.layer],
                progress,
            )
    if as_json:
        shown: dict[str, Any] = {
            "translators": {seed: card.model_dump(mode="json") for seed, card in cards.items()},
            "layers": [report.model_dump(mode="json") for report in by_layer],
        }
        print(json.dumps(shown))
        return
    _print(cards, by_layer, out)


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
        if card.stitched is not None:
            entropies = ", ".join(
                f"{name.replace('_', ' ')} {getattr(card.stitched, name):.3f}"
                for name in card.stitched.VARIANTS
            )
            console.print(
                f"seed {seed} next-token cross-entropy, nats: {entropies}", highlight=False
            )
    console.print(f"{len(cards)} translators written to {out}", highlight=False)


def _figures(report: QualityReport) -> tuple[str, ...]:
    normalised, raw = report.normalised, report.raw
    return (
        f"{normalised.r2:.4f} ({normalised.baseline_r2:.4f})",
        f"{normalised.cosine:.4f} ({normalised.baseline_cosine:.4f})",
        f"{raw.r2:.4f} ({raw.baseline_r2:.4f})",
        str(report.positions),
    )
