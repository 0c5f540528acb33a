"""Room for a thousand connections."""

from __future__ import annotations

import resource
from typing import Final

__all__ = ["raise_file_limit"]

_FILES: Final = 16_384


def raise_file_limit() -> None:
    """As many open files as the system allows, up to what the benchmarks need."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
