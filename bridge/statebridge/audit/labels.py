"""The three labels of a metric disagreement (arXiv 2606.03280).

A disagreement is a row where legacy contains holds and normalised exact match does not.
"""

from __future__ import annotations

from typing import Literal, get_args

from statebridge.scoring.metrics import first_answer_span, word_boundary_contains

Label = Literal["verbose_correct", "substring_noise", "accidental_mention"]
LABELS: tuple[Label, ...] = get_args(Label)

MEANINGS: dict[Label, str] = {
    "verbose_correct": "the text answers with the gold answer first, then goes on",
    "substring_noise": "the gold answer stands only inside a longer word",
    "accidental_mention": "the gold answer is mentioned, but is not what the text answers",
}
"""What each label says; for a report, and for a reader who fills in a sheet."""


def disagreement_label(prediction: str, gold: str) -> Label:
    """Return the label of a row that is known to be a disagreement."""
    if first_answer_span(prediction, gold):
        return "verbose_correct"
    if not word_boundary_contains(prediction, gold):
        return "substring_noise"
    return "accidental_mention"
