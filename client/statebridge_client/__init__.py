"""The thin client of a Statebridge server.

    from statebridge_client import Client

    run = Client().submit("experiment.yaml").wait()
    print(run.score("replace"))

The public names are those of `__init__.pyi`, loaded on first use. No torch is needed; a remote run
has the members of a run directory opened here (`statebridge.open_run`).
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
