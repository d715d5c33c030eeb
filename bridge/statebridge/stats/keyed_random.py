"""Random generators keyed by names, so that no number depends on the order of the work.

Every bootstrap and permutation of the default mode draws from its own generator, keyed by
what it is about (direction, condition, baseline, metric, ...). The order of files, rows and
calls never matters, and adding a cell never moves another cell's draws.
"""

from __future__ import annotations

import hashlib

import numpy as np


def keyed_generator(*names: object) -> np.random.Generator:
    """Return a PCG64 generator seeded with the SHA-256 of the names.

    The names are written as text and their lengths enter the hash, so ("a", "bc") and
    ("ab", "c") are different keys.
    """
    digest = hashlib.sha256()
    for name in names:
        text = str(name).encode()
        digest.update(f"{len(text)}:".encode())
        digest.update(text)
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest.digest(), "big")))
