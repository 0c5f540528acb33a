"""Against a peer that we did not write: aioquic's own connection, as it is."""

from __future__ import annotations

import math
from typing import Final

from aioquic.quic import events as stock
from aioquic.quic.connection import QuicConnection

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
