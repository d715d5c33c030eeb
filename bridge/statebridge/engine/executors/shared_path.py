"""The shared path: row-major, nothing that is the same computed twice.

For a group of rows: one sender pass, one receiver pass through the blocks up to and with
the injection layer for all cells, the upper blocks once per cell, and one joint decoding of
all lanes. Captures and writes happen in nnsight traces; decoding after the prefill runs
natively.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from transformers import DynamicCache

from statebridge.channels.channel import CHANNELS, LaneRow, Messages, Reading, WriteStates
from statebridge.channels.workload import Workload
from statebridge.engine.decoding.lane_attention import attends_by_lane
from statebridge.engine.decoding.lane_cache import LaneCache
from statebridge.engine.decoding.lanes import (
    DecodingSettings,
    Prefilled,
    answer_logits,
    prefill,
)
from statebridge.engine.decoding.sampling import ANSWER, Draws, row_uniforms
from statebridge.engine.decoding.steps import decode_lanes
from statebridge.engine.executors.lane_result import NO_NORMS, lane_row, message_facts, row_norms
from statebridge.engine.executors.measures import GoldMeasures, answer_inputs, measure_gold
from statebridge.engine.executors.memory import halving
from statebridge.engine.executors.other_measures import OtherMeasures, other_measures, other_texts
from statebridge.experiment.cells import Cell
from statebridge.experiment.conditions import Condition, Prompt
from statebridge.models.onednn_layers import onednn_products
from statebridge.models.token_batch import TokenBatch
from statebridge.models.traced_model import TracedModel
from statebridge.records import Side
from statebridge.runs.plan import Group, TokenIds, seed_of


@dataclass(frozen=True, slots=True)
class _Lower:
    """A group's receiver pass up to the injection layer, shared by all cells."""

    prompt: Prompt
    rows: tuple[int, ...]
    batch: TokenBatch
    own: torch.Tensor
    cache: DynamicCache


@dataclass(frozen=True, slots=True)
class _Lane:
    cell: Cell
    place: int
    """Index of the row in the group."""
    reported: bool = True
    """False for a baseline lane that only serves the divergence."""

    @property
    def baseline(self) -> bool:
        """Whether nothing is written: what the divergence of the others is measured from."""
        return not self.cell.condition.writes


class SharedPath:
    """Runs groups on the pair that this process holds."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        # No float32 product is rounded to TF32 or bf16: a narrower dtype is for `dtype` to declare.
        torch.set_float32_matmul_precision("highest")
        decoding = workload.plan.experiment.decoding
        self._decoding = DecodingSettings(
            decoding.max_new_tokens, decoding.repetition_penalty, decoding.no_repeat_ngram_size
        )

    def run(self, group: Group) -> list[LaneRow]:
        """Run a group through its channel; its lanes come back in any order."""
        channel = CHANNELS.get(group.channel)()
        with onednn_products():
            return halving(lambda rows: channel.carry(self, group.cells, rows), group.rows, "row")

    def write_states(
        self, cells: Sequence[Cell], rows: Sequence[int], states: WriteStates
    ) -> list[LaneRow]:
        """Let the receiver answer in all lanes; see `Operations`."""
        lower, plan = self._lower_pass(tuple(rows), cells[0].condition.prompt), self.workload.plan
        lanes = [
            _Lane(cell, place)
            for cell in cells
            for place, row in enumerate(rows)
            if plan.included(cell, row)
        ]
        if not any(lane.baseline for lane in lanes):
            nothing = Condition(name="baseline", source="none", prompt=lower.prompt)
            lanes += [_Lane(Cell(nothing, None), i, reported=False) for i in range(len(rows))]
        # Baseline lanes go first: the divergence of the others is measured against them.
        lanes.sort(key=lambda lane: not lane.baseline)
        baseline: dict[int, torch.Tensor] = {}
        results: list[LaneRow] = []
        for start in range(0, len(lanes), plan.max_lanes):
            results += halving(
                lambda some: self._upper_pass(some, lower, states, baseline),
                lanes[start : start + plan.max_lanes],
                "lane",
            )
        return results

    def _lower_pass(self, rows: tuple[int, ...], prompt: Prompt) -> _Lower:
        receiver, table = self.workload.pair.receiver, self.workload.plan.prompts
        batch, cache = receiver.pack([table.read(prompt)[row] for row in rows]), DynamicCache()
        own = receiver.capture(batch, cache)
        return _Lower(prompt, rows, batch, own, cache)

    def _upper_pass(
        self,
        lanes: Sequence[_Lane],
        lower: _Lower,
        write: WriteStates,
        baseline: dict[int, torch.Tensor],
    ) -> list[LaneRow]:
        receiver = self.workload.pair.receiver
        states, norms = self._states(lanes, lower, write)
        places = [lane.place for lane in lanes]
        batch = lower.batch.select(places)
        plan, rows = self.workload.plan, [lower.rows[place] for place in places]
        answers = [plan.answers[lower.prompt][row] for row in rows]
        others = [plan.others[lower.prompt][row] if plan.others else () for row in rows]
        room = self._room(answers, others)
        cache = LaneCache(len(receiver.block_paths), batch.ids.shape[1] + room)
        logits = receiver.resume_with_states(batch, states, cache=cache)[:, -1]
        blocks = range(receiver.layer + 1)
        if attends_by_lane(receiver):
            cache.share_from(lower.cache, blocks, places, lower.batch.mask)
        else:
            cache.fill_from(lower.cache, blocks, places)
        for lane, row_logits in zip(lanes, logits, strict=True):
            if lane.baseline:
                baseline[lane.place] = row_logits
        against = torch.stack([baseline[place] for place in places])
        prefilled = Prefilled(batch, cache, logits)
        gold = self._measure(prefilled, answers, against)
        more = self._measure_others(prefilled, rows, answers, others, gold)
        drawn = [(lane.cell, lower.rows[lane.place]) for lane in lanes]
        tokens = self._decode(prefilled, drawn, [lane.reported for lane in lanes])
        return [
            lane_row(
                self.workload,
                *drawn[i],
                tokens=tokens[i],
                written=norms[i],
                gold=gold[i],
                others=more[i],
            )
            for i, lane in enumerate(lanes)
            if lane.reported
        ]

    def _states(
        self, lanes: Sequence[_Lane], lower: _Lower, write: WriteStates
    ) -> tuple[torch.Tensor, list[Mapping[str, float]]]:
        """Return the state each lane goes on from, (lanes, positions, width), and its norms."""
        states = lower.own.new_empty((len(lanes), *lower.own.shape[1:]))
        norms = [NO_NORMS] * len(lanes)
        by_cell: dict[Cell, list[int]] = {}
        for i, lane in enumerate(lanes):
            by_cell.setdefault(lane.cell, []).append(i)
        for cell, members in by_cell.items():
            places = [lanes[i].place for i in members]
            index = torch.tensor(places, device=lower.own.device)
            own = lower.own[index]
            if not cell.condition.writes:
                states[members] = own
                continue
            rows = [lower.rows[place] for place in places]
            batch = lower.batch.select(places)
            written = write(cell, rows, own, batch)
            states[members] = written.states
            for i, lane_norms in zip(members, row_norms(written), strict=True):
                norms[i] = lane_norms
        return states, norms

    def _measure(
        self,
        lanes: Prefilled,
        answers: Sequence[tuple[int, ...]],
        baseline: torch.Tensor,
    ) -> list[GoldMeasures]:
        """Score the gold answers on the lanes' keys and values, which are left as they were."""
        receiver = self.workload.pair.receiver
        inputs = answer_inputs(answers, receiver.pad_id, lanes.logits.device)
        later = None if inputs is None else answer_logits(receiver, lanes, inputs)
        return measure_gold(lanes.logits, later, answers, baseline)

    def _measure_others(
        self,
        lanes: Prefilled,
        rows: Sequence[int],
        answers: Sequence[TokenIds],
        others: Sequence[tuple[TokenIds, ...]],
        gold: Sequence[GoldMeasures],
    ) -> list[OtherMeasures]:
        """Score the other answers, as `_measure` scores the gold ones."""
        receiver = self.workload.pair.receiver

        def logits_of(texts: Sequence[TokenIds]) -> torch.Tensor:
            first = lanes.logits[:, None]
            inputs = answer_inputs(texts, receiver.pad_id, lanes.logits.device)
            if inputs is None:
                return first
            return torch.cat((first, answer_logits(receiver, lanes, inputs)), dim=1)

        logits = map(logits_of, other_texts(self.workload.plan, answers, others))
        return other_measures(self.workload.plan, rows, answers, others, gold, logits)

    def _decode(
        self, lanes: Prefilled, drawn: Sequence[tuple[Cell, int]], wanted: Sequence[bool]
    ) -> list[list[int] | None]:
        if not self.workload.plan.experiment.decode:
            return [None] * len(wanted)
        kept = [i for i, want in enumerate(wanted) if want]
        if not kept:
            return [None] * len(wanted)
        if not all(wanted):
            lanes = lanes.keep(kept)
        receiver, steps = self.workload.pair.receiver, self._decoding.max_new_tokens
        draws = self._draws(receiver, [drawn[i] for i in kept], ANSWER, steps)
        decoded = iter(decode_lanes(receiver, lanes, self._decoding, draws=draws))
        return [next(decoded) if want else None for want in wanted]

    def _room(self, answers: Sequence[TokenIds], others: Sequence[tuple[TokenIds, ...]]) -> int:
        longest = max(len(answer) for answer in answers) - (not self.workload.plan.end_ids)
        longest = max([longest, *(len(ids) - 1 for of_lane in others for ids in of_lane)])
        new_tokens = self._decoding.max_new_tokens if self.workload.plan.experiment.decode else 0
        return max(longest, new_tokens)

    def answer(
        self, cells: Sequence[Cell], rows: Sequence[int], readings: Sequence[Reading]
    ) -> list[LaneRow]:
        """Let the receiver answer other prompts; see `Operations`."""
        work, receiver = self.workload, self.workload.pair.receiver
        task = [work.plan.prompts.receiver[row] for row in rows]
        against = receiver.next_logits(receiver.pack(task))
        answers = [reading.answer for reading in readings]
        others = [reading.others for reading in readings]
        batch = receiver.pack([reading.prompt for reading in readings])
        lanes = prefill(receiver, batch, self._room(answers, others))
        gold = self._measure(lanes, answers, against)
        more = self._measure_others(lanes, rows, answers, others, gold)
        drawn = [(cells[0], row) for row in rows]
        tokens = self._decode(lanes, drawn, [True] * len(rows))
        return [
            lane_row(work, cell, row, tokens=one, gold=measured, others=beside, reading=reading)
            for cell in cells
            for row, one, measured, beside, reading in zip(
                rows, tokens, gold, more, readings, strict=True
            )
        ]

    def prepend(
        self, cells: Sequence[Cell], rows: Sequence[int], messages: Messages
    ) -> list[LaneRow]:
        """Let the receiver answer behind keys and values; see `Operations`.

        One cell runs at a time, so that a message is held once however many cells send it.
        """
        plan, receiver = self.workload.plan, self.workload.pair.receiver
        read = cells[0].condition.prompt
        prompts, answers = plan.prompts.read(read), plan.answers[read]
        logits = receiver.next_logits(receiver.pack([prompts[row] for row in rows]))
        against = dict(zip(rows, logits, strict=True))

        def run(cell: Cell, some: Sequence[int]) -> list[LaneRow]:
            own = [answers[row] for row in some]
            others = [plan.others[read][row] if plan.others else () for row in some]
            batch = receiver.pack([prompts[row] for row in some])
            message = messages(cell, some)
            lanes = prefill(receiver, batch, self._room(own, others), message)
            gold = self._measure(lanes, own, torch.stack([against[row] for row in some]))
            more = self._measure_others(lanes, some, own, others, gold)
            tokens = self._decode(lanes, [(cell, row) for row in some], [True] * len(some))
            return [
                lane_row(
                    self.workload,
                    cell,
                    row,
                    tokens=one,
                    gold=measured,
                    others=beside,
                    written=facts,
                )
                for row, one, measured, beside, facts in zip(
                    some, tokens, gold, more, message_facts(message), strict=True
                )
            ]

        results: list[LaneRow] = []
        for cell in cells:
            included = [row for row in rows if plan.included(cell, row)]
            if included:
                results += halving(partial(run, cell), included, "lane")
        return results

    def write_text(
        self,
        cell: Cell,
        rows: Sequence[int],
        side: Side,
        turn: int,
        prompts: Sequence[TokenIds],
        new_tokens: int,
    ) -> list[list[int]]:
        """Return the tokens that a model writes after prompts; see `Operations`."""
        model = self.workload.model(side)
        settings = replace(self._decoding, max_new_tokens=new_tokens)
        draws = self._draws(model, [(cell, row) for row in rows], f"{side} {turn}", new_tokens)
        lanes = prefill(model, model.pack(prompts), new_tokens)
        return decode_lanes(model, lanes, settings, draws=draws)

    def _draws(
        self, model: TracedModel, lanes: Sequence[tuple[Cell, int]], text: str, steps: int
    ) -> Draws | None:
        """Return the numbers to draw a text of each lane by, on the model's device.

        None for greedy decoding.
        """
        sample = self.workload.plan.experiment.decoding.sample
        if sample is None:
            return None
        rows = self.workload.plan.rows
        numbers = [row_uniforms(seed_of(c), rows[row].row_id, text, steps) for c, row in lanes]
        uniforms = torch.tensor(numbers, dtype=torch.float64, device=model.device)
        return Draws(sample.temperature, sample.top_p, uniforms)
