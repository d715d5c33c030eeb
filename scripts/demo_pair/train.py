"""Teach the demo's sender and receiver, and write them with their training log.

    python -m scripts.demo_pair.train --out bridge/statebridge/demo/taught

Runs on one core, the sender first. The same seed gives the same weights on the same machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import GPTNeoXForCausalLM

from scripts.demo_pair.lessons import (
    DISTRACTORS,
    HELD_OUT_SEED,
    HOPS,
    build_tokenizer,
    names_of_worlds,
)
from scripts.demo_pair.spelling import FEATURES, SpelledNames
from scripts.demo_pair.teaching import COURSES, SPELLING_COURSES, Course, Progress, teach
from scripts.demo_pair.untaught import new_model

LOG = "training_log.jsonl"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="of each model, in place of its own number")
    parser.add_argument("--only", choices=list(COURSES), help="teach this one, keep the other")
    parser.add_argument(
        "--spelling-only", action="store_true", help="start from what --out already holds"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for side, course in COURSES.items():
        if options.only in (None, side):
            steps = {} if options.steps is None else {"steps": options.steps}
            if not options.spelling_only:
                teach_side(side, replace(course, seed=options.seed, **steps), options.out)
            last = SPELLING_COURSES[side]
            spell_side(side, replace(last, seed=last.seed + options.seed, **steps), options.out)
    write_readme(options.out)


def teach_side(side: str, course: Course, out: Path) -> None:
    """Teach one model and write its folder; replace its lines in the training log."""
    tokenizer = build_tokenizer()
    model = new_model(course.shape, len(tokenizer), course.seed)
    kept = [line for line in read_log(out) if line["side"] != side]
    _write(side, course, out, kept, model, teach(course, tokenizer, model))
    tokenizer.save_pretrained(out / side)


def spell_side(side: str, course: Course, out: Path) -> None:
    """Teach the model of a folder to read names by their letters; go on with its log.

    It starts from the weights as they are stored.
    """
    tokenizer = build_tokenizer()
    model = GPTNeoXForCausalLM.from_pretrained(out / side, dtype=torch.float32)
    names = SpelledNames(tokenizer, names_of_worlds())
    _write(side, course, out, read_log(out), model, teach(course, tokenizer, model, names))


def _write(
    side: str,
    course: Course,
    out: Path,
    kept: list[dict[str, Any]],
    model: GPTNeoXForCausalLM,
    lines: Iterator[Progress],
) -> None:
    parameters = sum(weight.numel() for weight in model.parameters())
    about = {
        "side": side,
        "parameters": parameters,
        "course": asdict(course),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{platform.machine()}, 1 of {os.cpu_count()} cores",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
    }
    with (out / LOG).open("w", encoding="utf-8") as log:
        for line in [*kept, about]:
            log.write(json.dumps(line) + "\n")
        for progress in lines:
            log.write(json.dumps({"side": side, **asdict(progress)}) + "\n")
            log.flush()
            print(progress_line(side, course, progress), flush=True)
            # Loaded as float32: half precision halves the file, and the last line of the log
            # is measured on weights rounded so.
            deepcopy(model).half().save_pretrained(out / side)


def progress_line(side: str, course: Course, progress: Progress) -> str:
    """Return what the terminal shows of a line of the log."""
    hints = " ".join(f"{loss:.2f}" for loss in progress.loss_hints)
    return (
        f"{side} {progress.step}/{course.steps}: loss {progress.loss_answers:.3f} on answers, "
        f"{progress.loss_all:.3f} on all tokens, {hints} on hints; "
        f"held out {progress.accuracy:.3f}, question only {progress.question_only:.3f}; "
        f"{progress.seconds:.0f} s"
    )


def read_log(out: Path) -> list[dict[str, Any]]:
    """Return the lines of a training log; none where there is no log."""
    path = out / LOG
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [json.loads(line) for line in text.splitlines()]


def write_readme(out: Path) -> None:
    """Say beside the weights how they came about, from their log."""
    log = read_log(out)
    parts = [README]
    for side in COURSES:
        lines = [line for line in log if line["side"] == side]
        if not lines:
            continue
        taught = [line for line in lines if "course" in line]
        stretches = [
            f"{about['course']['steps']} steps of {about['course']['batch']} lessons"
            for about in taught
        ]
        minutes = sum(
            line["seconds"] / 60
            for line, following in zip(lines, [*lines[1:], taught[0]], strict=True)
            if "course" in following
        )
        about, last = taught[-1], lines[-1]
        course, shape = about["course"], about["course"]["shape"]
        parts.append(
            f"\n## {side}\n\n"
            f"- {shape['blocks']} blocks, width {shape['width']}, {shape['heads']} heads: "
            f"{about['parameters']:,} parameters\n"
            f"- seed {taught[0]['course']['seed']}, {', then '.join(stretches)} with names by "
            f"their letters\n"
            f"- taught until {about['date']} in {minutes:.0f} minutes on "
            f"{about['machine']} ({about['versions']})\n"
            f"- accuracy on {course['held_out']} held-out rows: {last['accuracy']:.3f}; "
            f"from the question alone: {last['question_only']:.3f}\n"
        )
    (out / "README.md").write_text("".join(parts), encoding="utf-8")


README = f"""# The taught pair

Two GPT-NeoX models with one tokenizer, taught to answer generated rows of two hops. In the last
stretch of its course each one's vectors of names are linear in {FEATURES} features of their
spelling (`scripts/demo_pair/spelling.py`), so that the two tables of names are linearly related.
Written by

    python -m scripts.demo_pair.train --out bridge/statebridge/demo/taught

`training_log.jsonl` holds, for each model, its course (shape, seed, phases, rates) and then a
line per report. Accuracy is that of the likeliest next token after the prompt, on held-out
rows: `generate: {{hops: {list(HOPS)}, distractors: {DISTRACTORS}, seed: {HELD_OUT_SEED}}}`, none of
which was taught. Weights are stored as float16, and measured as stored.
"""


if __name__ == "__main__":
    sys.exit(main())
