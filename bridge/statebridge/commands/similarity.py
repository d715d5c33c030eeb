"""`statebridge similarity`: how alike a pair's states are, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from statebridge.actions import need_engine
from statebridge.commands.options import (
    AsJson,
    Device,
    ExperimentFile,
    Set,
    read_declared,
    read_layers,
)
from statebridge.errors import ExperimentError
from statebridge.progress import show_progress

if TYPE_CHECKING:
    from statebridge.engine.fitting.corpus import CorpusTexts
    from statebridge.experiment import Experiment
    from statebridge.experiment.experiment import Corpus
    from statebridge.results.layer_similarity import SimilarityMap

Layers = Annotated[
    str | None,
    typer.Option(
        metavar="LIST", help="Such as 0.25,0.5,8; every layer if not given.", show_default=False
    ),
]


def similarity(
    file: ExperimentFile,
    sender_layers: Layers = None,
    receiver_layers: Layers = None,
    neighbours: Annotated[int, typer.Option(min=1, help="Nearest neighbours to compare.")] = 10,
    sampled: Annotated[
        int, typer.Option(min=3, help="Positions among which they are looked for.")
    ] = 1000,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for similarity.json and its figures.", show_default=False),
    ] = None,
    device: Device = None,
    changes: Set = None,
    as_json: AsJson = False,
) -> None:
    """Compare the states of sender and receiver at each pair of layers, over the corpus.

    The corpus is the one that translators are fitted on, else the rows of the dataset.
    """
    from statebridge.commands.printing import print_table

    experiment = read_declared(file, changes, {"execution.device": device})
    ours, theirs = read_layers(sender_layers), read_layers(receiver_layers)
    if out is not None and out.exists() and not out.is_dir():
        raise ExperimentError(f"--out {out}: is a file; give a folder")
    need_engine()
    from statebridge.engine.similarity.layer_similarity import layer_similarity
    from statebridge.models.pair import declared_pair

    corpus = _corpus(experiment)
    texts = _texts(experiment, corpus)
    with show_progress(quiet=as_json) as progress:
        pair = declared_pair(experiment, progress=progress)
        found = layer_similarity(
            pair,
            texts,
            experiment.decoding.max_prompt_tokens if corpus is None else corpus.max_tokens,
            ours,
            theirs,
            neighbours=neighbours,
            sampled=sampled,
            progress=progress,
        )
    if out is not None:
        _write(found, out)
    if as_json:
        print(found.model_dump_json())
        return
    from statebridge.tables.summary_tables import similarity_table

    print_table(similarity_table(found))
    if out is not None:
        print(f"similarity.json and its figures written to {out}")


def _corpus(experiment: Experiment) -> Corpus | None:
    """Return the corpus of the first set of translators that is fitted."""
    from statebridge.experiment.experiment import Fit

    declared = experiment.translator_sets.values()
    return next((fit.corpus for fit in declared if isinstance(fit, Fit) and fit.corpus), None)


def _texts(experiment: Experiment, corpus: Corpus | None) -> CorpusTexts:
    """Return the passages of the corpus, or the dataset's task prompts."""
    from statebridge.engine.fitting.corpus import CorpusTexts, read_corpus
    from statebridge.results.translator_card import CorpusRecord
    from statebridge.tasks.declared_rows import resolve_dataset

    if corpus is not None:
        return read_corpus(corpus, experiment.prompts)
    rows, digest = resolve_dataset(experiment.dataset)
    rows = rows[: experiment.limit]
    task = experiment.prompts.task
    passages = tuple(task.format(context=row.context, question=row.question) for row in rows)
    record = CorpusRecord(
        name="task prompts of the dataset",
        sha256=digest,
        passages=len(passages),
        max_tokens=experiment.decoding.max_prompt_tokens,
    )
    return CorpusTexts(passages, record)


def _write(found: SimilarityMap, out: Path) -> None:
    from statebridge.data.files import atomic_writer, make_folder
    from statebridge.figures import save_figure
    from statebridge.figures.layers import similarity_map

    make_folder(out)
    with atomic_writer(out / "similarity.json") as stream:
        stream.write(found.model_dump_json(indent=1).encode("utf-8") + b"\n")
    for measure in ("cka", "neighbour_overlap"):
        drawing = similarity_map(found, measure)
        save_figure(drawing, out / drawing.name)
