"""A client adapter as the client suite knows them: a process that answers one JSON line with one."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import trio

from tests.interop.durable.packages import ROOT

Message: TypeAlias = dict[str, Any]

ANSWER_TIMEOUT: Final = 30
"""Seconds for one command, as in the published runner."""
CHUNK_BYTES: Final = 65_536


class AdapterProcess:
    """One command at a time to an adapter.

    Args:
      process: with pipes for its input and output.
    """

    def __init__(self, process: trio.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin, self._stdout = process.stdin, process.stdout
        self._turn = trio.Lock()
        self._received = bytearray()

    async def ask(self, command: Message) -> Message:
        """The answer to a command."""
        line = json.dumps({key: value for key, value in command.items() if value is not None})
        async with self._turn:
            with trio.fail_after(ANSWER_TIMEOUT):
                await self._stdin.send_all(line.encode() + b"\n")
                answer = json.loads(await self._receive_line())
        assert isinstance(answer, dict), answer
        return answer

    async def _receive_line(self) -> bytes:
        while b"\n" not in self._received:
            chunk = await self._stdout.receive_some(CHUNK_BYTES)
            assert chunk, "the adapter has ended"
            self._received += chunk
        line, _, rest = self._received.partition(b"\n")
        self._received = bytearray(rest)
        return bytes(line)


@asynccontextmanager
async def start_adapter(
    command: Sequence[str], server_url: str
) -> AsyncGenerator[tuple[AdapterProcess, dict[str, bool]]]:
    """A running adapter that has been told its server, and the features that it declares."""
    with tempfile.TemporaryFile() as said:
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, check=False)
            process: trio.Process = await nursery.start(partial(run, cwd=ROOT), command)
            adapter = AdapterProcess(process)
            try:
                answer = await adapter.ask({"type": "init", "serverUrl": server_url})
                assert answer.get("success"), answer
                yield adapter, answer.get("features", {})
                await adapter.ask({"type": "shutdown"})
            except BaseException:
                said.seek(0)
                print(said.read().decode(errors="replace"))  # noqa: T201 - pytest shows it with the failure
                raise
            finally:
                process.kill()
