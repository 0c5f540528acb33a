"""What every peer's server does on each path.

A server tells a client what it has seen, so that a client alone can judge both sides.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from tests.interop.webtransport.face import Cannot, Session, SessionOver, Stream, WasReset, WasStopped, read_all

__all__ = ["CLOSE_CODE", "CLOSE_REASON", "FAULT_CODE", "HELLO", "PROTOCOLS", "Site"]

CLOSE_CODE: Final = 4_000_000_001
CLOSE_REASON: Final = "bis bald ✓"
FAULT_CODE: Final = 0xFFFF_FFF0
"""Of resets and stops by the server; near the end of the 32 bits, so that a wrong mapping is seen."""
HELLO: Final = b"from the server"
PROTOCOLS: Final = ("second", "fourth")
"""Those of the server."""
PIECE: Final = b"?" * 16_384
SOURCE_PIECE_BYTES: Final = 65_536


class Site:
    """A server's sessions, and how the last one of `/echo` ended."""

    def __init__(self) -> None:
        self._last: tuple[int, str] | None = None
        self._written_bytes = 0
        self._pouring = 0
        self._ended: list[float] = []
        self._paths: dict[str, Callable[[Session], Awaitable[None]]] = {
            "/echo": self._echo,
            "/open": self._open,
            "/reset": self._reset,
            "/stop": self._stop,
            "/tell": self._tell,
            "/close": self._close,
            "/last": self._tell_last,
            "/pour": self._pour,
            "/ignore": self._ignore,
            "/protocol": self._tell_protocol,
            "/sink": self._sink,
            "/source": self._source,
            "/hang": self._hang,
            "/ended": self._tell_ended,
        }

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self._paths)

    async def handle(self, path: str, session: Session) -> None:
        """Be a session of a path until the client closes it."""
        try:
            await self._paths[path](session)
        except SessionOver:
            pass

    async def _echo(self, session: Session) -> None:
        """Streams come back, those of one direction on a new one, and so do datagrams."""

        async def echo_datagrams() -> None:
            while True:
                await session.send_datagram(await session.receive_datagram())

        async def turn_around(stream: Stream) -> None:
            back = await session.open_unidirectional()
            await _copy(stream, back)

        try:
            await session.together(
                session.wait_closed,
                _until_the_end(echo_datagrams),
                _each(session, session.accept_bidirectional, lambda stream: _copy(stream, stream)),
                _each(session, session.accept_unidirectional, turn_around),
            )
        finally:
            self._last = await session.how_ended()

    async def _open(self, session: Session) -> None:
        """The server opens a stream of each kind, and says on the second what came back on the first."""
        stream = await session.open_bidirectional()
        await stream.write(HELLO)
        await stream.end()
        answer = await read_all(stream)
        second = await session.open_unidirectional()
        await second.write(answer)
        await second.end()
        await session.wait_closed()

    async def _reset(self, session: Session) -> None:
        """Each stream is answered by a reset, once some of it was read."""

        async def refuse(stream: Stream) -> None:
            await stream.read()
            await stream.reset(FAULT_CODE)

        await _each(session, session.accept_bidirectional, refuse)()

    async def _stop(self, session: Session) -> None:
        """Each stream of one direction is stopped, once some of it was read."""

        async def refuse(stream: Stream) -> None:
            await stream.read()
            await stream.stop(FAULT_CODE)

        await _each(session, session.accept_unidirectional, refuse)()

    async def _tell(self, session: Session) -> None:
        """The beginning of a stream is told and the code of its reset, and on a stream of two directions that of a stop."""

        async def tell(text: str) -> None:
            told = await session.open_unidirectional()
            await told.write(text.encode())
            await told.end()

        async def read(stream: Stream) -> None:
            try:
                await stream.read()
                await tell("begun")
                await read_all(stream)
            except WasReset as exc:
                await tell(f"reset {exc.args[0]}")
            else:
                await tell("ended")

        async def write(stream: Stream) -> None:
            try:
                await stream.write(PIECE)
                await tell(f"stopped {await stream.wait_stopped()}")
            except WasStopped as exc:
                await tell(f"stopped {exc.args[0]}")
            except Cannot as exc:
                await tell(f"cannot {exc}")

        await session.together(
            _each(session, session.accept_unidirectional, read),
            _each(session, session.accept_bidirectional, write),
        )

    async def _close(self, session: Session) -> None:
        """The server closes when the first stream comes."""
        stream = await session.accept_bidirectional()
        await stream.read()
        await session.close(CLOSE_CODE, CLOSE_REASON)

    async def _pour(self, session: Session) -> None:
        """Each stream of two directions is written to without end; a datagram asks how much, and how many are written."""

        async def pour(stream: Stream) -> None:
            self._pouring += 1
            try:
                while True:
                    await stream.write(PIECE)
                    self._written_bytes += len(PIECE)
            finally:
                self._pouring -= 1

        async def tell() -> None:
            while True:
                await session.receive_datagram()
                told = {"written": self._written_bytes, "pouring": self._pouring}
                await session.send_datagram(json.dumps(told).encode())

        await session.together(_until_the_end(tell), _each(session, session.accept_bidirectional, pour))

    @staticmethod
    async def _ignore(session: Session) -> None:
        """Streams come and nobody reads them."""
        kept: list[Stream] = []

        async def keep(stream: Stream) -> None:
            kept.append(stream)

        await session.together(session.wait_closed, _each(session, session.accept_unidirectional, keep))

    @staticmethod
    async def _sink(session: Session) -> None:
        """Streams of one direction are counted, and answered with their length."""

        async def count(stream: Stream) -> None:
            size = 0
            while data := await stream.read():
                size += len(data)
            answer = await session.open_unidirectional()
            await answer.write(str(size).encode())
            await answer.end()

        await _each(session, session.accept_unidirectional, count)()

    @staticmethod
    async def _source(session: Session) -> None:
        """A stream that asks for a number of bytes gets them."""

        async def give(stream: Stream) -> None:
            size = int(await read_all(stream))
            piece = bytes(SOURCE_PIECE_BYTES)
            while size > 0:
                await stream.write(piece[:size])
                size -= len(piece)
            await stream.end()

        await _each(session, session.accept_bidirectional, give)()

    async def _hang(self, session: Session) -> None:
        """Streams are read for ever; when that is over is kept for `/ended`, by a clock that all processes share."""

        async def hang(stream: Stream) -> None:
            try:
                await stream.write((await stream.read())[:1])
                await read_all(stream)
            finally:
                self._ended.append(time.monotonic())

        await _each(session, session.accept_bidirectional, hang)()

    async def _tell_ended(self, session: Session) -> None:
        """When streams of `/hang` ended, each time they are asked for by a stream."""

        async def tell(stream: Stream) -> None:
            await read_all(stream)
            told, self._ended = self._ended, []
            await stream.write(json.dumps(told).encode())
            await stream.end()

        await _each(session, session.accept_bidirectional, tell)()

    async def _tell_protocol(self, session: Session) -> None:
        stream = await session.open_unidirectional()
        await stream.write(json.dumps(session.protocol).encode())
        await stream.end()
        await session.wait_closed()

    async def _tell_last(self, session: Session) -> None:
        """How the last session of `/echo` ended."""
        stream = await session.open_unidirectional()
        await stream.write(json.dumps(self._last).encode())
        await stream.end()
        await session.wait_closed()


async def _copy(source: Stream, sink: Stream) -> None:
    try:
        while data := await source.read():
            await sink.write(data)
        await sink.end()
    except (WasReset, WasStopped, SessionOver):
        pass


def _until_the_end(function: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    async def run() -> None:
        try:
            await function()
        except (SessionOver, WasReset, WasStopped):
            pass

    return run


def _each(
    session: Session, accept: Callable[[], Awaitable[Stream]], handle: Callable[[Stream], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Handle all streams of a kind, as many at once as there are."""

    async def run() -> None:
        while True:
            stream = await accept()
            session.start_soon(_until_the_end(partial(handle, stream)))

    return _until_the_end(run)
