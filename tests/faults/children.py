"""Programs of a fault run: each is told one line of JSON on its standard input, and answers with one on its output."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

__all__ = ["PYTHON", "ROOT", "Child", "answer_lines", "open_child"]

ROOT: Final = Path(__file__).resolve().parents[2]
PYTHON: Final = (sys.executable, "-W", "error")

Command = Callable[[list[float]], Awaitable[Mapping[str, object]]]


class _Lines:
    """The lines of a byte stream."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._unread = b""

    async def next(self) -> bytes:
        """The next line; empty at the end."""
        while b"\n" not in self._unread:
            data = bytes(await self._stream.receive_some(65_536))
            if not data:
                return b""
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line


class Child:
    """One program of ours that runs in a process of its own.

    Attributes:
      process: as Trio knows it.
      hello: what it said first.
    """

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self.hello: dict[str, Any] = {}
        self._stdin = process.stdin
        self._lines = _Lines(process.stdout)
        self._asking = trio.Lock()

    async def read(self) -> dict[str, Any]:
        """What it says next."""
        line = await self._lines.next()
        if not line:
            raise EOFError(f"{self.process.args!r} left without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def ask(self, command: str, *numbers: float) -> dict[str, Any]:
        """Give it a command, and wait for its answer. One at a time; what is cancelled leaves no answer behind."""
        line = json.dumps([command, *numbers]).encode() + b"\n"
        async with self._asking:
            with trio.CancelScope(shield=True):
                await self._stdin.send_all(line)
                answer = await self.read()
        return answer


@asynccontextmanager
async def open_child(module: str, *arguments: str) -> AsyncIterator[Child]:
    """Run `python -m module` for as long as the block; it is killed at the end. Its errors are shown as they come."""
    process = await trio.lowlevel.open_process(
        [*PYTHON, "-m", module, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child = Child(process)
    try:
        child.hello = await child.read()
        yield child
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                await trio.aclose_forcefully(pipe)


async def answer_lines(hello: Mapping[str, object], commands: Mapping[str, Command]) -> None:
    """Be such a program: say hello, and answer each line with what its command returns, until the input ends."""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin, trio.lowlevel.FdStream(os.dup(1)) as stdout:
        await stdout.send_all(_line(hello))
        lines = _Lines(stdin)
        while line := await lines.next():
            command, *numbers = json.loads(line)
            await stdout.send_all(_line(await commands[command](numbers)))


def _line(answer: Mapping[str, object]) -> bytes:
    assert not any(isinstance(value, float) and math.isnan(value) for value in answer.values())
    return json.dumps(answer).encode() + b"\n"
