"""What tests of the command line need: programs in processes of their own, and an application served in a thread."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator, Generator
from functools import partial
from pathlib import Path
from typing import Final, Literal

import attrs
import pytest
import trio

from trio_streams import Context, Router, RpcError, serve
from trio_streams.cli import main

ROOT: Final = Path(__file__).resolve().parent.parent
PATIENCE: Final = 30

needs_signals = pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
needs_pty = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="pseudo-terminals differ elsewhere")


def start(*arguments: str, stdin: int | None = subprocess.DEVNULL, folder: Path = ROOT) -> subprocess.Popen[str]:
    """Start the command line in a process of its own; warnings are errors there, too."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "trio_streams", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def finish(process: subprocess.Popen[str], *, send: str | None = None) -> tuple[int, str, str]:
    """Wait for a process to end: its exit code, output and errors."""
    try:
        output, errors = process.communicate(send, timeout=PATIENCE)
    finally:
        process.kill()
    return process.returncode, output, errors


def lines_of(process: subprocess.Popen[str], count: int) -> list[str]:
    """The next lines of a process's output, as soon as they are written."""
    assert process.stdout is not None
    lines = [process.stdout.readline().rstrip("\n") for _ in range(count)]
    assert all(lines), finish(process)
    return lines


def on_a_terminal(*arguments: str, stream: str = "stdout") -> tuple[subprocess.Popen[str], int]:
    """Start the command line with a pseudo-terminal as one of its streams: the process and our end."""
    import fcntl  # noqa: PLC0415 - Windows has none of them
    import pty  # noqa: PLC0415
    import struct  # noqa: PLC0415
    import termios  # noqa: PLC0415

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 60, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "trio_streams", *arguments],
        stdin=theirs if stream == "stdin" else subprocess.DEVNULL,
        stdout=theirs if stream == "stdout" else subprocess.PIPE,
        stderr=theirs if stream == "stderr" else subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
    )
    os.close(theirs)
    return process, ours


def read_until(fd: int, count: int, mark: bytes) -> bytes:
    """Read from a terminal until a mark was seen so often."""
    data = b""
    while data.count(mark) < count:
        data += os.read(fd, 65_536)
    return data


def read_rest(fd: int) -> bytes:
    """Read from a terminal until its programs are gone."""
    data = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side of a terminal is gone
        while chunk := os.read(fd, 65_536):
            data += chunk
    os.close(fd)
    return data


class Level(enum.Enum):
    INFO = "info"
    ERROR = "error"


@attrs.frozen
class Tail:
    """What to follow."""

    level: Level = Level.INFO
    limit: int | None = None
    tags: list[str] = attrs.field(factory=list)
    kind: Literal["a", "b"] = "a"
    since: dt.datetime | None = None
    ports: dict[str, int] = attrs.field(factory=dict)
    ratio: float = 1.0
    exact: bool = False


@attrs.frozen
class Figure:
    """A measured value."""

    number: int
    name: str


router = Router()
told: list[int] = []
"""What `tell` was told."""


@router.call("double")
async def double(number: int) -> int:
    """Twice as much."""
    return 2 * number


@router.event("tell")
async def tell(number: int) -> None:
    told.append(number)


@router.stream("tail")
async def tail(wanted: Tail) -> AsyncIterator[Tail]:
    """Follow a log."""
    yield wanted


@router.stream("figures")
async def figures() -> AsyncIterator[Figure]:
    number = 0
    while True:
        yield Figure(number, f"figure {number}")
        number += 1
        await trio.sleep(0.001)


@router.stream("fails")
async def fails() -> AsyncIterator[int]:
    yield 1
    raise RpcError("OUT_OF_RANGE", "only one")


@router.stream("users.[id].feed")
async def feed(ctx: Context) -> AsyncIterator[str]:
    yield ctx.metadata.get("authorization", "nobody")
    yield ctx.metadata.get("colour", "none")


@router.stream("size", direction="client")
async def size(chunks: AsyncIterable[bytes]) -> list[int]:
    """How many bytes, in how many chunks."""
    sizes = [len(chunk) async for chunk in chunks]
    return [sum(sizes), len(sizes)]


@router.stream("sum", direction="client")
async def total(numbers: AsyncIterable[int]) -> int:
    return sum([number async for number in numbers])


@router.stream("first", direction="client")
async def first(numbers: AsyncIterable[int]) -> int:
    async for number in numbers:
        return number
    raise RpcError("INVALID_ARGUMENT", "there is no number")


@router.stream("echo", direction="bidi")
async def echo(words: AsyncIterable[str]) -> AsyncIterator[str]:
    async for word in words:
        if word == "bye":
            return
        yield word.upper()
    yield "the end"


@router.stream("pipe", direction="bidi")
async def pipe(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk[::-1]


@router.stream("mirror", direction="bidi")
async def mirror(items: AsyncIterable[object]) -> AsyncIterator[object]:
    async for item in items:
        yield item


@contextlib.contextmanager
def served(
    app: Router, *schemes: str, certfile: str | None = None, keyfile: str | None = None
) -> Generator[dict[str, str]]:
    """Serve an application in a thread for as long as the block: its URLs by scheme."""
    urls: list[str] = []
    ready = threading.Event()
    ends: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            wanted = [f"{scheme}://127.0.0.1:0" for scheme in schemes]
            urls.extend(await nursery.start(partial(serve, app, *wanted, certfile=certfile, keyfile=keyfile)))
            ends.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            ready.set()

    thread = threading.Thread(target=trio.run, args=[run])
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield {url.partition(":")[0]: url for url in urls}
    finally:
        for token, scope in ends:
            token.run_sync_soon(scope.cancel)
        thread.join(PATIENCE)
    assert not thread.is_alive()


def command(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process: exit code, output, errors."""
    code = main(list(arguments))
    captured = capfd.readouterr()
    return code, captured.out, captured.err
