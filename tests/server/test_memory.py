"""A worker that runs out of memory."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

import pytest

from tests.server.conftest import tiny_experiment
from tests.server.running_server import RunningServer, ended, submit
from tests.server.test_jobs import LONG


def mapped_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


@pytest.mark.slow
def test_the_next_job_runs_after_one_that_does_not_fit(server: RunningServer) -> None:
    # Three hidden layers of 16,384 units: a matrix of 1 GiB, where 400 MiB are left. All else
    # that the worker does needs far less, so that this alone fails, and fails in one place.
    greedy = tiny_experiment(
        rows=4,
        translators={
            "fit": {
                "kind": "mlp_3hidden",
                "corpus": {"generate": {"rows": 20, "seed": 9}},
                "training": {"hidden_dim": 16_384},
            }
        },
    )
    with server.evidence_on_failure(), server.client() as client:
        warm = submit(client, tiny_experiment(rows=2))
        assert ended(client, warm)["state"] == "done"
        worker = server.worker_pid()
        limit = mapped_bytes(worker) + 400 * 2**20
        before = resource.prlimit(worker, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        try:
            poor = submit(client, greedy)
            following = submit(client, tiny_experiment(rows=1, **LONG))
            failed = ended(client, poor)
            assert failed["state"] == "failed"
            assert "out of memory" in failed["error"], failed["error"]
            assert ended(client, following)["state"] == "done"
            assert server.worker_pid() == worker  # it went on
        finally:
            with suppress(ProcessLookupError):
                resource.prlimit(worker, resource.RLIMIT_AS, before)
