"""Files of the data directory.

    statebridge.sqlite    the embedded database, where no other is set
    datasets/             uploaded rows, each file named by its SHA-256
    corpora/              uploaded text to fit translators on, named likewise
    translators/          weights and cards, named by the translator's id
    runs/                 one run directory for each experiment, named by its id
    fits/                 links to fitted translators, by owner and by what decides the fit
    incoming/             incomplete uploads; emptied at the start
    worker.lock           locked by the worker process as long as it lives

The server makes every name; no text of a client becomes part of a path.
Paths in an experiment are relative to the data directory, which is the worker's working directory:
they show nothing of the host, and the directory may be moved.
"""

from __future__ import annotations

from pathlib import Path

from statebridge.errors import EnvironmentFault

DATASETS, CORPORA, TRANSLATORS = "datasets", "corpora", "translators"
RUNS, INCOMING = "runs", "incoming"

_UPLOADS = {"dataset": (DATASETS, ".jsonl"), "corpus": (CORPORA, ".txt")}


def make_layout(data: Path) -> None:
    """Make the directories, readable by this user only.

    Raises:
        EnvironmentFault: The data directory cannot be written.
    """
    try:
        names = (DATASETS, CORPORA, TRANSLATORS, RUNS, INCOMING)
        for folder in (data, *(data / name for name in names)):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            f"data directory {data}: {error.strerror}; set STATEBRIDGE_DATA to a directory that "
            "this user can write"
        ) from None


def clear_incoming(data: Path) -> None:
    """Remove incomplete uploads of a server that was killed."""
    for left in (data / INCOMING).iterdir():
        left.unlink(missing_ok=True)


def upload_path(kind: str, sha256: str) -> Path:
    """Return the path of a dataset or a corpus, relative to the data directory."""
    folder, suffix = _UPLOADS[kind]
    return Path(folder) / f"{sha256}{suffix}"


def translator_path(translator_id: str) -> Path:
    """Return the path of a translator's weights, relative to the data directory."""
    return Path(TRANSLATORS) / f"{translator_id}.safetensors"


def run_path(job_id: str) -> Path:
    """Return the path of an experiment's run directory, relative to the data directory."""
    return Path(RUNS) / job_id
