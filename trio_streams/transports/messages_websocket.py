"""A WebSocket as a carrier: `websockets`' Sans-I/O machine under a small Trio adapter.

Touch the machine synchronously, await one thing, loop. The task that receives owns the parsing; the task that sends
frames and writes. What the machine wants to answer by itself (pongs, the echo of a goodbye) goes to `Output` as owed
bytes, which either task can write without tearing the other's frame. So a ping is answered while nothing is being
sent, while a send is blocked (right after its frame: nothing may come between the bytes of one), and while an
application reads nothing, since the driver goes on receiving.

Bounds. A read is 64 KiB, and the machine is fed 16 KiB at a time, so that a peer which sends only tiny frames costs some
milliseconds between two schedule points, not hundreds. Pongs are owed up to `max_control_bytes`: past them nothing is read
until some were written. A message is at most `max_message_bytes` long, whether in one frame or in many.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import trio
from websockets.exceptions import InvalidState, PayloadTooBig
from websockets.exceptions import ProtocolError as WebSocketProtocolError
from websockets.frames import Close, CloseCode, Frame, Opcode
from websockets.protocol import OPEN, Protocol, Side, State

from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.errors import ConnectionLost, RemoteProtocolError, StreamsError
from trio_streams.transports.bytes import describe_fault
from trio_streams.transports.carrier import RECEIVE_BYTES
from trio_streams.transports.messages_close import CLEAN_CLOSE_CODES, describe_close, end_sending
from trio_streams.transports.output import Output
from trio_streams.wire.binary import PROTOCOL as SUBPROTOCOL

__all__ = ["DEFAULT_MAX_MESSAGE_BYTES", "SUBPROTOCOL", "WebSocketCarrier"]

DEFAULT_MAX_MESSAGE_BYTES: Final = 16_777_216 + 65_536
"""The largest item by default, and room for the frames around it."""

_FEED_BYTES: Final = 16_384
_MAX_REASON_BYTES: Final = 123  # RFC 6455 §5.5: a control frame carries at most 125 bytes, two of them the code

# The machine logs payloads at DEBUG, and a traceback for some of a peer's malformed input; what matters of both is raised.
SILENT_LOGGER: Final = logging.getLogger("trio_streams.websocket.machine")
SILENT_LOGGER.setLevel(logging.CRITICAL + 1)


class WebSocketCarrier:
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
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        machine: Protocol,
        *,
        peer: str,
        config: ConnectionConfig,
        path: str,
        unfed: bytes = b"",
    ) -> None:
        self._stream = stream
        self._machine = machine
        self._peer = peer
        self._path = path
        self._max_control_bytes = config.max_control_bytes
        self._close_timeout = config.close_timeout
        self._output = Output(stream, peer=peer, patience=config.close_timeout)
        self._unfed = memoryview(unfed)
        self._frames: list[Frame] = []
        self._message_kind: Opcode | None = None  # of the message whose fragments are arriving
        self._fragments: list[bytes | bytearray | memoryview] = []
        self._is_ended = False
        self._failure: StreamsError | None = None  # why it ended; None where the peer said goodbye
        self._is_receiving = False
        self._receiver_left = trio.Event()
        self._is_closed = False
        self._step()  # frames may have arrived with the handshake

    @property
    def peer(self) -> str:
        """Who is on the other side, for people."""
        return self._peer

    @property
    def path(self) -> str:
        """The target of the opening request, with its query."""
        return self._path

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol both sides agreed on, or None."""
        return self._machine.subprotocol

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
            await self._wait_frames()
            if not self._frames:
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
            await self._wait_frames()
            if not self._frames:
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
        await self._send([data] if data else [])

    async def send_messages(self, messages: Sequence[str | bytes]) -> None:
        """Send each message in a frame of its own, all in one write if the kernel takes them.

        Raises:
          ConnectionLost: TCP broke, or the peer has closed.
          trio.ClosedResourceError: this side was closed.
        Cancellation: as `send`, for the whole run.
        """
        await self._send(messages)

    async def wait_writable(self) -> None:
        """Wait until the kernel would take bytes; answers that are owed go first.

        Raises:
          ConnectionLost: TCP broke.
          trio.ClosedResourceError: this side was closed.
        Cancellation: atomic.
        """
        self._check_open()
        await self._output.take_turn()
        try:
            await self._output.wait_writable()
        finally:
            self._output.end_turn()

    def is_writable(self) -> bool:
        """Whether the kernel would take bytes now, and no answers are owed; False where it can't be asked."""
        return not self._is_closed and self._output.is_writable

    async def aclose(self, code: int = CloseCode.NORMAL_CLOSURE, reason: str = "") -> None:
        """Do the closing handshake, wait at most `close_timeout` seconds for the peer's part of it, and close.

        Idempotent. What still arrives is dropped.

        Args:
          code: the close code, for a peer that has not closed first.
          reason: why, for people; cut after 123 bytes of UTF-8.

        Cancellation: closes at once.
        Spec: RFC 6455 §7.1.1, §7.1.2.
        """
        if self._is_closed:
            await trio.lowlevel.checkpoint()
            return
        self._is_closed = True
        try:
            with trio.move_on_after(self._close_timeout):
                await self._say_goodbye(code, reason)
        finally:
            await trio.aclose_forcefully(self._stream)

    # Receiving

    async def _wait_frames(self) -> None:
        """Return with frames, or with none once the peer has said goodbye; always a checkpoint."""
        self._check_open()
        self._is_receiving = True
        try:
            is_read = False
            while not self._frames:
                if self._unfed:
                    self._feed()
                    if not self._frames and self._output.is_owing:
                        await trio.lowlevel.checkpoint()  # a flood of pings makes no frames
                elif self._is_ended:
                    await self._finish()
                    return
                else:
                    await self._read()
                    is_read = True
            if not is_read:
                await trio.lowlevel.checkpoint()
        finally:
            self._is_receiving = False
            self._receiver_left.set()

    async def _read(self) -> None:
        """One read of the stream, while what is owed is being written."""
        if self._output.owed_bytes > self._max_control_bytes:
            await self._flush()
            return
        try:
            if self._output.is_owing:
                await self._read_while_flushing()
            else:
                self._take(await self._stream.receive_some(RECEIVE_BYTES))
        except trio.BrokenResourceError as exc:
            self._end_with_loss(exc)

    async def _read_while_flushing(self) -> None:
        # Both at once: if each side first waited for the other to take its pongs, neither would read.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flush)
            try:
                data = await self._stream.receive_some(RECEIVE_BYTES)
            except trio.BrokenResourceError as exc:
                self._end_with_loss(exc)
            except trio.ClosedResourceError:
                pass  # by our own `aclose`, which whoever called us will notice
            else:
                self._take(data)  # before the nursery's end, which may be where a cancellation strikes
            nursery.cancel_scope.cancel()
        self._check_open()

    async def _flush(self) -> None:
        try:
            await self._output.flush()
        except (ConnectionLost, trio.ClosedResourceError):
            pass  # reading will tell, and may still find what the peer sent before it left

    def _take(self, data: bytes | bytearray) -> None:
        if data:
            self._unfed = memoryview(data)
            self._feed()
        else:
            self._machine.receive_eof()
            self._step()

    def _feed(self) -> None:
        """Let the machine parse the next slice."""
        data = self._unfed
        self._unfed = data[_FEED_BYTES:]
        self._machine.receive_data(bytes(data[:_FEED_BYTES]))
        self._step()

    def _step(self) -> None:
        """Sort out what the machine made of its input."""
        machine = self._machine
        for frame in machine.events_received():
            # The machine goes on parsing what came in one piece with a close frame; nobody else should.
            if self._is_ended or not isinstance(frame, Frame):
                continue
            if frame.opcode is Opcode.CLOSE:
                self._end_with_close(Close.parse(frame.data))
            elif frame.opcode is not Opcode.PING and frame.opcode is not Opcode.PONG:
                self._frames.append(frame)
        if machine.parser_exc is not None and not self._is_ended:
            self._end_with_fault(machine.parser_exc)
        self._owe_answers()

    def _owe_answers(self) -> None:
        for data in self._machine.data_to_send():
            self._output.owe(data)  # an empty one would ask to end our side of TCP: `aclose` does it

    def _end_with_loss(self, exc: trio.BrokenResourceError) -> None:
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
            limit = self._machine.max_message_size
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
        self._unfed = memoryview(b"")

    async def _finish(self) -> None:
        """Let the last answer go out, then say how it ended."""
        with trio.move_on_after(self._close_timeout):
            await self._flush()
        self._check_open()
        if self._failure is not None:
            raise self._failure

    def _take_payload(self) -> bytes:
        frames, self._frames = self._frames, []
        if len(frames) == 1 and frames[0].opcode is not Opcode.TEXT:
            data = frames[0].data
            return data if isinstance(data, bytes) else bytes(data)
        for index, frame in enumerate(frames):
            if frame.opcode is Opcode.TEXT:
                self._refuse(CloseCode.UNSUPPORTED_DATA, "expected binary messages, not a text message")
                del frames[index:]
                break
        return b"".join([frame.data for frame in frames])

    def _take_messages(self) -> list[str | bytes]:
        frames, self._frames = self._frames, []
        messages: list[str | bytes] = []
        for frame in frames:
            if self._message_kind is None:
                self._message_kind = frame.opcode
            self._fragments.append(frame.data)
            if not frame.fin:
                continue
            kind, self._message_kind = self._message_kind, None
            data = b"".join(self._fragments)
            self._fragments.clear()
            if kind is not Opcode.TEXT:
                messages.append(data)
                continue
            try:
                messages.append(data.decode())
            except UnicodeDecodeError as exc:
                self._refuse(CloseCode.INVALID_DATA, f"expected UTF-8 in a text message; byte {exc.start} is not")
                break
        return messages

    def _refuse(self, code: CloseCode, message: str) -> None:
        """End the connection because of what a well-formed frame holds."""
        self._end(RemoteProtocolError(f"{self._peer} broke the protocol: {message}"))
        self._machine.fail(code, message)
        self._owe_answers()

    # Sending

    async def _send(self, messages: Sequence[str | bytes]) -> None:
        output = self._output
        await output.take_turn()
        try:
            self._check_open()
            machine = self._machine
            for message in messages:
                if isinstance(message, str):
                    machine.send_text(message.encode())
                else:
                    machine.send_binary(message)
            frames = machine.data_to_send()
            if not frames:
                await trio.lowlevel.checkpoint()
            await output.write(frames[0] if len(frames) == 1 else b"".join(frames))
        except InvalidState as exc:
            raise ConnectionLost(self._why_not_sending()) from exc
        finally:
            output.end_turn()

    def _why_not_sending(self) -> str:
        return f"cannot send: {self._failure or f'{self._peer} has closed the WebSocket'}"

    async def _say_goodbye(self, code: int, reason: str) -> None:
        machine = self._machine
        if machine.state is OPEN:
            machine.send_close(code, reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore"))
            self._owe_answers()
        try:
            await self._output.flush()
            while machine.state is not State.CLOSED:
                if machine.eof_sent and machine.side is Side.SERVER and not await end_sending(self._stream):
                    return
                if self._is_receiving:
                    # Bytes have one reader. Ours is woken by the peer's answer, or by the end of `close_timeout`.
                    self._receiver_left = trio.Event()
                    await self._receiver_left.wait()
                    continue
                data = await self._stream.receive_some(RECEIVE_BYTES)
                if data:
                    machine.receive_data(data)
                else:
                    machine.receive_eof()
                machine.events_received()
        except (ConnectionLost, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the peer left without a word; so can we

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("this side of the WebSocket was closed")
