"""Requests for sessions that came before the SETTINGS: in their order, and not without bound."""

from __future__ import annotations

from trio_streams.webtransport.protocol.http3_events import BodyReceived, HeadReceived, MessageStopped
from trio_streams.webtransport.protocol.waiting import Waiting, WaitingRequests


def _head(stream_id: int) -> HeadReceived:
    return HeadReceived(stream_id, [], is_ended=False)


def _body(stream_id: int, size: int) -> BodyReceived:
    return BodyReceived(stream_id, [bytes(size)], size, is_ended=False)


def test_what_waits_comes_back_in_order() -> None:
    """Request by request, and then nothing waits."""
    waiting = WaitingRequests(max_requests=2, max_bytes=1_000)
    events: list[Waiting] = [_head(0), _head(4), _body(0, 10), MessageStopped(4, 1)]
    assert all(waiting.hold(event) for event in events)
    assert (len(waiting), 0 in waiting, 8 in waiting) == (2, True, False)
    assert waiting.take() == [events[0], events[2], events[1], events[3]]
    assert (len(waiting), waiting.take()) == (0, [])


def test_requests_are_bounded_in_number() -> None:
    """One more is not kept; one that was given up makes room."""
    waiting = WaitingRequests(max_requests=1, max_bytes=1_000)
    assert waiting.hold(_head(0))
    assert not waiting.hold(_head(4))
    waiting.forget(0)
    assert waiting.hold(_head(4))


def test_content_is_bounded_for_each() -> None:
    """Small pieces are not free; what passes the limit takes its request along, and no other."""
    waiting = WaitingRequests(max_requests=2, max_bytes=1_000)
    assert waiting.hold(_head(0))
    assert waiting.hold(_head(4))
    assert waiting.hold(_body(0, 744))
    assert not waiting.hold(_body(0, 1))
    assert (0 in waiting, 4 in waiting) == (False, True)
    pieces = 0
    while waiting.hold(_body(4, 0)):
        pieces += 1
    assert pieces == 3
