"""The plain path: one `generate` trace per group and cell, the edit in its prefill.

It runs wherever nnsight runs. Each trace touches one model, takes only tensors and plain
values, and calls nothing of this library, so that it is one remote job. A
group has one prompt length and no padding, so Hugging Face's own processors apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch

from statebridge.channels.channel import CHANNELS, LaneRow, Reading, WriteStates
from statebridge.channels.workload import Workload
from statebridge.engine.executors.lane_result import NO_NORMS, lane_row, row_norms
from statebridge.engine.executors.measures import GoldMeasures, measure_gold
from statebridge.engine.executors.memory import halving
from statebridge.errors import RemoteError, StatebridgeError
from statebridge.experiment.cells import Cell
from statebridge.models.traced_model import TracedModel
from statebridge.records import Side
from statebridge.runs.plan import Group, TokenIds


class PlainPath:
    """Runs groups through traces alone, here or on a remote back end."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    def run(self, group: Group) -> list[LaneRow]:
        """Run a group through its channel; its lanes come back in any order.

        Raises:
            RemoteError: The remote back end refused a job or failed while running it.
        """
        channel, remote = CHANNELS.get(group.channel)(), self.workload.plan.experiment.remote
        try:
            return halving(lambda rows: channel.carry(self, group.cells, rows), group.rows, "row")
        except StatebridgeError:
            raise
        except Exception as error:
            if remote is None:
                raise
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RemoteError(f"remote {remote}: group {group.index} failed: {reason}") from error

    def write_states(
        self, cells: Sequence[Cell], rows: Sequence[int], states: WriteStates
    ) -> list[LaneRow]:
        """Let the receiver answer in all lanes; see `Operations`."""
        work, receiver, plan = self.workload, self.workload.pair.receiver, self.workload.plan
        read = cells[0].condition.prompt
        prompts = [plan.prompts.read(read)[row] for row in rows]
        answers = [plan.answers[read][row] for row in rows]
        batch = receiver.pack(prompts)
        baseline = self._answer_logits(receiver, prompts, answers, None)[:, 0]
        own = receiver.capture(batch) if any(cell.condition.writes for cell in cells) else None
        results: list[LaneRow] = []
        for cell in cells:
            places = [i for i, row in enumerate(rows) if plan.included(cell, row)]
            if not places:
                continue
            chosen = [rows[place] for place in places]
            written, norms = None, [NO_NORMS] * len(places)
            if own is not None and cell.condition.writes:
                found = states(cell, chosen, own[places], batch.select(places))
                written, norms = found.states, row_norms(found)
            lanes = self._lanes(
                [prompts[place] for place in places],
                [answers[place] for place in places],
                written,
                baseline[places],
            )
            results += [
                lane_row(work, cell, row, tokens=tokens, norms=of_row, gold=gold)
                for row, of_row, (tokens, gold) in zip(chosen, norms, lanes, strict=True)
            ]
        return results

    def answer(
        self, cells: Sequence[Cell], rows: Sequence[int], readings: Sequence[Reading]
    ) -> list[LaneRow]:
        """Let the receiver answer other prompts; see `Operations`."""
        work, receiver = self.workload, self.workload.pair.receiver
        baseline = torch.stack(
            [
                self._answer_logits(receiver, [work.plan.prompts.receiver[row]], [(0,)], None)[0, 0]
                for row in rows
            ]
        )
        results: list[LaneRow] = []
        prompts = [reading.prompt for reading in readings]
        for places in _by_length(prompts):
            lanes = self._lanes(
                [prompts[place] for place in places],
                [readings[place].answer for place in places],
                None,
                baseline[places],
            )
            for place, (tokens, gold) in zip(places, lanes, strict=True):
                row, reading = rows[place], readings[place]
                results += [
                    lane_row(work, cell, row, tokens=tokens, gold=gold, reading=reading)
                    for cell in cells
                ]
        return results

    def write_text(
        self,
        cell: Cell,  # noqa: ARG002 - only sampled texts depend on it, and these run natively
        rows: Sequence[int],  # noqa: ARG002
        side: Side,
        turn: int,  # noqa: ARG002
        prompts: Sequence[TokenIds],
        new_tokens: int,
    ) -> list[list[int]]:
        """Return the tokens that a model writes after prompts; see `Operations`."""
        model = self.workload.model(side)
        written: list[list[int]] = [[] for _ in prompts]
        for places in _by_length(prompts):
            same = [prompts[place] for place in places]
            new = self._generate(model, same, None, new_tokens)
            for place, tokens in zip(places, new, strict=True):
                written[place] = tokens
        return written

    def _lanes(
        self,
        prompts: Sequence[TokenIds],
        answers: Sequence[TokenIds],
        states: torch.Tensor | None,
        baseline: torch.Tensor,
    ) -> Iterator[tuple[list[int] | None, GoldMeasures]]:
        """Yield new tokens and gold measures of the receiver's lanes, prompts of one length."""
        receiver = self.workload.pair.receiver
        logits = self._answer_logits(receiver, prompts, answers, states)
        gold = measure_gold(logits[:, 0], logits[:, 1:], answers, baseline)
        tokens: Sequence[list[int] | None] = [None] * len(prompts)
        if self.workload.plan.experiment.decode:
            new_tokens = self.workload.plan.experiment.decoding.max_new_tokens
            tokens = self._generate(receiver, prompts, states, new_tokens)
        yield from zip(tokens, gold, strict=True)

    def _generate(
        self,
        model: TracedModel,
        prompts: Sequence[TokenIds],
        states: torch.Tensor | None,
        new_tokens: int,
    ) -> list[list[int]]:
        """Generate greedily after prompts of one length; new tokens up to the end token."""
        decoding = self.workload.plan.experiment.decoding
        settings = {
            "max_new_tokens": new_tokens,
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": decoding.repetition_penalty,
            "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        }
        return model.generate_with_states(model.pack(prompts), states, settings)

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
        return model.forward_with_states(inputs, states, keep=longest)


def _by_length(prompts: Sequence[TokenIds]) -> list[list[int]]:
    order = sorted(range(len(prompts)), key=lambda place: (len(prompts[place]), place))
    return [list(same) for _, same in groupby(order, key=lambda place: len(prompts[place]))]
