"""The plan of the checks inside the sender: states to replace, their places, their donors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from statebridge.channels.draws import choose_donors
from statebridge.channels.prompts import answer_ids, check_answer_window, fill
from statebridge.channels.workload import Workload
from statebridge.engine.sender_checks.positions import PositionSet, sender_position_sets
from statebridge.errors import ExperimentError
from statebridge.results.sender_checks import Replacement
from statebridge.runs.plan import TokenIds

Check = tuple[PositionSet, Replacement]
"""A replacement at a set of positions."""


@dataclass(frozen=True, slots=True)
class Donor:
    """The row whose states a row is patched with.

    Attributes:
        row: Its index.
        same_length: Whether its prompt is as long, so that every position has a counterpart.
        answer: Its answer's ids, as they follow the prompt of the patched row.
    """

    row: int
    same_length: bool
    answer: TokenIds


@dataclass(frozen=True, slots=True)
class SenderCheckPlan:
    """The checks to be made; nothing has run yet.

    Attributes:
        answers: The gold answers' ids, by row that runs.
        donors: By row that runs; None where no row of another answer has the same length.
    """

    workload: Workload
    sets: tuple[PositionSet, ...]
    answers: tuple[TokenIds, ...]
    donors: tuple[Donor | None, ...]

    @property
    def checks(self) -> list[Check]:
        """Every replacement at every set of positions."""
        return [(found, how) for found in self.sets for how in get_args(Replacement)]

    def donor(self, check: Check, row: int) -> Donor | None:
        """Return the donor of a row in a patch; None where the check has none for it."""
        positions, how = check
        donor = self.donors[row]
        if how != "patch" or donor is None:
            return None
        return donor if donor.same_length or positions.one_from_the_end else None

    def included(self, check: Check, row: int) -> bool:
        """Whether a row has the positions and, for a patch, a donor."""
        positions, how = check
        has_states = how != "patch" or self.donor(check, row) is not None
        return has_states and bool(positions.of_row[row])


def plan_sender_checks(workload: Workload) -> SenderCheckPlan:
    """Choose positions and donors, and check what can be checked before a forward pass.

    A row's donor is chosen as in a shuffled condition, under the first seed and by the length
    of the sender's prompt; a row whose length nobody shares takes one of the nearest length
    at the last position and none elsewhere. A donor with the same answer is none.

    Raises:
        ExperimentError: A single row runs.
        PairError: An answer reaches beyond the sender's window or vocabulary.
    """
    experiment, sender = workload.plan.experiment, workload.pair.sender
    if workload.plan.limit < 2:
        raise ExperimentError(
            "sender_checks: a single row runs, and its mean over the rows would be itself; run at "
            "least 2"
        )
    rows, prompts = workload.plan.rows, workload.plan.prompts.sender
    texts = fill(experiment.prompts.to_sender, rows[: workload.plan.limit])
    answers = tuple(
        answer_ids(sender, text, row.answer, experiment.prompts.chat)
        for text, row in zip(texts, rows, strict=False)
    )
    found = choose_donors(
        [len(ids) for ids in prompts],
        [row.row_id for row in rows],
        experiment.seeds[0],
        experiment.rng,
    )
    donors: list[Donor | None] = []
    for index, text in enumerate(texts):
        lone = index in found.lone
        place = found.nearest.get(index) if lone else found.of_row[index]
        if place is None or rows[place].answer == rows[index].answer:
            donors.append(None)
        else:
            other = answer_ids(sender, text, rows[place].answer, experiment.prompts.chat)
            donors.append(Donor(place, not lone, other))
    ids = [row.row_id for row in rows[: workload.plan.limit]]
    longest = [
        answer if donor is None or len(donor.answer) < len(answer) else donor.answer
        for answer, donor in zip(answers, donors, strict=True)
    ]
    check_answer_window(sender, prompts[: workload.plan.limit], longest, ids)
    return SenderCheckPlan(workload, tuple(sender_position_sets(workload)), answers, tuple(donors))
