"""The container image of this working tree, for clusters of tests.

It is built when it is not current, once in a run of tests: in seconds, and the first time in minutes (`make image` does
it ahead of the tests).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from tools import image

reference = image.reference


@cache
def archive() -> Path:
    """Return it as an archive for `Cluster.load`. Raises image.Failed."""
    return image.archive()
