"""The streams of one connection between peers: those that we send, and those that the peer does."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, overload

import trio

from trio_streams.codes import Code
from trio_streams.connection import Connection
from trio_streams.errors import ConnectionLost, LocalProtocolError, RpcError
from trio_streams.nursery import open_bare_nursery
from trio_streams.peer.batch import BatchOptions
from trio_streams.peer.calling import address_to
from trio_streams.peer.coding import CompressionName, ContentType, Encoding, not_carried
from trio_streams.peer.rate_limit import RateLimit
from trio_streams.peer.receive_stream import PeerReceiveStream, connection_closed
from trio_streams.peer.recent_ids import RecentIds
from trio_streams.peer.sending import Sending
from trio_streams.peer.statistics import ManagerStatistics
from trio_streams.peer.stream_options import StreamOptions
from trio_streams.peer.unclaimed import Unclaimed
from trio_streams.streams.wire import WireStream
from trio_streams.wire.signal_names import AFTER, STREAM_ID

__all__ = ["StreamManager"]

T = TypeVar("T")

_MAX_ID_CHARACTERS: Final = 256

_Raw = WireStream[bytes, bytes]


def _nobody_watches() -> None:
    """Nobody asked to be told."""


class StreamManager:
    """Sends and receives streams whose ids two peers agree on, over a connection. `RpcPeer` has one, for its streams.

    Alone it is used as ``async with StreamManager(options).over(connection) as manager:``.

    Args:
      options: the limits; None for the defaults.

    Attributes:
      options: the limits.
      on_change: called, without waiting, when a stream of either direction is over.
    """

    def __init__(self, options: StreamOptions | None = None) -> None:
        self.options: StreamOptions = options or StreamOptions()
        self._connection: Connection | None = None
        self._nursery: trio.Nursery | None = None
        self._is_over = False
        self.on_change: Callable[[], None] = _nobody_watches
        self._sending: dict[str, Sending] = {}
        self._sent: RecentIds[int | None] = RecentIds()  # and what they were on the wire
        self._claims: dict[str, PeerReceiveStream[Any]] = {}  # under an id, begun or not, and not over
        self._nameless: deque[PeerReceiveStream[Any]] = deque()  # for whatever comes next
        self._unclaimed = Unclaimed(self.options, self._refuse_unclaimed)
        self._received: RecentIds[None] = RecentIds()
        self._refused: RecentIds[RpcError] = RecentIds()
        self._given_up: RecentIds[bool] = RecentIds()  # claimed and closed before they began
        self._followers: dict[str, list[PeerReceiveStream[Any]]] = {}  # by what they come after
        self._counts = {"sent": 0, "received": 0, "refused": 0}

    # -- the connection -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def over(self, connection: Connection) -> AsyncIterator[StreamManager]:
        """Use a connection for nothing but streams, for as long as the block.

        Args:
          connection: whoever made it closes it.

        Raises:
          LocalProtocolError: the manager has a connection, or somebody else serves the peer's streams there.

        Cancellation: the streams that are not over are reset.
        """
        async with open_bare_nursery() as nursery:
            self.attach(connection, nursery)
            connection.on_lost = self.lose
            connection.hand_over(self.accept)
            try:
                yield self
            finally:
                connection.on_lost = None
                self.close()
                nursery.cancel_scope.cancel()

    def attach(self, connection: Connection, nursery: trio.Nursery) -> None:
        """Use a connection whose streams somebody else sorts, with `accept`, `lose` and `close`.

        Raises:
          LocalProtocolError: the manager has a connection.
        """
        if self._connection is not None:
            raise LocalProtocolError("can't use a second connection: a StreamManager is for one")
        self._connection, self._nursery = connection, nursery

    def lose(self, error: ConnectionLost) -> None:
        """The connection is over: whoever waits for a stream to begin hears of it; the others hear it from theirs."""
        for stream in [*self._claims.values(), *self._nameless]:
            stream.lose(error)

    def close(self) -> None:
        """Nothing is sent or received from now on: the peer's streams are stopped."""
        self._is_over = True
        for claim in [*self._claims.values(), *self._nameless]:
            claim.stop()
        for stream in self._unclaimed.clear():
            self._require_attached().let_go(stream)

    def _require_connection(self) -> Connection:
        if self._connection is None or self._is_over:
            raise LocalProtocolError("can't use streams outside the block of their connection")
        return self._connection

    # -- sending ------------------------------------------------------------------------------------------------

    async def send_stream(
        self,
        iterable: Iterable[object] | AsyncIterable[object],
        stream_id: str | None = None,
        *,
        after: str | None = None,
        batch: BatchOptions | None = None,
        compression: CompressionName | None = None,
        content_type: ContentType | None = None,
        priority: int = 0,
        rate_limit: RateLimit | None = None,
        to: str | None = None,
        weight: int = 1,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> str:
        """Send a stream; see `RpcPeer.send_stream`."""
        sending = self.begin_sending(
            stream_id,
            after=after,
            batch=batch,
            compression=compression,
            content_type=content_type,
            priority=priority,
            rate_limit=rate_limit,
            to=to,
            weight=weight,
        )
        task_status.started(sending.stream_id)
        return await self.run_sending(sending, iterable)

    def begin_sending(
        self,
        stream_id: str | None = None,
        *,
        after: str | None = None,
        batch: BatchOptions | None = None,
        compression: CompressionName | None = None,
        content_type: ContentType | None = None,
        priority: int = 0,
        rate_limit: RateLimit | None = None,
        to: str | None = None,
        weight: int = 1,
    ) -> Sending:
        """Note a stream that `run_sending` sends, in whichever task; its id is taken from now on.

        Raises:
          ConnectionLost: the connection is closed.
          LocalProtocolError: an argument can't be used.
        """
        connection = self._require_connection()
        if not 1 <= weight <= 256:
            raise LocalProtocolError(f"weight is {weight}, outside 1 to 256", field="weight", size=weight, limit=256)
        if not -128 <= priority <= 127:
            raise LocalProtocolError(f"priority is {priority}, outside -128 to 127", field="priority", size=priority)
        if connection.lost is not None:
            raise connection_closed(connection.lost)
        choose = Encoding.choose if connection.machine.carries_metadata else Encoding.choose_plain
        if after is not None:
            self._check_after(connection, after)
        sending = Sending(
            stream_id=self._new_id(stream_id),
            encoding=choose(content_type, compression, is_batched=batch is not None),
            priority=priority,
            weight=weight,
            batch=batch,
            rate_limit=rate_limit,
            after=after,
            address=address_to(connection, to),
        )
        self._sending[sending.stream_id] = sending
        return sending

    async def run_sending(self, sending: Sending, iterable: Iterable[object] | AsyncIterable[object]) -> str:
        """Send a stream that was noted; else as `RpcPeer.send_stream`. Cancellation: as there."""
        stream_id = sending.stream_id
        try:
            await sending.run(self._require_attached(), iterable, self._wait_for)
        finally:
            del self._sending[stream_id]
            self._sent.add(stream_id, None if sending.wire is None else sending.wire.id)
            sending.over.set()
            self._counts["sent"] += 1
            self.on_change()
        return stream_id

    def _new_id(self, stream_id: str | None) -> str:
        if stream_id is None:
            return str(uuid.uuid4())
        _check_id(stream_id)
        if stream_id in self._sending:
            raise LocalProtocolError(
                f"can't send stream {stream_id!r}: one of this id is under way",
                code=Code.ALREADY_EXISTS,
                field="stream_id",
            )
        return stream_id

    def _check_after(self, connection: Connection, stream_id: str) -> None:
        if not connection.machine.carries_metadata:
            raise not_carried("after")
        if stream_id not in self._sending and stream_id not in self._sent:
            raise _not_found("send after stream", stream_id, "none of ours has this id")

    async def _wait_for(self, stream_id: str) -> None:
        """Wait until a stream of ours has left to its very end.

        Only then do its items need no credit any more that those of the next one could take away; and who only waits
        here holds none. So whatever waits for whom, the connection's window can't lock them.
        """
        if (before := self._sending.get(stream_id)) is not None:
            await before.over.wait()
        wire_id = self._sent.get(stream_id)
        if wire_id is not None:
            await self._require_attached().wait_sent(wire_id)

    def abort_stream(self, stream_id: str) -> None:
        """Abandon a stream of ours; see `RpcPeer.abort_stream`."""
        sending = self._sending.get(stream_id)
        if sending is not None:
            sending.abort()
        elif stream_id not in self._sent:
            raise _not_found("abort stream", stream_id, "none of ours has this id")

    # -- receiving ----------------------------------------------------------------------------------------------

    @overload
    def receive_stream(self, stream_id: str, type: type[T]) -> tuple[str, PeerReceiveStream[T]]: ...
    @overload
    def receive_stream(self, stream_id: str, type: object = ...) -> tuple[str, PeerReceiveStream[Any]]: ...
    @overload
    def receive_stream(self, stream_id: None = ..., *, type: type[T]) -> tuple[str | None, PeerReceiveStream[T]]: ...
    @overload
    def receive_stream(
        self, stream_id: str | None = ..., type: object = ...
    ) -> tuple[str | None, PeerReceiveStream[Any]]: ...
    def receive_stream(
        self,
        stream_id: str | None = None,
        type: object = object,  # noqa: A002 - the seed's word
    ) -> tuple[str | None, PeerReceiveStream[Any]]:
        """Claim a stream of the peer; see `RpcPeer.receive_stream`."""
        stream: PeerReceiveStream[Any] = PeerReceiveStream(stream_id, type, self.on_received)
        self.claim(stream_id, stream)
        return stream.id, stream

    def claim(self, stream_id: str | None, stream: PeerReceiveStream[Any]) -> None:
        """Have a stream of the peer, now or later, received by an object that `receive_stream` has not made.

        Args:
          stream_id: which; None for the next that nobody has claimed.
          stream: has not begun.

        Raises:
          LocalProtocolError: the stream has a receiver.
        """
        connection = self._require_connection()
        if stream_id is not None:
            self._check_claim(stream_id)
            self._given_up.take(stream_id)
            stream.id = stream_id
        if (waiting := self._unclaimed.take(stream_id)) is not None:
            self._begin(stream, *waiting)
        elif stream_id is not None and (refusal := self._refused.take(stream_id)) is not None:
            stream.refuse(refusal)
        elif connection.lost is not None:
            stream.lose(connection.lost)
        elif stream_id is None:
            self._nameless.append(stream)
        else:
            self._claims[stream_id] = stream

    def _check_claim(self, stream_id: str) -> None:
        _check_id(stream_id)
        if stream_id in self._claims:
            raise LocalProtocolError(
                f"can't receive stream {stream_id!r}: it has a receiver", code=Code.ALREADY_EXISTS, field="stream_id"
            )

    def close_receiving_stream(self, stream_id: str) -> None:
        """Stop a stream of the peer; see `RpcPeer.close_receiving_stream`."""
        if (stream := self._claims.get(stream_id)) is not None:
            stream.stop()
        elif (waiting := self._unclaimed.take(stream_id)) is not None:
            self._let_go_received(*waiting)
        elif stream_id not in self._received and stream_id not in self._given_up:
            raise _not_found("close stream", stream_id, "the peer has none of this id")

    def accept(self, stream: _Raw) -> None:
        """Take a stream that the peer has opened: for who claimed it, or for who will. Never waits, never raises."""
        if self._is_over:
            self._refuse(stream, RpcError(Code.UNAVAILABLE, "the peer has left"))
            return
        stream.end()  # it carries nothing in this direction
        stream_id = stream.metadata.get(STREAM_ID, "")
        fault = self._find_fault(stream_id)
        if fault is not None:
            self._refuse(stream, fault)
            return
        claim = self._claims.get(stream_id)
        if claim is None and self._nameless:
            claim = self._nameless.popleft()
        if claim is not None:
            self._begin(claim, stream_id, stream)
            return
        if self._given_up.take(stream_id):
            self._let_go_received(stream_id, stream)
            return
        self._refused.take(stream_id)
        assert self._nursery is not None
        self._unclaimed.add(stream_id, stream, self._nursery)

    def _find_fault(self, stream_id: str) -> RpcError | None:
        """What is wrong with the id of a new stream of the peer."""
        if not 0 < len(stream_id) <= _MAX_ID_CHARACTERS:
            text = f"a stream's id has 1 to {_MAX_ID_CHARACTERS} characters, not {len(stream_id)}"
            return RpcError(Code.INVALID_ARGUMENT, text, {"field": STREAM_ID})
        claim = self._claims.get(stream_id)
        if stream_id in self._unclaimed or (claim is not None and claim.source is not None):
            return RpcError(Code.ALREADY_EXISTS, f"a stream {stream_id!r} is under way", {"field": STREAM_ID})
        return None

    def _begin(self, claim: PeerReceiveStream[Any], stream_id: str, stream: _Raw) -> None:
        self._claims[stream_id] = claim
        after = stream.metadata.get(AFTER)
        # Its sender began the one before it earlier, so one that is not here is over.
        is_gated = after is not None and after != stream_id and (after in self._unclaimed or after in self._claims)
        claim.begin(stream_id, stream, self._require_connection().config.max_item_bytes, is_gated=is_gated)
        if is_gated and after is not None and not claim.is_over:
            self._followers.setdefault(after, []).append(claim)
            if (before := self._claims.get(after)) is not None:
                before.follow()
        if stream_id in self._followers and not claim.is_over:
            claim.follow()

    def on_received(self, stream: PeerReceiveStream[Any]) -> None:
        """A claimed stream is over; its own word."""
        source, stream_id = stream.source, stream.id
        if source is not None:
            self._require_attached().let_go(source)
        if stream in self._nameless:
            self._nameless.remove(stream)
        if stream_id is not None and self._claims.get(stream_id) is stream:
            del self._claims[stream_id]
            if source is None:
                self._given_up.add(stream_id, True)
            else:
                self._note_received(stream_id)

    def _require_attached(self) -> Connection:
        assert self._connection is not None
        return self._connection

    def _let_go_received(self, stream_id: str, stream: _Raw) -> None:
        self._require_attached().let_go(stream)
        self._note_received(stream_id)

    def _note_received(self, stream_id: str) -> None:
        self._received.add(stream_id, None)
        self._counts["received"] += 1
        self.on_change()
        for follower in self._followers.pop(stream_id, ()):
            follower.open_gate()

    def _refuse(self, stream: _Raw, error: RpcError) -> None:
        self._counts["refused"] += 1
        stream.stop(error.known_code, error.message)
        self._require_attached().let_go(stream)

    def _refuse_unclaimed(self, stream_id: str, stream: _Raw, error: RpcError) -> None:
        self._refuse(stream, error)
        self._refused.add(stream_id, error)
        self._note_received(stream_id)

    # -- figures ------------------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether no stream is under way in either direction; one that was only asked for does not count."""
        begun = any(stream.source is not None for stream in self._claims.values())
        return not self._sending and not begun and not len(self._unclaimed)

    def statistics(self) -> ManagerStatistics:
        """A snapshot."""
        return ManagerStatistics(
            sending=tuple(sending.statistics() for sending in self._sending.values()),
            receiving=tuple(stream.statistics() for stream in [*self._claims.values(), *self._nameless]),
            unclaimed_streams=len(self._unclaimed),
            unclaimed_bytes=self._unclaimed.buffered_bytes,
            sent_streams=self._counts["sent"],
            received_streams=self._counts["received"],
            refused_streams=self._counts["refused"],
        )


def _check_id(stream_id: str) -> None:
    if not 0 < len(stream_id) <= _MAX_ID_CHARACTERS:
        raise LocalProtocolError(
            f"a stream's id has 1 to {_MAX_ID_CHARACTERS} characters, not {len(stream_id)}",
            field="stream_id",
            size=len(stream_id),
            limit=_MAX_ID_CHARACTERS,
        )


def _not_found(action: str, stream_id: str, why: str) -> LocalProtocolError:
    return LocalProtocolError(
        f"can't {action} {stream_id[:_MAX_ID_CHARACTERS]!r}: {why}", code=Code.NOT_FOUND, field="stream_id"
    )
