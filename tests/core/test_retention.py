"""What is kept until it is acknowledged, and what goes again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.config import ITEM_OVERHEAD_BYTES
from trio_streams.core import records
from trio_streams.core.errors import RemoteProtocolError
from trio_streams.core.retention import Retention
from trio_streams.wire.binary import BinaryWire

WIRE = BinaryWire()
PING = WIRE.encode(0, records.Ping(1))


def data(number: int, size: int = 100) -> bytes:
    """A counted frame."""
    return WIRE.encode_run(1, [b"%d" % number * size])


def make_retention(*writes: bytes, max_bytes: int = 1_000_000) -> Retention:
    retention = Retention(WIRE, max_bytes)
    for write in writes:
        retention.keep(write)
    return retention


def test_whole_writes_are_dropped() -> None:
    """An acknowledgement drops what it covers as a whole; the very objects that were written are kept."""
    writes = [data(1) + data(2), data(3)]
    retention = make_retention(*writes)
    assert retention.retained_bytes == sum(map(len, writes)) + 2 * ITEM_OVERHEAD_BYTES
    retention.acknowledge(1)
    assert retention.retained_bytes == sum(map(len, writes)) + 2 * ITEM_OVERHEAD_BYTES
    retention.acknowledge(2)
    assert retention.retained_bytes == len(writes[1]) + ITEM_OVERHEAD_BYTES
    (replayed,) = retention.replay(2)
    assert replayed is writes[1]
    retention.acknowledge(3)
    assert retention.retained_bytes == 0
    assert retention.replay(3) == []


def test_an_old_acknowledgement_changes_nothing() -> None:
    """Acknowledgements may be repeated, and may come late."""
    retention = make_retention(data(1), data(2))
    for frames in (2, 2, 1, 0):
        retention.acknowledge(frames)
        assert retention.retained_bytes == 0
    assert retention.replay(2) == []


@pytest.mark.parametrize("call", [Retention.acknowledge, Retention.replay], ids=["acknowledge", "replay"])
def test_what_was_never_sent_cannot_have_arrived(call: Callable[[Retention, int], object]) -> None:
    """More than was sent is the peer's fault; the error names both numbers."""
    retention = make_retention(data(1), data(2))
    with pytest.raises(RemoteProtocolError, match="acknowledges 3 frames, 2 were sent") as caught:
        call(retention, 3)
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("frames", 3, 2)


def test_a_gap_is_refused() -> None:
    """A peer that asks for what it has acknowledged, and what was dropped for that, is told so."""
    retention = make_retention(data(1), data(2) + data(3))
    retention.acknowledge(2)
    with pytest.raises(RemoteProtocolError, match="has received 1 frames, and acknowledged 2 before") as caught:
        retention.replay(1)
    assert (caught.value.field, caught.value.size, caught.value.limit) == ("frames_received", 1, 2)


def test_a_replay_begins_inside_a_write() -> None:
    """What the peer has of a write does not go again, and neither do frames of the carrier that is gone."""
    retention = make_retention(data(1) + PING + data(2) + PING, PING + data(3), data(4) + PING * 5)
    assert retention.replay(1) == [data(2), data(3), data(4)]
    assert retention.retained_bytes == len(data(2)) * 3 + 3 * ITEM_OVERHEAD_BYTES
    assert retention.replay(1) == [data(2), data(3), data(4)]
    assert retention.replay(3) == [data(4)]


def test_what_holds_no_counted_frame_is_not_kept_for_long() -> None:
    """Pings alone would wait for ever: short writes of them are not kept, long ones go when the limit is reached."""
    retention = make_retention(PING, max_bytes=2_000)
    assert retention.retained_bytes == 0
    retention.keep(PING * 10)
    assert retention.retained_bytes == len(PING) * 10 + ITEM_OVERHEAD_BYTES
    for number in range(6):
        retention.keep(data(number, 300))
    assert retention.is_full
    assert retention.retained_bytes == 6 * (312 + ITEM_OVERHEAD_BYTES)
    retention.keep(PING * 10)
    assert retention.retained_bytes == 6 * (312 + ITEM_OVERHEAD_BYTES)
    assert retention.replay(0) == [data(number, 300) for number in range(6)]


def test_a_write_without_counted_frames_is_dropped_at_any_acknowledgement() -> None:
    """Once it comes first, there is nothing about it that could be acknowledged."""
    retention = make_retention(PING * 10, data(1))
    retention.acknowledge(0)
    assert retention.retained_bytes == len(data(1)) + ITEM_OVERHEAD_BYTES


def test_a_full_buffer_is_cut_where_the_peer_has_come_to() -> None:
    """A peer acknowledges now and then; the part of a large write that it has must not be what fills the buffer."""
    first = b"".join(data(n) for n in range(10))
    retention = make_retention(first, max_bytes=len(first) + 200)
    retention.acknowledge(9)
    assert retention.retained_bytes == len(first) + ITEM_OVERHEAD_BYTES  # not worth a copy
    retention.keep(data(10))
    assert retention.retained_bytes == len(data(9)) + len(data(10)) + 2 * ITEM_OVERHEAD_BYTES
    assert not retention.is_full
    assert retention.replay(9) == [data(9), data(10)]


def test_an_acknowledgement_cuts_a_buffer_that_is_full() -> None:
    """The same where the acknowledgement comes second."""
    first = b"".join(data(n) for n in range(10))
    retention = make_retention(first, max_bytes=len(first))
    assert retention.is_full
    retention.acknowledge(5)
    assert not retention.is_full
    assert b"".join(retention.replay(5)) == b"".join(data(n) for n in range(5, 10))


@given(
    st.lists(st.lists(st.sampled_from([0, 1, 100]), min_size=1, max_size=5), max_size=12),
    st.lists(st.integers(0, 60), max_size=8),
    st.sampled_from([300, 100_000]),
)
def test_whatever_was_acknowledged_the_rest_is_there(
    writes: list[list[int]], acknowledged: list[int], max_bytes: int
) -> None:
    """After any writes and acknowledgements, a replay is what was sent behind what has arrived, and nothing else."""
    retention = Retention(WIRE, max_bytes)
    sent: list[bytes] = []
    most = 0
    for index, sizes in enumerate(writes):
        frames = [PING if size == 0 else data(len(sent) + n, size) for n, size in enumerate(sizes)]
        retention.keep(b"".join(frames))
        sent += [frame for frame in frames if frame != PING]
        if index < len(acknowledged):
            most = max(most, min(acknowledged[index], len(sent)))
            retention.acknowledge(min(acknowledged[index], len(sent)))
    for received in range(most, len(sent) + 1):
        assert b"".join(retention.replay(received)) == b"".join(sent[received:])
