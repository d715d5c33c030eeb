"""The start and the end of a worker process.

The server starts it as `python -m statebridge_server.worker`, and writes its settings as one line
of JSON to its standard input. Standard input stays open as long as the server runs, so its end
shows that the server is gone, however it ended. The worker of a new server waits for the lock
until then: each model has one owner at any time.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import sys
import threading

from statebridge.actions import need_engine
from statebridge.errors import StatebridgeError
from statebridge_server.logs import configure_logs, log
from statebridge_server.settings import Settings, fixed_settings
from statebridge_server.store import queue
from statebridge_server.store.database import Database, passing_trouble
from statebridge_server.worker.lock import become_only_worker
from statebridge_server.worker.loop import Worker, log_recovered

_log = logging.getLogger("statebridge.worker")


def main() -> int:
    """Run the worker until it is asked to stop; return its exit code."""
    start = json.loads(sys.stdin.readline())
    settings = fixed_settings(start["settings"])
    configure_logs(settings)
    _see_listed_gpus(settings)
    # Before the worker has a job, ending at once loses nothing.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server receives it and stops its workers
    server_is_gone = threading.Event()
    worker: list[Worker] = []

    def follow_server() -> None:
        while sys.stdin.read(1):
            pass
        server_is_gone.set()
        if worker:
            worker[0].request_stop()
        else:
            os._exit(0)

    threading.Thread(target=follow_server, name="server", daemon=True).start()
    try:
        gc.disable()  # during imports: a tenth of the start would be looks at what stays loaded
        need_engine()
        os.chdir(settings.data)
        become_only_worker(settings.data)
        database = Database(settings.url)
        for job in queue.recover(database, start["previous_end"]):
            log_recovered(job)
        worker.append(Worker(settings, database))
        gc.freeze()
        gc.enable()
        signal.signal(signal.SIGTERM, lambda *_: worker[0].request_stop())
        if server_is_gone.is_set():
            return 0
        worker[0].work()
    except StatebridgeError as error:
        log(_log, logging.ERROR, str(error))
        return error.exit_code
    except Exception as error:
        if passing_trouble(error) is None:
            _log.exception("the worker failed")
        else:
            log(_log, logging.ERROR, "the worker cannot go on", trouble=passing_trouble(error))
        return 1
    return 0


def _see_listed_gpus(settings: Settings) -> None:
    """Leave the other GPUs alone where several are listed: Ray, or a device map, would take any."""
    numbers = settings.numbered_gpus
    if settings.sees_listed and numbers:
        before = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        seen = [before[n] if n < len(before) and before[n] else str(n) for n in numbers]
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(seen)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # Threads of the libraries underneath must not hold the process, and the lock, any longer.
    os._exit(code)
