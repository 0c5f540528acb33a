"""The peer's stream, from the receiver's side: asked for before or after it begins."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, NoReturn, Self, TypeVar, cast

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import CodecError, ConnectionLost, ProtocolError, RpcError, StreamsError
from trio_streams.peer.coding import Decoding
from trio_streams.streams.abc import ReceiveStream, StreamStatistics
from trio_streams.streams.pace import Pace
from trio_streams.streams.wire import WireStream

__all__ = ["PeerReceiveStream", "connection_closed"]

T = TypeVar("T")


def connection_closed(lost: ConnectionLost) -> ConnectionLost:
    """The loss of a connection as the peer's streams and calls report it."""
    error = ConnectionLost(f"Connection closed: {lost}")
    error.__cause__ = lost
    return error


class PeerReceiveStream(ReceiveStream[T]):
    """A stream that the peer sends; `RpcPeer.receive_stream` makes it.

    `async for` ends with the stream. A loop that is left early, by `break` or an exception, tells the sender to stop, as
    `aclose` does and the end of `async with stream:`; what was not taken is dropped then. (The loop is noticed by its
    iterator's reference count: where an interpreter has none, use the block.)

    Args:
      stream_id: which; None for whichever comes next.
      type_: of its items.
      on_over: told once, without waiting, when nothing more will come out.

    Attributes:
      id: the stream's id; None while it is not known which stream this will be.
      is_over: whether nothing more will come out.
    """

    __slots__ = (
        "__weakref__",
        "_changed",
        "_decoding",
        "_failure",
        "_is_followed",
        "_is_gated",
        "_is_plain",
        "_lines",
        "_on_over",
        "_pace",
        "_source",
        "_type",
        "id",
        "is_over",
    )

    def __init__(self, stream_id: str | None, type_: object, on_over: Callable[[PeerReceiveStream[T]], None]) -> None:
        self.id: str | None = stream_id
        self.is_over: bool = False
        self._type = type_
        self._on_over = on_over
        self._source: WireStream[bytes, T] | None = None
        self._decoding: Decoding[T] | None = None
        self._failure: Callable[[], Exception] | None = None
        self._is_gated = False  # another stream comes first
        self._is_plain = False  # nothing stands between a loop and the stream on the wire
        self._is_followed = False
        self._lines: deque[bytes] = deque()
        self._pace = Pace()
        self._changed = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        state = "over" if self.is_over else "not begun" if self._source is None else self._source.state.value
        return f"<PeerReceiveStream {self.id!r} {state}>"

    # -- what its manager tells ---------------------------------------------------------------------------------

    @property
    def source(self) -> WireStream[bytes, T] | None:
        """The stream on the wire, once it has begun."""
        return self._source

    def begin(self, stream_id: str, stream: WireStream[bytes, bytes], max_item_bytes: int, *, is_gated: bool) -> None:
        """This is the stream.

        Args:
          stream_id: its id.
          stream: on the wire.
          max_item_bytes: the largest item, inflated.
          is_gated: whether it comes after one that is not over; `open_gate` tells when that is.
        """
        self.id = stream_id
        stream.on_arrival = None
        try:
            decoding: Decoding[T] = Decoding.choose(self._type, stream.metadata, max_item_bytes)
        except RpcError as exc:
            self._source = cast("WireStream[bytes, T]", stream)
            self.refuse(exc)
            return
        self._decoding = decoding
        decode = decoding.decode if decoding.unpack is None else decoding.decode_whole
        self._source = cast("WireStream[bytes, T]", stream.typed(None, None if decoding.is_batched else decode))
        self._is_gated = is_gated
        self._is_plain = not is_gated and not decoding.is_batched
        self._changed.unpark_all()

    def open_gate(self) -> None:
        """The stream that comes before this one is over."""
        self._is_gated = False
        self._is_plain = self._failure is None and self._decoding is not None and not self._decoding.is_batched
        self._changed.unpark_all()

    def refuse(self, error: RpcError) -> None:
        """The stream is not taken: say so at both ends."""
        self._fail(lambda: RpcError(error.code, error.message, error.details))
        if self._source is not None:
            self._source.stop(error.known_code, error.message)
        self._finish()

    def lose(self, error: ConnectionLost) -> None:
        """The connection is over. What had arrived of a stream that has begun can still be taken."""
        if self._source is None:
            self._fail(lambda: connection_closed(error))
            self._finish()

    def follow(self) -> None:
        """Another stream waits for this one to be over; then that is noticed at once, not at the next call."""
        self._is_followed = True
        if self._source is not None:
            self._source.on_arrival = self._look_if_drained
            self._look_if_drained()

    def _look_if_drained(self) -> None:
        if self._source is not None and self._source.is_drained and not self._lines:
            self._finish()

    def _fail(self, failure: Callable[[], Exception]) -> None:
        if self._failure is None:
            self._failure = failure
        self._is_plain = False
        self._lines.clear()

    def _finish(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._changed.unpark_all()
            self._on_over(self)

    # -- receiving ----------------------------------------------------------------------------------------------

    async def wait_begun(self) -> str:
        """Wait for the peer to begin the stream.

        Returns:
          Its id.

        Raises:
          RpcError: it was refused; the code and the text say why.
          ConnectionLost: the connection was closed.
          trio.ClosedResourceError: this end was closed.

        Cancellation: atomic.
        """
        await trio.lowlevel.checkpoint()
        while self._source is None and self._failure is None:
            await self._changed.park()
        if self._failure is not None:
            raise self._failure()
        assert self.id is not None
        return self.id

    async def _wait_source(self) -> WireStream[bytes, T]:
        if self._source is None or self._failure is not None:
            await self._begin_waiting()
        source = self._source
        assert source is not None
        while self._is_gated and self._failure is None:
            await self._changed.park()
        if self._failure is not None:
            raise self._failure()
        return source

    async def _begin_waiting(self) -> None:
        await self.wait_begun()

    async def receive(self) -> T:
        """Take the next item; see `ReceiveStream.receive`.

        Raises:
          RpcError: the sender failed, behind its items; or the stream was refused.
          ConnectionLost: the connection was closed.
          CodecError: the item is not of the declared type; it is gone, the next can be taken.
          RemoteProtocolError: a compressed item can't be inflated, or passes `max_item_bytes`; the stream is over.
        """
        source = self._source if self._is_plain else None
        if source is None:
            source = await self._wait_source()
        try:
            if self._is_plain:
                item = await source.receive()
            else:
                item = await self._receive_line(source)
        except (StreamsError, trio.EndOfChannel, trio.ClosedResourceError) as exc:
            self._raise(exc)
        if self._is_followed:
            self._look_if_drained()
        return item

    async def _receive_line(self, source: WireStream[bytes, T]) -> T:
        assert self._decoding is not None
        if self._lines:
            await self._pace.step()
        while not self._lines:
            self._lines.extend(self._decoding.split(cast("bytes", await source.receive())))
            self._pace.restart()
        return self._decoding.decode(self._lines.popleft())

    def receive_nowait(self) -> T:
        """Take the next item if there is one; see `ReceiveStream.receive_nowait`."""
        if self._failure is not None:
            raise self._failure()
        source, decoding = self._source, self._decoding
        if source is None or decoding is None or self._is_gated:
            raise trio.WouldBlock
        try:
            if not decoding.is_batched:
                item = source.receive_nowait()
            else:
                while not self._lines:
                    self._lines.extend(decoding.split(cast("bytes", source.receive_nowait())))
                item = decoding.decode(self._lines.popleft())
        except (StreamsError, trio.EndOfChannel, trio.ClosedResourceError) as exc:
            self._raise(exc)
        if self._is_followed:
            self._look_if_drained()
        return item

    def _raise(self, exc: Exception) -> NoReturn:
        """Raise what receiving raised, as the peer's streams say it; the stream may be over by it."""
        source = self._source
        assert source is not None
        if self._failure is not None:
            raise self._failure() from None
        if isinstance(exc, ProtocolError):
            source.stop(exc.code, str(exc))
            self._failure, self._is_plain = lambda: exc, False
            self._finish()
        elif not isinstance(exc, CodecError):
            self._finish()
        if isinstance(exc, ConnectionLost):
            raise connection_closed(exc) from exc
        raise exc

    def __aiter__(self) -> Self:
        """Iterate over the items: one loop, at whose end the stream is over."""
        return cast("Self", _Loop(self))

    async def __anext__(self) -> T:
        """Take the next item; a clean end finishes the loop.

        Cancellation: atomic; a cancelled call takes nothing.
        """
        if not self._is_plain:
            try:
                return await self.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
        assert self._source is not None
        try:
            item = await self._source.__anext__()
        except StopAsyncIteration:
            self._finish()
            raise
        except (StreamsError, trio.ClosedResourceError) as exc:
            self._raise(exc)
        if self._is_followed:
            self._look_if_drained()
        return item

    # -- the end ------------------------------------------------------------------------------------------------

    def leave_loop(self) -> None:
        """A loop was left: nothing can be taken from now on. Touches nothing that others use, so callable anywhere."""
        if self._failure is None:
            self._failure = self._closed_here
        self._is_plain = False

    def _closed_here(self) -> Exception:
        return trio.ClosedResourceError(f"can't receive from stream {self.id!r}: it was closed here")

    def stop(self, code: Code = Code.OK, reason: str = "") -> None:
        """Refuse more; see `ReceiveStream.stop`."""
        if self.is_over:
            return
        self._fail(self._closed_here)
        if self._source is not None:
            self._source.stop(code, reason)
        self._finish()

    async def aclose(self) -> None:
        """Let go of the stream: the sender stops, what was not taken is dropped. Idempotent.

        Cancellation: the stream is let go of even so.
        """
        self.stop()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> StreamStatistics:
        """A snapshot of the stream; `id` is the one that the peers agreed on."""
        if self._source is None:
            return StreamStatistics(id=self.id or "", receive_state="errored" if self.is_over else "open")
        known = self._source.statistics()
        return attrs.evolve(known, id=self.id or "", buffered_items=known.buffered_items + len(self._lines))


class _Loop(Generic[T]):
    """One `async for`: it is dropped when the loop is left, however that happens."""

    __slots__ = ("_stream", "_token")

    def __init__(self, stream: PeerReceiveStream[T]) -> None:
        self._stream = stream
        self._token = trio.lowlevel.current_trio_token()

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> object:
        return self._stream.__anext__()

    def __del__(self) -> None:
        stream = self._stream
        if not stream.is_over:
            stream.leave_loop()
            try:
                self._token.run_sync_soon(stream.stop)  # a collector may be at work anywhere
            except trio.RunFinishedError:
                pass
