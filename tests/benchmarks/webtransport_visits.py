"""What is measured of WebTransport, in the words of all libraries; runs where only one of them is installed."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from tests.interop.webtransport.face import Session, Stream, read_all

__all__ = ["VISITS", "Use"]

PIECE: Final = bytes(65_536)
MESSAGE: Final = b"m" * 100
STILL_SECONDS: Final = 0.5
MEBIBYTE: Final = 1_048_576

Use = Callable[[str, Callable[[Session], Awaitable[None]]], Awaitable[None]]
"""Be in a session of a path."""


class Visit(Protocol):
    """Measures something; figures by name."""

    async def __call__(self, use: Use, size: float) -> dict[str, Any]: ...


async def _in_session(use: Use, path: str, measure: Callable[[Session], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def visit(session: Session) -> None:
        found.update(await measure(session))

    await use(path, visit)
    return found


async def up(use: Use, size: float) -> dict[str, Any]:
    """MB/s to the server, by the server's word that all has come."""

    async def measure(session: Session) -> dict[str, Any]:
        stream = await session.open_unidirectional()
        began = time.perf_counter()
        for _ in range(int(size) // len(PIECE)):
            await stream.write(PIECE)
        await stream.end()
        received = int(await read_all(await session.accept_unidirectional()))
        return {"rate": received / 1e6 / (time.perf_counter() - began)}

    return await _in_session(use, "/sink", measure)


async def _download(session: Session, size: float) -> float:
    stream = await session.open_bidirectional()
    began = time.perf_counter()
    await stream.write(str(int(size)).encode())
    await stream.end()
    received = 0
    while data := await stream.read():
        received += len(data)
    assert received == int(size), f"{received} bytes of {int(size)}"
    return received / 1e6 / (time.perf_counter() - began)


async def down(use: Use, size: float) -> dict[str, Any]:
    """MB/s from the server."""

    async def measure(session: Session) -> dict[str, Any]:
        return {"rate": await _download(session, size)}

    return await _in_session(use, "/source", measure)


async def idle(use: Use, size: float) -> dict[str, Any]:
    """MB/s from the server beside a thousand streams that are open and idle, and the same without them."""

    async def measure(session: Session) -> dict[str, Any]:
        alone = await _download(session, size)
        kept: list[Stream] = []
        for _ in range(IDLE_STREAMS):
            stream = await session.open_bidirectional()
            await stream.write(b"1")
            kept.append(stream)
        await session.sleep(STILL_SECONDS)
        beside = await _download(session, size)
        return {"alone": alone, "rate": beside, "cost": 1 - beside / alone, "streams": len(kept)}

    return await _in_session(use, "/source", measure)


IDLE_STREAMS: Final = 1_000


async def streams(use: Use, size: float) -> dict[str, Any]:
    """Streams a second that are opened, echoed and ended, so many at once."""
    at_once = 50

    async def measure(session: Session) -> dict[str, Any]:
        async def work() -> None:
            for _ in range(int(size) // at_once):
                stream = await session.open_bidirectional()
                await stream.write(MESSAGE)
                await stream.end()
                assert await read_all(stream) == MESSAGE

        began = time.perf_counter()
        await session.together(*[work] * at_once)
        return {"rate": int(size) // at_once * at_once / (time.perf_counter() - began)}

    return await _in_session(use, "/echo", measure)


async def datagrams(use: Use, size: float) -> dict[str, Any]:
    """Datagram echoes a second, with a few on their way: whoever receives one sends the next.

    What got lost is given up when nothing has come for a while, and then as many are sent again.
    """
    at_once, silence_seconds = 64, 0.1

    async def measure(session: Session) -> dict[str, Any]:
        received, seconds = 0, 0.0

        async def echo() -> None:
            nonlocal received, seconds
            began = time.perf_counter()
            while received < size:
                await session.receive_datagram()
                received += 1
                await session.send_datagram(MESSAGE)
            seconds = time.perf_counter() - began

        async def watch() -> None:
            seen = 0
            while received < size:
                if received == seen:
                    for _ in range(at_once):
                        await session.send_datagram(MESSAGE)
                seen = received
                await session.sleep(silence_seconds)

        await session.together(echo, watch)
        return {"rate": received / seconds}

    return await _in_session(use, "/echo", measure)


async def round_trips(use: Use, size: float) -> dict[str, Any]:
    """Seconds of each round trip of 100 B on an open stream."""

    async def measure(session: Session) -> dict[str, Any]:
        stream = await session.open_bidirectional()
        seconds = []
        for _ in range(int(size)):
            began = time.perf_counter()
            await stream.write(MESSAGE)
            left = len(MESSAGE)
            while left:
                left -= len(await stream.read())
            seconds.append(time.perf_counter() - began)
        await stream.end()
        return {"seconds": seconds[len(seconds) // 10 :]}

    return await _in_session(use, "/echo", measure)


async def unread(use: Use, size: float) -> dict[str, Any]:
    """Bytes that were written on a stream that nobody reads, until nothing moves or `size` is reached; then it waits.

    Whoever asked looks at the server's memory now, and says so.
    """
    found: dict[str, Any] = {}

    async def visit(session: Session) -> None:
        stream = await session.open_unidirectional()
        written = 0

        async def write() -> None:
            nonlocal written
            while written < size:
                await stream.write(PIECE)
                written += len(PIECE)

        session.start_soon(write)
        before = -1
        while before != written:
            before = written
            await session.sleep(STILL_SECONDS)
        found["written"] = written
        print(json.dumps(found), flush=True)  # the server is looked at while this session is open
        await session.sleep(1)

    await use("/ignore", visit)
    return found


async def resets(use: Use, size: float) -> dict[str, Any]:
    """Seconds from a reset to the end of the server's handler."""
    return await _ends(use, size, is_reset=True)


async def closes(use: Use, size: float) -> dict[str, Any]:
    """Seconds from the close of a session to the end of the server's handler of a stream of it."""
    return await _ends(use, size, is_reset=False)


async def _ends(use: Use, size: float, *, is_reset: bool) -> dict[str, Any]:
    seconds: list[float] = []

    async def ask(session: Session) -> None:
        async def ended() -> list[float]:
            stream = await session.open_bidirectional()
            await stream.end()
            told: list[float] = json.loads(await read_all(stream))
            return told

        await ended()
        for _ in range(int(size)):
            began = 0.0

            async def leave(other: Session) -> None:
                nonlocal began
                stream = await other.open_bidirectional()
                await stream.write(b"x")
                await stream.read()
                began = time.monotonic()
                if is_reset:
                    await stream.reset(1)
                    seconds.append(await _first(ended, session) - began)
                else:
                    await other.close(1, "")

            await use("/hang", leave)
            if not is_reset:
                seconds.append(await _first(ended, session) - began)

    await use("/ended", ask)
    return {"seconds": seconds}


async def _first(ended: Callable[[], Awaitable[list[float]]], session: Session) -> float:
    while not (found := await ended()):
        await session.sleep(0.002)
    return found[0]


VISITS: Final[dict[str, Visit]] = {
    "up": up,
    "down": down,
    "idle": idle,
    "streams": streams,
    "datagrams": datagrams,
    "round_trips": round_trips,
    "unread": unread,
    "resets": resets,
    "closes": closes,
}
