"""aioquic's connection with datagrams that pass in runs: all of a packet at once, in both directions.

Between `quic_sized` and `quic_connection`, and like them by overriding alone; the same canary watches the private names.

- *Waiting.* The queue of those that wait is bounded, fair, and knows their age (`quic_datagrams`).
- *Sending.* Stock asks for the first datagram, writes a frame, and takes it away. Here the first frame brings all others that fit
  behind it, and they are written as one piece.
- *Receiving.* Stock goes through its table of frames for each, and makes an event of it. Here the first frame of a packet is
  stock's, with all that it checks, and those that follow it directly are read in one go. What is not plain is left to stock.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from aioquic._buffer import Buffer
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicReceiveContext
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder

from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.quic_datagrams import DatagramQueue
from trio_streams.webtransport.quic_sized import SizedConnection

__all__ = ["DatagramConnection", "WaitingDatagrams"]

_SHORT_HEADER_BYTES: Final = 3  # flags, and a packet number of two bytes; the connection id comes on top
_AEAD_TAG_BYTES: Final = 16
_FRAME_HEADER_BYTES: Final = 3  # the type, and a length below 16,384
_MAX_TWO_BYTE_LENGTH: Final = 16_383
_MAX_ONE_BYTE_LENGTH: Final = 63
_TYPE: Final = int(QuicFrameType.DATAGRAM_WITH_LENGTH)


class WaitingDatagrams:
    """The queue in the clothes of aioquic's deque.

    Whoever writes a packet's datagrams takes them, so `popleft` finds it done, and nothing seems to wait when aioquic looks
    whether there is more for the packet.
    """

    __slots__ = ("_is_written", "_queue")

    def __init__(self, queue: DatagramQueue) -> None:
        self._queue = queue
        self._is_written = False

    def __len__(self) -> int:
        if self._is_written:
            self._is_written = False
            return 0
        return len(self._queue)

    def __getitem__(self, index: int) -> bytes:
        return self._queue[index]

    def popleft(self) -> None:
        """What fits the packet was written."""
        self._is_written = True


class DatagramConnection(SizedConnection):
    """The connection below `TunedConnection`.

    Args:
      configuration: aioquic's.
      limits: ours.
      original_destination_connection_id: on a server, where the client's first packet was sent to.
      retry_source_connection_id: on a server that asked for a retry, the id it did that with.

    Attributes:
      datagrams: those that wait to be sent.
      arrived: datagrams of the UDP datagram that was just received; whoever gave it takes them before the next one.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        limits: QuicLimits,
        *,
        original_destination_connection_id: bytes | None,
        retry_source_connection_id: bytes | None,
    ) -> None:
        super().__init__(
            configuration,
            limits.max_packet_bytes,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self.datagrams: DatagramQueue = DatagramQueue(limits.max_queued_datagrams, limits.max_queued_datagram_bytes)
        self.arrived: list[bytes] = []
        self._datagrams_pending = WaitingDatagrams(self.datagrams)  # type: ignore[assignment]  # it is used as one

    @property
    def max_datagram_bytes(self) -> int | None:
        """The largest datagram that fits one packet and that the peer takes; None where it takes none."""
        # Without a frame for its length, so that a frame of exactly the peer's limit counts as too large: aioquic, too, reads
        # the limit as one that is not reached.
        peer = self._remote_max_datagram_frame_size
        if not peer:
            return None
        header = _SHORT_HEADER_BYTES + len(self._peer_cid.cid) + _AEAD_TAG_BYTES + _FRAME_HEADER_BYTES
        room = min(self._max_datagram_size - header, _MAX_TWO_BYTE_LENGTH)
        return max(0, min(room, peer - _FRAME_HEADER_BYTES - 1))

    # What aioquic calls.

    def _write_datagram_frame(self, builder: QuicPacketBuilder, data: bytes, frame_type: QuicFrameType) -> None:  # type: ignore[override]
        """Write the first datagram that waits, and all that fit behind it; raise where it does not fit itself."""
        frame = builder.start_frame(frame_type, capacity=_FRAME_HEADER_BYTES + len(data))
        room = min(builder.remaining_buffer_space, builder.remaining_flight_space) + 1  # the type is written
        frame.push_bytes(_frames(self.datagrams.take_run(room, header_bytes=_FRAME_HEADER_BYTES))[1:])

    def _handle_datagram_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_datagram_frame(context, frame_type, buf)
        first = self._events.pop()
        assert isinstance(first, events.DatagramFrameReceived)
        self.arrived.append(first.data)
        start = buf.tell()
        rest = buf.data_slice(start, buf.capacity)
        limit = self._configuration.max_datagram_frame_size or 0
        buf.seek(start + _read_run(rest, limit, self.arrived))


def _frames(run: Sequence[bytes]) -> bytes:
    """Datagrams as they are written. They are often of one size, and then share the header."""
    pieces: list[bytes] = []
    for size, same in groupby(run, len):
        header = _header(size)
        pieces += (header, header.join(same))
    return b"".join(pieces)


def _header(size: int) -> bytes:
    """The type and the length in front of a datagram."""
    if size > _MAX_ONE_BYTE_LENGTH:
        return (_TYPE << 16 | 0x4000 | size).to_bytes(3)
    return (_TYPE << 8 | size).to_bytes(2)


def _read_run(data: bytes, max_frame_bytes: int, found: list[bytes]) -> int:
    """Read datagram frames up to the first that is something else, too large, cut off, or of an unusual length field.

    Args:
      data: frames.
      max_frame_bytes: a frame has to be smaller, its type aside.
      found: the datagrams are added here.

    Returns:
      How many bytes were read.
    """
    start, end = 0, len(data)
    while end - start > 1 and data[start] == _TYPE:
        begin, size = start + 2, data[start + 1]
        if size > _MAX_ONE_BYTE_LENGTH:
            if size >= 0x80 or begin == end:
                break
            size = (size & 0x3F) << 8 | data[begin]
            begin += 1
        stop = begin + size
        if stop > end or stop - start > max_frame_bytes:
            break
        found.append(data[begin:stop])
        start = stop
    return start
