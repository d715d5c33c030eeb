"""Texts that are measured beside each gold answer, and the tokens that end an answer."""

from __future__ import annotations

import random
from collections.abc import Sequence

from statebridge.errors import ExperimentError
from statebridge.experiment.experiment import Experiment
from statebridge.models.traced_model import TracedModel
from statebridge.records import DatasetRow
from statebridge.runs.plan import OtherAnswers, TokenIds
from statebridge.scoring.gold import gold_of
from statebridge.scoring.squad import squad_normalize


def other_answers(
    experiment: Experiment, rows: Sequence[DatasetRow], limit: int
) -> tuple[OtherAnswers, ...]:
    """Return what `likelihoods` asks for of the first `limit` rows; nothing where it does not.

    Decoys of a row without wrong options are gold answers of other rows, those of the same
    `answer_type` if there are enough; they depend on the row's id and the dataset alone.

    Raises:
        ExperimentError: No row has an alias or a wrong option, though they are asked for.
        DatasetError: Aliases or options of a row are not text.
    """
    asked = experiment.likelihoods
    if asked is None or not (asked.aliases or asked.options):
        return ()
    pool = _Decoys(rows, asked.decoys)
    found = []
    for row in rows[:limit]:
        gold = gold_of(row)
        own = {text.strip() for text in gold.names}
        aliases = dict.fromkeys(name.strip() for name in gold.aliases)
        found.append(
            OtherAnswers(
                tuple(name for name in aliases if asked.aliases and name != row.answer.strip()),
                tuple(
                    text for text in gold.wrong or pool.of(row) if asked.options and text not in own
                ),
            )
        )
    for field, held in (("aliases", "aliases"), ("options", "wrong")):
        if getattr(asked, field) and not any(getattr(row, held) for row in found):
            raise ExperimentError(
                f"likelihoods.{field}: no row has any; give the rows {field}, "
                f"{'or likelihoods.decoys, ' if field == 'options' else ''}or leave it out"
            )
    return tuple(found)


class _Decoys:
    """Gold answers of a dataset, from which rows without options take wrong ones."""

    def __init__(self, rows: Sequence[DatasetRow], count: int) -> None:
        self._count = count
        self._golds: dict[object, dict[str, str]] = {}
        for row in rows if count else ():
            answer = row.answer.strip()
            for kind in (None, row.attributes.get("answer_type")):
                self._golds.setdefault(kind, {}).setdefault(squad_normalize(answer), answer)

    def of(self, row: DatasetRow) -> tuple[str, ...]:
        """Return wrong answers for a row, in an order of its own."""
        if not self._count:
            return ()
        right = {squad_normalize(name) for name in gold_of(row).names}
        for kind in (row.attributes.get("answer_type"), None):
            wrong = [text for key, text in self._golds[kind].items() if key not in right]
            if len(wrong) >= self._count or kind is None:
                break
        rng = random.Random(f"statebridge.decoys|{row.row_id}")  # noqa: S311
        return tuple(rng.sample(sorted(wrong), min(self._count, len(wrong))))


def end_ids(model: TracedModel) -> TokenIds:
    """Return the tokens that end an answer: end tokens, and those that begin with a line end."""
    size = int(model.module.config.get_text_config().vocab_size)
    count = min(size, len(model.tokenizer))
    texts = model.tokenizer.batch_decode([[token] for token in range(count)])
    lines = (token for token, text in enumerate(texts) if text.startswith(("\n", "\r")))
    return tuple(sorted({*lines, *(token for token in model.end_ids if token < size)}))
