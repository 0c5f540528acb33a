"""aioquic's connection with its limits, its walks and its queues taken over, by overriding alone.

This file is the one that knows aioquic's private names (1.7.x), with `quic_datagram_frames` and `quic_sized` below it, and
`tests/webtransport/test_quic_canary.py` fails where one of them moves. Four things are changed, and frames, acknowledgements and loss recovery stay stock:

- *Limits.* Stock raises MAX_DATA and MAX_STREAM_DATA on receipt and MAX_STREAMS when a stream closes. The first and the
  last become a `GrantedLimit`, which ignores that. For MAX_STREAM_DATA stock walks `_streams.values()` in each packet:
  `StreamTable` answers with the few `ReceiveCredit`s that owe the peer a frame, and they look like streams that
  received nothing.
- *Service.* Stock walks all of `_streams_queue` in each packet and stores a new list. As a property it has those that have work,
  a walk ends with the packet, and whatever gives a stream work puts it back: a write, a reset, a stop, a loss, or its end.
- *Delivery.* Frames of streams carry a second handler, which learns of losses, acknowledgements and ends.
- *The end.* A peer that closes has said its last, which is told at once.
- *Datagrams.* They wait fairly and pass in runs; that is in `quic_datagram_frames`.
- *Packets.* They grow when a larger one is known to pass, and leave in bursts; that is in `quic_sized`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Final

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import Limit, QuicReceiveContext
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.quic.stream import QuicStream
from aioquic.tls import Epoch

from trio_streams.webtransport.certificates import certificate_der
from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.quic_datagram_frames import DatagramConnection

__all__ = ["GrantedLimit", "ReceiveCredit", "ServiceQueue", "StreamTable", "TunedConnection"]

_LEAST_FRAME_BYTES: Final = 32
"""A packet with less room is full: every frame of a stream but its data is shorter, so none has to be given up half-way."""


class GrantedLimit(Limit):
    """A limit on the peer that only `grant` moves: aioquic assigns `value`, and that does nothing.

    Args:
      stock: what it takes the place of.
      value: what the peer may use from the start.
    """

    def __init__(self, stock: Limit, value: int) -> None:
        self._granted = value
        super().__init__(stock.frame_type, stock.name, value)

    @property
    def value(self) -> int:
        """How much the peer may use over the whole life of the connection."""
        return self._granted

    @value.setter
    def value(self, value: int) -> None:
        pass

    def grant(self, amount: int) -> None:
        """Let the peer use more."""
        self._granted += amount

    @property
    def is_due(self) -> bool:
        """Whether a limit on a number of streams is written into the next packet: it grants more than the peer has left."""
        return self._granted - self.sent > self.sent - self.used


class ReceiveCredit:
    """The limit of one stream, in the clothes of a stream that has received nothing: so aioquic writes it and leaves it.

    Args:
      stream_id: the stream.
      limit: bytes that the peer may send from the start.
    """

    __slots__ = ("max_stream_data_local", "max_stream_data_local_sent", "stream_id")
    highest_offset: ClassVar[int] = 0

    def __init__(self, stream_id: int, limit: int) -> None:
        self.stream_id: int = stream_id
        self.max_stream_data_local: int = limit
        self.max_stream_data_local_sent: int = limit

    @property
    def receiver(self) -> ReceiveCredit:
        """Where aioquic looks for `highest_offset`."""
        return self


class StreamTable(dict[int, QuicStream]):
    """The open streams. Its `values` are not they, but the limits that are to be written."""

    __slots__ = ("closed", "owed")

    def __init__(self) -> None:
        super().__init__()
        self.owed: dict[ReceiveCredit, None] = {}
        self.closed: list[int] = []

    def values(self) -> list[ReceiveCredit]:  # type: ignore[override]
        """The limits to write into the next packet."""
        return list(self.owed)

    def pop(self, stream_id: int) -> QuicStream:  # type: ignore[override]
        """Take a stream out that is over in both directions, and note it."""
        self.closed.append(stream_id)
        return super().pop(stream_id)


class ServiceQueue:
    """Streams with work, in the order of service; aioquic takes it for a list.

    For each packet aioquic walks the list once to write frames and once to store what is left of it. The first walk ends where
    the packet is full, and there is no second one: `settle` looks at those that were visited.

    Args:
      has_work: whether a stream stays in.

    Attributes:
      is_full: whether the walk that is under way shall end.
    """

    __slots__ = ("_has_work", "_streams", "_visited", "is_full")

    def __init__(self, has_work: Callable[[QuicStream], bool]) -> None:
        self._has_work = has_work
        self._streams: dict[QuicStream, None] = {}
        self._visited: list[QuicStream] | None = None
        self.is_full: bool = False

    def __iter__(self) -> Iterator[QuicStream]:
        if self._visited is not None:
            return iter(())
        self._visited = []
        self.is_full = False
        return self._walk(self._visited)

    def _walk(self, visited: list[QuicStream]) -> Iterator[QuicStream]:
        for stream in self._streams:
            visited.append(stream)
            yield stream
            if self.is_full:
                return

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def has_frames(self) -> bool:
        """Whether there is something to write, and not only streams to forget, which nothing is sent for."""
        return any(not stream.is_finished for stream in self._streams)

    def settle(self) -> None:
        """End a walk: those that it visited stay, in their places, if they have work."""
        for stream in self._visited or ():
            if not self._has_work(stream):
                del self._streams[stream]
        self._visited = None

    def append(self, stream: QuicStream) -> None:
        """Add a stream at the end if it has work; one that is in keeps its place."""
        if self._has_work(stream):
            self._streams[stream] = None

    def extend(self, streams: Iterable[QuicStream]) -> None:
        """Move streams that were served to the end, in an order that does not depend on where they are in memory."""
        for stream in sorted(streams, key=_stream_id):
            if self._streams.pop(stream, self) is None:
                self._streams[stream] = None


def _stream_id(stream: QuicStream) -> int:
    return stream.stream_id or 0


class TunedConnection(DatagramConnection):
    """The connection, with an opening for all that the machine needs.

    Args:
      configuration: aioquic's.
      limits: ours.
      original_destination_connection_id: on a server, where the client's first packet was sent to.
      retry_source_connection_id: on a server that asked for a retry, the id it did that with.

    Attributes:
      acknowledged: streams that had a frame delivered or lost since the set was last cleared.
      raised: streams whose limit the peer raised since the set was last cleared.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        limits: QuicLimits,
        *,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        self._service = ServiceQueue(self._needs_service)
        super().__init__(
            configuration,
            limits,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self.table: StreamTable = StreamTable()
        self.data_limit: GrantedLimit = GrantedLimit(self._local_max_data, limits.connection_window_bytes)
        self._bidirectional = GrantedLimit(self._local_max_streams_bidi, limits.max_bidirectional_streams)
        self._unidirectional = GrantedLimit(self._local_max_streams_uni, limits.max_unidirectional_streams)
        self.acknowledged: set[int] = set()
        self.raised: set[int] = set()
        self._close_was_told = False
        self._streams = self.table
        self._local_max_data = self.data_limit
        self._local_max_streams_bidi = self._bidirectional
        self._local_max_streams_uni = self._unidirectional
        self._local_max_stream_data_bidi_local = limits.window_bytes
        self._local_max_stream_data_bidi_remote = limits.window_bytes
        self._local_max_stream_data_uni = limits.window_bytes

    # What the machine asks.

    @property
    def peer_certificate(self) -> bytes | None:
        """The peer's certificate as DER; None before it is here, and on a server."""
        certificate = self.tls._peer_certificate  # noqa: SLF001 - there is no other way to it
        return None if certificate is None else certificate_der(certificate)

    @property
    def is_closing(self) -> bool:
        """Whether the connection is over, or about to be."""
        return self._close_event is not None

    @property
    def has_path(self) -> bool:
        """Whether there is anybody to send to."""
        return bool(self._network_paths)

    @property
    def flight_space_bytes(self) -> int:
        """What the congestion window has left; below 0 where it shrank."""
        return self._loss.congestion_window - self._loss.bytes_in_flight

    @property
    def round_trip(self) -> float | None:
        """Seconds there and back, smoothed; None before the first measurement."""
        return self._loss._rtt_smoothed if self._loss._rtt_initialized else None  # noqa: SLF001

    @property
    def packet_bytes(self) -> int:
        """The largest UDP payload that is sent."""
        return self._max_datagram_size

    @property
    def has_frames(self) -> bool:
        """Whether streams, their limits, or limits on their numbers have something to write."""
        is_due = self._bidirectional.is_due or self._unidirectional.is_due
        return is_due or bool(self.table.owed) or self._service.has_frames

    @property
    def sent_data_bytes(self) -> int:
        """What all streams sent, each byte counted once."""
        return self._remote_max_data_used

    @property
    def peer_data_limit(self) -> int:
        """What all streams may send."""
        return self._remote_max_data

    def free_streams(self, *, unidirectional: bool) -> int:
        """How many streams of a kind we may open now."""
        if unidirectional:
            return self._remote_max_streams_uni - self._local_next_stream_id_uni // 4
        return self._remote_max_streams_bidi - self._local_next_stream_id_bidi // 4

    @property
    def allowed_streams(self) -> tuple[int, int]:
        """How many bidirectional and unidirectional streams the peer lets us open, over the whole connection."""
        return self._remote_max_streams_bidi, self._remote_max_streams_uni

    def is_ours(self, stream_id: int) -> bool:
        """Whether we open streams with this id."""
        return (stream_id % 2 == 0) == self._is_client

    # What the machine does.

    def open(self, *, unidirectional: bool) -> QuicStream:
        """Make the next stream of ours."""
        stream_id = self.get_next_available_stream_id(is_unidirectional=unidirectional)
        return self._get_or_create_stream_for_send(stream_id)

    def wake(self, stream: QuicStream) -> None:
        """Look at a stream at the next flush if it has work."""
        self._service.append(stream)

    def grant_stream_place(self, stream_id: int) -> None:
        """Let the peer open another stream of a kind."""
        (self._unidirectional if stream_id & 2 else self._bidirectional).grant(1)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """What is to be sent at once, and to where. Acknowledgements that may wait a little leave with what leaves anyhow."""
        space = self._spaces[Epoch.ONE_RTT]
        due_at = space.ack_at
        if due_at is not None and due_at > now and (self._service.has_frames or self.datagrams):
            space.ack_at = now
        datagrams = super().datagrams_to_send(now)
        if space.ack_at is not None:  # pacing, or the congestion window, held all back
            space.ack_at = due_at
        return datagrams

    # What aioquic calls.

    @property  # type: ignore[override]
    def _streams_queue(self) -> ServiceQueue:
        return self._service

    @_streams_queue.setter
    def _streams_queue(self, streams: object) -> None:
        self._service.settle()

    def _needs_service(self, stream: QuicStream) -> bool:
        sender, receiver = stream.sender, stream.receiver
        if sender.buffer_is_empty and not sender.reset_pending and not receiver.stop_pending:
            return sender.is_finished and receiver.is_finished and stream.stream_id in self.table
        return stream.stream_id in self.table

    def _close_begin(self, is_initiator: bool, now: float) -> None:
        super()._close_begin(is_initiator, now)
        event = self._close_event
        if not is_initiator and event is not None:
            # Nothing more comes from a peer that has closed; aioquic would say so three probe timeouts later.
            self._close_was_told = True
            self._events.append(event)

    def _close_end(self) -> None:
        super()._close_end()
        if self._close_was_told:
            self._events.pop()

    def _has_room(self, builder: QuicPacketBuilder) -> bool:
        """Whether any frame but data fits; if not, the walk ends, and the next packet has the others.

        Stock gives the whole flush up where one does not fit.
        """
        self._service.is_full = builder.remaining_flight_space < _LEAST_FRAME_BYTES
        return not self._service.is_full

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: Any) -> None:  # noqa: ANN401
        if not self._has_room(builder):
            return
        super()._write_stream_limits(builder, space, stream)
        self.table.owed.pop(stream, None)

    def _on_max_stream_data_delivery(self, delivery: QuicDeliveryState, stream: Any) -> None:  # noqa: ANN401
        super()._on_max_stream_data_delivery(delivery, stream)
        if delivery is not QuicDeliveryState.ACKED:
            receiving = self.table.get(stream.stream_id)
            if receiving is not None and not receiving.receiver.is_finished:
                self.table.owed[stream] = None

    def _write_stream_frame(
        self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream, max_offset: int
    ) -> int:
        packet = builder._packet  # noqa: SLF001 - handlers have no other way in
        assert packet is not None
        written_items = len(packet.delivery_handlers)
        used = super()._write_stream_frame(builder, space, stream, max_offset)
        if len(packet.delivery_handlers) > written_items:
            packet.delivery_handlers.append((self._on_stream_delivery, (stream,)))
            sender = stream.sender
            if not (len(sender._pending) or sender._pending_eof):  # noqa: SLF001 - else aioquic looks once more to see it
                sender.buffer_is_empty = True
        self._has_room(builder)
        return used

    def _write_reset_stream_frame(self, builder: QuicPacketBuilder, stream: QuicStream) -> None:
        if not self._has_room(builder):
            return
        super()._write_reset_stream_frame(builder, stream)
        self._watch(builder, stream)

    def _write_stop_sending_frame(self, builder: QuicPacketBuilder, stream: QuicStream) -> None:
        if not self._has_room(builder):
            return
        super()._write_stop_sending_frame(builder, stream)
        self._watch(builder, stream)

    def _watch(self, builder: QuicPacketBuilder, stream: QuicStream) -> None:
        packet = builder._packet  # noqa: SLF001 - handlers have no other way in
        if packet is not None:
            packet.delivery_handlers.append((self._on_stream_delivery, (stream,)))

    def _on_stream_delivery(self, delivery: QuicDeliveryState, stream: QuicStream) -> None:
        """Runs after the stock handler of the same frame."""
        self.acknowledged.add(_stream_id(stream))
        if delivery is not QuicDeliveryState.ACKED or stream.is_finished:
            self.wake(stream)

    def _handle_max_stream_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        super()._handle_max_stream_data_frame(context, frame_type, buf)
        end = buf.tell()
        buf.seek(start)
        self.raised.add(buf.pull_uint_var())
        buf.seek(end)
