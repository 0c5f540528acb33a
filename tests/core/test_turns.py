"""Scheduling as the peer sees it: what overtakes what on the wire."""

from __future__ import annotations

from collections import Counter

import attrs
import pytest

from tests.core.support import CONFIG, Muxes, only
from trio_streams.config import StreamLimits
from trio_streams.core import events, records
from trio_streams.core.assembly import Piece
from trio_streams.core.mux import Mux
from trio_streams.wire.binary import PREFACE, BinaryWire

WIDE = attrs.evolve(
    CONFIG,
    stream=StreamLimits(window_items=1_000_000, window_bytes=1_000_000_000),
    connection_window_bytes=1_000_000_000,
    max_send_buffer_bytes=1_000_000_000,
)


def written(mux: Mux, max_bytes: int) -> list[tuple[int, int]]:
    """The stream and size of each DATA frame of one write."""
    sizes = []
    wire = BinaryWire()
    wire.decode(PREFACE)
    data = mux.to_send(0.0, max_bytes)
    while data:  # frame by frame, as pieces that follow each other come joined
        end = 12 + int.from_bytes(data[2:4], "big")
        ((stream_id, content),) = wire.decode(data[:end])
        data = data[end:]
        if isinstance(content, Piece):
            sizes.append((stream_id, len(content.data)))
        elif isinstance(content, list):
            sizes.append((stream_id, sum(map(len, content))))
    return sizes


def ready(*priorities: int) -> tuple[Mux, list[int]]:
    """A client with a stream for each priority, whose OPENs have left."""
    client = Muxes(WIDE).client
    streams = [client.open("x", priority=priority) for priority in priorities]
    client.to_send(0.0, 1)
    return client, streams


def test_an_urgent_item_overtakes_a_thousand() -> None:
    """An item of priority 10 is the first that the next `to_send` gives, before 1,000 that were queued earlier."""
    client, (bulk, urgent) = ready(0, 10)
    client.send(bulk, [bytes(1_000)] * 1_000)
    assert {stream_id for stream_id, _ in written(client, 65_536)} == {bulk}
    client.send(urgent, [b"!"])
    assert written(client, 65_536)[0] == (urgent, 1)


@pytest.mark.parametrize(("small", "large"), [(100, 9_000), (0, 9_000), (1, 16_382), (5_000, 9_000), (100, 100_000)])
def test_streams_of_one_priority_get_equal_bytes(small: int, large: int) -> None:
    """Whatever their items' sizes, two streams get the same bytes of the line within 10 %, headers included."""
    client, (one, other) = ready(0, 0)
    for stream_id, size in ((one, small), (other, large)):
        client.send(stream_id, [bytes(size)] * min(300_000, 2_000_000 // (size + 1)))
    bytes_of: Counter[int] = Counter()
    wire = BinaryWire()
    wire.decode(PREFACE)
    for _ in range(16):
        data = client.to_send(0.0, 65_536)
        position = 0
        while position < len(data):
            size = 12 + int.from_bytes(data[position + 2 : position + 4], "big")
            bytes_of[int.from_bytes(data[position + 4 : position + 12], "big")] += size
            position += size
    assert bytes_of[one] == pytest.approx(bytes_of[other], rel=0.1)


def test_lower_priorities_are_not_starved() -> None:
    """Behind an endless stream of higher priority, one turn in sixteen is theirs."""
    client, (high, low) = ready(5, 0)
    for stream_id in (high, low):
        client.send(stream_id, [bytes(16_382)] * 1_000)
    turns = Counter(stream_id for stream_id, _ in written(client, 320 * 16_394))
    assert turns == {high: 300, low: 20}


def test_a_large_item_holds_up_a_small_one_for_one_frame() -> None:
    """While 10 MiB leave, a small item of another stream waits for no more than one frame of it."""
    client, (large, small) = ready(0, 0)
    client.send(large, [bytes(10 * 1024 * 1024)])
    assert [stream_id for stream_id, _ in written(client, 100_000)] == [large] * 7
    client.send(small, [b"!"])
    order = written(client, 100_000)
    assert (small, 1) in order[:2]
    assert all(size <= 16_384 for _, size in order)
    client.send(small, [b"!"])
    assert (small, 1) in written(client, 100_000)[:2]


def test_what_waits_is_a_copy() -> None:
    """Metadata that the caller changes after the command is sent as it was."""
    muxes = Muxes()
    stream_id = muxes.client.open("x")
    metadata: dict[str, str] = {"a": "b"}
    muxes.client.send_header(stream_id, metadata)
    muxes.client.end(stream_id, records.OK, metadata)
    metadata["a"] = 5  # type: ignore[assignment]
    happened = muxes.take_server()
    assert only(events.Headed, happened) == [events.Headed(1, {"a": "b"})]
    assert only(events.Ended, happened) == [events.Ended(1, records.OK, {"a": "b"})]
