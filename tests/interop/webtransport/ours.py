"""Our own library in the words of its peers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import trio

from tests.interop.webtransport.face import Place, Session, SessionOver, WasReset, WasStopped, payload_bytes
from trio_streams.errors import ConnectionLost
from trio_streams.webtransport import (
    QuicLimits,
    SessionRefused,
    WebTransportConfig,
    WebTransportReceiveStream,
    WebTransportSendStream,
    WebTransportSession,
    WebTransportStream,
    WebTransportStreamReset,
    WebTransportStreamStopped,
    connect,
)
from trio_streams.webtransport import (
    serve as serve_sessions,
)

READ_BYTES: Final = 65_536
FILLING: Final = b"!" * READ_BYTES


@contextmanager
def _translated() -> Iterator[None]:
    """Our errors, in the peers' words."""
    try:
        yield
    except WebTransportStreamReset as exc:
        raise WasReset(exc.application_code) from exc
    except WebTransportStreamStopped as exc:
        raise WasStopped(exc.application_code) from exc
    except (ConnectionLost, trio.ClosedResourceError, trio.EndOfChannel) as exc:
        raise SessionOver from exc


class PeerStream:
    """One stream."""

    def __init__(self, stream: WebTransportStream | WebTransportSendStream | WebTransportReceiveStream) -> None:
        self._stream = stream

    @property
    def _sending(self) -> WebTransportStream | WebTransportSendStream:
        assert not isinstance(self._stream, WebTransportReceiveStream)
        return self._stream

    @property
    def _receiving(self) -> WebTransportStream | WebTransportReceiveStream:
        assert not isinstance(self._stream, WebTransportSendStream)
        return self._stream

    async def read(self) -> bytes:
        with _translated():
            return await self._receiving.receive_some(READ_BYTES)

    async def write(self, data: bytes) -> None:
        with _translated():
            await self._sending.send_all(data)

    async def end(self) -> None:
        with _translated():
            self._sending.end()
        await trio.lowlevel.checkpoint()

    async def reset(self, code: int) -> None:
        self._sending.reset(code)
        await trio.lowlevel.checkpoint()

    async def stop(self, code: int) -> None:
        self._receiving.stop(code)
        await trio.lowlevel.checkpoint()

    async def wait_stopped(self) -> int | None:
        try:
            while True:  # what nobody reads fills a window, and then only a stop wakes us
                await self.write(FILLING)
        except WasStopped as exc:
            code: int | None = exc.args[0]
            return code


class PeerSession:
    """One session."""

    def __init__(self, session: WebTransportSession) -> None:
        self._session = session
        self.protocol = session.protocol

    async def open_bidirectional(self) -> PeerStream:
        with _translated():
            return PeerStream(await self._session.create_bidirectional_stream())

    async def open_unidirectional(self) -> PeerStream:
        with _translated():
            return PeerStream(await self._session.create_unidirectional_stream())

    async def accept_bidirectional(self) -> PeerStream:
        with _translated():
            return PeerStream(await self._session.accept_bidirectional_stream())

    async def accept_unidirectional(self) -> PeerStream:
        with _translated():
            return PeerStream(await self._session.accept_unidirectional_stream())

    async def send_datagram(self, data: bytes) -> None:
        try:  # programs count datagrams by the ten thousand, and `_translated` costs as much as one
            self._session.send_datagram(data)
        except (ConnectionLost, trio.ClosedResourceError) as exc:
            raise SessionOver from exc

    async def receive_datagram(self) -> bytes:
        try:
            return await self._session.receive_datagram()
        except (ConnectionLost, trio.ClosedResourceError) as exc:
            raise SessionOver from exc

    async def close(self, code: int, reason: str) -> None:
        self._session.close(code, reason)
        await trio.lowlevel.checkpoint()

    async def wait_closed(self) -> tuple[int, str]:
        closed = await self._session.wait_closed()
        return closed.code, closed.reason

    async def how_ended(self) -> tuple[int, str] | None:
        ended = None
        if not self._session.is_open:
            with trio.CancelScope(shield=True):  # the end of a session cancels its handler
                ended = await self.wait_closed()
        return ended

    @staticmethod
    async def together(*functions: Callable[[], Awaitable[object]]) -> None:
        try:
            async with trio.open_nursery() as nursery:
                for function in functions:
                    nursery.start_soon(function)
        except BaseExceptionGroup as exc:
            raise exc.exceptions[0] from None

    @staticmethod
    async def sleep(seconds: float) -> None:
        await trio.sleep(seconds)

    def start_soon(self, function: Callable[[], Awaitable[None]]) -> None:
        self._session.start_soon(function)


def run(main: Callable[[], Awaitable[None]], timeout: float | None = None) -> None:
    async def run_main() -> None:
        with trio.move_on_after(float("inf") if timeout is None else timeout) as scope:
            await main()
        if scope.cancelled_caught:
            raise trio.TooSlowError

    trio.run(run_main)


def _config(idle_timeout: float = 60.0) -> WebTransportConfig:
    return WebTransportConfig(quic=QuicLimits(idle_timeout=idle_timeout, max_packet_bytes=payload_bytes(1_452)))


async def serve(place: Place) -> None:
    async def handle(path: str, session: WebTransportSession) -> None:
        await place.handler(path, PeerSession(session))

    async with trio.open_nursery() as nursery:
        server = await nursery.start(
            partial(
                serve_sessions,
                {path: partial(handle, path) for path in place.paths},
                bind="127.0.0.1:0",
                certfile=place.certificate,
                keyfile=place.key,
                allowed_origins=place.origins,
                protocols=place.protocols,
                config=_config(place.idle_timeout),
            )
        )
        sys.stdout.write(json.dumps({"url": server.url, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        await trio.to_thread.run_sync(place.ended, abandon_on_cancel=True)
        nursery.cancel_scope.cancel()


async def use(
    url: str,
    visit: Callable[[Session], Awaitable[None]],
    *,
    protocols: tuple[str, ...] = (),
    origin: str | None = None,
) -> None:
    try:
        async with connect(url, protocols=protocols, origin=origin, verify=False, config=_config()) as session:
            await visit(PeerSession(session))
    except SessionRefused as exc:
        raise SessionOver(exc.status) from exc
