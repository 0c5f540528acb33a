"""aioquic's private names are where `quic_connection`, `quic_datagram_frames`, `quic_sized` and `quic_stream` expect them.

If a test here fails, aioquic has moved: read its new source beside `trio_streams/webtransport/quic_connection.py` before its
version is let up in pyproject.toml.
"""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from typing import Final

import pytest
from aioquic.quic import connection as stock
from aioquic.quic.packet_builder import QuicPacketBuilder, QuicSentPacket
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery
from aioquic.quic.stream import QuicStream

from tests.webtransport.quic_pair import Pair
from trio_streams.webtransport.quic_connection import TunedConnection
from trio_streams.webtransport.quic_datagram_frames import DatagramConnection, WaitingDatagrams

SOURCE: Final = inspect.getsource(stock.QuicConnection)

ATTRIBUTES: Final = (
    "_close_event",
    "_close_pending",
    "_configuration",
    "_cryptos",
    "_datagrams_pending",
    "_events",
    "_handshake_confirmed",
    "_is_client",
    "_local_max_data",
    "_local_next_stream_id_bidi",
    "_local_next_stream_id_uni",
    "_local_max_stream_data_bidi_local",
    "_local_max_stream_data_bidi_remote",
    "_local_max_stream_data_uni",
    "_local_max_streams_bidi",
    "_local_max_streams_uni",
    "_logger",
    "_loss",
    "_max_datagram_size",
    "_network_paths",
    "_packet_number",
    "_peer_cid",
    "_remote_max_data",
    "_remote_max_data_used",
    "_remote_max_datagram_frame_size",
    "_remote_max_streams_bidi",
    "_remote_max_streams_uni",
    "_spaces",
    "_spin_bit",
    "_state",
    "_streams",
    "_streams_queue",
    "_version",
)

METHODS: Final = {
    "_close_begin": ["self", "is_initiator", "now"],
    "_close_end": ["self"],
    "_flush_builder": ["self", "builder", "network_path", "peer_cid", "now"],
    "_get_or_create_stream_for_send": ["self", "stream_id"],
    "_handle_datagram_frame": ["self", "context", "frame_type", "buf"],
    "_handle_max_stream_data_frame": ["self", "context", "frame_type", "buf"],
    "_on_max_stream_data_delivery": ["self", "delivery", "stream"],
    "_parse_transport_parameters": ["self", "data", "from_session_ticket"],
    "_write_datagram_frame": ["self", "builder", "data", "frame_type"],
    "_write_reset_stream_frame": ["self", "builder", "stream"],
    "_write_stop_sending_frame": ["self", "builder", "stream"],
    "_write_stream_frame": ["self", "builder", "space", "stream", "max_offset"],
    "_write_stream_limits": ["self", "builder", "space", "stream"],
}

USES: Final = {
    r"self\._streams\b": {
        "self._streams: dict[int, QuicStream] = {}",
        "stream = self._streams.get(stream_id, None)",
        "stream = self._streams[new_stream_id] = QuicStream(",
        "stream = self._streams[stream_id] = QuicStream(",
        "return is_opened and stream_id not in self._streams",
        "for stream in self._streams.values():",
        "self._streams.pop(stream.stream_id)",
    },
    r"self\._streams_queue\b": {
        "self._streams_queue: list[QuicStream] = []",
        "self._streams_queue.append(stream)",
        "for stream in self._streams_queue:",
        "self._streams_queue = [",
        "for stream in self._streams_queue",
        "self._streams_queue.extend(sent)",
    },
    r"self\._datagrams_pending\b": {
        "self._datagrams_pending: deque[bytes] = deque()",
        "self._datagrams_pending.append(data)",
        "while self._datagrams_pending:",
        "data=self._datagrams_pending[0],",
        "self._datagrams_pending.popleft()",
    },
    r"self\._local_max_data\b": {
        "self._local_max_data = Limit(",
        "initial_max_data=self._local_max_data.value,",
        "max_data = self._local_max_data",
        "self._local_max_data,",
        "self._local_max_data.used += newly_received",
        "if self._local_max_data.used + newly_received > self._local_max_data.value:",
    },
    r"self\._close_event\)": {"self._events.append(self._close_event)"},
    r"_limit\(stream.*\)\.value": {"self._stream_limit(stream.stream_id).value += 1"},
    r"max_data\.value\b": {
        "initial_max_data=self._local_max_data.value,",
        "if self._local_max_data.used + newly_received > self._local_max_data.value:",
        "if max_data.used * 2 > max_data.value:",
        "max_data.value *= 2",
        'self._logger.debug("Local %s raised to %d", max_data.name, max_data.value)',
    },
}
"""Every line of aioquic's connection that touches what stands in for a list, a dict, a deque or a limit of its own."""


def _moved(what: str) -> str:
    return f"aioquic {version('aioquic')} moved {what}: compare its source with webtransport/quic_connection.py"


def test_the_version_is_the_one_that_was_read() -> None:
    """The minor version is the one whose private names were read."""
    assert version("aioquic").startswith("1.7."), _moved("to another minor version")


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_an_attribute_is_there(name: str) -> None:
    """The connection has each attribute that is read or replaced, and sets it in its constructor."""
    assert f"self.{name}" in inspect.getsource(stock.QuicConnection.__init__), _moved(f"the attribute {name}")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_there(name: str) -> None:
    """Each method that is called or overridden has its name and its parameters, and where overridden is still called."""
    method = getattr(stock.QuicConnection, name, None)
    assert method is not None, _moved(f"the method {name}")
    assert list(inspect.signature(method).parameters) == METHODS[name], _moved(f"the parameters of {name}")
    assert SOURCE.count(f"self.{name}") >= 1, _moved(f"the calls of {name}")
    if name in vars(TunedConnection) or name in vars(DatagramConnection):
        assert list(inspect.signature(getattr(TunedConnection, name)).parameters) == METHODS[name]


@pytest.mark.parametrize("pattern", USES)
def test_a_replaced_collection_is_used_as_before(pattern: str) -> None:
    """What stands in for one of aioquic's collections is used in the ways that it was made for, and in no other."""
    uses = {line.strip() for line in SOURCE.splitlines() if re.search(pattern, line)}
    assert uses == USES[pattern], _moved(f"how {pattern} is used")


def test_a_stream_has_the_offsets_that_are_read() -> None:
    """Both halves of aioquic's stream count what they have where we look for it."""
    stream = QuicStream(stream_id=0, max_stream_data_local=10, max_stream_data_remote=20)
    stream.sender.write(b"abc")
    seen = stream.sender._buffer_stop, stream.sender._buffer_start, stream.sender.highest_offset
    assert seen == (3, 0, 0), _moved("the sender's offsets")
    assert stream.receiver.starting_offset() == stream.receiver.highest_offset == 0, _moved("the receiver's offsets")
    limits = stream.max_stream_data_local, stream.max_stream_data_local_sent, stream.max_stream_data_remote
    assert limits == (10, 10, 20), _moved("a stream's limits")
    assert (len(stream.sender._pending), stream.sender._pending_eof) == (1, False), _moved("what is to be sent")
    flags = stream.sender.buffer_is_empty, stream.sender.reset_pending, stream.receiver.stop_pending
    assert flags == (False, False, False), _moved("a stream's flags")


def test_a_packet_lists_its_delivery_handlers() -> None:
    """The builder's packet has the list that a second handler of a frame is put into."""
    assert "self._packet: QuicSentPacket | None" in inspect.getsource(QuicPacketBuilder), _moved("the builder's packet")
    assert "delivery_handlers" in QuicSentPacket.__dataclass_fields__, _moved("the handlers")


def test_the_stand_ins_are_still_in_place_after_a_handshake() -> None:
    """The connection keeps what was put in place of its own: limits, table, queues."""
    pair = Pair()
    pair.shake_hands()
    connection = pair.client.quic._connection
    assert connection._streams is connection.table, _moved("_streams")
    assert connection._local_max_data is connection.data_limit, _moved("_local_max_data")
    assert isinstance(vars(connection)["_datagrams_pending"], WaitingDatagrams), _moved("_datagrams_pending")
    assert pair.client.quic._connection.allowed_streams == (1_024, 1_024), _moved("the limits on streams")


def test_recovery_has_the_pacer_and_the_count_that_are_used() -> None:
    """The pacer that is put in place is the one that is asked, and timeouts in a row are counted where we look."""
    recovery = QuicPacketRecovery(
        congestion_control_algorithm="reno",
        initial_rtt=0.1,
        max_datagram_size=1_200,
        peer_completed_address_validation=True,
        send_probe=lambda: None,
    )
    assert (recovery._pto_count, recovery._logger) == (0, None), _moved("the recovery's attributes")
    assert isinstance(recovery._pacer, QuicPacketPacer), _moved("the pacer")
    methods = {name for name in vars(QuicPacketPacer) if not name.startswith("__")}
    assert methods == {"next_send_time", "update_after_send", "update_bucket", "update_rate"}, _moved(
        "the pacer's methods"
    )
    pacer = vars(QuicPacketPacer(max_datagram_size=1_200))
    assert set(pacer) == {"_max_datagram_size", "bucket_max", "bucket_time", "evaluation_time", "packet_time"}, _moved(
        "the pacer's attributes"
    )
    uses = {line.strip() for line in SOURCE.splitlines() if "_pacer" in line}
    assert uses == {
        "self._pacing_at = self._loss._pacer.next_send_time(now=now)",
        "self._loss._pacer.update_after_send(now=now)",
    }, _moved("how the pacer is used")


def test_a_packet_that_is_not_in_flight_is_in_no_congestion_window() -> None:
    """What makes a lost probe free of cost: recovery counts and times packets by the two flags that a probe takes back."""
    lines = inspect.getsource(QuicPacketRecovery).splitlines()
    uses = [line.strip() for line in lines if "is_ack_eliciting" in line or "in_flight:" in line]
    assert uses.count("if packet.in_flight:") == 3, _moved("where in_flight is asked")
    assert {"if packet.is_ack_eliciting:", "if packet.is_ack_eliciting and ("} <= set(uses), _moved("is_ack_eliciting")
    assert {"in_flight", "is_ack_eliciting"} <= set(QuicSentPacket.__dataclass_fields__), _moved("a packet's flags")


def test_the_size_of_packets_is_asked_for_each_time() -> None:
    """The builder of each flush gets the size that is in force then."""
    assert SOURCE.count("max_datagram_size=self._max_datagram_size,") == 3, _moved("_max_datagram_size")
