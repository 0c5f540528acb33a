"""The half of a stream that bytes go into.

Bytes go to the machine while its buffer has room, and the connection is kicked, which flushes once a tick. Without room the
writer parks until the machine says that the stream is writable.
"""

# Bases with slots of their own cannot be combined, so the classes of `streams` declare the slots of both halves.
# mypy: disable-error-code="misc"

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import trio

from trio_streams.core.states import FINISHED, HalfState, Trigger, advance
from trio_streams.streams.seat import Seat
from trio_streams.webtransport.errors import WebTransportStreamStopped
from trio_streams.webtransport.protocol.error_codes import to_http3
from trio_streams.webtransport.stream_half import Half, OverCause

__all__ = ["Data", "SendHalf"]

Data: TypeAlias = bytes | bytearray | memoryview
"""What can be written."""


class SendHalf(Half, trio.abc.SendStream):
    """Sending; the state lives in the classes of `streams`, which inherit this."""

    __slots__ = ()

    bytes_sent: int
    write_seconds: float
    _is_full: bool
    _is_sending: bool
    _priority: int
    _send_over: OverCause | None
    _writer: Seat | None

    def _begin_sending(self, state: HalfState, priority: int) -> None:
        self.bytes_sent = 0
        self.write_seconds = 0.0
        self._is_full = False
        self._is_sending = False
        self._priority = priority
        self._send_state = state
        self._send_over = None
        self._writer = None

    # -- for users --------------------------------------------------------------------------------------------

    async def send_all(self, data: Data) -> None:
        """Send all of `data`, waiting where the stream's buffer has no room for it.

        Args:
          data: the bytes; they are copied unless they are `bytes`.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: our half was ended, reset or closed here.
          WebTransportStreamStopped: the peer refuses more.
          SessionClosed: the peer closed the session.
          ConnectionLost: the connection broke.

        Cancellation: a prefix of the data was taken and will be delivered; `bytes_sent` counts it.
        """
        await self._send(data, is_last=False)

    async def _send(self, data: Data, *, is_last: bool) -> None:
        self._check_free()
        self._is_sending = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            taken = 0
            try:
                self._check_sendable()
                # Bytes go as they are: the machine keeps them without a copy.
                if isinstance(data, bytes):
                    taken = self._send_some(data)
                    if is_last and taken == len(data):
                        self.end()
            finally:
                # After it, so that what was given can leave while others have their turn.
                await trio.lowlevel.cancel_shielded_checkpoint()
            if taken < len(data) or not isinstance(data, bytes):
                with memoryview(data) as view, view.cast("B") as rest:
                    await self._send_rest(rest, taken)
            if is_last:
                self.end()
        finally:
            self._is_sending = False

    async def _send_rest(self, data: memoryview, taken: int) -> None:
        while taken < len(data):
            self._check_sendable()
            taken += self._send_some(data[taken:])
            if taken < len(data):
                await self._wait_changed()

    def _send_some(self, data: Data) -> int:
        # Who finds it full waits for the low mark, and so does who comes later: else bytes would go in one by one.
        if self._is_full or not data:
            return 0
        taken = self._link.machine.send(self.stream_id, data)
        self._is_full = taken < len(data)
        if taken:
            self.bytes_sent += taken
            self._link.kick()
        return taken

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream's buffer has room again, after it once took less than it was given.

        Raises:
          Exception: as `send_all`.

        Cancellation: atomic; nothing has changed.
        """
        self._check_free()
        self._is_sending = True
        try:
            if self._send_state is not HalfState.OPEN or not self._is_full:
                await trio.lowlevel.checkpoint()
            self._check_sendable()
            while self._is_full:
                await self._wait_changed()
                self._check_sendable()
        finally:
            self._is_sending = False

    async def write(self, data: Data, *, end_stream: bool = False) -> None:
        """Write all of `data`; see `send_all`.

        Args:
          data: the bytes.
          end_stream: whether our half ends behind them, in the same flush.

        Cancellation: as `send_all`; a cancelled call does not end the half.
        """
        await self._send(data, is_last=end_stream)

    async def flush(self) -> None:
        """Wait until all that was written has left for the peer at least once.

        Raises:
          trio.ClosedResourceError: the stream was reset or closed here with something still to send.
          Exception: as `send_all`.

        Cancellation: atomic; nothing has changed.
        """
        if not self._has_unsent:
            await trio.lowlevel.checkpoint()
        while self._has_unsent:
            await self._link.wait_changed()
        if self._send_state is HalfState.ERRORED:
            raise self._fail(self._send_cause)

    def end(self) -> None:
        """End our half in order, behind what was written. Idempotent; no effect on a half that is over."""
        if self._send_state is not HalfState.OPEN:
            return
        self._send_state = HalfState.CLOSING
        self._link.machine.end(self.stream_id)
        self._link.kick()
        self._wake_writer()

    async def send_eof(self) -> None:
        """End our half in order; see `end`. Always a checkpoint.

        Raises:
          trio.BusyResourceError: another task is sending.
          trio.ClosedResourceError: the stream was closed.

        Cancellation: the half is ended even so.
        """
        self._check_free()
        if self._is_closed:
            over = self._closed_here("closed")
            raise over()
        self.end()
        await trio.lowlevel.checkpoint()

    async def close(self) -> None:
        """End our half in order; see `send_eof`. Cancellation: the half is ended even so."""
        await self.send_eof()

    def reset(self, code: int = 0) -> None:
        """Abandon our half with RESET_STREAM: what was not delivered is dropped. No effect on one that is over.

        Args:
          code: why, for the peer's application; 32 bits.

        Raises:
          LocalProtocolError: the code does not fit; nothing has changed.
        """
        to_http3(code)
        state = advance(self._send_state, Trigger.RESET)
        if state is None:
            return
        self._send_state = state
        self._send_over = self._closed_here("reset")
        self._link.machine.reset(self.stream_id, code)
        self._link.hurry()
        self._wake_writer()
        self._settle()

    @property
    def is_writable(self) -> bool:
        """Whether our half takes bytes: it was neither ended nor reset, and the peer has not stopped it."""
        return self._send_state is HalfState.OPEN

    @property
    def priority(self) -> int:
        """Who goes first within the session: the higher, strictly; equal ones take turns. May be set at any time."""
        return self._priority

    @priority.setter
    def priority(self, priority: int) -> None:
        self._priority = priority
        if self._send_state not in FINISHED:
            self._link.machine.set_priority(self.stream_id, priority)
            self._link.kick()

    # -- inside -----------------------------------------------------------------------------------------------

    @property
    def _has_unsent(self) -> bool:
        return self._send_state not in FINISHED and bool(self._link.machine.unsent_bytes(self.stream_id))

    def _check_free(self) -> None:
        if self._is_sending:
            raise trio.BusyResourceError(f"another task is sending on stream {self.stream_id}")

    @property
    def _send_cause(self) -> OverCause:
        """Why nothing more can be sent; made when somebody asks, for most streams end and nobody does."""
        return self._send_over or self._closed_here("closed" if self._is_closed else "ended")

    def _check_sendable(self) -> None:
        if self._send_state is not HalfState.OPEN:
            raise self._fail(self._send_cause)

    async def _wait_changed(self) -> None:
        if self._writer is None:
            self._writer = Seat()
        began = trio.current_time()
        try:
            await self._writer.wait()
        finally:
            self.write_seconds += trio.current_time() - began

    def _wake_writer(self) -> None:
        if self._writer is not None:
            self._writer.wake()

    def _close_sending(self) -> None:
        """The whole stream is closed here: that is what users of it hear from now on."""
        self.end()
        self._send_over = None

    def _end_sending(self, over: OverCause) -> None:
        """Somebody else has ended our half."""
        state = advance(self._send_state, Trigger.STOP)
        if state is None:
            return
        if self._send_state is HalfState.OPEN:
            self._cancel_owner(over)
        if not self._is_closed:
            self._send_over = over
        self._send_state = state
        self._wake_writer()

    # -- what the link reports --------------------------------------------------------------------------------

    def on_writable(self) -> None:
        """There is room again."""
        self._is_full = False
        self._wake_writer()

    def on_delivered(self) -> None:
        """The peer has all of our half, and its end."""
        state = advance(self._send_state, Trigger.DRAINED)
        if state is not None:
            self._send_state = state
            self._settle()

    def on_stopped(self, code: int | None) -> None:
        """The peer refuses more of our half."""
        self._end_sending(partial(WebTransportStreamStopped, code))
        self._settle()
