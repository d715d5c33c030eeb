"""Exact match as a task of lm-evaluation-harness declares it: stop texts, filters, what is ignored.

Written after lm_eval 0.4.13 (`lm_eval.filters`, `lm_eval.api.metrics.exact_match_hf_evaluate`). The
settings are those of a task's YAML file, which `statebridge.data.readers.lm_eval_task` reads.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any

from statebridge.data import strict_json
from statebridge.data.answers import SETTINGS
from statebridge.errors import DatasetError
from statebridge.records import DatasetRow
from statebridge.scoring.gold import Gold

_NO_MATCH = "[invalid]"


def harness(prediction: str, gold: Gold) -> bool:
    """Whether the filtered prediction is a gold answer by the settings of the row's task.

    Without settings, the whole text is compared as it is.

    Raises:
        DatasetError: The settings have another shape.
    """
    try:
        settings = strict_json.parse(gold.settings or "{}")
        # A recorded text is stripped; the harness strips where a task has `remove_whitespace`.
        text = prediction.strip()
        for stop in settings.get("until", ()):
            text = text.split(stop, 1)[0] if stop else text
        for step in settings.get("filters", ()):
            text = _filtered(text, step)
        return any(_kept(text, settings) == _kept(name, settings) for name in gold.names)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, re.error) as error:
        raise DatasetError(
            f"scoring_settings: {type(error).__name__}: {error}; give those of a task of "
            "lm-evaluation-harness"
        ) from None


def holds_patterns(row: DatasetRow) -> bool:
    """Whether the settings of a row hold regular expressions, which may take without end.

    Raises:
        DatasetError: The settings are not JSON.
    """
    try:
        settings = strict_json.parse(str(row.attributes.get(SETTINGS) or "{}"))
    except strict_json.JsonError as error:
        raise DatasetError(
            f"scoring_settings: {error}; give those of a task of lm-evaluation-harness"
        ) from None
    if not isinstance(settings, dict):
        return False
    steps = settings.get("filters")
    steps = steps if isinstance(steps, list) else []
    kinds = [step.get("function") for step in steps if isinstance(step, dict)]
    return bool(settings.get("regexes_to_ignore")) or "regex" in kinds


def _filtered(text: str, step: Mapping[str, Any]) -> str:
    kind = step["function"]
    if kind == "regex":
        return _matched(text, step)
    if kind == "map":
        return str(step.get("mapping_dict", {}).get(text, step.get("default_value")))
    if kind == "remove_whitespace":
        return text.strip()
    return {"lowercase": text.lower(), "uppercase": text.upper()}[kind]


def _matched(text: str, step: Mapping[str, Any]) -> str:
    """Return the chosen match, and of one with several groups the first that is not empty."""
    fallback = str(step.get("fallback", _NO_MATCH))
    pattern = step.get("regex_pattern", r"#### (\-?[0-9\.\,]+)")
    matches = re.findall(pattern, text)
    if not matches:
        return fallback
    found = matches[step.get("group_select", 0)]
    if isinstance(found, tuple):
        found = next((group for group in found if group), fallback)
    return str(found).strip()


def _kept(text: str, settings: Mapping[str, Any]) -> str:
    for pattern in settings.get("regexes_to_ignore") or ():
        text = re.sub(pattern, "", text)
    if settings.get("ignore_case"):
        text = text.lower()
    ignored = string.punctuation if settings.get("ignore_punctuation") else ""
    ignored += string.digits if settings.get("ignore_numbers") else ""
    return text.translate(str.maketrans("", "", ignored))
