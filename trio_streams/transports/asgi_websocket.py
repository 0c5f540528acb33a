"""An ASGI WebSocket as a carrier, so that a mounted application serves streams, too.

Facts about hypercorn that shape this file; each has a test. Its `send` is shielded, and returns without a word after the
client has gone: so a task of our own calls it, whoever sends can be cancelled, and a write that never ends is ended by
cutting the connection. It refuses a message that is too long, and keeps the connection without telling anybody: so the
buffer of its messages is ours. It says 1006 for every client that leaves first, a polite one as well: so its WebSocket machine is
asked. And its reader waits for ever for an application that has stopped receiving: so we go on until it says disconnect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from typing import Final, TypeAlias, cast

import trio

from trio_streams.carrier import Carrier
from trio_streams.codes import Code
from trio_streams.core.errors import RemoteProtocolError, StreamsError
from trio_streams.errors import ConnectionLost
from trio_streams.nursery import open_bare_nursery
from trio_streams.transports.admission import CheckRequest, find_check, find_message_timeout, find_text_limit
from trio_streams.transports.asgi_hypercorn import abort, carrier_of, drained, has_said_goodbye, let_go, watch_messages
from trio_streams.transports.asgi_types import Message, Receive, Scope, Send
from trio_streams.transports.bytes import host_port
from trio_streams.transports.carrier import DEFAULT_MAX_MESSAGE_BYTES
from trio_streams.wire.binary import PROTOCOL

__all__ = ["AsgiWebSocketCarrier", "WebSocketHandler", "serve_asgi_websocket"]

WebSocketHandler: TypeAlias = Callable[[Carrier], Awaitable[None]]

_CLEAN_CODES: Final = frozenset({1000, 1001, 1005})  # as in `messages_close`: no libraries of a host's choice here
_NORMAL, _UNSUPPORTED, _POLICY = 1000, 1003, 1008


async def serve_asgi_websocket(
    scope: Scope,
    receive: Receive,
    send: Send,
    handler: WebSocketHandler,
    *,
    close_timeout: float,
    check_request: CheckRequest | None = None,
) -> None:
    """Accept an ASGI WebSocket and let a handler have it, until it is over.

    A client that doesn't offer the subprotocol `trio-streams.v1` is refused, with status 400 and the reason where the host
    can say so; but not one that offers nothing at all where the server around speaks with such
    (`Admission.max_text_bytes`).

    Args:
      scope: of type `websocket`.
      receive: ASGI's.
      send: ASGI's.
      handler: gets the open carrier, which is closed after it.
      close_timeout: seconds that the goodbye, and then what hypercorn still has for us, may take.
      check_request: as for `messages.accept_websocket`.

    Cancellation: closes the WebSocket, within `close_timeout`.
    """
    await receive()  # websocket.connect
    check = find_check(check_request)
    refusal = None if check is None else check(_header(scope, b"host"), _header(scope, b"origin"))
    if refusal is not None:
        await _refuse(scope, send, refusal.status, refusal.text)
        return
    is_acceptable, chosen = _choose(scope)
    if not is_acceptable:
        await _refuse(scope, send, 400, f"Expected the WebSocket subprotocol {PROTOCOL}.")
        return
    carrier = AsgiWebSocketCarrier(scope, receive, send, close_timeout=close_timeout, subprotocol=chosen)
    await send({"type": "websocket.accept", "subprotocol": chosen})
    pumping = trio.CancelScope(shield=True)  # a handler that is cancelled still has its goodbyes to send

    async def pump() -> None:
        with pumping:
            await carrier.pump()

    try:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(pump)
            try:
                await handler(carrier)
            finally:
                with trio.CancelScope(shield=True):
                    await carrier.aclose()
                pumping.cancel()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + close_timeout):
            await carrier.drain()
        let_go(carrier_of(send))


def _choose(scope: Scope) -> tuple[bool, str | None]:
    offered = list(cast("Iterable[str]", scope.get("subprotocols", ())))
    if PROTOCOL in offered:
        return True, PROTOCOL
    return not offered and find_text_limit() is not None, None


def _header(scope: Scope, name: bytes) -> str | None:
    headers = cast("Iterable[tuple[bytes, bytes]]", scope["headers"])
    values = [value for found, value in headers if found == name]
    return b", ".join(values).decode("latin-1") if values else None


def _sending(message: str | bytes) -> Message:
    return {"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message}


async def _refuse(scope: Scope, send: Send, status: int, text: str) -> None:
    extensions = cast("dict[str, object]", scope.get("extensions") or {})
    if "websocket.http.response" not in extensions:
        await send({"type": "websocket.close", "code": 1002, "reason": ""})  # answered with HTTP 403
        return
    body = f"{text}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


class AsgiWebSocketCarrier:
    """Bytes, or messages, in an ASGI WebSocket that was accepted; `pump` has to run beside its users.

    As a carrier it speaks binary messages. `send_messages` and `receive_messages` keep messages apart, for dialects that
    need them; use one view or the other.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        close_timeout: float,
        subprotocol: str | None = PROTOCOL,
    ) -> None:
        self._subprotocol = subprotocol
        client = cast("tuple[str, int] | None", scope.get("client"))
        self._peer = host_port(client[0], client[1]) if client else "ASGI client"
        self._receive = receive
        self._send = send
        # Cutting an HTTP/2 connection would end everybody's streams on it: that is left to a shutdown.
        is_own = str(scope.get("http_version", "1.1")).startswith("1")
        stream = carrier_of(send) if is_own else None
        self._abort: Callable[[], None] = (lambda: None) if stream is None else partial(abort, stream)
        self._close_timeout = close_timeout
        self._close_code = _NORMAL
        self._messages: tuple[Message, ...] = ()  # handed to the pump, until it is written
        self._handed = trio.Event()
        self._written = trio.lowlevel.ParkingLot()
        self._receive_scope = trio.CancelScope()
        self._failure: StreamsError | None = None
        self._is_disconnected = False  # says the host
        self._is_cut = False  # by us, since it does not
        self._is_refused = False  # by us: the peer broke a rule
        self._is_closed = False
        text_limit = find_text_limit() if subprotocol is None else None
        self._max_message_bytes = DEFAULT_MAX_MESSAGE_BYTES if text_limit is None else text_limit
        self._message_timeout = find_message_timeout() if subprotocol is None else None
        self._message_due = inf  # when what has come of a message has to be whole
        watch_messages(send, self._max_message_bytes, self)

    @property
    def peer(self) -> str:
        """Who is on the other side, for people."""
        return self._peer

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol both sides agreed on, or None."""
        return self._subprotocol

    async def receive(self) -> bytes:
        """Take the payload of the next binary message; `b""` once the client has said goodbye.

        Raises:
          ConnectionLost: the client left without one.
          RemoteProtocolError: the client sent a text message.
          trio.ClosedResourceError: this side was closed.
        Cancellation: as the host's own `receive`; hypercorn's loses nothing.
        """
        while True:
            message = await self._next()
            if message is None:
                return b""
            if isinstance(message, str):
                self._refuse(_UNSUPPORTED, "expected binary messages, not a text message", field="message")
            elif message:
                return message

    async def receive_messages(self) -> list[str | bytes]:
        """Take the next message; none once the client has said goodbye.

        Raises:
          ConnectionLost: the client left without one.
          trio.ClosedResourceError: this side was closed.
        Cancellation: as `receive`.
        """
        message = await self._next()
        return [] if message is None else [message]

    async def _next(self) -> str | bytes | None:
        self._check_open()
        if self._is_over or self._is_refused:
            await trio.lowlevel.checkpoint()
        while not self._is_over and not self._is_refused:
            with trio.CancelScope(deadline=self._message_due) as self._receive_scope:
                message = self._take(await self._receive())
                if message is not None:
                    return message
            self._check_open()
            if not self._is_over and trio.current_time() >= self._message_due:
                limit = self._message_timeout
                text = f"a message was not complete within message_timeout of {limit:g} s"
                self._refuse(_POLICY, text, field="message_timeout")
        if self._failure is not None:
            raise self._failure
        return None

    def _refuse(self, close_code: int, text: str, *, field: str) -> None:
        self._is_refused = True
        self._close_code = close_code
        self._failure = RemoteProtocolError(f"{self._peer} broke the protocol: {text}", field=field)

    # For the host's buffer of messages.

    def begun(self) -> None:
        """See `MessageWatch`."""
        if self._message_timeout is not None:
            self._message_due = self._receive_scope.deadline = trio.current_time() + self._message_timeout

    def completed(self) -> None:
        """See `MessageWatch`."""
        self._message_due = self._receive_scope.deadline = inf

    def refused(self) -> None:
        """See `MessageWatch`."""
        limit = self._max_message_bytes
        self._is_refused = True
        self._failure = RemoteProtocolError(
            f"{self._peer} sent a message over max_message_bytes={limit}",
            code=Code.MESSAGE_TOO_LARGE,
            field="max_message_bytes",
            limit=limit,
        )
        self._receive_scope.cancel()

    def _take(self, message: Message) -> str | bytes | None:
        if message["type"] == "websocket.disconnect":
            self._is_disconnected = True
            self._written.unpark_all()
            if message.get("code", 1005) not in _CLEAN_CODES and not has_said_goodbye(self._send):
                self._failure = self._failure or ConnectionLost(
                    f"connection to {self._peer} lost: it ended without a WebSocket goodbye"
                )
        elif message["type"] == "websocket.receive":
            for data in (message.get("bytes"), message.get("text")):
                if isinstance(data, bytes | str):
                    return data
        return None

    async def send(self, data: bytes) -> None:
        """Send `data` as one binary message; an empty one is not sent.

        Raises:
          ConnectionLost: the client has gone.
          trio.ClosedResourceError: this side was closed.
        Cancellation: `data` was sent whole, or will be before anything else is, or not at all.
        """
        self._check_sending()
        if data:
            await self._hand_over({"type": "websocket.send", "bytes": data})
            self._check_sending()
        else:
            await trio.lowlevel.checkpoint()

    async def send_messages(self, messages: Sequence[str | bytes]) -> None:
        """Send each message.

        Raises:
          ConnectionLost: the client has gone.
          trio.ClosedResourceError: this side was closed.
        Cancellation: some were sent, each whole, or will be before anything else is.
        """
        self._check_sending()
        await trio.lowlevel.checkpoint()
        await self._hand_over(*map(_sending, messages))
        self._check_sending()

    async def wait_writable(self) -> None:
        """Wait until the host has taken what was sent.

        Raises:
          ConnectionLost: the client has gone.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        self._check_sending()
        await trio.lowlevel.checkpoint()
        await self._wait_written()
        self._check_sending()

    async def aclose(self) -> None:
        """Do the closing handshake, wait at most `close_timeout` seconds for the client's part of it, and close.

        Idempotent.

        Cancellation: cuts the connection.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        self._receive_scope.cancel()
        try:
            with trio.move_on_after(self._close_timeout):
                if not self._is_over:
                    await self._hand_over({"type": "websocket.close", "code": self._close_code, "reason": ""})
                    await self.drain()
        finally:
            if not self._is_disconnected:
                self._is_cut = True
                self._abort()
            self._written.unpark_all()
        await trio.lowlevel.checkpoint()

    async def drain(self) -> None:
        """Drop what still comes, until the host says disconnect."""
        while not self._is_disconnected:
            message = await self._receive()
            self._is_disconnected = message["type"] == "websocket.disconnect"

    async def pump(self) -> None:
        """Write what is handed over, one message after the other, for as long as the WebSocket is in use."""
        while True:
            await self._handed.wait()
            self._handed = trio.Event()
            with suppress(OSError):  # how other hosts say what hypercorn does not; receiving will tell
                for message in self._messages:
                    await self._send(message)
                    if message["type"] == "websocket.send":
                        await drained(self._send)
            self._messages = ()
            self._written.unpark_all()

    async def _hand_over(self, *messages: Message) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._wait_written()
        if self._is_over:
            return
        self._messages = messages
        self._handed.set()
        await self._wait_written()

    async def _wait_written(self) -> None:
        while self._messages and not self._is_over:
            await self._written.park()

    @property
    def _is_over(self) -> bool:
        return self._is_disconnected or self._is_cut

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this side of the WebSocket was closed")

    def _check_sending(self) -> None:
        self._check_open()
        if self._is_over:
            raise ConnectionLost(f"cannot send: {self._failure or f'{self._peer} has closed the WebSocket'}")
