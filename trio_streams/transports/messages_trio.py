"""A trio-websocket connection as a carrier, with what is known to go wrong there fenced off.

- A send that is cancelled in mid-frame corrupts the connection: later sends "succeed" and never arrive. So a message is
  sent under a shield. A cancelled sender gives it `close_timeout` seconds more, and then closes the connection: it ends
  up whole or dead, never torn.
- No ping is answered while its queue of messages is full. The driver's receive loop never waits for an application, so
  the queue never stays full under it; who uses the carrier without the driver must keep receiving as well.
- It reads 4 KiB at a time, and holds one message: connections that are opened here read 64 KiB and hold 16.
- An exception in its reader task would crash the nursery it runs in: those that are opened here contain it, and the
  connection counts as lost.
- It tells nobody that a handshake was malformed: those that are opened here notice when its reader leaves.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

import trio
import trio_websocket

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, RemoteProtocolError
from trio_streams.transports.admission import CheckRequest, find_check
from trio_streams.transports.bytes import describe_fault, host_port, peer_name, tune_stream
from trio_streams.transports.carrier import RECEIVE_BYTES
from trio_streams.transports.messages_close import CLEAN_CLOSE_CODES, describe_close
from trio_streams.transports.messages_handshake import check_chosen, open_websocket_stream, parse_url
from trio_streams.transports.messages_websocket import (
    DEFAULT_MAX_MESSAGE_BYTES,
    SUBPROTOCOL,
)
from trio_streams.transports.origin import Refusal

__all__ = ["TrioWebSocketCarrier", "accept_trio_websocket", "connect_trio_websocket"]

_QUEUED_MESSAGES: Final = 16


class TrioWebSocketCarrier:
    """Carries bytes in binary messages over a trio-websocket connection, such as one that you already have.

    The connection's own nursery must outlive the carrier. Nothing else may send or receive on it meanwhile.

    Args:
      ws: an open connection.
      peer: who is on the other side, for people; None to ask the connection.
      close_timeout: seconds that a goodbye, or the rest of a cancelled message, may take.
      stream: what the connection runs on, if the carrier is to close it; None leaves that to whoever opened it. After
        some failures (1009 is one) trio-websocket's own `aclose` does nothing, and the peer would never learn.
    """

    def __init__(
        self,
        ws: trio_websocket.WebSocketConnection,
        *,
        peer: str | None = None,
        close_timeout: float = 2.0,
        stream: trio.abc.AsyncResource | None = None,
    ) -> None:
        self._ws = ws
        self._peer = _endpoint_name(ws.remote) if peer is None else peer
        self._close_timeout = close_timeout
        self._stream = stream
        self._is_closed = False
        self._is_torn = False

    @property
    def peer(self) -> str:
        """Who is on the other side, for people."""
        return self._peer

    @property
    def path(self) -> str:
        """The target of the opening request, with its query."""
        return self._ws.path or "/"

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol both sides agreed on, or None."""
        return self._ws.subprotocol

    async def receive(self) -> bytes:
        """Take the next binary message's payload; `b""` once the peer has closed with 1000, 1001 or no code.

        Raises:
          ConnectionLost: TCP broke, or the connection was closed with any other code, 1009 for a message that is too
            large.
          RemoteProtocolError: the peer sent a text message.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        while True:
            self._check_open()
            try:
                message = await self._ws.get_message()
            except trio_websocket.ConnectionClosed as exc:
                self._check_open()
                failure = self._failure(exc)
                if failure is None:
                    return b""
                raise failure from exc
            if isinstance(message, str):
                raise RemoteProtocolError(
                    f"{self._peer} broke the protocol: expected binary messages, not a text message"
                )
            if message:
                return message

    async def send(self, data: bytes) -> None:
        """Send `data` as one binary message.

        Raises:
          ConnectionLost: TCP broke, or the peer has closed.
          trio.ClosedResourceError: this side was closed.
        Cancellation: the message is finished within `close_timeout` seconds, or else the connection is closed.
        """
        self._check_open()
        if not data:
            await trio.lowlevel.checkpoint()
            return
        await trio.lowlevel.checkpoint_if_cancelled()
        fault: trio_websocket.ConnectionClosed | None = None
        async with trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True) as scope:
                nursery.start_soon(self._limit_shield, scope)
                try:
                    await self._ws.send_message(bytes(data))
                except trio_websocket.ConnectionClosed as exc:
                    fault = exc
            if scope.cancelled_caught:
                self._is_torn = True
                await _close_forcefully(self._ws)
            nursery.cancel_scope.cancel()
        if fault is not None:
            raise (
                self._failure(fault) or ConnectionLost(f"cannot send: {self._peer} has closed the WebSocket")
            ) from fault

    async def wait_writable(self) -> None:
        """Yield to other tasks once: trio-websocket cannot tell when its socket takes bytes.

        So what is urgent waits behind the one run of bytes that was chosen before it, and what the kernel holds unsent.

        Raises:
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        self._check_open()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Do the closing handshake, wait at most `close_timeout` seconds for the peer's part of it, and close.

        Idempotent.

        Cancellation: closes at once.
        """
        is_first = not self._is_closed
        self._is_closed = True
        if is_first and not self._is_torn:
            try:
                with trio.move_on_after(self._close_timeout):
                    await self._ws.aclose()
            finally:
                await _close_forcefully(self._ws)
                if self._stream is not None:
                    await trio.aclose_forcefully(self._stream)
        await trio.lowlevel.checkpoint()

    async def _limit_shield(self, scope: trio.CancelScope) -> None:
        """Outside the shield: notices the caller's cancellation and gives what is inside a deadline."""
        try:
            await trio.sleep_forever()
        finally:
            scope.deadline = trio.current_time() + self._close_timeout

    def _failure(self, exc: trio_websocket.ConnectionClosed) -> ConnectionLost | None:
        """What a closed connection means; None for a clean goodbye."""
        reason = exc.reason
        if reason is None or reason.code == 1006:  # RFC 6455 §7.1.5: closed without a close frame
            return ConnectionLost(f"connection to {self._peer} lost: it ended without a WebSocket goodbye")
        if reason.code in CLEAN_CLOSE_CODES and not self._is_torn:
            return None
        return ConnectionLost(f"connection to {self._peer} lost: {describe_close(reason.code, reason.reason)}")

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this side of the WebSocket was closed")
        if self._is_torn:
            raise ConnectionLost(f"connection to {self._peer} lost: a cancelled send left a message unfinished")


@asynccontextmanager
async def connect_trio_websocket(
    url: str,
    *,
    config: ConnectionConfig | None = None,
    subprotocols: Sequence[str] = (SUBPROTOCOL,),
    require_subprotocol: bool = True,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ssl_context: ssl.SSLContext | None = None,
) -> AsyncGenerator[TrioWebSocketCarrier, None]:
    """Connect to a WebSocket server through trio-websocket, for the length of an `async with` block.

    Args:
      url: `ws://host:port/path?query` or `wss://…`.
      config: for its timeouts; None for the defaults.
      subprotocols: those this client speaks, best first.
      require_subprotocol: whether a server that chooses none of them is left.
      max_message_bytes: the longest message accepted.
      ssl_context: for `wss`; None for the system's defaults.

    Yields:
      The carrier; leaving the block closes it.

    Raises:
      ConnectionLost: nobody listens there, nobody answered in time, or the server left; one line.
      RemoteProtocolError: the server refused or was too slow; one line.
      LocalProtocolError: the URL is not a WebSocket's.
    """
    config = ConnectionConfig() if config is None else config
    uri = parse_url(url)
    stream = await open_websocket_stream(url, config=config, ssl_context=ssl_context)
    async with _Reader.open(stream) as reader:

        async def shake_hands() -> trio_websocket.WebSocketConnection:
            return await trio_websocket.wrap_client_stream(
                cast("trio.Nursery", reader),
                cast("trio.SocketStream", stream),
                host_port(uri.host, uri.port),
                uri.resource_name,
                subprotocols=list(subprotocols),
                message_queue_size=_QUEUED_MESSAGES,
                max_message_size=max_message_bytes,
                receive_buffer_size=RECEIVE_BYTES,
            )

        ws = await reader.while_running(shake_hands, url, config.handshake_timeout)
        if require_subprotocol:
            check_chosen(url, subprotocols, ws.subprotocol)
        carrier = TrioWebSocketCarrier(ws, peer=peer_name(stream), close_timeout=config.close_timeout, stream=stream)
        try:
            yield carrier
        finally:
            await carrier.aclose()


@asynccontextmanager
async def accept_trio_websocket(
    stream: trio.abc.Stream,
    *,
    config: ConnectionConfig | None = None,
    subprotocols: Sequence[str] = (SUBPROTOCOL,),
    require_subprotocol: bool = True,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    check_request: CheckRequest | None = None,
) -> AsyncGenerator[TrioWebSocketCarrier, None]:
    """Answer a client's handshake through trio-websocket, for the length of an `async with` block.

    Args:
      stream: the byte stream; closed when the block is left.
      config: for its timeouts; None for the defaults.
      subprotocols: those this server speaks, best first.
      require_subprotocol: whether a client that offers none of them is refused with status 400.
      max_message_bytes: the longest message accepted.
      check_request: as for `accept_websocket`.

    Yields:
      The carrier; leaving the block closes it.

    Raises:
      RemoteProtocolError: the request was malformed, slow or not acceptable.
      ConnectionLost: the client left.
    """
    config = ConnectionConfig() if config is None else config
    peer = peer_name(stream)
    check = find_check(check_request)
    tune_stream(stream)
    async with _Reader.open(stream) as reader:

        async def shake_hands() -> trio_websocket.WebSocketConnection:
            request = await trio_websocket.wrap_server_stream(
                cast("trio.Nursery", reader),
                stream,
                message_queue_size=_QUEUED_MESSAGES,
                max_message_size=max_message_bytes,
                receive_buffer_size=RECEIVE_BYTES,
            )
            chosen = next((one for one in subprotocols if one in request.proposed_subprotocols), None)
            refusal = None if check is None else check(_header(request, b"host"), _header(request, b"origin"))
            if refusal is None and chosen is None and require_subprotocol:
                refusal = _wrong_subprotocol(request, subprotocols)
            if refusal is not None:
                await request.reject(refusal.status, body=f"{refusal.text}\n".encode())
                raise RemoteProtocolError(
                    f"refused the WebSocket handshake of {peer}: {refusal.text}", field=refusal.field
                )
            return await request.accept(subprotocol=chosen)

        ws = await reader.while_running(shake_hands, peer, config.handshake_timeout)
        carrier = TrioWebSocketCarrier(ws, peer=peer, close_timeout=config.close_timeout, stream=stream)
        try:
            yield carrier
        finally:
            await carrier.aclose()


class _Reader:
    """Stands in for the nursery that trio-websocket starts its reader task in: contains its end, and tells of it."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        # A goodbye needs the reader, and is said after the block around it was cancelled.
        self._scope = trio.CancelScope(shield=True)
        self._ended = trio.Event()
        self._fault: Exception | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, stream: trio.abc.Stream) -> AsyncGenerator[_Reader, None]:
        """Run readers for the length of a block, and close the stream behind them."""
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            reader = cls(nursery)
            try:
                yield reader
            except Exception as exc:  # noqa: BLE001 - taken past the nursery, which would wrap it in a group
                failure = exc
            finally:
                reader._scope.cancel()
                await trio.aclose_forcefully(stream)
                nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        """What trio-websocket calls."""
        self._nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        try:
            with self._scope:
                await reader()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it ends this connection and nothing else
            self._fault = exc
        finally:
            self._ended.set()

    async def while_running(
        self,
        handshake: Callable[[], Awaitable[trio_websocket.WebSocketConnection]],
        peer: str,
        handshake_timeout: float,
    ) -> trio_websocket.WebSocketConnection:
        """Do a handshake that would wait for ever once the reader has left."""
        done: list[trio_websocket.WebSocketConnection] = []
        faults: list[Exception] = []

        async def run() -> None:
            try:
                done.append(await handshake())
            except Exception as exc:  # noqa: BLE001 - raised again below, outside the nursery
                faults.append(exc)
            nursery.cancel_scope.cancel()

        with trio.move_on_after(handshake_timeout) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await self._ended.wait()
                nursery.cancel_scope.cancel()
        if done:
            return done[0]
        if faults:
            raise self._translate(faults[0], peer)
        if scope.cancelled_caught:
            raise RemoteProtocolError(
                f"no WebSocket handshake from {peer} within {handshake_timeout:g} s",
                code=Code.HANDSHAKE_TIMEOUT,
                field="handshake_timeout",
            )
        raise self._translate(self._fault, peer)

    @staticmethod
    def _translate(fault: Exception | None, peer: str) -> Exception:
        if isinstance(fault, RemoteProtocolError):
            return fault
        failure: Exception
        if isinstance(fault, trio_websocket.ConnectionRejected):
            text = " ".join((fault.body or b"")[:200].decode(errors="replace").split())
            failure = RemoteProtocolError(
                f"{peer} refused the WebSocket handshake: {fault.status_code}{': ' if text else ''}{text}",
                field="status",
                size=fault.status_code,
            )
        elif fault is None or isinstance(fault, (trio_websocket.ConnectionClosed, trio.BrokenResourceError)):
            failure = ConnectionLost(f"{peer} left during the WebSocket handshake, or its request was malformed")
        else:
            failure = RemoteProtocolError(
                f"{peer} did not shake hands as a WebSocket: {describe_fault(fault)}", field="handshake"
            )
        failure.__cause__ = fault
        return failure


async def _close_forcefully(ws: trio_websocket.WebSocketConnection) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await ws.aclose()


def _wrong_subprotocol(request: trio_websocket.WebSocketRequest, subprotocols: Sequence[str]) -> Refusal:
    offered = ", ".join(request.proposed_subprotocols) or "none"
    return Refusal(400, "subprotocol", f"expected the subprotocol {' or '.join(subprotocols)}, offered: {offered}")


def _header(request: trio_websocket.WebSocketRequest, name: bytes) -> str | None:
    if name == b"host":
        # wsproto keeps it apart from the other headers, and trio-websocket has no name for it; a test fails when it moves.
        host: object = getattr(getattr(request, "_event", None), "host", None)
        return str(host) if host else None
    values = [value for found, value in request.headers if found.lower() == name]
    return b", ".join(values).decode("latin-1") if values else None


def _endpoint_name(endpoint: object) -> str:
    return (
        host_port(str(endpoint.address), endpoint.port)
        if isinstance(endpoint, trio_websocket.Endpoint)
        else str(endpoint)
    )
