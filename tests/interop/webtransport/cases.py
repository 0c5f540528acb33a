"""What a client asks of a server whose paths do as `behaviours` says: each case judges both sides, by bytes and codes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, Protocol

from tests.interop.webtransport.behaviours import CLOSE_CODE, CLOSE_REASON, FAULT_CODE, HELLO, PROTOCOLS
from tests.interop.webtransport.face import Session, SessionOver, Stream, WasReset, WasStopped, read_all

__all__ = ["CASES", "Use", "run_case"]

MEBIBYTE: Final = 1_048_576
PIECE_BYTES: Final = 32_768
AT_ONCE: Final = 50
DATAGRAMS: Final = 20
ATTEMPTS: Final = 50
"""To ask for what may be on its way still."""
CODES: Final = (0, 1, 0x1D, 0x1E, 0x1F, 0x3E8, 0xFFFF_FFFF)
"""Around the gaps of the mapping, and at its ends."""


class Use(Protocol):
    """Be in a session of a path."""

    async def __call__(
        self,
        path: str,
        visit: Callable[[Session], Awaitable[None]],
        *,
        protocols: tuple[str, ...] = (),
        origin: str | None = None,
    ) -> None: ...


async def _same(sent: bytes, stream: Stream) -> None:
    received = await read_all(stream)
    assert len(received) == len(sent), f"{len(received)} bytes came back of {len(sent)}"
    assert received == sent, "other bytes came back"


async def _write_all(data: bytes, stream: Stream) -> None:
    for start in range(0, len(data), PIECE_BYTES):
        await stream.write(data[start : start + PIECE_BYTES])
    await stream.end()


def _bytes(size: int, seed: int = 0) -> bytes:
    """Bytes of which no two pieces are alike."""
    return hashlib.shake_128(seed.to_bytes(8)).digest(size)


async def bidirectional(use: Use) -> None:
    """A mebibyte comes back on the same stream."""

    async def visit(session: Session) -> None:
        await _echo(session, _bytes(MEBIBYTE))

    await use("/echo", visit)


async def _echo(session: Session, data: bytes) -> None:
    stream = await session.open_bidirectional()
    await session.together(partial(_write_all, data, stream), partial(_same, data, stream))


async def unidirectional(use: Use) -> None:
    """A mebibyte comes back on a stream of the server's, each in one direction."""

    async def visit(session: Session) -> None:
        data = _bytes(MEBIBYTE, 1)
        stream = await session.open_unidirectional()

        async def receive() -> None:
            await _same(data, await session.accept_unidirectional())

        await session.together(partial(_write_all, data, stream), receive)

    await use("/echo", visit)


async def datagrams(use: Use) -> None:
    """Datagrams of any size come back, one after the other."""

    async def visit(session: Session) -> None:
        for number in range(DATAGRAMS):
            data = _bytes(1 + 50 * number, number)
            await session.send_datagram(data)
            assert await session.receive_datagram() == data

    await use("/echo", visit)


async def many_streams(use: Use) -> None:
    """Fifty streams at once, each with bytes of its own."""

    async def visit(session: Session) -> None:
        await session.together(*(partial(_echo, session, _bytes(20_000, number)) for number in range(AT_ONCE)))

    await use("/echo", visit)


async def server_opened(use: Use) -> None:
    """The server opens a stream of each kind, and the first is answered."""

    async def visit(session: Session) -> None:
        stream = await session.accept_bidirectional()
        assert await read_all(stream) == HELLO
        await _write_all(b"heard you", stream)
        assert await read_all(await session.accept_unidirectional()) == b"heard you"

    await use("/open", visit)


async def reset_received(use: Use) -> None:
    """The server's reset raises in the reader, with its code."""

    async def visit(session: Session) -> None:
        stream = await session.open_bidirectional()
        await stream.write(b"do")
        try:
            await read_all(stream)
        except WasReset as exc:
            assert exc.args[0] == FAULT_CODE, exc  # noqa: PT017 - there is no pytest in peers' processes
        else:
            raise AssertionError("the stream ended as if all were well")

    await use("/reset", visit)


async def stop_received(use: Use) -> None:
    """The server's stop reaches the writer, with its code."""

    async def visit(session: Session) -> None:
        stream = await session.open_unidirectional()
        try:
            await stream.write(b"do")
            code = await stream.wait_stopped()
        except WasStopped as exc:
            code = exc.args[0]
        assert code == FAULT_CODE, code

    await use("/stop", visit)


async def reset_sent(use: Use) -> None:
    """Our reset reaches the server's reader, with its code."""

    async def visit(session: Session) -> None:
        for code in CODES:
            stream = await session.open_unidirectional()
            await stream.write(b"something")
            assert await read_all(await session.accept_unidirectional()) == b"begun"
            await stream.reset(code)
            told = await read_all(await session.accept_unidirectional())
            assert told == f"reset {code}".encode(), (code, told)

    await use("/tell", visit)


async def stop_sent(use: Use) -> None:
    """Our stop reaches the server's writer, with its code."""

    async def visit(session: Session) -> None:
        for code in CODES:
            stream = await session.open_bidirectional()
            await stream.write(b"go")
            assert await stream.read()
            await stream.stop(code)
            told = await read_all(await session.accept_unidirectional())
            assert told == f"stopped {code}".encode(), (code, told)

    await use("/tell", visit)


async def close_received(use: Use) -> None:
    """The server's close arrives with its code and reason."""

    async def visit(session: Session) -> None:
        stream = await session.open_bidirectional()
        await stream.write(b"do")
        closed = await session.wait_closed()
        assert closed == (CLOSE_CODE, CLOSE_REASON), closed

    await use("/close", visit)


async def close_sent(use: Use) -> None:
    """Our close arrives at the server with its code and reason."""
    code, reason = 0xFFFF_FFFE, "genug für heute"

    async def leave(session: Session) -> None:
        await _echo(session, b"there")
        await session.close(code, reason)

    await use("/echo", leave)
    told: list[Any] = []

    async def ask(session: Session) -> None:
        told.append(json.loads(await read_all(await session.accept_unidirectional())))

    for _ in range(ATTEMPTS):
        told.clear()
        await use("/last", ask)
        if told == [[code, reason]]:
            return
    raise AssertionError(f"the server says {told}")


async def protocol(use: Use) -> None:
    """The server chooses a subprotocol, and both sides say which."""
    seen: list[object] = []

    async def visit(session: Session) -> None:
        seen.append(session.protocol)
        seen.append(json.loads(await read_all(await session.accept_unidirectional())))

    await use("/protocol", visit, protocols=("first", "second", "third"))
    assert seen == [PROTOCOLS[0]] * 2, seen


async def unknown_path(use: Use) -> None:
    """A path that is not there is refused."""
    await _expect_refusal(use, "/nowhere", 404, None)


async def wrong_origin(use: Use) -> None:
    """A page that may not come in is refused."""
    await _expect_refusal(use, "/echo", 403, "https://elsewhere.example")


async def _expect_refusal(use: Use, path: str, status: int, origin: str | None) -> None:
    async def visit(session: Session) -> None:
        raise AssertionError("the session was accepted")

    try:
        await use(path, visit, origin=origin)
    except SessionOver as exc:
        assert exc.args[:1] in {(), (status,)}, exc  # noqa: PT017 - there is no pytest in peers' processes
        return
    raise AssertionError("the session was accepted")


CASES: Final[dict[str, Callable[[Use], Awaitable[None]]]] = {
    case.__name__: case
    for case in (
        bidirectional,
        unidirectional,
        datagrams,
        many_streams,
        server_opened,
        reset_received,
        stop_received,
        reset_sent,
        stop_sent,
        close_received,
        close_sent,
        protocol,
        unknown_path,
        wrong_origin,
    )
}


async def run_case(name: str, use: Use) -> None:
    """Run a case by its name.

    Raises:
      AssertionError: something else came than was to come.
    """
    await CASES[name](use)
