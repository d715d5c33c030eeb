"""Run a tiny model of every causal architecture that transformers registers, and write the table.

`python -m scripts.check_families [KIND...] [--out docs/families.md]`. A model is saved, loaded and
run as a user does. Each of its tokens is compared with those of Hugging Face, one row alone; the
state that the receiver has already, written back, must change nothing. Exit status 1: a wrong
token, or an error that is not ours.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tests.reference.formulas import task_prompt
from tests.tiny_families import registered, tiny_family
from tests.tiny_models import mixed_rows, tiny_padded_tokenizer

import statebridge
from statebridge.errors import StatebridgeError

ROWS = mixed_rows(4, seed=4)
NEW_TOKENS = 5
CONDITIONS = ("no_inject", "b_to_b_self_inject", "activation_replace", "nl_relay")
HEAD = """# Families

Tiny models with random weights of all {count} causal architectures that transformers {version}
registers, each saved, loaded and run; {date}, CPU, float32, by `make check-families`, which writes
this page. A model of a *shared* family gave on the shared path the tokens that Hugging Face gives
for each row alone, one of a *plain* family on the plain path, which is slower; a *refused* one is
refused in one line before a row is run. {shared} are shared, {plain} plain, {refused} refused;
of {unbuilt} no tiny model could be built, because transformers does not build one of their own
configurations on this machine either. A multimodal wrapper runs by its text side. Random
weights say nothing of what a family's trained models carry.

| family | path | why |
|---|---|---|
"""


@dataclass(frozen=True)
class Outcome:
    """The path of one family, and why it is not the shared one."""

    kind: str
    path: str
    """`shared`, `plain`, `refused`, `unbuilt`, or `WRONG`."""
    why: str = ""


def check_family(kind: str, folder: Path) -> Outcome:
    """Build a tiny model of a family, run it, and compare its tokens with those of Hugging Face."""
    try:
        tiny_family(kind).save_pretrained(folder / "model")
        tiny_padded_tokenizer().save_pretrained(folder / "model")
    except Exception as error:  # whatever transformers raises
        return Outcome(kind, "unbuilt", _line(error))
    expected, failure = {}, ""
    try:
        expected = _of_hugging_face(folder / "model")
    except Exception as error:  # a model that transformers itself cannot run is to be refused
        failure = f"transformers: {_line(error)}"
    try:
        run = statebridge.run(_experiment(folder), folder / "run", progress=False)
    except StatebridgeError as error:
        return Outcome(kind, "refused", failure or _line(error))
    except Exception:
        return Outcome(kind, "WRONG", traceback.format_exc())
    return Outcome(kind, *_judged(run, expected, failure))


def _judged(
    run: statebridge.Run, expected: Mapping[str, list[int]], failure: str
) -> tuple[str, str]:
    if failure:
        return "WRONG", f"ran, where Hugging Face fails: {failure}"
    for name in ("no_inject", "b_to_b_self_inject"):
        for row in run.rows(conditions=[name]):
            found = list(row.token_ids or ())
            if found != expected[row.row_id]:
                return "WRONG", f"{name} {row.row_id}: {found}, not {expected[row.row_id]}"
    manifest = json.loads((run.path / "manifest.json").read_text("utf-8"))
    for caution in manifest["cautions"]:
        if "does not run on the shared path" in caution:
            return "plain", caution.split("shared path (", 1)[1].rsplit("). The plain", 1)[0]
    return "shared", ""


def _of_hugging_face(folder: Path) -> dict[str, list[int]]:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    # An experiment declares its decoding; what a family's defaults bring is not used.
    model.generation_config = transformers.GenerationConfig()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = {}
    for row in ROWS:
        ids = tokenizer(task_prompt(row), return_tensors="pt").input_ids
        with torch.no_grad():
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=NEW_TOKENS,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        found[row["id"]] = made[0, ids.shape[1] :].tolist()
    return found


def _experiment(folder: Path) -> dict[str, Any]:
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    side = {"model": str(folder / "model"), "layer": 1}
    return {
        "name": "family",
        "sender": side,
        "receiver": side,
        "dataset": {"path": str(rows)},
        "conditions": list(CONDITIONS),
        "decoding": {
            "max_new_tokens": NEW_TOKENS,
            "relay_max_new_tokens": NEW_TOKENS,
            "repetition_penalty": 1.0,
            "no_repeat_ngram_size": 0,
        },
    }


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    for listed in ("; known families", "; supported families"):
        text = text.split(listed)[0]
    name = "" if isinstance(error, StatebridgeError) else f"{type(error).__name__}: "
    return (name + text).replace("|", "\\|")[:240]


def check(kinds: Sequence[str]) -> list[Outcome]:
    """Check families one after another, and print each."""
    outcomes = []
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = check_family(kind, Path(folder))
        why = outcome.why.replace(folder, "")
        outcomes.append(Outcome(kind, outcome.path, why))
        print(kind, outcome.path, why, flush=True)
    return outcomes


def page(outcomes: Sequence[Outcome]) -> str:
    """Return the page of documentation."""
    counts = Counter(each.path for each in outcomes)
    head = HEAD.format(
        count=len(outcomes),
        version=transformers.__version__,
        date=datetime.date.today().isoformat(),
        **{name: counts[name] for name in ("shared", "plain", "refused", "unbuilt")},
    )
    return head + "".join(f"| `{o.kind}` | {o.path} | {o.why} |\n" for o in outcomes)


def main() -> int:
    """Check the families that the command names, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    outcomes = check(given.kinds or registered())
    if given.out is not None:
        given.out.write_text(page(outcomes), "utf-8")
    return int(any(outcome.path == "WRONG" for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
