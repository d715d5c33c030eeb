"""`statebridge schema`: the experiment file's JSON Schema."""

from __future__ import annotations

import json


def schema() -> None:
    """Print the JSON Schema of an experiment file."""
    from statebridge.experiment import Experiment

    print(json.dumps(Experiment.model_json_schema(), indent=2))
