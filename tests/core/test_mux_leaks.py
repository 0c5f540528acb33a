"""What many streams on one carrier leave behind: nothing."""

from __future__ import annotations

from tests.core.support import consume, make_mux
from trio_streams.config import ConnectionConfig, StreamLimits
from trio_streams.core import events
from trio_streams.testing import Pair


def test_nothing_leaks_over_thousands_of_streams() -> None:
    """After 5,000 calls no stream is left, and both sides agree on every byte."""
    config = ConnectionConfig(max_streams=3, connection_window_bytes=10_000, stream=StreamLimits(window_items=2))
    client, server = make_mux(is_client=True, config=config), make_mux(is_client=False, config=config)
    pair: Pair[events.Event] = Pair(client, server)
    pair.run_until_idle()
    for _ in range(5_000):
        stream_id = client.open("x")
        client.send(stream_id, [b"in"])
        client.end(stream_id)
        pair.run_until_idle()
        consume(server, stream_id, [b"in"])
        server.send(stream_id, [b"out"])
        server.end(stream_id)
        server.release(stream_id)
        pair.run_until_idle()
        consume(client, stream_id, [b"out"])
        pair.run_until_idle()
    for mine, theirs in ((client, server), (server, client)):
        assert (mine.stream_count, mine.unread_bytes, mine.queued_bytes) == (0, 0, 0)
        assert mine._out.credit.bytes == theirs._in.credit.bytes
        assert (mine._out._starved, mine._out._waiting_for_room, mine._granted_streams) == ({}, {}, {})
        assert len(mine._out._scheduler) == 0
