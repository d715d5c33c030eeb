"""The option `context` of sets whose questions come without one.

`none` leaves the context empty: sender and receiver both get the problem as the question, as
in arXiv 2501.14082 for its reasoning sets. `question` puts the problem into the context too,
for prompts that show the sender the context only; a prompt with both then shows it twice.
"""

from __future__ import annotations

from statebridge.errors import DatasetError, nearest

_KNOWN = ("none", "question")


def in_context(context: str) -> bool:
    """Whether the option `context` puts the question there.

    Raises:
        DatasetError: It is neither `none` nor `question`.
    """
    if context not in _KNOWN:
        raise DatasetError(f"option context: {context!r}: {nearest(context, _KNOWN)}")
    return context == "question"
