"""Starts the servers' processes and says where they listen."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping

__all__ = ["running"]


@contextlib.contextmanager
def running(module: str, *arguments: str) -> Iterator[Mapping[str, str]]:
    """Run `python -m module` for as long as the block.

    Args:
      module: prints its URLs as one line of JSON, and ends with its standard input.
      arguments: for it.

    Yields:
      The URLs.
    """
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
