"""Against a peer that we did not write: aioquic's own connection, as it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import pytest
from aioquic.quic import events as stock
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicFrameType
from aioquic.quic.packet_builder import QuicPacketBuilder

from tests.webtransport.quic_pair import CLIENT, SERVER, Side, certificate
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import QuicLimits, client_configuration, server_configuration

WINDOW: Final = 16_384
SMALL: Final = QuicLimits(window_bytes=WINDOW, connection_window_bytes=4 * WINDOW)
DATA: Final = bytes(range(250)) * 400


class _WithStockClient:
    """A stock client and a server of ours, without a network between them; a millisecond a round."""

    def __init__(self) -> None:
        chain, key, _ = certificate()
        self.now = 0.0
        self.client = QuicConnection(configuration=client_configuration(SMALL, verify=False))
        self.client.connect(SERVER, self.now)
        quic = Quic(
            server_configuration(SMALL, certificate_file=chain, key_file=key),
            SMALL,
            original_destination_connection_id=self.client.original_destination_connection_id,
        )
        self.server = Side(quic, SMALL)
        self.run(0.2)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            for data, _ in self.client.datagrams_to_send(self.now):
                self.server.quic.receive(data, CLIENT, self.now)
            self.server.take_events()
            for data, _ in self.server.quic.datagrams_to_send(self.now):
                self.client.receive_datagram(data, SERVER, self.now)
            self.now += 0.001
            if (self.client.get_timer() or math.inf) <= self.now:
                self.client.handle_timer(self.now)
            self.server.quic.handle_deadline(self.now)

    def events(self) -> list[stock.QuicEvent]:
        return list(iter(self.client.next_event, None))


def test_it_is_held_by_the_window() -> None:
    """It sends one window to a stream that nobody reads, and all of it once somebody does; an answer comes back whole."""
    pair = _WithStockClient()
    pair.server.reads = lambda stream_id: False
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, DATA, end_stream=True)
    pair.run(1.0)
    assert len(pair.server.received[stream_id]) == WINDOW
    pair.server.reads = lambda stream_id: True
    pair.server.quic.consumed(stream_id, WINDOW)
    pair.run(3.0)
    assert pair.server.received[stream_id] == DATA
    pair.server.write(stream_id, DATA)
    pair.run(3.0)
    answers = [event for event in pair.events() if isinstance(event, stock.StreamDataReceived)]
    assert b"".join(event.data for event in answers) == DATA
    assert answers[-1].end_stream


def test_resets_and_stops_pass_both_ways() -> None:
    """Codes arrive as they were given, in both directions."""
    pair = _WithStockClient()
    first = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(first, b"x")
    pair.run(0.1)
    pair.server.quic.send(first, b"y")
    pair.server.quic.stop(first, 11)
    pair.server.quic.reset(first, 12)
    pair.run(0.1)
    told = pair.events()
    assert stock.StopSendingReceived(error_code=11, stream_id=first) in told
    assert stock.StreamReset(error_code=12, stream_id=first) in told
    second = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(second, b"x")
    pair.run(0.1)
    pair.client.reset_stream(second, 13)
    pair.client.stop_stream(second, 14)
    pair.run(0.1)
    assert pair.server.resets == {second: 13}
    assert pair.server.stops == {second: 14}


def test_datagrams_pass_both_ways() -> None:
    """The largest datagram of each side is taken by the other."""
    pair = _WithStockClient()
    size = pair.server.quic.max_datagram_size
    assert size is not None
    pair.server.quic.send_datagram(bytes(size), pair.now)
    pair.client.send_datagram_frame(b"ping")
    pair.run(0.1)
    assert pair.server.datagrams == [b"ping"]
    assert stock.DatagramFrameReceived(data=bytes(size)) in pair.events()


def test_runs_of_datagrams_pass_both_ways() -> None:
    """Datagrams of all lengths of length fields, many in a packet, arrive in their order, and streams beside them."""
    pair = _WithStockClient()
    sizes = (0, 1, 62, 63, 64, 65, 300, 300, 300, 63, 64, 900, 0, 0, 1_000, 5, 5, 5)
    sent = [bytes([number]) * size for number, size in enumerate(sizes)]
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, b"beside", end_stream=True)
    for data in sent:
        pair.server.quic.send_datagram(data, pair.now)
        pair.client.send_datagram_frame(data)
    pair.run(0.1)
    assert pair.server.datagrams == sent
    assert [event.data for event in pair.events() if isinstance(event, stock.DatagramFrameReceived)] == sent
    assert bytes(pair.server.received[stream_id]) == b"beside"


Write = Callable[[QuicPacketBuilder, bytes], None]


def _write_long(builder: QuicPacketBuilder, data: bytes) -> None:
    """A length of four bytes."""
    builder.start_frame(QuicFrameType.DATAGRAM_WITH_LENGTH, 5 + len(data)).push_bytes(_length(len(data)) + data)


def _write_plain(builder: QuicPacketBuilder, data: bytes) -> None:
    """A length of one byte."""
    frame = builder.start_frame(QuicFrameType.DATAGRAM_WITH_LENGTH, 2 + len(data))
    frame.push_bytes(bytes([len(data)]) + data)


def _write_last(builder: QuicPacketBuilder, data: bytes) -> None:
    """No length: all that is left of the packet."""
    builder.start_frame(QuicFrameType.DATAGRAM, builder.remaining_buffer_space).push_bytes(data)


def _length(size: int) -> bytes:
    return (0x8000_0000 | size).to_bytes(4)


def _send_frames(pair: _WithStockClient, *frames: tuple[Write, bytes]) -> None:
    """Let the client write frames of its own, one for each datagram."""
    left = list(frames)

    def write(builder: QuicPacketBuilder, data: bytes, frame_type: QuicFrameType) -> None:
        how, payload = left.pop(0)
        how(builder, payload)

    pair.client._write_datagram_frame = write  # type: ignore[method-assign,assignment]
    for _ in frames:
        pair.client.send_datagram_frame(b"")


def test_unusual_lengths_are_understood() -> None:
    """A length that is longer than it has to be, and none at all, are as good as others, wherever they come in a packet."""
    pair = _WithStockClient()
    _send_frames(
        pair,
        (_write_long, b"first"),
        (_write_plain, b"second"),
        (_write_long, b"third"),
        (_write_plain, b""),
        (_write_last, b"last"),
    )
    pair.run(0.1)
    assert pair.server.datagrams == [b"first", b"second", b"third", b"", b"last"]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (lambda builder, data: _write_plain(builder, bytes(50)), 0x0A),
        (lambda builder, data: builder.start_frame(QuicFrameType.DATAGRAM_WITH_LENGTH).push_bytes(b"\x3f"), 0x07),
        (lambda builder, data: builder.start_frame(QuicFrameType.DATAGRAM_WITH_LENGTH).push_bytes(b"\x40"), 0x07),
        (lambda builder, data: builder.start_frame(QuicFrameType.DATAGRAM_WITH_LENGTH), 0x07),
    ],
    ids=["larger than it may be", "cut off", "cut off in its length", "cut off before its length"],
)
def test_a_bad_datagram_behind_others_ends_the_connection(bad: Write, code: int) -> None:
    """PROTOCOL_VIOLATION or FRAME_ENCODING_ERROR, as if it had come alone; what came before it is still told."""
    pair = _WithStockClient()
    pair.server.quic._connection._configuration.max_datagram_frame_size = 50
    _send_frames(pair, (_write_plain, b"good"), (_write_plain, bytes(48)), (bad, b""))
    pair.run(0.1)
    assert pair.server.terminated is not None
    assert pair.server.terminated.code == code
    assert pair.server.datagrams == [b"good", bytes(48)]


def test_a_peer_that_breaks_the_rules_ends_its_connection_alone() -> None:
    """A stock client that writes past its credit is told FLOW_CONTROL_ERROR; nothing raises here."""
    pair = _WithStockClient()
    pair.server.reads = lambda stream_id: False
    stream_id = pair.client.get_next_available_stream_id()
    pair.client.send_stream_data(stream_id, b"x")
    pair.run(0.1)
    pair.client._streams[stream_id].max_stream_data_remote = 10 * WINDOW
    pair.client._remote_max_data = 10 * WINDOW
    pair.client.send_stream_data(stream_id, DATA)
    pair.run(5.0)
    assert pair.server.terminated is not None
    assert pair.server.terminated.code == 3
    assert len(pair.server.received[stream_id]) <= WINDOW
