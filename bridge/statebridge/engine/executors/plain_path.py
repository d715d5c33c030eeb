"""The plain path: for each group and cell a forward pass and a `generate`, the edit in its prefill.

It runs wherever nnsight runs. The passes of a group and model are one session, which takes only
tensors and plain values, and calls nothing of this library: it is one remote job. A
group has one prompt length and no padding, so Hugging Face's own processors apply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from statebridge.channels.channel import CHANNELS, LaneRow, Messages, Reading, WriteStates
from statebridge.channels.workload import Workload
from statebridge.engine.executors.lane_result import NO_NORMS, lane_row, message_facts, row_norms
from statebridge.engine.executors.measures import GoldMeasures, measure_gold
from statebridge.engine.executors.memory import halving
from statebridge.engine.executors.other_measures import OtherMeasures, other_measures, other_texts
from statebridge.experiment.cells import Cell
from statebridge.models.messages.key_values import KeyValues
from statebridge.models.passes import Pass
from statebridge.models.traced_model import TracedModel
from statebridge.records import Side
from statebridge.runs.plan import Group, Plan, TokenIds


class PlainPath:
    """Runs groups through traces alone, here or on a remote back end."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    def run(self, group: Group) -> list[LaneRow]:
        """Run a group through its channel; its lanes come back in any order.

        Raises:
            RemoteError: The remote host refused a job or failed while running it.
        """
        channel = CHANNELS.get(group.channel)()
        return halving(lambda rows: channel.carry(self, group.cells, rows), group.rows, "row")

    def write_states(
        self, cells: Sequence[Cell], rows: Sequence[int], states: WriteStates
    ) -> list[LaneRow]:
        """Let the receiver answer in all lanes; see `Operations`."""
        work, receiver, plan = self.workload, self.workload.pair.receiver, self.workload.plan
        read = cells[0].condition.prompt
        prompts = [plan.prompts.read(read)[row] for row in rows]
        answers = [plan.answers[read][row] for row in rows]
        others = [plan.others[read][row] if plan.others else () for row in rows]
        batch = receiver.pack(prompts)
        own = receiver.capture(batch) if any(cell.condition.writes for cell in cells) else None
        of_cells: list[tuple[Cell, list[int], list[Mapping[str, float]]]] = []
        asked = [_Asked(rows, prompts, answers, baseline=True)]
        for cell in cells:
            places = [i for i, row in enumerate(rows) if plan.included(cell, row)]
            if not places:
                continue
            written, norms = None, [NO_NORMS] * len(places)
            if own is not None and cell.condition.writes:
                chosen = [rows[place] for place in places]
                found = states(cell, chosen, own[places], batch.select(places))
                written, norms = found.states, row_norms(found)
            of_cells.append((cell, places, norms))
            asked.append(
                _Asked(
                    [rows[place] for place in places],
                    [prompts[place] for place in places],
                    [answers[place] for place in places],
                    [others[place] for place in places],
                    written,
                )
            )
        lanes = self._ask(asked)
        baseline = next(lanes).logits[:, 0]
        return [
            lane_row(
                work, cell, rows[place], tokens=tokens, written=of_row, gold=gold, others=beside
            )
            for (cell, places, norms), found in zip(of_cells, lanes, strict=True)
            for place, of_row, (tokens, gold, beside) in zip(
                places, norms, found.measured(baseline[places]), strict=True
            )
        ]

    def prepend(
        self, cells: Sequence[Cell], rows: Sequence[int], messages: Messages
    ) -> list[LaneRow]:
        """Let the receiver answer behind keys and values; see `Operations`."""
        work, plan, read = self.workload, self.workload.plan, cells[0].condition.prompt
        prompts = [plan.prompts.read(read)[row] for row in rows]
        answers = [plan.answers[read][row] for row in rows]
        others = [plan.others[read][row] if plan.others else () for row in rows]
        baseline: torch.Tensor | None = None
        results: list[LaneRow] = []
        # Here a message is held once however many cells send it; elsewhere the cost is the job.
        together = len(cells) if work.pair.receiver.host.remote else 1
        for start in range(0, len(cells), together):
            sent: list[tuple[Cell, list[int], list[Mapping[str, float]]]] = []
            alone = _Asked(rows, prompts, answers, baseline=True)
            asked = [alone] if baseline is None else []
            for cell in cells[start : start + together]:
                included = [i for i, row in enumerate(rows) if plan.included(cell, row)]
                if not included:
                    continue
                message = messages(cell, [rows[place] for place in included])
                facts = message_facts(message)
                # A message of one length in a pass: nothing is padded.
                for same in _by_length(message.lengths):
                    places = [included[i] for i in same]
                    sent.append((cell, places, [facts[i] for i in same]))
                    asked.append(
                        _Asked(
                            [rows[place] for place in places],
                            [prompts[place] for place in places],
                            [answers[place] for place in places],
                            [others[place] for place in places],
                            message=message.select(same),
                        )
                    )
            lanes = self._ask(asked)
            if baseline is None:
                baseline = next(lanes).logits[:, 0]
            for (cell, places, of_rows), found in zip(sent, lanes, strict=True):
                results += [
                    lane_row(
                        work,
                        cell,
                        rows[place],
                        tokens=tokens,
                        gold=gold,
                        others=beside,
                        written=one,
                    )
                    for place, one, (tokens, gold, beside) in zip(
                        places, of_rows, found.measured(baseline[places]), strict=True
                    )
                ]
        return results

    def answer(
        self, cells: Sequence[Cell], rows: Sequence[int], readings: Sequence[Reading]
    ) -> list[LaneRow]:
        """Let the receiver answer other prompts; see `Operations`."""
        work = self.workload
        task = [work.plan.prompts.receiver[row] for row in rows]
        asked = [_Asked(rows, task, [(0,)] * len(rows), baseline=True)]
        groups = _by_length([len(reading.prompt) for reading in readings])
        for places in groups:
            some = [readings[place] for place in places]
            asked.append(
                _Asked(
                    [rows[place] for place in places],
                    [each.prompt for each in some],
                    [each.answer for each in some],
                    [each.others for each in some],
                )
            )
        lanes = self._ask(asked)
        baseline = next(lanes).logits[:, 0]
        return [
            lane_row(
                work,
                cell,
                rows[place],
                tokens=tokens,
                gold=gold,
                others=beside,
                reading=readings[place],
            )
            for places, found in zip(groups, lanes, strict=True)
            for place, (tokens, gold, beside) in zip(
                places, found.measured(baseline[places]), strict=True
            )
            for cell in cells
        ]

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
        groups = _by_length([len(prompt) for prompt in prompts])
        passes = [
            self._generation(model, [prompts[i] for i in same], None, new_tokens) for same in groups
        ]
        written: list[list[int]] = [[] for _ in prompts]
        for same, each, ids in zip(groups, passes, model.run_passes(passes), strict=True):
            for place, tokens in zip(same, model.new_tokens(each, ids), strict=True):
                written[place] = tokens
        return written

    def _ask(self, asked: Sequence[_Asked]) -> Iterator[_Answered]:
        """Yield what the receiver answers, in order; few jobs carry all of it."""
        receiver, plan = self.workload.pair.receiver, self.workload.plan
        passes: list[Pass] = []
        for each in asked:
            passes += [_forward(receiver, each, texts) for texts in each.texts(plan)]
            if each.generates(plan):
                new = plan.experiment.decoding.max_new_tokens
                passes.append(
                    self._generation(receiver, each.prompts, each.states, new, each.message)
                )
        results = zip(passes, receiver.run_passes(passes), strict=True)
        for each in asked:
            logits, *more = [next(results)[1] for _ in each.texts(plan)]
            tokens: Sequence[list[int] | None] = [None] * len(each.prompts)
            if each.generates(plan):
                tokens = receiver.new_tokens(*next(results))
            yield _Answered(plan, each, logits, more, tokens)

    def _generation(
        self,
        model: TracedModel,
        prompts: Sequence[TokenIds],
        states: torch.Tensor | None,
        new_tokens: int,
        message: KeyValues | None = None,
    ) -> Pass:
        """Return the pass that generates greedily after prompts of one length."""
        decoding = self.workload.plan.experiment.decoding
        settings = {
            "max_new_tokens": new_tokens,
            "do_sample": False,
            "num_beams": 1,
            "repetition_penalty": decoding.repetition_penalty,
            "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        }
        return model.generation(model.pack(prompts), states, settings, message)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Prompts of one length, the answers after them, and what is written at or before them."""

    rows: Sequence[int]
    prompts: Sequence[TokenIds]
    answers: Sequence[TokenIds]
    others: Sequence[tuple[TokenIds, ...]] = ()
    states: torch.Tensor | None = None
    baseline: bool = False
    """Whether only the logits after the prompt are wanted."""
    message: KeyValues | None = None

    def texts(self, plan: Plan) -> list[Sequence[TokenIds]]:
        """Return the texts after the prompts, those of one pass together, the answers first."""
        more = [] if self.baseline else other_texts(plan, self.answers, self.others)
        return [self.answers, *more]

    def generates(self, plan: Plan) -> bool:
        """Whether new tokens are wanted."""
        return plan.experiment.decode and not self.baseline


@dataclass(frozen=True, slots=True)
class _Answered:
    """Logits (rows, longest text, vocabulary) of the passes of asked prompts, and new tokens."""

    plan: Plan
    asked: _Asked
    logits: torch.Tensor
    more: Sequence[torch.Tensor]
    tokens: Sequence[list[int] | None]

    def measured(
        self, baseline: torch.Tensor
    ) -> Iterator[tuple[list[int] | None, GoldMeasures, OtherMeasures]]:
        """Yield new tokens and measures of each lane."""
        asked = self.asked
        gold = measure_gold(self.logits[:, 0], self.logits[:, 1:], asked.answers, baseline)
        beside = other_measures(
            self.plan, asked.rows, asked.answers, asked.others, gold, iter(self.more)
        )
        yield from zip(self.tokens, gold, beside, strict=True)


def _forward(model: TracedModel, asked: _Asked, texts: Sequence[TokenIds]) -> Pass:
    """Return the pass over prompts and texts with the edit at the prompt's positions.

    It gives logits after the prompt and after each token of the text but the last. Padding on
    the right is never seen by a real token.
    """
    longest = max(map(len, texts))
    rows = [
        [*prompt, *text[:-1], *[model.pad_id] * (longest - len(text))]
        for prompt, text in zip(asked.prompts, texts, strict=True)
    ]
    inputs = {"input_ids": torch.tensor(rows, device=model.device)}
    return Pass(inputs, asked.states, longest, message=asked.message)


def _by_length(lengths: Sequence[int]) -> list[list[int]]:
    order = sorted(range(len(lengths)), key=lambda place: (lengths[place], place))
    return [list(same) for _, same in groupby(order, key=lambda place: lengths[place])]


def remote_jobs(plan: Plan) -> int:
    """Return how many jobs the groups of a plan are on remote hosts.

    A job of more than `JOB_BYTES` is several. Cells that send the same message share its jobs, and
    a model's tables of vectors, which soft tokens and latent steps need, come once; neither is
    counted.
    """
    sender, receiver = (int(remote is not None) for remote in plan.experiment.remotes)
    jobs = 0
    for group in plan.groups:
        conditions = [cell.condition for cell in group.cells]
        texts = {each.rounds for each in conditions if each.uses_text}
        for rounds in texts:
            both = conditions[0].prompt == "debate"
            jobs += (rounds - 1) * (sender + (receiver if both else 0)) + receiver
        messages = [each for each in conditions if each.sends_message]
        for each in messages:
            jobs += sender * each.reads_sender * (each.senders.count if each.senders else 1)
            jobs += sender * (0 if each.deltas is None else each.deltas.passes)
            # Vectors are read, and a cache to fuse is, before the answers are.
            jobs += receiver * (2 if each.site == "embedding" or each.operator == "fuse" else 1)
        if not texts and not messages:
            jobs += sender * any(each.reads_sender for each in conditions)
            jobs += receiver * (1 + any(each.writes for each in conditions))
    return jobs
