"""The map of similarity shows the numbers it is given."""

from __future__ import annotations

import numpy as np
import pytest

from statebridge.figures.drawing import figure_bytes
from statebridge.figures.layers import similarity_map
from statebridge.results.layer_similarity import LayerSimilarity, SimilarityMap
from statebridge.results.translator_card import CorpusRecord
from statebridge.tables.summary_tables import similarity_table


def made(senders: int = 2, receivers: int = 3, positions: int = 900) -> SimilarityMap:
    return SimilarityMap(
        sender="one",
        receiver="two",
        sender_width=64,
        receiver_width=96,
        corpus=CorpusRecord(name="text.txt", sha256="0" * 64, passages=20),
        positions=positions,
        sampled=101,
        neighbours=10,
        seed=0,
        pairs=tuple(
            LayerSimilarity(
                sender_layer=2 * i,
                receiver_layer=3 * j,
                cka=(1 + i + j) / (senders + receivers),
                neighbour_overlap=0.1 * (i == j),
            )
            for i in range(senders)
            for j in range(receivers)
        ),
    )


@pytest.mark.slow
def test_squares_hold_their_numbers_at_their_layers() -> None:
    found = made()
    drawing = similarity_map(found)
    assert drawing.figure is not None
    axes = drawing.figure.axes[0]
    grid = np.asarray(axes.images[0].get_array())
    np.testing.assert_allclose(grid, [[0.2, 0.4, 0.6], [0.4, 0.6, 0.8]])
    numbers = [text.get_text() for text in axes.texts]
    assert numbers == ["0.20", "0.40", "0.60", "0.40", "0.60", "0.80"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "3", "6"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0", "2"]
    assert axes.images[0].get_clim() == (0, 1)
    assert "900 positions of text.txt" in drawing.caption
    assert "chance shares 0.1000" in drawing.caption
    assert "CKA comes out too high" in drawing.caption
    assert figure_bytes(drawing, "svg") == figure_bytes(similarity_map(found), "svg")


def test_the_overlap_is_a_map_of_its_own() -> None:
    drawing = similarity_map(made(), "neighbour_overlap")
    assert drawing.name == "similarity_neighbour_overlap"
    assert drawing.figure is not None
    np.testing.assert_allclose(
        np.asarray(drawing.figure.axes[0].images[0].get_array()), [[0.1, 0, 0], [0, 0.1, 0]]
    )


def test_many_layers_are_drawn_without_numbers() -> None:
    drawing = similarity_map(made(13, 20, 5000))
    assert drawing.figure is not None
    assert not drawing.figure.axes[0].texts
    assert "too high" not in drawing.caption


def test_the_table_has_a_row_for_each_pair() -> None:
    table = similarity_table(made())
    assert [row[:2] for row in table.rows] == [(0, 0), (0, 3), (0, 6), (2, 0), (2, 3), (2, 6)]
    assert [row[2] for row in table.rows] == pytest.approx([0.2, 0.4, 0.6, 0.4, 0.6, 0.8])
