"""`statebridge dataset`: rebuild the published evaluation set, or generate rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import AsJson
from statebridge.errors import InputError

app = typer.Typer(
    no_args_is_help=True, help="Rebuild the published evaluation set, or generate rows."
)


@app.command("clean-eval")
def clean_eval(
    train: Annotated[Path, typer.Option(help="train.jsonl of the published task.")],
    test_enhanced: Annotated[Path, typer.Option(help="test_enhanced.jsonl of the same.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    as_json: AsJson = False,
) -> None:
    """Rebuild the published clean evaluation set (arXiv 2606.03280)."""
    import json

    from statebridge.papers.linear_translation.clean_eval import (
        CLEAN_EVAL_SHA256,
        build_clean_eval,
    )

    summary = build_clean_eval(train, test_enhanced, out)
    same = summary.sha256 == CLEAN_EVAL_SHA256
    if as_json:
        print(
            json.dumps(
                {
                    "path": str(summary.path),
                    "rows": summary.kept,
                    "dropped_overlap": summary.dropped_overlap,
                    "dropped_duplicates": summary.dropped_duplicates,
                    "sha256": summary.sha256,
                    "is_published": same,
                }
            )
        )
        return
    print(
        f"{summary.kept} rows kept; {summary.dropped_overlap} in train and "
        f"{summary.dropped_duplicates} repeated rows dropped"
    )
    print(
        f"sha256 {summary.sha256}{' (the published set)' if same else ' (not the published set)'}"
    )


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="File to write.")],
    rows: Annotated[int, typer.Option(help="How many rows.", min=1)] = 396,
    task: Annotated[str, typer.Option(help="multihop, countries or tip_sheets.")] = "multihop",
    hops: Annotated[list[int] | None, typer.Option(help="Chain lengths; 2, 3 and 4.")] = None,
    distractors: Annotated[int, typer.Option(help="Facts beside the chain.", min=0, max=50)] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the generator.", min=0)] = 0,
) -> None:
    """Generate rows of a task; the same settings give the same file everywhere."""
    from pydantic import ValidationError

    from statebridge.data import write_jsonl
    from statebridge.experiment.experiment import GeneratedRows
    from statebridge.tasks.declared_rows import generated_rows

    declared = {"rows": rows, "task": task, "hops": hops or (2, 3, 4), "seed": seed}
    try:
        settings = GeneratedRows.model_validate(declared | {"distractors": distractors})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "task"
        raise InputError(f"--{field}: {first['msg'].removeprefix('Value error, ')}") from None
    made = generated_rows(settings)
    digest = write_jsonl(made, out)
    print(f"{len(made)} rows written to {out}\nsha256 {digest}")
