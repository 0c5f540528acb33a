"""A stream whose items are never cut."""

from __future__ import annotations

from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.message_stream import MessageStream


def test_an_item_larger_than_a_turn_is_pulled_whole() -> None:
    """And nothing is pulled from an empty one."""
    stream = MessageStream(MessageLimits())
    assert stream.pull(10, 100_000) is None
    assert stream.send([b"x" * 5_000], 100_000) == 1
    pulled = stream.pull(10, 100_000)
    assert pulled is not None
    assert stream.queued_items == 0
