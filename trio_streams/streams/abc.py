"""The halves of a stream, as everybody sees them: in process, on a wire, typed or raw.

A half is an ordered run of items that finishes exactly once: by END (in order, after its data), by RESET (the sender
abandons it) or by STOP (the receiver refuses more). A `SendStream` is the end that items go into, a `ReceiveStream`
the end that they come out of, and a `Stream` has one of each, in opposite directions.

Where one algorithm serves all streams it is written here, in terms of the few operations that differ. It relies on
one rule for those: a terminal error is *sticky*, so that an operation which meets it after it has already moved items
may report the items, and leave the error to the next call.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, Iterable
from typing import Generic, TypeVar

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.core.records import Status
from trio_streams.errors import StreamsError
from trio_streams.streams.pace import BATCH_ITEMS, Pace

__all__ = ["ReceiveStream", "SendStream", "Stream", "StreamChunk", "StreamStatistics"]

T = TypeVar("T")
S_contra = TypeVar("S_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


@attrs.frozen
class StreamChunk(Generic[T]):
    """What `read()` gives: an item, or the news that there are no more.

    Attributes:
      done: whether the stream has ended cleanly.
      value: the item; None when done.
    """

    done: bool
    value: T | None = None


@attrs.frozen(kw_only=True)
class StreamStatistics:
    """A snapshot of one stream, for people and for tests.

    Attributes:
      id: the stream's name within its connection or process.
      send_state: the state of the half we send on (`open`, `closing`, `closed`, `errored`); None if there is none.
      receive_state: the same of the half we receive on.
      items_sent: items accepted from senders.
      items_received: items handed to receivers.
      bytes_sent: their size in bytes; None where items are objects.
      bytes_received: likewise.
      buffered_items: items that wait for a receiver here.
      buffered_bytes: their size in bytes; None where items are objects.
      tasks_waiting_send: tasks that wait to send.
      tasks_waiting_receive: tasks that wait to receive.
      window_items: how many items may wait: the high-water mark.
      window_bytes: how many bytes may wait; None for no such limit.
      queued_items: items accepted from senders that have not left for the peer; always 0 in process.
      credit_items: how many more items the peer allows us to send; None in process, where the buffer is the limit.
    """

    id: str
    send_state: str | None = None
    receive_state: str | None = None
    items_sent: int = 0
    items_received: int = 0
    bytes_sent: int | None = None
    bytes_received: int | None = None
    buffered_items: int = 0
    buffered_bytes: int | None = None
    tasks_waiting_send: int = 0
    tasks_waiting_receive: int = 0
    window_items: int = 0
    window_bytes: int | None = None
    queued_items: int = 0
    credit_items: int | None = None


class SendStream(trio.abc.SendChannel[S_contra]):
    """The end of a half that items go into. Several tasks may send; they are served first come, first served."""

    __slots__ = ()

    @abstractmethod
    async def send(self, value: S_contra) -> None:
        """Send one item, waiting until the stream takes it.

        The checkpoint is amortised: every call checks for cancellation, and at least every 64th call, or the first
        after 1 ms, lets other tasks run.

        Args:
          value: the item.

        Raises:
          trio.ClosedResourceError: the half was ended or closed here; the message names the state.
          StreamStopped: the receiver refuses more.
          StreamReset: the stream was abandoned.
          ConnectionLost: the connection broke.

        Cancellation: atomic; a cancelled call has sent nothing.
        """

    @abstractmethod
    def send_nowait(self, value: S_contra) -> None:
        """Send one item if the stream takes it at once.

        Args:
          value: the item.

        Raises:
          trio.WouldBlock: the stream is full.
          Exception: as `send`.
        """

    async def send_many(self, values: Iterable[S_contra] | AsyncIterable[S_contra]) -> int:
        """Send a run of items: the fast way, with one schedule point a batch.

        Items of other senders may come in between.

        Args:
          values: the items; an asynchronous iterable is awaited for each.

        Returns:
          How many were sent: all of them.

        Raises:
          Exception: as `send`; the items before the failing one were sent. What `values` raises passes through.

        Cancellation: a prefix of the run has been sent, and the rest of `values` is untouched, except for one item
        at most that was taken from it and not sent.
        """
        pace = Pace()
        sent = 0
        if isinstance(values, AsyncIterable):
            async for value in values:
                await self._send_paced(value, pace)
                sent += 1
        else:
            for value in values:
                await self._send_paced(value, pace)
                sent += 1
        if not sent:
            await trio.lowlevel.checkpoint()
        return sent

    async def _send_paced(self, value: S_contra, pace: Pace) -> None:
        await pace.step()
        try:
            self.send_nowait(value)
        except trio.WouldBlock:
            await self.send(value)
            pace.restart()

    @abstractmethod
    async def wait_writable(self) -> None:
        """Wait until `send_nowait` is worth a try: there is room, or the half is finished and sending raises.

        Another task may take the room first, so loop.

        Cancellation: atomic; nothing has changed.
        """

    @abstractmethod
    def end(self, status: Status | None = None) -> None:
        """Finish the half, in order: after what was accepted, and after senders that are already waiting.

        Idempotent, and without effect on a half that is finished: the first terminal cause wins.

        Args:
          status: how it went; OK by default. Anything else reaches receivers as an `RpcError`, after all data.
        """

    @abstractmethod
    def reset(self, code: Code = Code.CANCELLED, reason: str = "") -> None:
        """Abandon the half: what was not read is dropped, and receivers get `StreamReset`.

        Idempotent, and without effect on a half that is finished.

        Args:
          code: why.
          reason: why, in words.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of this end: an unfinished half is ended. Idempotent; always a checkpoint.

        Cancellation: the end is let go of even so.
        """

    @abstractmethod
    def statistics(self) -> StreamStatistics:
        """A snapshot of the stream."""


class ReceiveStream(trio.abc.ReceiveChannel[R_co]):
    """The end of a half that items come out of. Several tasks may receive; each item goes to one of them."""

    __slots__ = ()

    @abstractmethod
    async def receive(self) -> R_co:
        """Take the next item, waiting until one arrives.

        The checkpoint is amortised, as for `send`.

        Returns:
          The item.

        Raises:
          trio.EndOfChannel: the sender ended the half cleanly, and everything was received.
          RpcError: the sender ended it with a status that is not OK, and everything was received.
          StreamReset: the sender abandoned it; `code` says why.
          trio.ClosedResourceError: this end was closed or stopped here.
          ConnectionLost: the connection broke.

        Cancellation: atomic; a cancelled call takes nothing.
        """

    @abstractmethod
    def receive_nowait(self) -> R_co:
        """Take the next item if there is one.

        Returns:
          The item.

        Raises:
          trio.WouldBlock: none is there yet.
          Exception: as `receive`.
        """

    async def receive_many(self, max_items: int = BATCH_ITEMS) -> list[R_co]:
        """Take what is there: at least one item, waiting for the first only.

        Args:
          max_items: the most to take.

        Returns:
          One to `max_items` items, in order.

        Raises:
          ValueError: `max_items` is less than 1.
          Exception: as `receive`, if that is met before the first item; later, the next call raises it.

        Cancellation: atomic; a cancelled call takes nothing.
        """
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, not {max_items!r}")
        items = [await self.receive()]
        try:
            while len(items) < max_items:
                items.append(self.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError, StreamsError):
            pass  # sticky, or nothing at all: see the top of this file
        return items

    async def __anext__(self) -> R_co:
        """Take the next item; a clean end finishes the loop.

        Cancellation: atomic; a cancelled call takes nothing.
        """
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    @abstractmethod
    def stop(self, code: Code = Code.OK, reason: str = "") -> None:
        """Refuse more: what is buffered is dropped, and senders get `StreamStopped`.

        Idempotent, and without effect on a half that is finished.

        Args:
          code: why; OK where nothing is wrong and the rest is simply not needed.
          reason: why, in words.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of this end: an unfinished half is stopped. Idempotent; always a checkpoint.

        Cancellation: the end is let go of even so.
        """

    @abstractmethod
    def statistics(self) -> StreamStatistics:
        """A snapshot of the stream."""


class Stream(SendStream[S_contra], ReceiveStream[R_co]):
    """Two halves in opposite directions: items of `S_contra` go out, items of `R_co` come in."""

    __slots__ = ()

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of both ends: an unfinished send half is ended, an unfinished receive half stopped. Idempotent.

        Cancellation: both ends are let go of even so.
        """

    @abstractmethod
    def statistics(self) -> StreamStatistics:
        """A snapshot of both halves."""
