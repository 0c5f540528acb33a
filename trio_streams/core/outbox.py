"""What waits to be sent on a connection, and in which order it goes.

Control first: it is small, bounded by what the peer makes us owe, and urgent. Grants are marked, not queued, so that
they coalesce into the newest limits. Then data, turn by turn as the scheduler says, while the connection's credit
lasts; a stream that could go on but for that credit is parked as starved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.flow import SendCredit
from trio_streams.core.schedule import Scheduler
from trio_streams.core.stream_machine import StreamMachine
from trio_streams.core.wire import Wire

__all__ = ["Outbox"]


class Outbox:
    """The sending side of one connection.

    Args:
      wire: encodes.
      streams: the connection's live streams, by id.
      max_send_buffer_bytes: when senders have to wait.
    """

    __slots__ = (
        "_control",
        "_max_send_buffer_bytes",
        "_scheduler",
        "_starved",
        "_streams",
        "_waiting_for_room",
        "_wire",
        "control_bytes",
        "credit",
        "is_closed",
        "queued_bytes",
    )

    def __init__(self, wire: Wire, streams: dict[int, StreamMachine], max_send_buffer_bytes: int) -> None:
        self._wire = wire
        self._streams = streams
        self._max_send_buffer_bytes = max_send_buffer_bytes
        self._scheduler = Scheduler()
        self._control: list[bytes] = []
        self._starved: dict[int, None] = {}
        self._waiting_for_room: dict[int, None] = {}
        self.credit: SendCredit = SendCredit(0, 0)
        self.control_bytes: int = 0
        self.queued_bytes: int = 0
        self.is_closed: bool = False

    @property
    def has_output(self) -> bool:
        """Whether something can go now."""
        return bool(self._control or self._scheduler)

    @property
    def room(self) -> int:
        """Bytes that the send buffer still takes; below 0 after an item that crossed the limit."""
        return self._max_send_buffer_bytes - self.queued_bytes

    def put(self, data: bytes) -> None:
        """Queue control bytes."""
        self._control.append(data)
        self.control_bytes += len(data)

    def put_record(self, stream_id: int, record: records.Record) -> None:
        """Queue a record as control; not once the connection has failed."""
        if not self.is_closed:
            self.put(self._wire.encode(stream_id, record))

    def keep_control(self, is_kept: Callable[[bytes], object]) -> None:
        """Drop what is queued as control and is not to be kept; it is asked for each whole frame."""
        self._control = list(filter(is_kept, self._control))
        self.control_bytes = sum(map(len, self._control))

    def drop_control(self) -> None:
        """Drop all that is queued as control."""
        self._control = []
        self.control_bytes = 0

    def schedule(self, stream_id: int, machine: StreamMachine) -> None:
        """A stream has something to send. A starved one stays parked: what it has stands behind an item."""
        if stream_id not in self._starved and not self.is_closed:
            self._scheduler.push(stream_id, machine.priority, machine.weight)

    def wait_for_room(self, stream_id: int) -> None:
        """A stream had to refuse items because the send buffer is full."""
        self._waiting_for_room[stream_id] = None

    def forget(self, stream_id: int, queued: int) -> None:
        """A stream abandons what it had queued, `queued` bytes."""
        self.queued_bytes -= queued
        self._scheduler.discard(stream_id)
        self._starved.pop(stream_id, None)
        self._waiting_for_room.pop(stream_id, None)

    def close(self) -> None:
        """The connection has failed: only the control that is queued still goes."""
        self.is_closed = True
        self._scheduler = Scheduler()
        self._starved.clear()
        self._waiting_for_room.clear()

    def raise_credit(self, byte_limit: int) -> None:
        """The peer grants the connection more: starved streams go on."""
        if self.credit.raise_limits(0, byte_limit):
            starved, self._starved = self._starved, {}
            for stream_id in starved:
                machine = self._streams[stream_id]
                self._scheduler.push(stream_id, machine.priority, machine.weight)

    def take(self, grants: list[bytes], max_bytes: int) -> tuple[list[bytes | memoryview], list[int]]:
        """Whole frames to write now.

        Args:
          grants: encoded grants; they go behind the other control.
          max_bytes: when to stop adding data.

        Returns:
          Their bytes in chunks, and the streams that were served: they may be finished now.
        """
        chunks: list[bytes | memoryview] = [*self._control, *grants]
        self._control = []
        size, self.control_bytes = self.control_bytes, 0
        served: list[int] = []
        while self._scheduler and size < max_bytes:
            stream_id, size_of_turn = self._serve_turn(max_bytes - size, chunks)
            served.append(stream_id)
            size += size_of_turn
        # A dialect that has no word for something encodes it as nothing.
        return [chunk for chunk in chunks if chunk], served

    def _serve_turn(self, most: int, chunks: list[bytes | memoryview]) -> tuple[int, int]:
        """Let the next stream add its chunks; which it was, and how many bytes they are."""
        stream_id, budget = self._scheduler.pick(most)
        machine = self._streams[stream_id]
        size = spent = 0
        while spent < budget:
            frames, charged = self._pull(stream_id, machine, budget - spent)
            if not frames:
                break
            chunks += frames
            added = sum(map(len, frames))
            size += added
            spent += added if charged else 0
        is_starved = machine.needs_connection_credit and self._connection_room <= 0
        self._scheduler.spent(stream_id, min(spent, budget), has_more=machine.has_output and not is_starved)
        if is_starved:
            self._starved[stream_id] = None
        return stream_id, size

    @property
    def _connection_room(self) -> int:
        return self.credit.byte_limit - self.credit.bytes

    def _pull(self, stream_id: int, machine: StreamMachine, budget: int) -> tuple[Sequence[bytes | memoryview], bool]:
        """The next frames of a stream, in chunks, and whether they count as a part of its turn."""
        before = machine.queued_bytes
        content = machine.pull(budget, self._connection_room)
        if content is None:
            return (), False
        if isinstance(content, (records.Header, records.End)):
            return (self._wire.encode(stream_id, content),), False
        # An item is charged when it starts; the further pieces of a large one are free.
        charged = before - machine.queued_bytes
        self.queued_bytes -= charged
        self.credit.bytes += charged
        if isinstance(content, Piece):
            return self._wire.encode_piece(stream_id, content), True
        return (self._wire.encode_run(stream_id, content),), True

    def writable(self) -> list[int]:
        """Take the streams that have room again: all at half a buffer, one whose own queue is empty at once."""
        waiting = self._waiting_for_room
        if not waiting:
            return []
        streams = self._streams
        has_room = self.queued_bytes * 2 <= self._max_send_buffer_bytes
        # One that has ended and gone since it had to wait is no longer among the streams.
        ready = [i for i in waiting if has_room or i not in streams or not streams[i].queued_bytes]
        for stream_id in ready:
            del waiting[stream_id]
        return ready
