"""Peers in processes of their own: servers of any library, and clients that are told which case to try."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import attrs
import pytest

from tests.benchmarks.child import running_command
from tests.interop.durable.packages import ROOT
from tests.interop.webtransport.environments import python_for
from trio_streams.webtransport.certificates import Certificate, make_certificate

__all__ = ["HERE_ORIGIN", "Client", "PeerServer", "start_client", "start_server"]

HERE_ORIGIN: Final = "https://here.example"
"""An origin whose pages every server lets in."""
ENVIRONMENT: Final = {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
STOP_TIMEOUT: Final = 10


@attrs.frozen
class PeerServer:
    """A running server.

    Attributes:
      library: its name.
      url: without a path.
      pid: of its process.
      certificate: what it shows.
    """

    library: str
    url: str
    pid: int
    certificate: Certificate

    @property
    def port(self) -> int:
        """Its UDP port."""
        return int(self.url.rpartition(":")[2])


@contextmanager
def start_server(library: str, folder: Path, *origins: str, idle_timeout: float = 60.0) -> Generator[PeerServer]:
    """A server of a library that does as `behaviours` says; it is stopped behind the block.

    Args:
      library: its name.
      folder: an empty one, for its certificate.
      origins: whose pages may come in.
      idle_timeout: seconds of silence that end a connection.
    """
    module = "tests.interop.webtransport.peer_server"
    made = make_certificate()
    files = map(str, made.write(folder))
    command = (
        python_for(library),
        "-m",
        module,
        library,
        *files,
        *(origins or (HERE_ORIGIN,)),
        "--idle",
        str(idle_timeout),
    )
    with running_command(*command, **ENVIRONMENT) as said:
        yield PeerServer(library, said["url"], int(said["pid"]), made)


@attrs.frozen
class Client:
    """A client that waits for cases."""

    process: subprocess.Popen[str]

    def run(self, case: str) -> None:
        """Run a case; what went wrong fails the test."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        failure: str | None = json.loads(self.process.stdout.readline())
        if failure is not None:
            pytest.fail(failure, pytrace=False)


@contextmanager
def start_client(library: str, url: str) -> Generator[Client]:
    """A client of a library, which is stopped behind the block."""
    command = [python_for(library), "-m", "tests.interop.webtransport.peer_client", library, url]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        try:
            yield Client(process)
        finally:
            process.stdin.close()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
