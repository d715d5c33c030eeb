"""The plain sweep: one `generate` trace per group and cell, the edit in its prefill.

It runs wherever nnsight runs. Each trace touches one model, takes only tensors and plain
values, and calls nothing of this library, so that it is one remote job as it stands. A
group has one prompt length and no padding, so Hugging Face's own processors apply.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch

from statebridge.channels.debate import check_room, tell, told_alike
from statebridge.channels.relay import Side, side_of
from statebridge.channels.states import capture_sender, written_states
from statebridge.engine.executors.lane_result import LaneRow, Norms, lane_row, row_norms
from statebridge.engine.executors.measures import GoldMeasures, measure_gold
from statebridge.engine.executors.memory import halving
from statebridge.engine.planning.groups import Group
from statebridge.engine.planning.prompts import TokenIds
from statebridge.engine.planning.workload import Workload
from statebridge.errors import RemoteError, StatebridgeError
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import TEXT_PROMPTS
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel


class PlainSweep:
    """Runs groups through traces alone, here or on a remote back end."""

    def __init__(self, workload: Workload) -> None:
        self._work = workload
        check_room(workload)

    def run(self, group: Group) -> list[LaneRow]:
        """Run a group; its lanes come back in the order of rows, then cells.

        Raises:
            RemoteError: The remote back end refused a job or failed while running it.
        """
        run = self._run_told if group.prompt in TEXT_PROMPTS else self._run_written
        try:
            lanes = halving(lambda rows: run(rows, group.cells), group.rows, "row")
        except StatebridgeError:
            raise
        except Exception as error:
            if self._work.experiment.remote is None:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RemoteError(
                f"remote {self._work.experiment.remote}: group {group.index} failed: {reason}"
            ) from error
        cell_order = {cell: place for place, cell in enumerate(group.cells)}
        row_order = {row: place for place, row in enumerate(group.rows)}
        return sorted(lanes, key=lambda lane: (row_order[lane[1]], cell_order[lane[0]]))

    def _run_written(self, rows: Sequence[int], cells: Sequence[Cell]) -> list[LaneRow]:
        work, receiver = self._work, self._work.pair.receiver
        read = cells[0].condition.prompt
        prompts = [work.prompts.read(read)[row] for row in rows]
        answers = [work.answers[read][row] for row in rows]
        batch = TokenBatch.pack(prompts, receiver.pad_id, receiver.device)
        baseline = self._answer_logits(receiver, prompts, answers, None)[:, 0]
        sent = capture_sender(work, cells, rows)
        writes = any(cell.condition.source != "none" for cell in cells)
        own = receiver.capture(batch) if writes else None
        results: list[LaneRow] = []
        for cell in cells:
            places = [i for i, row in enumerate(rows) if work.included(cell, row)]
            if not places:
                continue
            states, norms = None, [Norms()] * len(places)
            chosen = [rows[place] for place in places]
            if own is not None and cell.condition.source != "none":
                written = written_states(
                    work, cell, chosen, own[places], batch.select(places), sent
                )
                states, norms = written.states, row_norms(written)
            some_prompts = [prompts[place] for place in places]
            gold = self._gold(
                receiver,
                some_prompts,
                [answers[place] for place in places],
                states,
                baseline[places],
            )
            tokens = self._generate(receiver, some_prompts, states)
            results += [
                (
                    cell,
                    row,
                    lane_row(work, cell, row, tokens=tokens[i], norms=norms[i], gold=gold[i]),
                )
                for i, row in enumerate(chosen)
            ]
        return results

    def _run_told(self, rows: Sequence[int], cells: Sequence[Cell]) -> list[LaneRow]:
        work, receiver = self._work, self._work.pair.receiver
        baseline = torch.stack(
            [
                self._answer_logits(receiver, [work.prompts.receiver[row]], [(0,)], None)[0, 0]
                for row in rows
            ]
        )
        results: list[LaneRow] = []
        for alike in told_alike(cells):
            told = tell(work, alike[0], rows, self._speak)
            for places in _by_length(told.prompts):
                prompts = [told.prompts[place] for place in places]
                answers = [told.answers[place] for place in places]
                gold = self._gold(receiver, prompts, answers, None, baseline[places])
                tokens = self._generate(receiver, prompts, None)
                results += [
                    (
                        cell,
                        rows[place],
                        lane_row(
                            work,
                            cell,
                            rows[place],
                            tokens=tokens[i],
                            gold=gold[i],
                            relay=told.relays[place],
                        ),
                    )
                    for cell in alike
                    for i, place in enumerate(places)
                ]
        return results

    def _speak(
        self, side: Side, _turn: int, prompts: Sequence[TokenIds], new_tokens: int
    ) -> list[list[int]]:
        model = side_of(self._work, side)
        written: list[list[int]] = [[] for _ in prompts]
        for places in _by_length(prompts):
            same = [prompts[place] for place in places]
            new = self._generate_ids(model, same, None, new_tokens)
            for place, tokens in zip(places, new, strict=True):
                written[place] = tokens
        return written

    def _generate(
        self, model: TracedModel, prompts: Sequence[TokenIds], states: torch.Tensor | None
    ) -> Sequence[list[int] | None]:
        if not self._work.experiment.decode:
            return [None] * len(prompts)
        new_tokens = self._work.experiment.decoding.max_new_tokens
        return self._generate_ids(model, prompts, states, new_tokens)

    def _generate_ids(
        self,
        model: TracedModel,
        prompts: Sequence[TokenIds],
        states: torch.Tensor | None,
        new_tokens: int,
    ) -> list[list[int]]:
        """Generate greedily after prompts of one length; new tokens up to the end token."""
        decoding = self._work.experiment.decoding
        settings = {
            "max_new_tokens": new_tokens,
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": decoding.repetition_penalty,
            "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        }
        batch = TokenBatch.pack(prompts, model.pad_id, model.device)
        return model.generate(batch, states, settings)

    def _gold(
        self,
        model: TracedModel,
        prompts: Sequence[TokenIds],
        answers: Sequence[TokenIds],
        states: torch.Tensor | None,
        baseline: torch.Tensor,
    ) -> list[GoldMeasures]:
        logits = self._answer_logits(model, prompts, answers, states)
        return measure_gold(logits[:, 0], logits[:, 1:], answers, baseline)

    @staticmethod
    def _answer_logits(
        model: TracedModel,
        prompts: Sequence[TokenIds],
        answers: Sequence[TokenIds],
        states: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return logits after the prompt and after each answer token but the last.

        (rows, longest answer, vocabulary), from one trace over prompt and answer with the
        edit at the prompt's positions. Padding on the right is never seen by a real token.
        """
        longest = max(len(answer) for answer in answers)
        rows = [
            [*prompt, *answer[:-1], *[model.pad_id] * (longest - len(answer))]
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        inputs = {"input_ids": torch.tensor(rows, device=model.device)}
        return model.forward(inputs, states, keep=longest)


def _by_length(prompts: Sequence[TokenIds]) -> list[list[int]]:
    order = sorted(range(len(prompts)), key=lambda place: (len(prompts[place]), place))
    return [list(same) for _, same in groupby(order, key=lambda place: len(prompts[place]))]
