"""A session's flow control: limits that only grow, exact to the byte, and only where both sides asked for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.capsules import DataBlocked, MaxData, MaxStreams, StreamsBlocked
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.flow import SessionFlow
from trio_streams.webtransport.protocol.settings import SessionLimits

LIMITS = SessionLimits(window_bytes=100, max_bidirectional_streams=2, max_unidirectional_streams=4)
NONE = SessionLimits()


@pytest.mark.parametrize(("own", "peer"), [(LIMITS, NONE), (NONE, LIMITS), (NONE, NONE)])
def test_one_side_alone_counts_nothing(own: SessionLimits, peer: SessionLimits) -> None:
    """Unless both sides ask, everything is allowed, nothing is told, and limits of the peer mean nothing."""
    flow = SessionFlow(own, peer)
    assert not flow.is_on
    for _ in range(9):
        assert flow.may_open(is_unidirectional=True)
        flow.count_opened(is_unidirectional=True)
        flow.count_accepted(is_unidirectional=False)
        flow.count_finished(is_unidirectional=False)
    flow.want_data()
    flow.count_sent(1_000)
    flow.count_received(1_000)
    flow.count_consumed(1_000)
    assert flow.sendable_bytes >= 2**60
    assert not flow.receive_limit(MaxData(0))
    assert flow.take_capsules() == []


def test_bytes_up_to_the_limit() -> None:
    """The last byte may be sent and no other one; the complaint is sent once for each limit."""
    flow = SessionFlow(LIMITS, LIMITS)
    flow.count_sent(100)
    assert flow.sendable_bytes == 0
    with pytest.raises(LocalProtocolError) as caught:
        flow.count_sent(1)
    assert (caught.value.size, caught.value.limit) == (101, 100)
    assert flow.take_capsules() == []
    flow.want_data()
    assert flow.take_capsules() == [DataBlocked(100)]
    assert flow.take_capsules() == []
    assert not flow.receive_limit(MaxData(100))
    assert flow.receive_limit(MaxData(130))
    assert not flow.receive_limit(MaxData(140))
    assert flow.sendable_bytes == 40


@pytest.mark.parametrize(("is_unidirectional", "count"), [(False, 2), (True, 4)])
def test_streams_up_to_the_limit(count: int, *, is_unidirectional: bool) -> None:
    """Each kind has a limit of its own; one stream more has to wait, and the peer hears of it once."""
    flow = SessionFlow(LIMITS, LIMITS)
    for _ in range(count):
        assert flow.may_open(is_unidirectional=is_unidirectional)
        flow.count_opened(is_unidirectional=is_unidirectional)
    with pytest.raises(LocalProtocolError):
        flow.count_opened(is_unidirectional=is_unidirectional)
    assert flow.take_capsules() == []
    assert not flow.may_open(is_unidirectional=is_unidirectional)
    assert flow.take_capsules() == [StreamsBlocked(count, is_unidirectional)]
    assert flow.may_open(is_unidirectional=not is_unidirectional)
    assert flow.receive_limit(MaxStreams(count + 1, is_unidirectional))
    assert flow.may_open(is_unidirectional=is_unidirectional)


@pytest.mark.parametrize(
    "capsule", [MaxData(99), MaxStreams(1, is_unidirectional=False), MaxStreams(3, is_unidirectional=True)]
)
def test_a_limit_never_shrinks(capsule: MaxData | MaxStreams) -> None:
    """A peer that lowers a limit ends the session with 0x045d4487, and the limit stays."""
    flow = SessionFlow(LIMITS, LIMITS)
    with pytest.raises(Http3Error) as caught:
        flow.receive_limit(capsule)
    assert (caught.value.http3_code, caught.value.ends_connection) == (0x045D4487, False)
    assert flow.sendable_bytes == 100


def test_the_peers_bytes() -> None:
    """One byte past the limit ends the session; consumption, and not receipt, raises it."""
    flow = SessionFlow(LIMITS, LIMITS)
    flow.count_received(0)
    flow.count_received(100)
    assert flow.take_capsules() == []
    with pytest.raises(Http3Error) as caught:
        flow.count_received(1)
    assert caught.value.http3_code is Http3Code.WT_FLOW_CONTROL_ERROR
    assert (caught.value.size, caught.value.limit) == (101, 100)
    flow.count_consumed(40)
    assert flow.take_capsules() == [MaxData(140)]
    flow.count_received(40)


@pytest.mark.parametrize(("is_unidirectional", "count"), [(False, 2), (True, 4)])
def test_the_peers_streams(count: int, *, is_unidirectional: bool) -> None:
    """One stream past the limit ends the session; a finished one makes room, even if all others live on."""
    flow = SessionFlow(LIMITS, LIMITS)
    for _ in range(count):
        flow.count_accepted(is_unidirectional=is_unidirectional)
    with pytest.raises(Http3Error) as caught:
        flow.count_accepted(is_unidirectional=is_unidirectional)
    assert caught.value.http3_code is Http3Code.WT_FLOW_CONTROL_ERROR
    flow.count_finished(is_unidirectional=is_unidirectional)
    assert flow.take_capsules() == [MaxStreams(count + 1, is_unidirectional)]
    flow.count_accepted(is_unidirectional=is_unidirectional)


def test_small_consumption_is_not_told() -> None:
    """A grant is for a quarter of the window."""
    flow = SessionFlow(LIMITS, LIMITS)
    flow.count_received(50)
    flow.count_consumed(24)
    assert flow.take_capsules() == []
    flow.count_consumed(1)
    assert flow.take_capsules() == [MaxData(125)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(1, 200))
def test_a_sender_that_keeps_the_rules_is_never_stuck(writes: list[int], window: int) -> None:
    """Two ends that tell each other what is due pass every byte, as long as the reader reads, and break no limit."""
    limits = SessionLimits(window_bytes=window)
    sender, receiver = SessionFlow(LIMITS, limits), SessionFlow(limits, LIMITS)
    for size in writes:
        left = size
        while left:
            amount = min(left, sender.sendable_bytes)
            assert amount > 0
            sender.count_sent(amount)
            receiver.count_received(amount)
            receiver.count_consumed(amount)
            for capsule in receiver.take_capsules():
                assert isinstance(capsule, MaxData)
                sender.receive_limit(capsule)
            left -= amount


def test_what_was_never_sent_counts_no_more() -> None:
    """It is credit again, and news to whoever waited for some."""
    flow = SessionFlow(LIMITS, LIMITS)
    flow.count_sent(100)
    assert not flow.count_unsent(10)
    assert flow.sendable_bytes == 10
    flow.want_data()
    assert not flow.count_unsent(0)
    assert flow.count_unsent(5)
    assert not flow.count_unsent(5)
    uncounted = SessionFlow(SessionLimits(), LIMITS)
    uncounted.want_data()
    assert not uncounted.count_unsent(5)
