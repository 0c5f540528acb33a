"""Streams that are nobody's yet: whose they turn out to be, how long they wait, and how they are dismissed."""

from __future__ import annotations

import pytest

from tests.webtransport.protocol.machine_fake import PortQuic
from trio_streams.webtransport.protocol.early import EarlyLimits
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.routing import Arrival, StreamRouter, dismiss

LIMITS = WebTransportLimits(
    max_unnamed_streams=2,
    header_timeout=10,
    early=EarlyLimits(max_early_streams=2, max_early_stream_bytes=10, max_early_age=5),
)
UNI, BIDI = b"\x40\x54\x08", b"\x40\x41\x08"
NOW = 100.0


@pytest.fixture
def quic() -> PortQuic:
    """A server's connection."""
    return PortQuic(is_client=False)


@pytest.fixture
def router(quic: PortQuic) -> StreamRouter:
    """A server's router."""
    return StreamRouter(quic, LIMITS)


def _say(router: StreamRouter, stream_id: int, *run: bytes, is_ended: bool = False) -> Arrival | None:
    return router.receive(stream_id, run, is_ended=is_ended, now=NOW)


def test_a_stream_is_dismissed_in_all_its_halves(quic: PortQuic) -> None:
    """A unidirectional one has no half of ours."""
    dismiss(quic, 0, 5)
    dismiss(quic, 2, 6)
    assert (quic.resets, quic.stops, quic.released) == ({0: 5}, {0: 5, 2: 6}, {0: 5, 2: 6})


@pytest.mark.parametrize("split", range(len(UNI) + 1))
@pytest.mark.parametrize(("stream_id", "header"), [(2, UNI), (0, BIDI)])
def test_a_header_may_come_in_pieces(
    router: StreamRouter, quic: PortQuic, stream_id: int, header: bytes, split: int
) -> None:
    """Wherever it is cut, in a run or over several: the rest goes on as it came, and the header is consumed."""
    data = header + b"rest"
    assert _say(router, stream_id, data[:1]) is None
    split = max(1, split)
    arrival = _say(router, stream_id, data[1:split], data[split:], b"more", is_ended=True)
    assert arrival is not None
    assert (arrival.session_id, arrival.header_bytes, arrival.is_ended) == (8, 3, True)
    assert b"".join(arrival.run) == b"restmore"
    assert quic.consumed_bytes == {stream_id: 3}
    assert router.unnamed_streams == 0


def test_a_header_may_be_all_there_is(router: StreamRouter) -> None:
    """Then nothing follows it."""
    arrival = _say(router, 2, UNI)
    assert arrival is not None
    assert list(arrival.run) == []


@pytest.mark.parametrize("stream_id", [0, 2])
def test_what_is_http3s_goes_on_whole(router: StreamRouter, quic: PortQuic, stream_id: int) -> None:
    """From its first byte, with nothing consumed."""
    assert _say(router, stream_id, b"\x40") is None
    arrival = _say(router, stream_id, b"\x33a", b"b")
    assert arrival == Arrival(stream_id, None, 0, [b"\x40\x33a", b"b"], False, None)
    assert quic.consumed_bytes == {stream_id: 0}


def test_a_stream_that_ends_at_once(router: StreamRouter, quic: PortQuic) -> None:
    """Cut before anybody knows it is HTTP/3's; a unidirectional one of ours is nobody's; a bidirectional one is a fault."""
    assert _say(router, 0, is_ended=True) == Arrival(0, None, 0, [], True, None)
    assert _say(router, 2, b"\x40", is_ended=True) == Arrival(2, None, 0, [b"\x40"], True, None)
    assert _say(router, 6, b"\x40\x54", is_ended=True) is None
    assert quic.released == {6: Http3Code.H3_NO_ERROR}
    with pytest.raises(Http3Error, match="named"):
        _say(router, 4, b"\x40\x41", is_ended=True)


def test_streams_without_a_header_are_bounded(router: StreamRouter, quic: PortQuic) -> None:
    """One too many is dismissed, by its bytes or by its stop, and those that stay are when they are too old."""
    for stream_id in (0, 2, 4):
        _say(router, stream_id, b"\x40")
    router.receive_stop(8, 1, NOW)
    assert quic.released == dict.fromkeys((4, 8), Http3Code.H3_EXCESSIVE_LOAD)
    assert router.unnamed_streams == 2
    assert router.next_deadline() == NOW + 10
    router.handle_deadline(NOW + 9)
    assert router.unnamed_streams == 2
    router.handle_deadline(NOW + 10)
    assert quic.stops[0] == quic.stops[2] == Http3Code.H3_REQUEST_INCOMPLETE
    assert router.next_deadline() is None


def test_a_stop_is_kept_until_the_stream_has_an_owner(router: StreamRouter) -> None:
    """Before, or between, the bytes of the header, and while the stream is early."""
    router.receive_stop(0, 7, NOW)
    router.receive_stop(0, 8, NOW)
    arrival = _say(router, 0, BIDI)
    assert arrival is not None
    assert arrival.stop_code == 8
    other = _say(router, 4, BIDI)
    assert other is not None
    router.hold(other, 8, NOW)
    router.receive_stop(4, 9, NOW)
    (claimed,), _ = router.claim(8)
    assert claimed.stop_code == 9
    assert _say(router, 8, b"\x01") == Arrival(8, None, 0, [b"\x01"], False, None)
    router.receive_stop(12, 6, NOW)
    request = _say(router, 12, b"\x01")
    assert request is not None
    assert request.stop_code == 6


def test_a_reset_forgets_a_stream(router: StreamRouter, quic: PortQuic) -> None:
    """One that has not begun, one without its header, and one that is early."""
    _say(router, 2, b"\x40")
    early = _say(router, 0, BIDI)
    assert early is not None
    router.hold(early, 8, NOW)
    for stream_id in (2, 6, 0):
        router.receive_reset(stream_id)
    assert set(quic.released) == {2, 6, 0}
    assert router.unnamed_streams == router.early_streams == 0


def _early(router: StreamRouter, stream_id: int, data: bytes = b"") -> None:
    arrival = _say(router, stream_id, UNI + data)
    assert arrival is not None
    router.hold(arrival, 8, NOW)


def test_early_streams_wait_for_their_session(router: StreamRouter) -> None:
    """With what came later, too; a datagram waits beside them."""
    _early(router, 2, b"ab")
    assert _say(router, 2, b"cd", is_ended=True) is None
    router.hold_datagram(8, b"xyz", NOW)
    assert (router.early_streams, router.early_bytes) == (1, 7)
    assert router.claim(12) == ([], [])
    (arrival,), datagrams = router.claim(8)
    assert (arrival.stream_id, arrival.header_bytes, arrival.is_ended) == (2, 3, True)
    assert b"".join(arrival.run) == b"abcd"
    assert datagrams == [b"xyz"]
    assert (router.early_streams, router.early_bytes) == (0, 0)


def test_early_streams_are_bounded(router: StreamRouter, quic: PortQuic) -> None:
    """In number, in bytes and in age, and the code says that the opener may try again."""
    for stream_id in (2, 6, 10):
        _early(router, stream_id)
    _say(router, 2, bytes(11))
    assert quic.released == dict.fromkeys((10, 2), Http3Code.WT_BUFFERED_STREAM_REJECTED)
    assert router.next_deadline() == NOW + 5
    router.handle_deadline(NOW + 5)
    assert quic.released[6] == Http3Code.WT_BUFFERED_STREAM_REJECTED
    assert router.next_deadline() is None


def test_early_streams_of_a_session_that_will_not_be_are_gone(router: StreamRouter, quic: PortQuic) -> None:
    """Their opener hears that it is over."""
    _early(router, 2)
    router.refuse(8)
    assert quic.stops == {2: Http3Code.WT_SESSION_GONE}


def test_the_first_deadline_is_the_next(router: StreamRouter) -> None:
    """Whichever kind waits."""
    _early(router, 2)
    router.receive(6, [b"\x40"], is_ended=False, now=NOW - 8)
    assert router.next_deadline() == NOW + 2
