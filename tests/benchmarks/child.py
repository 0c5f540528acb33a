"""Starts the servers' processes, says where they listen, and reads what they cost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

__all__ = ["apart", "cpu_seconds", "resident_bytes", "running", "running_command"]
_CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []


def running(module: str, *arguments: str) -> contextlib.AbstractContextManager[Mapping[str, str]]:
    """Run `python -m module` for as long as the block.

    Args:
      module: prints its URLs as one line of JSON, and ends with its standard input.
      arguments: for it.

    Yields:
      The URLs.
    """
    return running_command(sys.executable, "-m", module, *arguments)


@contextlib.contextmanager
def running_command(*command: str, **environment: str) -> Iterator[Mapping[str, str]]:
    """The same of any command.

    Args:
      command: prints its URLs as one line of JSON, and ends with its standard input.
      environment: added to ours.
    """
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as process:
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


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """What is started in the block gets all cores but one, and this process that one afterwards.

    A client that asks and waits is woken by its server, and kernels like to wake it on the same core: then the two take
    turns in one run, and work at the same time in the next.
    """
    if len(_CORES) < 2:
        yield
        return
    os.sched_setaffinity(0, _CORES[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, _CORES[:1])


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far, in user and system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """What a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
