"""Where the real evaluation set, the published result files and the tokenizer are, if at all.

They are not part of the repository; a test that reads them is skipped where they are absent.
"""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"

needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(),
    reason="the shared evaluation data (../shared/data beside the repository) is not here",
)
