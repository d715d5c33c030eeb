"""Actions that need the engine: fit translators, search layers, check a run, capture states.

This module itself needs no torch; without the engine's packages each action raises
`EnvironmentFault`.
"""

# Everything else is imported when an action starts: without torch the names are still there, and
# the command line's --help stays quick.
# ruff: noqa: PLC0415

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from statebridge.errors import EnvironmentFault, ExperimentError, InputError, nearest
from statebridge.progress import ShowProgress, show_progress

if TYPE_CHECKING:
    from statebridge.engine.capture import Captured
    from statebridge.experiment.reading.given import ExperimentLike
    from statebridge.models.pair import Pair
    from statebridge.models.traced_model import TracedModel
    from statebridge.results.service_records import DoctorCheck
    from statebridge.stats.held_out_choice import HeldOutChoice
    from statebridge.stats.information.capacity import Capacity
    from statebridge.translators import Translator

ENGINE_PACKAGES = ("torch", "transformers", "nnsight", "safetensors", "psutil")


def fit(
    experiment: ExperimentLike,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    pair: Pair | None = None,
    stitched: bool = True,
    progress: bool | ShowProgress = True,
) -> dict[str, Translator]:
    """Fit the translators that an experiment declares, measure them, and write them.

    Args:
        experiment: A file, an `Experiment`, or its fields.
        out: Folder for `seedN.safetensors` and their cards; one folder inside for each set,
            where the experiment declares several.
        overrides: Fields to change, such as `{"seeds": [42]}`.
        pair: A loaded pair; loaded here if not given.
        stitched: Also measure the receiver's cross-entropy on translated states.
        progress: True for bars on standard error, False for none, or a callback
            (stage, done, total).

    Returns:
        Each translator by its seed, `42`, or by set and seed, `early/42`; its `card` holds how it
        was fitted and its quality on held-out text.

    Raises:
        ExperimentError: The experiment declares no `fit`.
        TranslatorError: The corpus has too few positions, or the kind does not fit.
        EnvironmentFault: The engine is not installed, or a file cannot be written.
    """
    from statebridge.experiment.experiment import DEFAULT_SET, Fit
    from statebridge.experiment.reading.given import read_experiment

    declared = read_experiment(experiment, overrides)
    out = Path(out)
    sets = {name: s for name, s in declared.translator_sets.items() if isinstance(s, Fit)}
    if not sets:
        raise ExperimentError("translators: declares files, not fit: {...}")
    if out.exists() and not out.is_dir():
        raise ExperimentError(f"{out}: is a file; give a folder for the translators")
    need_engine()
    from statebridge.engine.executors.executor import check_names, held
    from statebridge.engine.fitting.corpus import read_corpus
    from statebridge.engine.fitting.spread_fits import FittedSet, fit_sets
    from statebridge.models.pair import declared_pair
    from statebridge.tasks.declared_rows import resolve_dataset
    from statebridge.translators import save_translator

    rows, _ = resolve_dataset(declared.dataset)
    check_names(declared)
    missing = [
        FittedSet(name, s, read_corpus(s.corpus, declared.prompts, rows), declared.seeds)
        for name, s in sets.items()
    ]
    try:  # before hours of work, not after them
        out.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=out).close()
    except OSError as error:
        raise EnvironmentFault(
            f"{out}: cannot be written: {error.strerror}; give a path in a writable folder"
        ) from None
    made: dict[tuple[str, int], Translator] = {}
    with shown(progress) as show, held(declared) as actors:
        pair = declared_pair(declared, pair, show)
        fitted = fit_sets(missing, pair, declared, rows, show, actors, stitched=stitched)
        for (name, seed), translator in fitted:
            folder = out if name == DEFAULT_SET else out / name
            save_translator(translator, folder / f"seed{seed}.safetensors")
            made[name, seed] = translator
    keys = [(name, seed) for name in sets for seed in declared.seeds]
    return {
        str(seed) if name == DEFAULT_SET else f"{name}/{seed}": made[name, seed]
        for name, seed in keys
    }


def layer_search(
    experiment: ExperimentLike,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    pair: Pair | None = None,
    progress: bool | ShowProgress = True,
) -> HeldOutChoice:
    """Carry an experiment out at many pairs of layers, and choose one on held-out rows.

    The same call again goes on where it stopped.

    Args:
        experiment: A file, an `Experiment`, or its fields; it declares the layers to search.
        out: Directory of the search.
        overrides: Fields to change, such as `{"limit": 100}`.
        pair: A loaded pair; loaded here if not given.
        progress: As for `fit`.

    Raises:
        ExperimentError: The experiment declares no layers to search.
        EnvironmentFault: The engine is not installed.
    """
    from statebridge.experiment.reading.given import read_experiment

    declared = read_experiment(experiment, overrides)
    need_engine()
    from statebridge.engine.layer_search.search import run_layer_search
    from statebridge.results.layer_search import read_layer_search
    from statebridge.stats.held_out_choice import choose_held_out

    with shown(progress) as show:
        run_layer_search(declared, out, pair=pair, progress=show)
    return choose_held_out(read_layer_search(out))


def capacity(
    experiment: ExperimentLike,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    symbols: Sequence[int] = (2, 4, 8, 16, 32, 64),
    rows: int = 200,
    pair: Pair | None = None,
    progress: bool | ShowProgress = True,
) -> Capacity:
    """Measure the bits that each channel of an experiment carries in one use.

    The sender reads which one of K symbols it is, the receiver is asked for it. The experiment runs
    as it is declared, over rows of K symbols in place of its own; the same call again goes on where
    it stopped.

    Args:
        experiment: A file, an `Experiment`, or its fields.
        out: The run directory; made if needed.
        overrides: Fields to change.
        symbols: Numbers of symbols, from 2 to 1,024; an experiment over generated multihop rows
            has as many as there are names of one kind (120).
        rows: Rows for each number of symbols; every symbol gets one at least.
        pair: A loaded pair; loaded here if not given.
        progress: As for `fit`.

    Examples:
        >>> statebridge.capacity("experiment.yaml", "runs/capacity").of("private_last")[-1].low
        3.1

    Raises:
        StatebridgeError: As `statebridge.run` does, or more symbols than there are.
    """
    from statebridge.experiment.dataset import MOST_SYMBOLS
    from statebridge.experiment.reading.given import read_experiment
    from statebridge.tasks.symbols import symbol_dataset

    if not symbols or rows < 1 or not all(2 <= count <= MOST_SYMBOLS for count in symbols):
        raise ExperimentError(
            f"capacity: symbols {', '.join(map(str, symbols)) or 'none'}, rows {rows}; give "
            f"numbers of symbols from 2 to {MOST_SYMBOLS}, and at least one row"
        )
    given = read_experiment(experiment, overrides)
    changes: dict[str, Any] = {
        "dataset": symbol_dataset(given.dataset, symbols, rows),
        "limit": None,
        "positive_control": None,
        "sender_checks": False,
        "layer_search": None,
        "likelihoods": None,
        "decode": True,
    }
    if given.rng == "derangement":
        # Of two symbols a donor with another one always has the other: it says which the row's is.
        changes["rng"] = "per-row"
    declared = read_experiment(given, changes)
    need_engine()
    from statebridge.engine.run_experiment import run_experiment
    from statebridge.results.read_results import read_sources
    from statebridge.stats.information.capacity import capacity as measured

    with shown(progress) as show:
        run_experiment(declared, out, pair=pair, progress=show)
    return measured(read_sources([Path(out)]))


def doctor(
    experiment: ExperimentLike,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Iterator[DoctorCheck]:
    """Yield whether each thing that a run needs is ready: data, models, device, sizes, time.

    Nothing is downloaded, and no weights are read into memory.

    Args:
        experiment: A file, an `Experiment`, or its fields.
        out: Where the run would be written; the working directory if not given.
        overrides: Fields to change.

    Raises:
        ExperimentError: The experiment declares something wrong.
        EnvironmentFault: The engine is not installed.
    """
    from statebridge.experiment.reading.given import read_experiment

    declared = read_experiment(experiment, overrides)
    need_engine()
    from statebridge.engine.doctor.readiness import check_readiness

    return check_readiness(declared, None if out is None else Path(out))


def capture(
    model: str | Path | TracedModel,
    prompts: Sequence[str],
    layers: Sequence[int | float | str],
    *,
    cache: bool = False,
    device: str = "auto",
    dtype: str = "float32",
    max_tokens: int | None = None,
    out: str | Path | None = None,
) -> Captured:
    """Capture a model's states at the tokens of prompts, and its key-value cache if wanted.

    Args:
        model: Hub id, a folder (a `Path`, or text that starts with `.`, `/` or `~`), or a loaded
            model.
        prompts: Texts; special tokens are those that the tokenizer adds.
        layers: Relative depths in (0, 1], block indices, or module paths; the arrays have them in
            this order.
        cache: Also capture the keys and values of these blocks.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; of a model that is loaded here.
        dtype: Weights of a model that is loaded here: `float32`, `bfloat16`, `float16` or
            `float64`.
        max_tokens: Cut prompts on the right; by default none is cut.
        out: Also write everything to this `.safetensors` file.

    Returns:
        Arrays of each prompt: states (layers, tokens, width).

    Examples:
        >>> captured = statebridge.capture("EleutherAI/pythia-160m", ["Oslo is in"], [0.5, 8])
        >>> captured.states[0].shape
        (2, 3, 768)

    Raises:
        InputError: An argument has a wrong type or value.
        PairError: No such model or layer, or a prompt without tokens or longer than the context
            window.
        NumericError: A state is not finite.
        EnvironmentFault: The engine is not installed, or the file cannot be written.
    """
    _check_capture(prompts, layers, device, dtype, max_tokens, out)
    need_engine()
    from statebridge.engine.capture import capture_prompts
    from statebridge.experiment.experiment import ModelAtLayer
    from statebridge.models.loading import load_model
    from statebridge.models.traced_model import TracedModel

    if isinstance(model, Path):
        model = str(model.absolute())
    if not isinstance(model, str | TracedModel):
        raise InputError(f"model: give a hub id, a folder or a loaded model, not {model!r:.80}")
    if isinstance(model, str):
        side = ModelAtLayer(model=model, layer=0)
        model = load_model(side, dtype=dtype, device=device)
    captured = capture_prompts(model, prompts, layers, cache=cache, max_tokens=max_tokens)
    if out is not None:
        captured.save(out)
    return captured


def _check_capture(
    prompts: Any, layers: Any, device: Any, dtype: Any, max_tokens: Any, out: Any
) -> None:
    """Refuse arguments of `capture` that would fail later, in other words."""
    from statebridge.experiment.experiment import DEVICE, DTYPES

    texts = list(prompts) if isinstance(prompts, Sequence) and not isinstance(prompts, str) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise InputError(f"prompts: give a list of texts, one at least, not {prompts!r:.80}")
    if any("\ud800" <= sign <= "\udfff" for text in texts for sign in text):
        raise InputError("prompts: give whole characters (one holds half of a surrogate pair)")
    listed = list(layers) if isinstance(layers, Sequence) and not isinstance(layers, str) else []
    if not listed or any(
        isinstance(layer, bool) or not isinstance(layer, int | float | str) for layer in listed
    ):
        raise InputError(
            "layers: give a list of relative depths (0.67), indices (8) or module paths, not "
            f"{layers!r:.80}"
        )
    if not isinstance(device, str) or not re.fullmatch(DEVICE, device):
        raise InputError(f"device: give auto, cpu, cuda or cuda:N, not {device!r}")
    if dtype not in DTYPES:
        raise InputError(f"dtype: {dtype!r}; {nearest(str(dtype), DTYPES)}")
    if max_tokens is not None and (
        isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or max_tokens < 1
    ):
        raise InputError(f"max_tokens: give a whole number of at least 1, not {max_tokens!r}")
    if out is not None and Path(out).suffix != ".safetensors":
        raise InputError(f"out: {out}: the file is written as safetensors; end its name so")


def missing_packages() -> list[str]:
    """Return the engine's packages that are not installed; nothing is imported."""
    return [package for package in ENGINE_PACKAGES if not _installed(package)]


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def need_engine() -> None:
    """Refuse to go on without the engine's packages, and silence their own loading bars.

    Raises:
        EnvironmentFault: A package is not installed.
    """
    missing = missing_packages()
    if missing:
        raise EnvironmentFault(
            f"{missing[0]} is not installed; running models needs the engine: "
            "pip install 'statebridge[engine]'"
        )
    import transformers

    # Its warnings and loading bars are about its own internals; ours say what a user needs.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


@contextmanager
def shown(progress: bool | ShowProgress) -> Iterator[ShowProgress]:
    """Give the callback that a caller's `progress` asks for."""
    if isinstance(progress, bool):
        with show_progress(quiet=not progress) as show:
            yield show
    else:
        yield progress
