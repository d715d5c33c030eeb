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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from statebridge.channels.workload import Workload
from statebridge.engine.executors.memory import halving
from statebridge.engine.sender_checks.mean_states import MeanStates
from statebridge.engine.sender_checks.plan import Check, SenderCheckPlan
from statebridge.errors import NumericError
from statebridge.models.token_batch import TokenBatch
from statebridge.results.sender_checks import (
    AnswerMeasure,
    CheckedRow,
    SenderCheck,
    SenderChecks,
    SenderRow,
)
from statebridge.runs.plan import TokenIds

MEAN_ROWS = 32
"""Prompts that go through the lower blocks together while the means are taken."""

Progress = Callable[[str, int, int], None]
"""Called with `check`, rows done, and rows in all."""


def run_sender_checks(
    plan: SenderCheckPlan, max_lanes: int, progress: Progress = lambda *_: None
) -> SenderChecks:
    """Carry the checks out.

    Two passes through the lower blocks (one for the means, one for the rest), and one
    through the upper blocks for each row and check.

    Args:
        max_lanes: Upper passes in one batch, at most.

    Raises:
        NumericError: A state or a log-probability is not finite.
        EnvironmentFault: A single row does not fit in memory.
    """
    work, sender = plan.workload, plan.workload.pair.sender
    by_length = sorted(
        range(work.plan.limit), key=lambda row: (len(work.plan.prompts.sender[row]), row)
    )
    run = _CheckRun(plan, _means(work, by_length), max_lanes)
    # A row has a lane for itself and one for each check, or two where it is patched.
    together = max(1, max_lanes // (2 + 2 * len(plan.checks)))
    done: dict[int, _RowMeasures] = {}
    for start in range(0, work.plan.limit, together):
        progress("check", start, work.plan.limit)
        done |= dict(halving(run.measure, by_length[start : start + together], "row"))
    progress("check", work.plan.limit, work.plan.limit)
    return SenderChecks(
        sender=sender.name,
        layer=sender.layer,
        layer_path=sender.layer_path,
        blocks=len(sender.block_paths),
        rows=tuple(done[row].own for row in range(work.plan.limit)),
        checks=tuple(
            SenderCheck(
                positions=check[0].name,
                read_by=check[0].read_by,
                replacement=check[1],
                rows=tuple(
                    done[row].checked[place]
                    for row in range(work.plan.limit)
                    if place in done[row].checked
                ),
            )
            for place, check in enumerate(plan.checks)
        ),
    )


def _means(work: Workload, order: Sequence[int]) -> MeanStates:
    sender = work.pair.sender
    prompts = [work.plan.prompts.sender[row] for row in order]
    means = MeanStates([len(ids) for ids in prompts], sender.width, sender.device)

    def add(some: Sequence[TokenIds]) -> list[None]:
        batch = TokenBatch.pack(some, sender.pad_id, sender.device)
        means.add(sender.capture(batch), batch)
        return []

    for start in range(0, len(prompts), MEAN_ROWS):
        halving(add, prompts[start : start + MEAN_ROWS], "row")
    return means


@dataclass(frozen=True, slots=True)
class _RowMeasures:
    own: SenderRow
    checked: dict[int, CheckedRow]
    """By place of the check in the plan."""


@dataclass(frozen=True, slots=True)
class _Lane:
    """One pass through the upper blocks: prompt and answer (without its last token), a check.

    Two answers of one token follow the same prompt in the same lane.
    """

    ids: TokenIds
    row: int
    check: int | None
    """Place in the plan; None where nothing is replaced."""


_Asked = tuple[_Lane, TokenIds]


class _CheckRun:
    def __init__(self, plan: SenderCheckPlan, means: MeanStates, max_lanes: int) -> None:
        self._plan, self._means, self._max_lanes = plan, means, max_lanes
        self._checks = plan.checks
        self._work, self._sender = plan.workload, plan.workload.pair.sender

    def measure(self, rows: Sequence[int]) -> list[tuple[int, _RowMeasures]]:
        asked = [question for row in rows for question in self._questions(row)]
        lanes = list(dict.fromkeys(lane for lane, _ in asked))
        donors = [donor.row for row in rows if (donor := self._plan.donors[row]) is not None]
        sequences = [lane.ids for lane in lanes] + [self._prompt(row) for row in donors]
        place = {ids: i for i, ids in enumerate(dict.fromkeys(sequences))}
        batch = TokenBatch.pack(list(place), self._sender.pad_id, self._sender.device)
        lower = self._sender.capture(batch)
        answers: dict[_Lane, list[TokenIds]] = {}
        for lane, answer in asked:
            answers.setdefault(lane, []).append(answer)
        found: dict[_Asked, AnswerMeasure] = {}
        for start in range(0, len(lanes), self._max_lanes):
            some = lanes[start : start + self._max_lanes]
            found |= self._upper(some, answers, batch, lower, place)
        return [(row, self._of_row(row, found)) for row in rows]

    def _prompt(self, row: int) -> TokenIds:
        return self._work.plan.prompts.sender[row]

    def _ask(self, row: int, check: int | None, answer: TokenIds) -> _Asked:
        return _Lane(self._prompt(row) + answer[:-1], row, check), answer

    def _questions(self, row: int) -> list[_Asked]:
        gold = self._plan.answers[row]
        asked = [self._ask(row, None, gold)]
        for place, check in enumerate(self._checks):
            if self._plan.included(check, row):
                asked.append(self._ask(row, place, gold))
                donor = self._plan.donor(check, row)
                if donor is not None:
                    asked.append(self._ask(row, None, donor.answer))
                    asked.append(self._ask(row, place, donor.answer))
        return asked

    def _of_row(self, row: int, found: Mapping[_Asked, AnswerMeasure]) -> _RowMeasures:
        gold, row_id = self._plan.answers[row], self._work.plan.rows[row].row_id
        own = SenderRow(
            row_id=row_id,
            tokens=len(self._prompt(row)),
            gold=found[self._ask(row, None, gold)],
        )
        checked: dict[int, CheckedRow] = {}
        for place, check in enumerate(self._checks):
            if not self._plan.included(check, row):
                continue
            donor = self._plan.donor(check, row)
            before = after = None
            if donor is not None:
                before = found[self._ask(row, None, donor.answer)]
                after = found[self._ask(row, place, donor.answer)]
            checked[place] = CheckedRow(
                row_id=row_id,
                replaced=len(check[0].of_row[row]),
                gold=found[self._ask(row, place, gold)],
                donor_row_id=None if donor is None else self._work.plan.rows[donor.row].row_id,
                donor_before=before,
                donor_after=after,
            )
        return _RowMeasures(own, checked)

    def _upper(
        self,
        lanes: Sequence[_Lane],
        answers: Mapping[_Lane, Sequence[TokenIds]],
        batch: TokenBatch,
        lower: torch.Tensor,
        place: Mapping[TokenIds, int],
    ) -> dict[_Asked, AnswerMeasure]:
        sequences = [place[lane.ids] for lane in lanes]
        states = lower[torch.tensor(sequences, device=lower.device)]
        for states_of_lane, lane in zip(states, lanes, strict=True):
            if lane.check is not None:
                self._replace(states_of_lane, lane, lower, place)
        longest = max(len(answer) for lane in lanes for answer in answers[lane])
        chosen = batch.select(sequences)
        # Skipped blocks need the model here; without skipping every back end will do.
        logits = (
            self._sender.resume(chosen, states, keep=longest)
            if self._work.plan.experiment.path == "shared"
            else self._sender.forward_with_states(chosen.inputs(), states, keep=longest)
        )
        return {
            (lane, answer): self._measured(lane, of_lane[longest - len(answer) :], answer)
            for lane, of_lane in zip(lanes, logits, strict=True)
            for answer in answers[lane]
        }

    def _replace(
        self,
        states: torch.Tensor,
        lane: _Lane,
        lower: torch.Tensor,
        place: Mapping[TokenIds, int],
    ) -> None:
        """Replace a lane's states (positions, width) at the positions of its check."""
        assert lane.check is not None  # noqa: S101 - the caller has looked
        check = self._checks[lane.check]
        length = len(self._prompt(lane.row))
        at = torch.tensor(check[0].of_row[lane.row], device=states.device)
        written = at + states.shape[0] - len(lane.ids)
        donor = self._plan.donor(check, lane.row)
        if donor is not None:
            # As everywhere, positions of two prompts meet at the same distance from the end.
            from_end = at - length
            states[written] = lower[place[self._prompt(donor.row)], from_end + states.shape[0]]
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
            what = "as it is" if lane.check is None else _words(self._checks[lane.check])
            raise NumericError(
                f"sender check, row {self._work.plan.rows[lane.row].row_id}, {what}: the answer's "
                "log-probability is not finite; check the weights and the dtype"
            )
        return AnswerMeasure(logprob=logprob, first_right=right[0], all_right=all(right))


def _words(check: Check) -> str:
    return f"{check[1]} at {check[0].name}"
