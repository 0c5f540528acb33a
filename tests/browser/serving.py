"""Servers as child processes: started, killed, and started again on the same port."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Final

import attrs

__all__ = ["DemoServer"]

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PATIENCE: Final = 60


@attrs.define
class DemoServer:
    """A server in a process of its own.

    Attributes:
      kind: `demo`, `plain` for a server that has none of the demo's procedures, or `try` for one with a procedure of
        each kind.
      host: `lean` or `hypercorn`.
      url: where it is served.
    """

    kind: str
    host: str
    url: str
    _process: subprocess.Popen[str]

    @classmethod
    @contextlib.contextmanager
    def start(cls, host: str, *, kind: str = "demo") -> Generator[DemoServer, None, None]:
        process, url = cls._start(kind, host, 0)
        server = cls(kind, host, url, process)
        try:
            yield server
        finally:
            server.kill()

    @staticmethod
    def _start(kind: str, host: str, port: int) -> tuple[subprocess.Popen[str], str]:
        command = [sys.executable, "-m", "tests.browser.child", kind, host, str(port)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url.startswith("http://"):
            _end(process)
            raise AssertionError(f"the server did not start; it said {url!r}")
        return process, url

    @property
    def page(self) -> str:
        return f"{self.url}/dashboard/"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it without a goodbye, as a crash would."""
        _end(self._process)

    def restart(self) -> None:
        """Start another one on the same port."""
        self._process, self.url = self._start(self.kind, self.host, self.port)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(PATIENCE)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
