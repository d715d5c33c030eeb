"""The published random draws of arXiv 2606.03280, so that a published run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from statebridge.experiment.random_streams import STREAMS, Answers


class PublishedStream:
    """One generator for all donors of a seed, and one for all its noise.

    Draws therefore change when other rows run, or the same rows in another order.
    """

    answers_apart = False

    def donors(
        self,
        groups: Sequence[Sequence[int]],
        row_ids: Sequence[str],  # noqa: ARG002
        seed: int,
        answers: Sequence[Answers],  # noqa: ARG002
    ) -> Mapping[int, int]:
        """Shuffle each group in turn; each row takes the next of its group, the last the first.

        A lone row takes itself and no draw (shuffling one element draws nothing), so the strict
        form of the control, which drops lone rows first, has the same donors.
        """
        stream = random.Random(seed)  # noqa: S311 - the published stream, not a secret
        donors: dict[int, int] = {}
        for group in groups:
            shuffled = list(group)
            stream.shuffle(shuffled)
            donors |= dict(zip(shuffled, shuffled[1:] + shuffled[:1], strict=True))
        return donors

    def noise_seed(self, seed: int, row_id: str) -> int | None:  # noqa: ARG002
        """Return None: one `torch.Generator` of the seed draws for row after row."""
        return None


STREAMS.add("published")(PublishedStream())
