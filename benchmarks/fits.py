"""Fits and training beside what they cannot do without, in turns.

    python benchmarks/fits.py --size 70m-160m

prints a Markdown table over a pair of random weights:

- a step of causal training (forward, backward, AdamW), with the keys and values before the written
  token kept and with the whole prompt run again, beside a plain PyTorch loop that runs the whole
  receiver with a hook;
- a ridge and a Procrustes fit beside the forward passes of both models, up to their layers, over
  the same batches;
- the steps of a gradient fit beside a plain PyTorch loop over the same positions in memory.

Times are CPU seconds of this process, so that other work on the machine changes them little.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.random_pairs import SIZES, random_experiment, random_pair, random_rows
from statebridge.data import DatasetRow
from statebridge.engine.fitting import kept_prefixes
from statebridge.engine.fitting.causal_training import train_causally
from statebridge.engine.fitting.corpus import PASSAGES_TOGETHER, read_corpus
from statebridge.engine.fitting.corpus_fit import fit_translators
from statebridge.engine.fitting.frozen_rows import freeze_rows
from statebridge.experiment.experiment import Causal, Fit, Prompts
from statebridge.experiment.translator_settings import CausalSettings, TrainingSettings
from statebridge.models.onednn_layers import onednn_products
from statebridge.models.pair import Pair
from statebridge.translators import PositionStore, Translator, train_translator
from statebridge.translators.optimiser import count_steps, validation_start

LAST = {
    "name": "last",
    "source": "translated",
    "positions": "last",
    "source_positions": "last",
}


@dataclass(frozen=True)
class Amounts:
    """How much is run."""

    rows: int = 48
    prompt: int = 60
    epochs: int = 2
    passages: int = 64
    tokens: int = 64
    positions: int = 6400
    rounds: int = 3


QUICK = Amounts(rows=8, prompt=12, epochs=1, passages=12, tokens=16, positions=600, rounds=1)


def cpu_seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of this process that a call takes."""
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turns(works: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median CPU seconds of several pieces of work, run in turns after one warm-up."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            seconds = cpu_seconds(work)
            if turn:
                found[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def causal_steps(pair: Pair, amounts: Amounts) -> dict[str, float]:
    """Return CPU seconds a row of causal training, validation and AdamW included."""
    rows = random_rows([amounts.prompt + row % 8 for row in range(amounts.rows)])
    settings = CausalSettings(
        epochs=amounts.epochs, warmup_steps=0, validation_fraction=0.25, patience=99
    )
    start = Translator("affine", pair.sender.width, pair.receiver.width).requires_grad_(False)
    with tempfile.TemporaryDirectory() as name:
        experiment = random_experiment(pair, Path(name), rows, ["no_inject"], max_new_tokens=2)
        causal = Causal.model_validate(
            {"rows": {"path": f"{name}/rows.jsonl"}, "through": LAST, "training": settings}
        )
        with freeze_rows(experiment, pair, causal, []) as kept:
            with patch.object(kept_prefixes, "KEPT_BYTES", 0):
                whole = freeze_rows(experiment, pair, causal, [])
            held_out = amounts.rows // 4
            trained = (amounts.rows - held_out) * amounts.epochs
            validated = held_out * (amounts.epochs + 1)
            with whole:
                found = in_turns(
                    {
                        "kept": lambda: train_causally(kept, start),
                        "whole": lambda: train_causally(whole, start),
                        "plain": lambda: plain_causal(pair, rows, settings.batch_rows, amounts),
                    },
                    amounts.rounds,
                )
    # The plain loop does not validate; a validated row is a forward pass, a third of a step.
    return {
        what: seconds / (trained + (0 if what == "plain" else validated / 3))
        for what, seconds in found.items()
    }


def plain_causal(pair: Pair, rows: Sequence[DatasetRow], batch: int, amounts: Amounts) -> None:
    """Train a linear layer through the whole receiver, with a hook at its last prompt token."""
    model, tokenizer = pair.receiver.module, pair.receiver.tokenizer
    block = model.get_submodule(pair.receiver.layer_path)
    layer = torch.nn.Linear(pair.sender.width, pair.receiver.width)
    adam = torch.optim.AdamW(layer.parameters(), fused=True)
    sent = torch.randn(len(rows), pair.sender.width)
    texts = [f"Context: {row.context} Q: {row.question} A:" for row in rows]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    kept = len(rows) - len(rows) // 4
    for _ in range(amounts.epochs):
        for start in range(0, kept, batch):
            some = range(start, min(start + batch, kept))
            tokens = pair.receiver.pack([ids[row] for row in some])
            target = torch.tensor([tokenizer(rows[row].answer)["input_ids"][0] for row in some])

            def write(_: Any, __: Any, output: Any, some: range = some) -> Any:
                states = output[0] if isinstance(output, tuple) else output
                new = torch.cat((states[:, :-1], layer(sent[some.start : some.stop])[:, None]), 1)
                return (new, *output[1:]) if isinstance(output, tuple) else new

            hook = block.register_forward_hook(write)
            try:
                with torch.enable_grad():
                    logits = model(**tokens.inputs(), use_cache=False, logits_to_keep=1).logits
                    loss = torch.nn.functional.cross_entropy(logits[:, -1], target)
                    adam.zero_grad(set_to_none=True)
                    torch.autograd.backward(loss)
                    adam.step()
            finally:
                hook.remove()


def closed_forms(pair: Pair, amounts: Amounts) -> dict[str, float]:
    """Return CPU seconds a position of closed-form fits, and of the forward passes alone."""
    texts = [row.context for row in random_rows([amounts.tokens + 5] * amounts.passages)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "corpus.txt")
        path.write_text("\n\n".join(texts), "utf-8")
        fits = {
            kind: Fit.model_validate(
                {"kind": kind, "corpus": {"path": path, "max_tokens": amounts.tokens}}
                | ({"ridge": {"allow_underdetermined": True}} if kind == "ridge" else {})
            )
            for kind in ("ridge", "procrustes")
        }
        corpus = read_corpus(fits["ridge"].corpus, Prompts())
        works: dict[str, Callable[[], Any]] = {
            "forward": lambda: forward_alone(pair, corpus.passages)
        }
        for kind, fit in fits.items():
            works[kind] = partial(fit_translators, pair, fit, corpus, (42,))
        found = in_turns(works, amounts.rounds)
    positions = len(corpus.passages) * amounts.tokens
    return {what: seconds / positions for what, seconds in found.items()}


def forward_alone(pair: Pair, texts: Sequence[str]) -> None:
    """Run both models' blocks up to their layers, in the batches of a fit, and nothing else."""
    with onednn_products():
        for model in (pair.sender, pair.receiver):
            ids = [model.tokenizer(text)["input_ids"] for text in texts]
            for start in range(0, len(ids), PASSAGES_TOGETHER):
                model.capture(model.pack(ids[start : start + PASSAGES_TOGETHER]))


def gradient_steps(pair: Pair, amounts: Amounts) -> dict[str, float]:
    """Return CPU seconds a step of a gradient fit, its validation included."""
    settings = TrainingSettings(epochs=amounts.epochs, warmup_steps=1)
    states = (
        torch.randn(amounts.positions, pair.sender.width),
        torch.randn(amounts.positions, pair.receiver.width),
    )
    kept = validation_start(amounts.positions, settings.validation_fraction)
    with PositionStore.from_batches([states]) as store:
        found = in_turns(
            {
                "fit": lambda: train_translator(store, settings),
                "plain": lambda: plain_fit(*states, settings, kept),
            },
            amounts.rounds,
        )
    steps = count_steps(settings, kept, settings.batch_size)
    return {what: seconds / steps for what, seconds in found.items()}


def plain_fit(
    sender: torch.Tensor, receiver: torch.Tensor, settings: TrainingSettings, kept: int
) -> None:
    """Train a linear layer on states in memory, as a script would."""
    normalised = torch.nn.functional.normalize
    sender, receiver = normalised(sender, dim=-1), normalised(receiver, dim=-1)
    layer = torch.nn.Linear(sender.shape[1], receiver.shape[1])
    adam = torch.optim.AdamW(layer.parameters(), lr=settings.learning_rate, fused=True)
    rates = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.01, 1000)
    for _ in range(settings.epochs):
        for some in torch.randperm(kept).split(settings.batch_size):
            loss = torch.nn.functional.mse_loss(layer(sender[some]), receiver[some])
            adam.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
            adam.step()
            rates.step()
        with torch.no_grad():
            float(torch.nn.functional.mse_loss(layer(sender[kept:]), receiver[kept:]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="demo")
    parser.add_argument("--quick", action="store_true", help="in seconds, for a test")
    given = parser.parse_args(arguments)
    amounts = QUICK if given.quick else Amounts()
    pair = random_pair(given.size)
    print(f"| {given.size}, one thread | CPU ms | ratio |\n|---|---|---|")

    def line(what: str, seconds: float, beside: float) -> None:
        print(f"| {what} | {1000 * seconds:.3f} | {seconds / beside:.2f} |", flush=True)

    steps = causal_steps(pair, amounts)
    line("causal, a row: a plain loop, whole receiver", steps["plain"], steps["plain"])
    line("the whole prompt run again", steps["whole"], steps["plain"])
    line("what precedes kept", steps["kept"], steps["plain"])
    solved = closed_forms(pair, amounts)
    line("closed form, a position: forward passes alone", solved["forward"], solved["forward"])
    line("ridge", solved["ridge"], solved["forward"])
    line("Procrustes", solved["procrustes"], solved["forward"])
    trained = gradient_steps(pair, amounts)
    line("gradient fit, a step: a plain loop", trained["plain"], trained["plain"])
    line("`affine`", trained["fit"], trained["plain"])


if __name__ == "__main__":
    main()
