"""Plain requests, in exact rows: how many, how urgent, and how they are let go."""

from __future__ import annotations

from collections import deque

import pytest

from tests.webtransport.machine_pair import head
from tests.webtransport.protocol.http3_fake import GET, OK
from tests.webtransport.protocol.machine_fake import PortQuic
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.http3 import Http3
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.plain_requests import PlainRequests
from trio_streams.webtransport.protocol.priority import Priority


class Row:
    """One side's requests."""

    def __init__(self, *, is_client: bool) -> None:
        self.quic = PortQuic(is_client=is_client)
        self.http3 = Http3(self.quic, is_client=is_client, settings={})
        self.http3.start()
        self.queue: deque[events.Event] = deque()
        self.requests = PlainRequests(self.quic, self.http3, WebTransportLimits(max_requests=2), self.queue)

    def request(self, stream_id: int) -> None:
        """Let a request arrive at HTTP/3."""
        fields = ((":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"))
        self.http3.receive(stream_id, [head(*fields)], is_ended=False)

    def ask(self, stream_id: int, *fields: tuple[bytes, bytes]) -> None:
        """Let a request arrive."""
        self.request(stream_id)
        self.requests.on_request(stream_id, [*GET, *fields], is_ended=False)


@pytest.fixture
def server() -> Row:
    """A server."""
    return Row(is_client=False)


def test_a_client_opens_so_many() -> None:
    """One more is an error that names the limit; releasing makes room."""
    row = Row(is_client=True)
    first, second = row.requests.open(), row.requests.open()
    assert len(row.requests) == 2
    assert first in row.requests
    with pytest.raises(LocalProtocolError, match="2 are open") as caught:
        row.requests.open()
    assert caught.value.field == "max_requests"
    row.requests.release(second)
    row.requests.open()


def test_a_server_takes_so_many(server: Row) -> None:
    """One more is rejected with the code that lets it be sent again."""
    for stream_id in (0, 4, 8):
        server.ask(stream_id)
    assert [event.stream_id for event in server.queue if isinstance(event, events.RequestReceived)] == [0, 4]
    assert server.quic.resets == {8: Http3Code.H3_REQUEST_REJECTED}
    assert 8 in server.quic.released


def test_urgency_is_priority(server: Row) -> None:
    """What the field says, unless a frame said otherwise, before or after; 3 is where requests begin."""
    server.requests.on_priority(4, Priority(urgency=1))
    server.ask(0, (b"priority", b"u=5, i"))
    server.ask(4, (b"priority", b"u=7"))
    assert server.quic.priorities[0] == (Priority(5, is_incremental=True).rank(0), 0, False)
    assert server.quic.priorities[4] == (Priority(1).rank(4), 0, False)
    server.requests.on_priority(0, Priority())
    assert server.quic.priorities[0] == (Priority().rank(0), 0, False)


def test_who_says_nothing_of_priorities_shares_the_way(server: Row) -> None:
    """A client that knows of none has endless answers beside others; one that says so has them one after the other."""
    server.ask(0)
    server.ask(4)
    assert server.quic.priorities[0] == server.quic.priorities[4] == (Priority(is_incremental=True).rank(0), 0, False)
    server.requests.release(0)
    server.ask(8, (b"priority", b""))
    assert server.quic.priorities[8] == (Priority().rank(8), 0, False)


def test_priorities_of_requests_that_never_come_are_bounded(server: Row) -> None:
    """The oldest make room."""
    for stream_id in range(0, 400, 4):
        server.requests.on_priority(stream_id, Priority(urgency=1))
    assert list(server.requests._priorities) == [392, 396]


def test_the_end_of_a_half_is_told_of_what_is_known(server: Row) -> None:
    """A request that was not told yet is dismissed, and one that was dismissed is no matter."""
    server.ask(0)
    over = events.RequestStopped(0, 9)
    server.requests.on_over(over)
    assert server.queue[-1] == over
    server.request(4)
    server.requests.on_over(events.RequestReset(4, 9))
    server.requests.on_over(events.RequestStopped(4, 9))
    assert server.quic.resets == {4: Http3Code.H3_REQUEST_CANCELLED}
    assert server.queue[-1] == over


def test_a_request_is_abandoned_once_it_is_known(server: Row) -> None:
    """Both halves, with the code."""
    server.ask(0)
    server.requests.abandon(0, Http3Code.H3_INTERNAL_ERROR)
    server.requests.abandon(4, Http3Code.H3_INTERNAL_ERROR)
    assert server.quic.resets == server.quic.stops == {0: Http3Code.H3_INTERNAL_ERROR}


def test_releasing_resets_what_has_no_end(server: Row) -> None:
    """And leaves what has one; it counts once."""
    server.ask(0)
    server.ask(4)
    server.requests.send_head(4, OK, is_ended=True)
    for stream_id in (0, 4, 4, 8):
        server.requests.release(stream_id)
    assert server.quic.resets == {0: Http3Code.H3_REQUEST_CANCELLED}
    assert server.quic.released == {0: Http3Code.H3_REQUEST_CANCELLED, 4: Http3Code.H3_NO_ERROR}


def test_a_message_goes_out_part_by_part(server: Row) -> None:
    """Head, content, trailers or an end."""
    server.ask(0)
    server.ask(4)
    for stream_id in (0, 4):
        server.requests.send_head(stream_id, OK, is_ended=False)
        assert server.requests.send_body(stream_id, b"abc") == 3
    server.requests.send_trailers(0, [(b"x", b"y")])
    server.requests.end(4)
    assert {0, 4} <= server.quic.ended
    for stream_id in (0, 4):
        server.requests.release(stream_id)
    assert server.quic.resets == {}


def test_what_is_not_known_is_no_matter(server: Row) -> None:
    """A request that is over by then takes nothing."""
    server.ask(0)
    server.requests.clear()
    server.requests.send_head(0, OK, is_ended=False)
    assert server.requests.send_body(0, b"abc") == 0
    server.requests.send_trailers(0, [])
    server.requests.end(0)
    assert 0 not in server.quic.sent
