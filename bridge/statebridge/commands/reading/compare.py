"""`statebridge compare`: conditions against baselines, paired by row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from statebridge.commands.options import AsJson, Dataset, Sources
from statebridge.errors import InputError


def compare(
    sources: Sources,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="A condition; may be repeated. [default: the receiver alone]", show_default=False
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Such as word_boundary_contains; may be repeated.", show_default=False),
    ] = None,
    mode: Annotated[str, typer.Option(help="clustered, or published (pooled over seeds).")] = (
        "clustered"
    ),
    margin: Annotated[
        list[float] | None,
        typer.Option(help="Equivalence margin; may be repeated. [default: 0.05, 0.03]"),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(help="Also by stratum: hops, domain, prompt_length, answer_seen, names_seen."),
    ] = None,
    bits: Annotated[
        bool, typer.Option("--bits", help="Also print the bits of each condition's messages.")
    ] = False,
    dataset: Dataset = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the table: .csv, .parquet, .tex or .md.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare conditions with baselines, paired by row, with intervals and equivalence tests."""
    wrong = next((value for value in margin or () if not 0 < value < float("inf")), None)
    if wrong is not None:
        raise InputError(f"--margin {wrong:g}: an equivalence margin lies above 0, such as 0.03")
    from statebridge.commands.printing import print_table
    from statebridge.report.words.sentences import chain_sentence, own_content, share_text
    from statebridge.run import Run
    from statebridge.stats.information.bits import message_bits
    from statebridge.tables import bits_table, comparison_table, write_table

    run = Run(*sources, dataset=dataset)
    comparison = run.compare(
        baseline,
        metrics=metric,
        mode=mode,
        by=by or (),
        margins=margin or None,
    )
    if bits and not comparison.bits:  # baselines or metrics of the user's choice leave them out
        comparison = comparison.model_copy(update={"bits": tuple(message_bits(run.results()))})
    if out is not None:
        write_table(comparison_table(comparison), out)
    if as_json:
        print(comparison.model_dump_json())
        return
    print_table(comparison_table(comparison), leave_out=("tied",))
    if bits:
        print_table(bits_table(comparison.bits))
    for chain in comparison.failure_chains:
        if text := chain_sentence(chain):
            print(f"{chain.metric} against {chain.baseline}: {text}")
    for gap in comparison.gaps_closed:
        if gap.share is not None:
            print(
                f"{gap.metric}: {gap.condition} closes {share_text(gap.share)} of the gap from "
                f"{gap.floor} to {gap.ceiling} ({gap.gap:.4f})"
            )
    for line in own_content(comparison.own_rows):
        print(line)
    for split in comparison.stratifications:
        p = split.interaction_p_holm
        tested = "" if p is None else f" (same in every stratum: p {p:.4f}, Holm)"
        print(
            f"{split.condition} against {split.baseline}, {split.metric} by {split.attribute}"
            f"{tested}: "
            + "; ".join(
                f"{stratum.label}: {stratum.delta:+.4f} (n {stratum.n_rows})"
                for stratum in split.strata
            )
        )
    for warning in comparison.warnings:
        print(f"warning: {warning}")
