"""A child process as a carrier: frames on its standard input and output, while it lives no longer than a block.

Its standard error is always read, so that the child never waits for a reader, and its end is kept: when the child dies,
the last line it wrote is the best explanation there is. What it writes to its standard output before the first frame (a
banner, a print of a module that is imported) is told apart by the preface, and treated as standard error.

The child gets a process group of its own. Ctrl-C in a terminal then ends our program, which ends the child in order: end of
input, a grace, SIGTERM, a grace, SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

import trio

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.nursery import open_bare_nursery
from trio_streams.transports.bytes import ByteCarrier, describe_fault
from trio_streams.transports.carrier import RECEIVE_BYTES
from trio_streams.wire.binary import PREFACE

__all__ = ["ProcessCarrier", "open_process"]

_TAIL_BYTES: Final = 16_384
"""What is kept of the child's standard error: a long traceback."""

_NAME_CHARACTERS: Final = 120
_LINE_CHARACTERS: Final = 300
"""What of its last line an error quotes."""

_MAX_STRAY_BYTES: Final = 65_536
"""What a child may print before its first frame; one that prints on and on is no server of ours."""


class _Stderr:
    """The end of what the child says for people."""

    def __init__(self, on_stderr: Callable[[bytes], None] | None) -> None:
        self._on_stderr = on_stderr
        self._tail = bytearray()
        self.is_ended: trio.Event = trio.Event()

    @property
    def tail(self) -> str:
        return self._tail.decode(errors="replace")

    def last_line(self) -> str:
        lines = [line.strip() for line in self.tail.splitlines() if line.strip()]
        return lines[-1][:_LINE_CHARACTERS] if lines else ""

    def add(self, data: bytes) -> None:
        self._tail += data
        del self._tail[:-_TAIL_BYTES]
        if self._on_stderr is not None:
            self._on_stderr(data)

    async def read(self, stream: trio.abc.ReceiveStream) -> None:
        try:
            while data := await stream.receive_some(RECEIVE_BYTES):
                self.add(bytes(data))
        except trio.BrokenResourceError:
            pass
        finally:
            self.is_ended.set()


class ProcessCarrier(ByteCarrier):
    """A child process's standard input and output; made by `open_process`."""

    def __init__(
        self, process: trio.Process, stdio: trio.abc.Stream, stderr: _Stderr, *, name: str, preface: bytes, grace: float
    ) -> None:
        super().__init__(stdio, peer=f"process {name}", close_timeout=grace)
        self._process = process
        self._stderr = stderr
        self._preface = preface
        self._stray = bytearray() if preface else None
        self._grace = grace

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The child's exit status, negative for the signal that killed it; None while it runs."""
        return self._process.returncode

    @property
    def stderr_tail(self) -> str:
        """The last 16 KiB of what the child wrote to its standard error."""
        return self._stderr.tail

    async def receive(self) -> bytes:
        """Take the next bytes, at most 64 KiB; `b""` once the child has ended its output and, if at all, with status 0.

        Raises:
          ConnectionLost: the child ended otherwise, or before its first frame; its status and its last words are named.
          RemoteProtocolError: what the child writes is not ours.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        while True:
            try:
                data = await super().receive()
            except ConnectionLost as exc:
                raise await self._explain() from exc
            if not data:
                await self._wait_for_exit()
                if self._stray is not None or self._process.returncode:
                    raise await self._explain()
                return b""
            if self._stray is not None:
                data = self._part(data)
            if data:
                return data

    async def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
          ConnectionLost: the child has ended, or closed its input; its status and its last words are named.
          trio.ClosedResourceError: this side was closed.
        Cancellation: any part of `data` may have been sent.
        """
        try:
            await super().send(data)
        except ConnectionLost as exc:
            raise await self._explain() from exc

    def _part(self, data: bytes) -> bytes:
        """What of the child's first bytes is frames; the rest was meant for people."""
        stray = self._stray
        assert stray is not None
        start = max(0, len(stray) - len(self._preface))
        stray += data
        begin = stray.find(self._preface, start)
        if begin < 0:
            if len(stray) > _MAX_STRAY_BYTES:
                raise RemoteProtocolError(
                    f"{self._peer} writes something else than frames: {bytes(stray[:40])!r}…",
                    code=Code.PROTOCOL_ERROR,
                    field="preface",
                    size=len(stray),
                    limit=_MAX_STRAY_BYTES,
                )
            return b""
        self._stray = None
        if begin:
            self._stderr.add(bytes(stray[:begin]))
        return bytes(stray[begin:])

    async def _wait_for_exit(self) -> None:
        """A child that closes its pipes is about to end; its status and its last words come a moment later."""
        with trio.move_on_after(self._grace):
            await self._process.wait()
            await self._stderr.is_ended.wait()

    async def _explain(self) -> ConnectionLost:
        await self._wait_for_exit()
        if self._stray:
            self._stderr.add(bytes(self._stray))
            self._stray = bytearray()
        code = self._process.returncode
        text = f"connection to {self._peer} lost: {_describe_exit(code)}"
        if self._stray is not None:
            text += " before its first frame"
        last = self._stderr.last_line()
        error = ConnectionLost(f"{text}: {last}" if last else text)
        if last:
            error.add_note(f"standard error of {self._peer}, its end:\n{self.stderr_tail}")
        return error


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "it closed its pipes, but runs on"
    if code >= 0:
        return f"it ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"it was killed by {name}"


@contextlib.asynccontextmanager
async def open_process(
    command: Sequence[str],
    *,
    config: ConnectionConfig | None = None,
    on_stderr: Callable[[bytes], None] | None = None,
    preface: bytes = PREFACE,
) -> AsyncGenerator[ProcessCarrier, None]:
    """Run a program whose standard input and output carry frames, for as long as the block. Not on Windows.

    At the end its input ends. A child that is still there `close_timeout` seconds later gets SIGTERM, and again as much later
    SIGKILL, together with what it has started in its process group.

    Args:
      command: the program and its arguments; no shell sees them.
      config: for its `close_timeout`; None for the defaults.
      on_stderr: told what the child writes to its standard error, as it comes; it must not wait.
      preface: with what the first frame begins; what comes before it is treated as standard error. Empty for no regard.

    Yields:
      The carrier. `stderr_tail` and `returncode` can still be asked after the block.

    Raises:
      ConnectionLost: the program can't be started; one line that names it.
    Cancellation: ends the child as said, which takes at most three times `close_timeout`.
    """
    config = ConnectionConfig() if config is None else config
    name = _shorten(command)
    process = await _start(command, name)
    stderr = _Stderr(on_stderr)
    assert process.stdio is not None
    assert process.stderr is not None
    carrier = ProcessCarrier(process, process.stdio, stderr, name=name, preface=preface, grace=config.close_timeout)
    reading = trio.CancelScope(shield=True)  # the child may have last words while it is being ended

    async def read_stderr(stream: trio.abc.ReceiveStream) -> None:
        with reading:
            await stderr.read(stream)

    async with open_bare_nursery() as nursery:
        nursery.start_soon(read_stderr, process.stderr)
        try:
            yield carrier
        finally:
            try:
                await _end(process, carrier, config.close_timeout)
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + config.close_timeout):
                    await stderr.is_ended.wait()  # unless a grandchild has inherited it
                reading.cancel()
    await trio.aclose_forcefully(process.stderr)


def _shorten(command: Sequence[str]) -> str:
    """A command on one line, for people."""
    text = " ".join(shlex.join(command).split())
    return text if len(text) <= _NAME_CHARACTERS else f"{text[:_NAME_CHARACTERS]}…"


async def _start(command: Sequence[str], name: str) -> trio.Process:
    try:
        return await trio.lowlevel.open_process(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    except (OSError, ValueError) as exc:
        raise ConnectionLost(f"cannot start {name}: {describe_fault(exc)}") from exc


async def _end(process: trio.Process, carrier: ProcessCarrier, grace: float) -> None:
    """End of input, SIGTERM, SIGKILL; each with its grace, and no more."""
    with trio.CancelScope(shield=True):
        with trio.CancelScope() as at_once:
            at_once.cancel()
            await carrier.aclose()
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                _signal_group(process, number)
            with trio.move_on_after(grace):
                await process.wait()
                return


def _signal_group(process: trio.Process, number: signal.Signals) -> None:
    if process.returncode is None and sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
