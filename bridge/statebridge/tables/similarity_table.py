"""The similarity of layers as a table."""

from __future__ import annotations

from statebridge.results.layer_similarity import SimilarityMap
from statebridge.tables.table import Column, Table


def similarity_table(found: SimilarityMap) -> Table:
    """Return one row for each pair of layers."""
    return Table(
        title=f"Similarity of states: {found.sender} and {found.receiver}",
        columns=(
            Column("sender_layer", "sender layer", "integer"),
            Column("receiver_layer", "receiver layer", "integer"),
            Column("cka", "linear CKA", "number", digits=4),
            Column("neighbour_overlap", "neighbours shared", "number", digits=4),
        ),
        rows=tuple(
            (pair.sender_layer, pair.receiver_layer, pair.cka, pair.neighbour_overlap)
            for pair in found.pairs
        ),
        notes=similarity_notes(found),
    )


def similarity_notes(found: SimilarityMap) -> tuple[str, ...]:
    """Return what a reader must know of the numbers."""
    notes = [
        f"{found.positions} positions of {found.corpus.name}, the first of each passage left out; "
        f"{found.neighbours} nearest neighbours by cosine among {found.sampled} positions drawn "
        f"under seed {found.seed}, of which chance shares {found.chance:.4f}."
    ]
    if found.few_positions:
        notes.append(
            "There are fewer than ten positions for each dimension: plain CKA comes out too high; "
            "compare layers with each other, or give more text."
        )
    return tuple(notes)
