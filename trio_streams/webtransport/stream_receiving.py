"""The half of a stream that bytes come out of.

What arrives waits in a buffer whose bound is the credit that the peer was granted, so that delivery never waits. What is
taken is reported to the machine when a quarter of the window was, and always with the last byte that is here, so a
cancelled reader leaves no credit behind.
"""

# Bases with slots of their own cannot be combined, so the classes of `streams` declare the slots of both halves.
# mypy: disable-error-code="misc"

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import trio

from trio_streams.codes import Code
from trio_streams.core.states import FINISHED, HalfState, Trigger, advance
from trio_streams.errors import RemoteProtocolError
from trio_streams.streams.seat import Seat
from trio_streams.webtransport.errors import WebTransportStreamReset
from trio_streams.webtransport.protocol.error_codes import to_http3
from trio_streams.webtransport.stream_buffer import StreamBuffer
from trio_streams.webtransport.stream_half import Half, OverCause

if TYPE_CHECKING:
    from trio_streams.webtransport.sinks import StreamSink

__all__ = ["ReceiveHalf"]

_READ_BYTES: Final = 65_536


class _Chunks(AsyncIterator[bytes]):
    """What `read_iter` gives. Not a generator: one that is left in the middle waits for a collector to finish it."""

    __slots__ = ("_chunk_size", "_half")

    def __init__(self, half: ReceiveHalf, chunk_size: int) -> None:
        self._half = half
        self._chunk_size = chunk_size

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        data = await self._half.receive_some(self._chunk_size)
        if not data:
            raise StopAsyncIteration
        return data


class ReceiveHalf(Half, trio.abc.ReceiveStream):
    """Receiving; the state lives in the classes of `streams`, which inherit this."""

    __slots__ = ()

    bytes_received: int
    read_seconds: float
    _buffer: StreamBuffer
    _is_dropped: bool
    _is_receiving: bool
    _reader: Seat | None
    _receive_over: OverCause | None
    _reset_code: tuple[int | None, ...]
    _unreported_bytes: int

    def _begin_receiving(self, state: HalfState, window_bytes: int) -> None:
        self.bytes_received = 0
        self.read_seconds = 0.0
        self._buffer = StreamBuffer(window_bytes)
        self._is_dropped = False
        self._is_receiving = False
        self._reader = None
        self._receive_over = None
        self._receive_state = state
        self._reset_code = ()  # with one element, None too, once the peer has reset its half
        self._unreported_bytes = 0

    # -- for users --------------------------------------------------------------------------------------------

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Take the bytes that are there, waiting until there is at least one.

        Args:
          max_bytes: the most to take; None for up to 65,536.

        Returns:
          The bytes; empty at the end, then and ever after.

        Raises:
          ValueError: `max_bytes` is less than 1.
          trio.BusyResourceError: another task is receiving.
          trio.ClosedResourceError: the peer's half was stopped or the stream closed here.
          WebTransportStreamReset: the peer abandoned its half.
          SessionClosed: the peer closed the session, and what had arrived was taken.
          ConnectionLost: the connection broke, and what had arrived was taken.

        Cancellation: atomic; a cancelled call takes nothing.
        """
        wanted = _READ_BYTES if max_bytes is None else operator.index(max_bytes)
        if wanted < 1:
            raise ValueError(f"max_bytes must be at least 1, not {max_bytes!r}")
        self._check_not_receiving()
        self._is_receiving = True
        try:
            await self._until_readable()
            return self._take(wanted)
        finally:
            self._is_receiving = False

    async def read(self, *, size: int = 8192) -> bytes:
        """Take up to `size` bytes; see `receive_some`. Empty at the end. Cancellation: atomic."""
        return await self.receive_some(size)

    async def read_all(self, *, max_size: int | None = None) -> bytes:
        """Take all up to the end.

        Args:
          max_size: the most to take, in bytes; None for no limit but memory.

        Raises:
          RemoteProtocolError: there is more; the stream was stopped, and what was read is dropped.
          Exception: as `receive_some`.

        Cancellation: no byte is lost; what was read before can be read again.
        """
        self._check_not_receiving()
        self._is_receiving = True
        chunks: list[bytes] = []
        size = 0
        try:
            await self._until_readable()
            while chunk := self._take(_READ_BYTES):
                chunks.append(chunk)
                size += len(chunk)
                self._check_size(size, max_size)
                if self._is_dry:
                    await self._wait_arrived()
            return b"".join(chunks)
        except BaseException:
            self._put_back(b"".join(chunks))
            raise
        finally:
            self._is_receiving = False

    def read_iter(self, *, chunk_size: int = 8192) -> AsyncIterator[bytes]:
        """Iterate over what arrives, in chunks of at most `chunk_size` bytes, up to the end.

        Raises:
          Exception: each step as `receive_some`.

        Cancellation: atomic; a cancelled step takes nothing.
        """
        return _Chunks(self, chunk_size)

    def stop(self, code: int = 0) -> None:
        """Refuse more with STOP_SENDING: what is unread and what still comes is dropped. No effect on a half that is over.

        Args:
          code: why, for the peer's application; 32 bits.

        Raises:
          LocalProtocolError: the code does not fit; nothing has changed.
        """
        to_http3(code)
        state = advance(self._receive_state, Trigger.STOP)
        if state is None:
            return
        self._receive_state = state
        self._receive_over = self._closed_here("stopped")
        self._drop()
        self._link.machine.stop(self.stream_id, code)
        self._link.hurry()
        self._wake_reader()
        self._settle()

    @property
    def is_readable(self) -> bool:
        """Whether there may be something to read: the peer's half is open, or something of it is unread."""
        return bool(self._buffer) or self._receive_state not in FINISHED

    @property
    def is_at_end(self) -> bool:
        """Whether all up to the peer's end was read: the next read gives nothing. A half that broke has no end."""
        return self._receive_state is HalfState.CLOSED and not self._buffer

    @property
    def unread_bytes(self) -> int:
        """What arrived and was not taken: at most the stream's window, and what a `read_all` that failed put back."""
        return len(self._buffer)

    # -- inside -----------------------------------------------------------------------------------------------

    def _check_not_receiving(self) -> None:
        if self._is_receiving:
            raise trio.BusyResourceError(f"another task is receiving on stream {self.stream_id}")

    @property
    def _is_dry(self) -> bool:
        """Whether nothing is here, and something may come."""
        return self._receive_state is HalfState.OPEN and not self._buffer

    def _until_readable(self) -> Awaitable[None]:
        """Waits until there is something to take or to say: a checkpoint, and no second one where waiting is one."""
        return self._wait_arrived() if self._is_dry else trio.lowlevel.checkpoint()  # noqa: ASYNC105 - the caller does

    def _take(self, wanted: int) -> bytes:
        """What is here, or how the half is over."""
        buffer = self._buffer
        returned = buffer.returned_bytes
        data = buffer.take(wanted)
        if data:
            self._note_taken(len(data), returned - buffer.returned_bytes)
        elif (over := self._receive_cause) is not None:
            raise self._fail(over)
        return data

    @property
    def _receive_cause(self) -> OverCause | None:
        """Why nothing more can be read; None where that is the end."""
        if self._receive_over is None and self._is_closed:
            return self._closed_here("closed")
        return self._receive_over

    async def _wait_arrived(self) -> None:
        if self._reader is None:
            self._reader = Seat()
        began = trio.current_time()
        try:
            while self._is_dry:
                await self._reader.wait()
        finally:
            self.read_seconds += trio.current_time() - began

    def _note_taken(self, size: int, returned: int) -> None:
        self.bytes_received += size
        # The peer has the credit of what was put back already.
        self._unreported_bytes += size - returned
        is_empty = not self._buffer
        if is_empty or self._unreported_bytes * 4 >= self._buffer.max_bytes:
            self._report()
        if is_empty and self._receive_state is not HalfState.OPEN:
            self._finish_draining()

    def _report(self) -> None:
        size, self._unreported_bytes = self._unreported_bytes, 0
        if size and self._receive_state is not HalfState.ERRORED:
            self._link.machine.consumed(self.stream_id, size)
            self._link.kick_if_wanted()

    def _finish_draining(self) -> None:
        state = advance(self._receive_state, Trigger.DRAINED)
        if state is not None:
            self._receive_state = state
            self._settle()

    def _put_back(self, data: bytes) -> None:
        if data and not self._is_dropped:
            self._buffer.put_back(data)
            self.bytes_received -= len(data)

    def _check_size(self, size: int, limit: int | None) -> None:
        if limit is None or size <= limit:
            return
        self.stop(Code.MESSAGE_TOO_LARGE)
        raise RemoteProtocolError(
            f"the peer sent {size} bytes or more on stream {self.stream_id}: max_size is {limit}",
            code=Code.MESSAGE_TOO_LARGE,
            field="max_size",
            size=size,
            limit=limit,
        )

    def _drop(self) -> None:
        self._is_dropped = True
        self._buffer.clear()
        self._unreported_bytes = 0

    def _wake_reader(self) -> None:
        if self._reader is not None:
            self._reader.wake()

    def _close_receiving(self) -> None:
        """The whole stream is closed here: that is what users of it hear from now on."""
        self.stop()
        self._drop()
        self._receive_over = None

    def _end_receiving(self, over: OverCause) -> None:
        """Somebody else has ended the peer's half before its end; what had arrived can still be taken."""
        if self._receive_state is HalfState.OPEN:
            self._receive_state = HalfState.ERRORED
            self._receive_over = over
            self._cancel_owner(over)
            self._wake_reader()

    # -- what the link reports --------------------------------------------------------------------------------

    def on_received(self, run: Sequence[bytes], is_ended: bool) -> None:
        """Bytes arrived, and maybe the end."""
        if self._receive_state is not HalfState.OPEN:
            return
        self._buffer.push(run)
        if is_ended:
            self._receive_state = HalfState.CLOSING
            if not self._buffer:
                self._finish_draining()
        self._wake_reader()

    def on_reset(self, code: int | None) -> None:
        """The peer abandoned its half: what was not taken is dropped, unless no application said so.

        That is how a session ends for its streams where the resets overtake its CLOSE, and a close drops nothing.
        """
        over = partial(WebTransportStreamReset, code)
        is_whole = code is None and self._receive_state is HalfState.CLOSING
        if is_whole or advance(self._receive_state, Trigger.RESET) is None:
            return
        self._reset_code = (code,)
        if code is None:
            self._end_receiving(over)
        else:
            self._drop()
            self._receive_state = HalfState.ERRORED
            self._receive_over = over
            self._cancel_owner(over)
            self._wake_reader()
        self._settle()

    def replay(self, sink: StreamSink) -> None:
        """Tell somebody else, who has the stream from now on, what arrived and was not read."""
        data = self._buffer.take()
        is_ended = self._receive_cause is None and self._receive_state is not HalfState.OPEN
        if data or is_ended:
            sink.on_received([data] if data else [], is_ended)
        for code in self._reset_code:
            sink.on_reset(code)
