"""A WebSocket as a carrier: `websockets`' Sans-I/O machine, behind a fast path, under a small Trio adapter.

Touch the machine synchronously, await one thing, loop. The task that receives owns the parsing; the task that sends
frames and writes. What the machine wants to answer by itself (pongs, the echo of a goodbye) goes to `Output` as owed
bytes, which either task can write without tearing the other's frame. So a ping is answered while nothing is being
sent, while a send is blocked (right after its frame: nothing may come between the bytes of one), and while an
application reads nothing, since the driver goes on receiving.

Bounds. A read is 64 KiB, growing to 256 KiB while reads come back full, and the machine ends a call early where a peer sends only frames that cost much, so that it takes
some milliseconds between two schedule points, not hundreds. Pongs are owed up to `max_control_bytes`: past them nothing is read
until some were written. A message is at most `max_message_bytes` long, whether in one frame or in many.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio
from websockets.exceptions import InvalidState, PayloadTooBig
from websockets.exceptions import ProtocolError as WebSocketProtocolError
from websockets.frames import Close, CloseCode, Opcode
from websockets.protocol import OPEN, Protocol, State

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, RemoteProtocolError, StreamsError
from trio_streams.transports.bytes import describe_fault
from trio_streams.transports.carrier import DEFAULT_MAX_MESSAGE_BYTES as DEFAULT_MAX_MESSAGE_BYTES
from trio_streams.transports.carrier import RECEIVE_BYTES
from trio_streams.transports.gather import Chunk
from trio_streams.transports.messages_close import CLEAN_CLOSE_CODES, describe_close, end_sending
from trio_streams.transports.messages_machine import WebSocketMachine
from trio_streams.transports.output_carrier import OutputCarrier
from trio_streams.wire.binary import PROTOCOL as SUBPROTOCOL

__all__ = ["DEFAULT_MAX_MESSAGE_BYTES", "SUBPROTOCOL", "WebSocketCarrier"]

_MAX_REASON_BYTES: Final = 123  # RFC 6455 §5.5: a control frame carries at most 125 bytes, two of them the code

# The machine logs payloads at DEBUG, and a traceback for some of a peer's malformed input; what matters of both is raised.
SILENT_LOGGER: Final = logging.getLogger("trio_streams.websocket.machine")
SILENT_LOGGER.setLevel(logging.CRITICAL + 1)

_NOTHING: Final = (0, bytearray())


class WebSocketCarrier(OutputCarrier):
    """Bytes, or messages, over one open WebSocket; made by `accept_websocket` and `connect_websocket`.

    As a carrier it sends each run of bytes as one binary message, and receives the payload of binary messages with no
    regard to where one ends. `send_messages` and `receive_messages` keep the messages apart, for dialects that need
    them; use one view or the other.

    Args:
      stream: the byte stream under the WebSocket; the carrier owns it.
      machine: a WebSocket machine whose opening handshake is done.
      peer: who is on the other side, for people.
      config: for its `max_control_bytes` and `close_timeout`.
      path: the request's target, such as `/streams?key=1`.
      unfed: bytes that arrived with the handshake and that the machine has not seen.
      message_timeout: seconds for a whole message, from its first byte; None for any time.
    """

    __slots__ = (
        "_began_at",
        "_begun",
        "_failure",
        "_heard_at",
        "_is_ended",
        "_machine",
        "_max_control_bytes",
        "_message_timeout",
        "_path",
        "_receiver_left",
        "_unfed",
    )

    def __init__(
        self,
        stream: trio.abc.Stream,
        machine: Protocol,
        *,
        peer: str,
        config: ConnectionConfig,
        path: str,
        unfed: bytes = b"",
        message_timeout: float | None = None,
    ) -> None:
        super().__init__(stream, peer=peer, close_timeout=config.close_timeout, protocol="WebSocket")
        self._machine = WebSocketMachine(machine, logger=SILENT_LOGGER)
        self._path = path
        self._max_control_bytes = config.max_control_bytes
        self._message_timeout = message_timeout
        self._began_at: float | None = None  # the message that is not whole yet, where its time is limited
        self._unfed = b""
        self._begun = _NOTHING  # the message of which a part is here: its opcode, and the part
        self._is_ended = False
        self._failure: StreamsError | None = None  # why it ended; None where the peer said goodbye
        self._receiver_left: trio.Event | None = None  # for `aclose`, which waits for it
        self._heard_at = trio.current_time()
        self._feed(unfed)  # frames may have arrived with the handshake

    @property
    def path(self) -> str:
        """The target of the opening request, with its query."""
        return self._path

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol both sides agreed on, or None."""
        return self._machine.subprotocol

    @property
    def heard_at(self) -> float:
        """When anything last came from the peer, pongs too, on Trio's clock."""
        return self._heard_at

    def ping_nowait(self) -> None:
        """Ask the peer for a sign of life; the ping leaves with the next call that receives or sends.

        Spec: RFC 6455 §5.5.2.
        """
        self._machine.send_ping()
        self._output.owe(self._machine.answers())

    async def receive(self) -> bytes:
        """Take the payload of the binary messages that have arrived, joined, waiting until there is some.

        The parts of a fragmented message are handed over as they arrive. Pongs, and the answer to the peer's goodbye, are
        sent from here.

        Returns:
          At least one byte; `b""` once the peer has closed with 1000, 1001 or no code.

        Raises:
          ConnectionLost: TCP broke, or the peer closed with any other code.
          RemoteProtocolError: the peer sent a text message, a malformed frame, or a message over `max_message_bytes`;
            it has been told.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic; a cancelled call loses nothing, and no frame in either direction.
        Spec: RFC 6455 §5.4, §5.5, §7.
        """
        while True:
            await self._wait_parts()
            if not self._machine.parts:
                return b""
            data = self._take_payload()
            if data:
                return data

    async def receive_messages(self) -> list[str | bytes]:
        """Take the whole messages that have arrived, waiting until there is one.

        Returns:
          At least one message, text as `str`; an empty list once the peer has closed with 1000, 1001 or no code.

        Raises:
          ConnectionLost: TCP broke, or the peer closed with any other code.
          RemoteProtocolError: the peer sent a malformed frame, text that is not UTF-8, or a message over
            `max_message_bytes`; it has been told.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        Spec: RFC 6455 §5.6, §8.1.
        """
        while True:
            await self._wait_parts()
            if not self._machine.parts:
                return []
            messages = self._take_messages()
            if messages:
                return messages

    async def send(self, data: bytes) -> None:
        """Send `data` as one binary message, in one write if the kernel takes it; an empty one is not sent.

        Raises:
          ConnectionLost: TCP broke, or the peer has closed.
          trio.ClosedResourceError: this side was closed.
        Cancellation: on a socket, `data` has been sent whole or will be before anything else is, or not at all; the
          WebSocket stays usable. On other streams a write that is cancelled half-way ends the connection.
        """
        await self._send(partial(self._machine.send, [data] if data else []))

    async def send_chunks(self, chunks: list[Chunk]) -> None:
        """Send `chunks` as one binary message, without a copy where it is not masked and goes to a socket.

        Raises:
          ConnectionLost: TCP broke, or the peer has closed.
          trio.ClosedResourceError: this side was closed.
        Cancellation: as `send`.
        """
        await self._send(partial(self._machine.send_chunks, chunks))

    async def send_messages(self, messages: Sequence[str | bytes]) -> None:
        """Send each message in a frame of its own, all in one write if the kernel takes them.

        Raises:
          ConnectionLost: TCP broke, or the peer has closed.
          trio.ClosedResourceError: this side was closed.
        Cancellation: as `send`, for the whole run.
        """
        await self._send(partial(self._machine.send, messages))

    async def aclose(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Do the closing handshake, wait at most `close_timeout` seconds for the peer's part of it, and close.

        Idempotent. What still arrives is dropped.

        Args:
          code: the close code, for a peer that has not closed first.
          reason: why, for people; cut after 123 bytes of UTF-8.

        Cancellation: closes at once.
        Spec: RFC 6455 §7.1.1, §7.1.2.
        """
        await self._close(partial(self._say_goodbye, code, reason))

    # Receiving

    async def _wait_parts(self) -> None:
        """Return with parts of messages, or with none once the peer has said goodbye; always a checkpoint."""
        self._check_open()
        self._is_receiving = True
        parts = self._machine.parts
        try:
            is_read = False
            while not parts:
                if self._unfed:
                    self._feed(self._unfed)
                    if not parts and self._output.is_owing:
                        await trio.lowlevel.checkpoint()  # a flood of pings makes no parts
                elif self._is_ended:
                    await self._finish()
                    return
                elif self._output.owed_bytes > self._max_control_bytes:
                    await self._flush()
                else:
                    await self._read_in_time()
                    is_read = True
            if not is_read:
                await trio.lowlevel.checkpoint()
        finally:
            self._is_receiving = False
            if self._receiver_left is not None:
                self._receiver_left.set()

    def _take(self, data: bytes | bytearray) -> None:
        self._heard_at = trio.current_time()
        if data:
            self._feed(bytes(data))  # no copy where it is bytes already
        else:
            self._machine.receive_eof()
            self._look()

    async def _read_in_time(self) -> None:
        if self._began_at is None or self._message_timeout is None:
            await self._read()
            return
        with trio.move_on_at(self._began_at + self._message_timeout):
            await self._read()
            return
        late = f"a message was not complete within message_timeout of {self._message_timeout:g} s"
        self._refuse(CloseCode.POLICY_VIOLATION, late, field="message_timeout")

    def _feed(self, data: bytes) -> None:
        machine = self._machine
        self._unfed = machine.receive(data)
        self._look()
        if self._message_timeout is not None:
            if not machine.is_midway:
                self._began_at = None
            elif self._began_at is None or any(is_last for _, _, is_last in machine.parts):
                self._began_at = trio.current_time()

    def _look(self) -> None:
        """Sort out what the machine made of its input."""
        machine = self._machine
        if not self._is_ended:
            if machine.close is not None:
                self._end_with_close(machine.close)
            elif machine.fault is not None:
                self._end_with_fault(machine.fault)
        self._output.owe(machine.answers())

    def _lose(self, exc: trio.BrokenResourceError) -> None:
        self._end(ConnectionLost(f"connection to {self._peer} lost: {describe_fault(exc)}"), exc)

    def _end_with_close(self, close: Close) -> None:
        if close.code in CLEAN_CLOSE_CODES:
            self._is_ended = True
        else:
            self._end(ConnectionLost(f"{self._peer} closed the WebSocket: {describe_close(close.code, close.reason)}"))

    def _end_with_fault(self, fault: Exception) -> None:
        if isinstance(fault, EOFError):
            self._end(ConnectionLost(f"connection to {self._peer} lost: it ended without a WebSocket goodbye"), fault)
        elif isinstance(fault, PayloadTooBig):
            limit = self._machine.max_message_bytes
            self._end(
                RemoteProtocolError(
                    f"{self._peer} sent a message over max_message_bytes={limit}",
                    code=Code.MESSAGE_TOO_LARGE,
                    field="max_message_bytes",
                    size=None if fault.size is None else fault.size + (fault.current_size or 0),
                    limit=limit,
                ),
                fault,
            )
        elif isinstance(fault, (WebSocketProtocolError, UnicodeDecodeError)):
            self._end(RemoteProtocolError(f"{self._peer} sent a malformed WebSocket frame: {fault}"), fault)
        else:
            self._end(RemoteProtocolError(f"{self._peer} sent what cannot be parsed as a WebSocket frame"), fault)

    def _end(self, failure: StreamsError, cause: BaseException | None = None) -> None:
        failure.__cause__ = cause
        self._is_ended = True
        self._failure = failure
        self._unfed = b""

    async def _finish(self) -> None:
        """Let the last answer go out, then say how it ended."""
        with trio.move_on_after(self._close_timeout):
            await self._flush()
        self._check_open()
        if self._failure is not None:
            raise self._failure

    def _take_payload(self) -> bytes:
        parts = self._machine.parts
        payloads: list[bytes] = []
        for opcode, data, _ in parts:
            if opcode == Opcode.TEXT:
                self._refuse(CloseCode.UNSUPPORTED_DATA, "expected binary messages, not a text message")
                break
            payloads.append(data)
        parts.clear()
        return payloads[0] if len(payloads) == 1 else b"".join(payloads)

    def _take_messages(self) -> list[str | bytes]:
        parts = self._machine.parts
        messages: list[str | bytes] = []
        try:
            for opcode, data, is_last in parts:
                if is_last and opcode:
                    messages.append(_message(opcode, data))
                    continue
                if opcode:
                    self._begun = opcode, bytearray()
                kind, collected = self._begun
                collected += data
                if is_last:
                    self._begun = _NOTHING
                    messages.append(_message(kind, collected))
        except UnicodeDecodeError as exc:
            self._refuse(CloseCode.INVALID_DATA, f"expected UTF-8 in a text message; byte {exc.start} is not")
        parts.clear()
        return messages

    def _refuse(self, code: CloseCode, message: str, *, field: str = "") -> None:
        """End the connection because of what a well-formed frame holds, or does not."""
        self._end(RemoteProtocolError(f"{self._peer} broke the protocol: {message}", field=field))
        self._machine.fail(code, message)
        self._output.owe(self._machine.answers())

    # Sending

    async def _send(self, make: Callable[[], list[Chunk]]) -> None:
        try:
            await self._write(make)
        except InvalidState as exc:
            raise ConnectionLost(self._why_not_sending()) from exc

    def _why_not_sending(self) -> str:
        return f"cannot send: {self._failure or f'{self._peer} has closed the WebSocket'}"

    async def _say_goodbye(self, code: int, reason: str) -> None:
        machine = self._machine
        if machine.state is OPEN:
            machine.send_close(code, reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"))
            self._output.owe(machine.answers())
        await self._output.flush()
        while machine.state is not State.CLOSED:
            if machine.has_ended and machine.is_server and not await end_sending(self._stream):
                return
            if self._is_receiving:
                # Bytes have one reader. Ours is woken by the peer's answer, or by the end of `close_timeout`.
                self._receiver_left = trio.Event()
                await self._receiver_left.wait()
                continue
            data = self._unfed or await self._stream.receive_some(RECEIVE_BYTES)
            if data:
                self._unfed = machine.receive(bytes(data))
            else:
                machine.receive_eof()
            machine.parts.clear()


def _message(opcode: int, data: bytes | bytearray) -> str | bytes:
    return data.decode() if opcode == Opcode.TEXT else bytes(data)  # no copy where it is bytes already
