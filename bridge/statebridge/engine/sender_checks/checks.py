"""Checks inside the sender: is what we send used there?

At the sending layer and the positions that conditions read, the sender's own states are
replaced by their mean over the rows (mean ablation), by zero, or by another row's (activation
patching), and its own answer is measured before and after. Sources: Wang et al. 2023 (arXiv
2211.00593) for mean ablation; Meng et al. 2022 (arXiv 2202.05262) and Zhang & Nanda 2024
(arXiv 2309.16042) for patching.

A group of rows goes once through the blocks up to the sending layer; each check then runs the
upper blocks only. Prompt and answer go together: causal attention leaves a prompt's states as
they are without the answer, and the answer's own states below are not touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch

from statebridge.channels.workload import Workload
from statebridge.engine.cluster.actor import Actors
from statebridge.engine.executors.memory import halving
from statebridge.engine.sender_checks.means import MeanStates, mean_states
from statebridge.engine.sender_checks.plan import Check, SenderCheckPlan
from statebridge.errors import NumericError
from statebridge.experiment.experiment import Experiment
from statebridge.models.pair import Pair, check_copy, pair_facts
from statebridge.models.token_batch import TokenBatch
from statebridge.results.sender_checks import (
    AnswerMeasure,
    CheckedRow,
    SenderCheck,
    SenderChecks,
    SenderRow,
)
from statebridge.runs.plan import Plan, TokenIds

Progress = Callable[[str, int, int], None]
"""Called with `check`, rows done, and rows in all."""


def run_sender_checks(
    plan: SenderCheckPlan,
    max_lanes: int,
    progress: Progress = lambda *_: None,
    actors: Actors | None = None,
) -> SenderChecks:
    """Carry the checks out.

    Two passes through the lower blocks (one for the means, one for the rest), and one
    through the upper blocks for each row and check. The means are taken in this process.

    Args:
        plan: Rows, positions and donors.
        max_lanes: Upper passes in one batch, at most.
        progress: Called as work goes on.
        actors: Those of a cluster, if there are any: they make the checks, some rows each.

    Raises:
        NumericError: A state or a log-probability is not finite.
        EnvironmentFault: A single row does not fit in memory.
    """
    work, sender = plan.workload, plan.workload.pair.sender
    rows, prompts = work.plan.rows, work.plan.prompts.sender
    order = sorted(range(work.plan.limit), key=lambda row: (len(prompts[row]), row))
    # A row has a lane for itself and one for each check, or two where it is patched.
    together = max(1, max_lanes // (2 + 2 * len(plan.checks)))
    parts = [order[start : start + together] for start in range(0, work.plan.limit, together)]
    progress("check", 0, work.plan.limit)
    means = mean_states(work, order)
    done: dict[_Question, AnswerMeasure] = {}
    rows_done = 0
    if actors is None:
        run = _CheckRun(plan, means, max_lanes)
        measured: Generator[_Measured, None, None] = (run.part(part) for part in parts)
    else:
        measured = actors.work(CheckTask.of(plan, means, max_lanes, actors), parts)
    with closing(measured):
        for found in measured:
            done |= dict(found)
            rows_done += len({question[0] for question, _ in found})
            progress("check", rows_done, work.plan.limit)

    def checked(place: int, check: Check, row: int) -> CheckedRow:
        donor = plan.donor(check, row)
        return CheckedRow(
            row_id=rows[row].row_id,
            replaced=len(check[0].of_row[row]),
            gold=done[row, place, plan.answers[row]],
            donor_row_id=None if donor is None else rows[donor.row].row_id,
            donor_before=None if donor is None else done[row, None, donor.answer],
            donor_after=None if donor is None else done[row, place, donor.answer],
        )

    return SenderChecks(
        sender=sender.name,
        layer=sender.layer,
        layer_path=sender.layer_path,
        blocks=len(sender.block_paths),
        rows=tuple(
            SenderRow(
                row_id=rows[row].row_id,
                tokens=len(prompts[row]),
                gold=done[row, None, plan.answers[row]],
            )
            for row in range(work.plan.limit)
        ),
        checks=tuple(
            SenderCheck(
                positions=check[0].name,
                read_by=check[0].read_by,
                replacement=check[1],
                rows=tuple(
                    checked(place, check, row)
                    for row in range(work.plan.limit)
                    if plan.included(check, row)
                ),
            )
            for place, check in enumerate(plan.checks)
        ),
    )


@dataclass(frozen=True, slots=True)
class CheckTask:
    """The checks of one plan, as they are sent to an actor; an item is the rows of a part.

    Attributes:
        experiment: As an actor reads it.
        plan: Without groups.
        checks: All of the `SenderCheckPlan` but its workload, by name.
        means: On the CPU.
        max_lanes: Upper passes in one batch, at most.
        facts: Facts of the driver's pair, of which the actor's must be a copy.
    """

    experiment: Experiment
    plan: Plan
    checks: Mapping[str, Any]
    means: MeanStates
    max_lanes: int
    facts: Mapping[str, str]

    @classmethod
    def of(
        cls, plan: SenderCheckPlan, means: MeanStates, max_lanes: int, actors: Actors
    ) -> CheckTask:
        """Return the task of checks that are planned here."""
        work = plan.workload
        parts = ("sets", "answers", "donors", "replacements")
        return cls(
            actors.sent(work.plan.experiment, work.pair),
            replace(work.plan, groups=()),
            {part: getattr(plan, part) for part in parts},
            means.to("cpu"),
            max_lanes,
            pair_facts(work.pair),
        )

    def open(self, pair: Pair) -> Callable[[Sequence[int]], _Measured]:
        """Return what makes the checks of some rows on an actor's pair.

        Raises:
            PairError: The pair is not the driver's.
        """
        check_copy(pair, self.facts)
        plan = SenderCheckPlan(Workload(self.plan, pair, {}, {}), **self.checks)
        return _CheckRun(plan, self.means.to(pair.sender.device), self.max_lanes).part

    def label(self, item: Any) -> str:
        """Return the name of some rows for messages."""
        return f"sender_checks, rows {', '.join(self.plan.rows[row].row_id for row in item)}"


_Question = tuple[int, int | None, TokenIds]
"""A row, the place of a check in the plan (None where nothing is replaced), and an answer."""

_Measured = list[tuple[_Question, AnswerMeasure]]


@dataclass(frozen=True, slots=True)
class _Lane:
    """One pass through the upper blocks: prompt and answer (without its last token), a check.

    Two answers of one token follow the same prompt in the same lane.
    """

    ids: TokenIds
    row: int
    check: int | None


class _CheckRun:
    def __init__(self, plan: SenderCheckPlan, means: MeanStates, max_lanes: int) -> None:
        self._plan, self._means, self._max_lanes = plan, means, max_lanes
        self._checks = plan.checks
        self._work, self._sender = plan.workload, plan.workload.pair.sender
        self._prompts = plan.workload.plan.prompts.sender

    def part(self, rows: Sequence[int]) -> _Measured:
        """Return what `measure` does, in smaller parts where memory does not suffice."""
        return halving(self.measure, rows, "row")

    def measure(self, rows: Sequence[int]) -> _Measured:
        """Return the sender's measure of every answer that is asked about the rows."""
        answers: dict[_Lane, list[TokenIds]] = {}
        for row, check, answer in chain.from_iterable(map(self._questions, rows)):
            lane = _Lane(self._prompts[row] + answer[:-1], row, check)
            answers.setdefault(lane, []).append(answer)
        lanes = list(answers)
        donors = [donor.row for row in rows if (donor := self._plan.donors[row]) is not None]
        sequences = [lane.ids for lane in lanes] + [self._prompts[row] for row in donors]
        place = {ids: i for i, ids in enumerate(dict.fromkeys(sequences))}
        batch = self._sender.pack(list(place))
        lower = self._sender.capture(batch)
        found: _Measured = []
        for start in range(0, len(lanes), self._max_lanes):
            some = lanes[start : start + self._max_lanes]
            found += self._upper(some, answers, batch, lower, place)
        return found

    def _questions(self, row: int) -> Iterator[_Question]:
        gold = self._plan.answers[row]
        yield row, None, gold
        for place, check in enumerate(self._checks):
            if self._plan.included(check, row):
                yield row, place, gold
                donor = self._plan.donor(check, row)
                if donor is not None:
                    yield row, None, donor.answer
                    yield row, place, donor.answer

    def _upper(
        self,
        lanes: Sequence[_Lane],
        answers: Mapping[_Lane, Sequence[TokenIds]],
        batch: TokenBatch,
        lower: torch.Tensor,
        place: Mapping[TokenIds, int],
    ) -> _Measured:
        sequences = [place[lane.ids] for lane in lanes]
        states = lower[torch.tensor(sequences, device=lower.device)]
        for states_of_lane, lane in zip(states, lanes, strict=True):
            if lane.check is not None:
                self._replace(states_of_lane, lane, lower, place)
        longest = max(len(answer) for lane in lanes for answer in answers[lane])
        chosen = batch.select(sequences)
        # Skipped blocks need the model here; without skipping every back end will do.
        logits = (
            self._sender.resume_with_states(chosen, states, keep=longest)
            if self._work.plan.experiment.path == "shared"
            else self._sender.forward_with_states(chosen.inputs(), states, keep=longest)
        )
        return [
            (
                (lane.row, lane.check, answer),
                self._measured(lane, of_lane[longest - len(answer) :], answer),
            )
            for lane, of_lane in zip(lanes, logits, strict=True)
            for answer in dict.fromkeys(answers[lane])
        ]

    def _replace(
        self,
        states: torch.Tensor,
        lane: _Lane,
        lower: torch.Tensor,
        place: Mapping[TokenIds, int],
    ) -> None:
        """Replace a lane's states (positions, width) at the positions of its check."""
        assert lane.check is not None  # noqa: S101 - the caller has looked
        check, length = self._checks[lane.check], len(self._prompts[lane.row])
        at = torch.tensor(check[0].of_row[lane.row], device=states.device)
        written = at + states.shape[0] - len(lane.ids)
        donor = self._plan.donor(check, lane.row)
        if donor is not None:
            # As everywhere, positions of two prompts meet at the same distance from the end.
            from_end = at - length
            states[written] = lower[place[self._prompts[donor.row]], from_end + states.shape[0]]
        elif check[1] == "mean":
            states[written] = self._means.of_prompt(length)[at].to(states.dtype)
        else:
            states[written] = 0

    def _measured(self, lane: _Lane, logits: torch.Tensor, answer: TokenIds) -> AnswerMeasure:
        """Measure an answer on the logits that each of its tokens is predicted from."""
        scores = logits.double().log_softmax(dim=-1)
        gold = scores.gather(1, torch.tensor(answer, device=scores.device)[:, None])
        right = ((scores >= gold).sum(dim=-1) == 1).tolist()
        logprob = float(gold.sum())
        if not math.isfinite(logprob):
            check = None if lane.check is None else self._checks[lane.check]
            what = "as it is" if check is None else f"{check[1]} at {check[0].name}"
            raise NumericError(
                f"sender check, row {self._work.plan.rows[lane.row].row_id}, {what}: the answer's "
                "log-probability is not finite; check the weights and the dtype"
            )
        return AnswerMeasure(logprob=logprob, first_right=right[0], all_right=all(right))
