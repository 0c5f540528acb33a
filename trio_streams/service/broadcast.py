"""One publisher, many readers: what is published is encoded once, and written to each reader without waiting.

`publish` writes to the sockets of all readers itself, in the publisher's task: no reader's task wakes, and nothing is
queued for anybody. Where a socket takes no more, a task finishes that one write and then goes on from the reader's
place in the log (`broadcast_log`). So a reader that stalls costs what one write could not finish, and a number; how far
it may fall behind is `window_bytes`, and what happens then its policy.

A write costs the kernel some microseconds, so a thousand readers hold the loop for some milliseconds a publication.
`publish` therefore lets other tasks run between slices of readers; `publish_nowait` does not. A run of items is one
write per reader: publish together what is there together.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import LocalProtocolError
from trio_streams.service.broadcast_log import EventFormat, Log, run_cost
from trio_streams.service.broadcast_readers import EventReader, LagPolicy, Reader, Subscription, dropped_event
from trio_streams.service.exchange import Exchange, Headers
from trio_streams.service.sse import SSE_HEADERS
from trio_streams.wire import sse

__all__ = ["Broadcast", "BroadcastConfig", "BroadcastStatistics", "LagPolicy", "Subscription"]

T = TypeVar("T")

_SLICE_READERS: Final = 128
"""Readers written to between two schedule points: about a millisecond."""


@attrs.frozen(kw_only=True)
class BroadcastConfig:
    """What a broadcast keeps, and for whom.

    Attributes:
      window_bytes: how far a reader may be behind; an item costs its length plus 64. Also the most that one publication
        may cost. The encoded form of what is kept comes on top, once for each kind of host.
      policy: what happens to a reader that is further behind.
      replay_bytes: how much more is kept for readers that come back with the id of the last event they got. 0 for
        events without ids.
      event: the type of each event; None for none, which browsers call `message`.
    """

    window_bytes: int = attrs.field(default=262_144, validator=attrs.validators.gt(0))
    policy: LagPolicy = LagPolicy.DISCONNECT
    replay_bytes: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    event: str | None = None


@attrs.frozen(kw_only=True)
class BroadcastStatistics:
    """A snapshot of a broadcast.

    Attributes:
      readers: exchanges and subscribers.
      readers_behind: those who have not taken everything yet.
      published_items: items published so far.
      dropped_items: items that readers have missed by `LagPolicy.DROP`, counted once for each reader.
      disconnected_readers: readers that `LagPolicy.DISCONNECT` has ended.
      retained_bytes: what the log holds, at most `window_bytes` + `replay_bytes` and one publication.
    """

    readers: int
    readers_behind: int
    published_items: int
    dropped_items: int
    disconnected_readers: int
    retained_bytes: int


_DEFAULT: Final = BroadcastConfig()


class Broadcast(Generic[T]):
    """Gives every item to all its readers, in one order.

    Args:
      encode: an item as the payload of an event, such as `msgspec.json.encode`; None where items are bytes.
      config: what is kept, and for whom.
    """

    def __init__(self, encode: Callable[[T], bytes] | None = None, *, config: BroadcastConfig = _DEFAULT) -> None:
        self.config: BroadcastConfig = config
        self._encode = encode
        self._format = EventFormat(config.event, secrets.token_hex(4) if config.replay_bytes else None)
        self.log: Log[T] = Log(config.window_bytes + config.replay_bytes, self._format)
        self._readers: set[Reader[T]] = set()
        self._behind: set[Reader[T]] = set()
        self._room = trio.lowlevel.ParkingLot()
        self._is_ended = False
        self._dropped_items = 0
        self._disconnected_readers = 0

    # Publishing.

    async def publish(self, *items: T) -> None:
        """Give items to all readers, waiting for those with `LagPolicy.WAIT` that are a window behind.

        Several items at once are one write per reader, and much cheaper than one at a time.

        Raises:
          LocalProtocolError: an item is not bytes where there is no `encode`, or together they pass `window_bytes`.
          trio.ClosedResourceError: the broadcast has ended.
        Cancellation: atomic; a cancelled call has published nothing, and a published item reaches everybody.
        """
        await trio.lowlevel.checkpoint()
        payloads = self._payloads(items)
        cost = self._check_cost(payloads)
        while not self._has_room(cost):
            await self._room.park()
        self._append(items, payloads)
        readers = list(self._readers)
        for start in range(0, len(readers), _SLICE_READERS):
            if start:
                await trio.lowlevel.cancel_shielded_checkpoint()
            self._spread(readers[start : start + _SLICE_READERS])

    def publish_nowait(self, *items: T) -> None:
        """Give items to all readers, at once.

        Raises:
          trio.WouldBlock: a reader with `LagPolicy.WAIT` is a window behind; nothing was published.
          Exception: as `publish`.
        """
        payloads = self._payloads(items)
        if not self._has_room(self._check_cost(payloads)):
            raise trio.WouldBlock
        self._append(items, payloads)
        self._spread(list(self._readers))

    def comment_nowait(self, text: str = "") -> None:
        """Send a comment, which clients ignore, to every client that has nothing else to read: a heartbeat.

        Raises:
          LocalProtocolError: the text holds a line end.
        """
        comment = sse.encode_comment(text)
        for reader in list(self._readers - self._behind):
            if isinstance(reader, EventReader) and reader.pull is not None and reader.lag_bytes == 0:
                reader.add_comment(comment)
                reader.pull()

    def end(self) -> None:
        """Nothing more comes: readers get what is there, then an `end` event and the end. Idempotent."""
        if not self._is_ended:
            self._is_ended = True
            self._room.unpark_all()
            self._spread(list(self._readers))

    def _payloads(self, items: Sequence[T]) -> list[bytes]:
        if self._encode is not None:
            return [self._encode(item) for item in items]
        payloads: list[bytes] = [item for item in items if isinstance(item, bytes)]
        if len(payloads) < len(items):
            raise LocalProtocolError(
                "can't publish what is not bytes without an encoder", code=Code.INVALID_ARGUMENT, field="items"
            )
        return payloads

    def _check_cost(self, payloads: Sequence[bytes]) -> int:
        cost, limit = run_cost(payloads), self.config.window_bytes
        if cost > limit:
            raise LocalProtocolError(
                f"can't publish {cost} bytes at once: the window has {limit}",
                code=Code.MESSAGE_TOO_LARGE,
                field="items",
                size=cost,
                limit=limit,
            )
        return cost

    def _has_room(self, cost: int) -> bool:
        if self._is_ended:
            raise trio.ClosedResourceError("can't publish: the broadcast has ended")
        return all(
            reader.policy is not LagPolicy.WAIT or reader.lag_bytes + cost <= reader.limit_bytes
            for reader in self._behind
        )

    def _append(self, items: Sequence[T], payloads: Sequence[bytes]) -> None:
        if not items:
            return
        self.log.append(items, payloads)
        for reader in [reader for reader in self._behind if reader.policy is LagPolicy.DISCONNECT]:
            if reader.lag_bytes > reader.limit_bytes:
                reader.is_over = True
                self._disconnected_readers += 1
                self._behind.discard(reader)

    def _spread(self, readers: Sequence[Reader[T]]) -> None:
        end_run = self.log.end_run
        for reader in readers:
            if reader.pull is not None:
                reader.pull()
            if reader.run != end_run and not reader.is_behind and reader in self._readers:
                reader.is_behind = True
                self._behind.add(reader)

    # Reading.

    async def respond(self, exchange: Exchange, *, policy: LagPolicy | None = None, headers: Headers = ()) -> None:
        """Answer with what is published from now on, as server-sent events, until the broadcast ends.

        A client that names the last event it got (`Last-Event-ID`) gets what followed it. If that is not kept any more,
        or the id is of another broadcast, it first gets an event `dropped` with `{"dropped": n}`, the number of items
        that it missed (null where nobody knows), and then what is kept. HEAD gets the head alone.

        Args:
          exchange: one without a head yet.
          policy: what happens when this reader falls behind; None for the configured policy.
          headers: added to the stream's own.

        Raises:
          ConnectionLost: the client is gone.
        Cancellation: the answer stays unfinished.
        """
        reader = EventReader(self, self.config.policy if policy is None else policy)
        self._resume(reader, exchange.request.header("last-event-id"))
        self._readers.add(reader)
        try:
            await exchange.send_head(200, [*SSE_HEADERS, *headers])
            await exchange.send_from(reader)
        finally:
            self.remove(reader)
        exchange.end()

    def subscribe(self, *, policy: LagPolicy | None = None) -> Subscription[T]:
        """Read what is published from now on in this process. Close it, or leave its `async with`, when done.

        Args:
          policy: what happens when this reader falls behind; None for the configured policy.
        """
        reader = Subscription(self, self.config.policy if policy is None else policy)
        self._readers.add(reader)
        return reader

    def statistics(self) -> BroadcastStatistics:
        """How things stand."""
        return BroadcastStatistics(
            readers=len(self._readers),
            readers_behind=len(self._behind),
            published_items=self.log.end_item - 1,
            dropped_items=self._dropped_items,
            disconnected_readers=self._disconnected_readers,
            retained_bytes=self.log.retained_bytes,
        )

    def _resume(self, reader: EventReader[T], last_event_id: str | None) -> None:
        log = self.log
        if not last_event_id or not self.config.replay_bytes:
            return
        number = self._format.parse_id(last_event_id)
        if number is None or number >= log.end_item:
            missed, wanted = None, log.first_item
        else:
            missed, wanted = max(0, log.first_item - number - 1), max(log.first_item, number + 1)
        notice = b"" if missed == 0 else dropped_event(missed)
        run = log.run_of(wanted)
        if run < log.end_run and log.run(run).first < wanted:
            # The middle of a run: its rest is encoded once more, for this reader alone.
            notice += log.run(run).encoded_from(wanted)
            run += 1
        reader.add(notice)
        reader.start_at(run)
        if reader.is_behind:
            self._behind.add(reader)

    # For readers.

    @property
    def is_ended(self) -> bool:
        """Whether nothing more comes."""
        return self._is_ended

    def handle_moved(self, reader: Reader[T]) -> None:
        """A reader that was behind has taken something."""
        if reader.run == self.log.end_run:
            reader.is_behind = False
            reader.limit_bytes = self.config.window_bytes
            self._behind.discard(reader)
        self._room.unpark_all()

    def count_dropped(self, items: int) -> None:
        """A reader has missed items."""
        self._dropped_items += items

    def remove(self, reader: Reader[T]) -> None:
        """A reader has left."""
        self._readers.discard(reader)
        self._behind.discard(reader)
        self._room.unpark_all()
