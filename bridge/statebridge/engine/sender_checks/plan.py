"""The plan of the checks inside the sender: states to replace, their places, their donors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from statebridge.channels.inputs.draws import choose_donors
from statebridge.channels.inputs.prompt_limit import limited_prompts
from statebridge.channels.inputs.prompts import context_tokens
from statebridge.channels.inputs.token_ids import answer_ids, check_answer_window, fill
from statebridge.channels.workload import Workload
from statebridge.data.training_texts import answer_names
from statebridge.errors import ExperimentError
from statebridge.experiment.conditions import Condition
from statebridge.results.sender_checks import Replacement
from statebridge.runs.plan import TokenIds


@dataclass(frozen=True, slots=True)
class PositionSet:
    """Positions of the sender's prompt, row by row.

    Attributes:
        name: `all`, `last`, `question`, `context`, `first`, `unread`, or a list of indices.
        read_by: Conditions whose source positions these are; empty for a set
            that the others are compared with.
        of_row: Indices, counted from the start of the prompt, of each row that runs; empty
            where the row has no such position.
    """

    name: str
    read_by: tuple[str, ...]
    of_row: tuple[tuple[int, ...], ...]


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
        replacements: Ways of replacing states that are tried.
    """

    workload: Workload
    sets: tuple[PositionSet, ...]
    answers: tuple[TokenIds, ...]
    donors: tuple[Donor | None, ...]
    replacements: tuple[Replacement, ...] = get_args(Replacement)

    @property
    def checks(self) -> list[Check]:
        """Each replacement at every set of positions."""
        return [(found, how) for found in self.sets for how in self.replacements]

    def donor(self, check: Check, row: int) -> Donor | None:
        """Return the donor of a row in a patch; None where the check has none for it."""
        positions, how = check
        donor = self.donors[row]
        if how != "patch" or donor is None:
            return None
        # Prompts of different lengths have the last position alone at the same place.
        return donor if donor.same_length or positions.name == "last" else None

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
        [answer_names(row) for row in rows],
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
    return SenderCheckPlan(workload, tuple(position_sets(workload)), answers, tuple(donors))


def position_sets(workload: Workload) -> list[PositionSet]:
    """Return the sets of positions to check, each once, those that conditions read first.

    For comparison come the span of the context (where the tokenizer states which text a token
    stands for), the first token, and all positions that no condition reads. Sets that hold
    no position in any row are left out, and so is one that equals an earlier one.
    """
    rows = range(workload.plan.limit)
    sets: dict[str, tuple[list[str], tuple[tuple[int, ...], ...]]] = {}
    for condition in workload.plan.experiment.resolved_conditions:
        if (
            condition.reads_sender
            and condition.sender_context is None
            and not condition.sends_message
        ):
            of_row = tuple(_read(workload, condition, row) for row in rows)
            sets.setdefault(_name(condition), ([], of_row))[0].append(condition.name)
    found = [PositionSet(name, tuple(by), of_row) for name, (by, of_row) in sets.items()]
    lengths = [len(workload.plan.prompts.sender[row]) for row in rows]
    union = [{position for s in found for position in s.of_row[row]} for row in rows]
    compared = {
        "context": _contexts(workload),
        "first": tuple((0,) for _ in rows),
        "unread": tuple(
            tuple(i for i in range(length) if i not in union[row])
            for row, length in enumerate(lengths)
        ),
    }
    for name, of_row in compared.items():
        if any(of_row) and all(of_row != earlier.of_row for earlier in found):
            found.append(PositionSet(name, (), of_row))
    return found


def _name(condition: Condition) -> str:
    positions = condition.source_positions
    if positions == "placeholder":
        return "context"
    if positions == "question" and condition.prompt == "placeholder":
        return "question after placeholders"
    return positions if isinstance(positions, str) else str(list(positions))


def _read(workload: Workload, condition: Condition, row: int) -> tuple[int, ...]:
    length = len(workload.plan.prompts.sender[row])
    positions = condition.source_positions
    if positions == "all":
        return tuple(range(length))
    if positions == "last":
        return (length - 1,)
    if not isinstance(positions, str):
        return tuple(sorted(position % length for position in positions))
    span = workload.plan.prompts.span(condition.prompt, positions, row)
    if span is None:
        raise ValueError(f"{positions} positions have no span")
    return tuple(range(length + span[0], length + span[1]))


def _contexts(workload: Workload) -> tuple[tuple[int, ...], ...]:
    """Return which tokens of each row's cut prompt hold text of its context.

    None at all where the template has no context, or the tokenizer does not map tokens to text.
    """
    rows, model = workload.plan.rows[: workload.plan.limit], workload.pair.sender
    template = workload.plan.experiment.prompts.to_sender
    before, marker, _ = template.partition("{context}")
    if not marker or not getattr(model.tokenizer, "is_fast", False):
        return tuple(() for _ in rows)
    experiment = workload.plan.experiment
    read = limited_prompts(model, template, rows, experiment.prompts, experiment.decoding)
    found = context_tokens(model, template, before, read.rows)
    lengths = (len(ids) for ids in workload.plan.prompts.sender)
    return tuple(
        tuple(i for i in places if i < length)
        for places, length in zip(found, lengths, strict=False)
    )
