"""The layer profile as a table: one row for each layer of each model."""

from __future__ import annotations

import numpy as np

from statebridge.results.layer_profile import LayerProfile, ModelProfile, ProbeScore, ProfiledLayer
from statebridge.stats.inference.means import share_limits
from statebridge.stats.sender_effect import AnswerChange, SenderEffect, sender_effects
from statebridge.tables.table import Column, Range, Table, Value

_PLACES = ("last", "context")


def profile_table(profile: LayerProfile) -> Table:
    """Return what the probes find and what patches do, layer by layer."""
    columns = [
        Column("side", "model"),
        Column("layer", "layer", "integer"),
        Column("in_use", "in use", "boolean"),
        Column("rows", "rows", "integer"),
    ]
    for name, header in (
        ("probe", "probe"),
        ("unseen", "probe, unseen answers"),
        ("across", "unseen, into the receiver"),
    ):
        columns += [
            Column(name, header, "number", digits=3),
            Column(f"{name}_interval", "95 % interval", "range", digits=3, printed=False),
            Column(f"{name}_shuffled", "answers dealt out", "number", digits=3),
        ]
    for place in _PLACES:
        for whose in ("gold", "donor"):
            columns += [
                Column(f"{place}_{whose}", f"{place} patched: {whose}", "number", "signed", 2),
                Column(f"{place}_{whose}_interval", "interval", "range", "signed", 2),
            ]
    return Table(
        title="Layer profile",
        columns=tuple(columns),
        rows=tuple(_row(model, layer) for model in profile.models for layer in model.layers),
        notes=_notes(profile),
    )


def _row(model: ModelProfile, layer: ProfiledLayer) -> tuple[Value, ...]:
    effects = {effect.positions: effect for effect in sender_effects(layer.checks)}
    return (
        model.side,
        layer.layer,
        layer.layer == model.layer_in_use,
        len(layer.checks.rows),
        *_probe(layer.seen, of_rows=True),
        *_probe(layer.unseen, of_rows=False),
        *_probe(layer.across, of_rows=False),
        *(value for place in _PLACES for value in _patched(effects.get(place))),
    )


def _probe(score: ProbeScore | None, *, of_rows: bool) -> tuple[Value, ...]:
    if score is None:
        return None, None, None
    share = score.right / score.rows
    if not of_rows:
        return share, None, score.shuffled_right / score.rows
    ends = Range(*share_limits((np.arange(score.rows) < score.right).astype(float)))
    return share, ends, score.shuffled_right / score.rows


def _patched(effect: SenderEffect | None) -> tuple[Value, ...]:
    if effect is None:
        return None, None, None, None
    return (*_change(effect.gold), *_change(effect.donor))


def _change(change: AnswerChange | None) -> tuple[Value, ...]:
    return (None, None) if change is None else (change.difference, Range.of(change.interval))


def _notes(profile: LayerProfile) -> tuple[str, ...]:
    answers = profile.models[0].layers[0].seen.answers
    return (
        "Probe: share of held-out rows whose answer a ridge regression from the last token's state "
        f"ranks first among the {answers} answers of the dataset (five folds; chance is one in "
        f"{answers}); beside it the same where the answers were dealt out to other rows. Unseen "
        "answers: no row with the answer was fitted on. It is named by its embedding in the model "
        "itself, or, into the receiver, by that in the receiver. It has no interval: rows of one "
        "answer are right or wrong together, all answers are named by one fit, and no interval "
        "that was tried holds. A probe that finds the answer shows that an affine map can bring "
        "it; a reader that is not linear may find more.",
        "Patched: change of the answer's log-probability in nats, of the row's own (gold) and of "
        "the other row's (donor), when another row's state replaces the row's own at this layer. "
        "A gold answer that falls and a donor's that rises is carried there.",
    )
