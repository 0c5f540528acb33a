"""Servers in processes of their own: each says its URL on its first line, and ends when its input does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import attrs

from tests.interop.durable.packages import ROOT

STOP_TIMEOUT: Final = 10


@attrs.frozen
class ServerProcess:
    """A running server.

    Attributes:
      url: of it, without a path.
      pid: of its process.
    """

    url: str
    pid: int


@contextmanager
def start_process(command: Sequence[str]) -> Iterator[ServerProcess]:
    """A server, which is stopped behind the block."""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url.startswith("http://"), f"the server said {url!r}"
            yield ServerProcess(url, process.pid)
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:  # it waits for readers
                process.kill()
