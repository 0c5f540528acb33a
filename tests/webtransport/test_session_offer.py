"""Sessions that are asked for, refused, withdrawn, drained, and handed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock

from tests.webtransport.link_pair import REQUEST, open_pair, session_pair
from trio_streams.errors import LocalProtocolError
from trio_streams.webtransport.errors import SessionClosed, SessionRefused
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_offer import SessionOffer


async def test_draining_asks_the_peer(autojump_clock: MockClock) -> None:
    """`drain` wakes the peer's `wait_drained`, and both sides go on."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        client.drain()
        await server.wait_drained()
        stream = await server.create_unidirectional_stream()
        await stream.write(b"x")
        assert await (await client.accept_unidirectional_stream()).read() == b"x"


async def test_a_refused_session_says_with_what(autojump_clock: MockClock) -> None:
    """The client gets the status and the fields of the answer."""
    async with open_pair() as pair:
        pair.server.on_session = lambda offer: offer.refuse(429, (("retry-after", "7"),))
        with pytest.raises(SessionRefused, match="429") as caught:
            await pair.client.connect_session(REQUEST)
        assert (caught.value.status, dict(caught.value.headers)["retry-after"]) == (429, "7")
        pair.server.on_session = None
        with pytest.raises(SessionRefused, match="404"):
            await pair.client.connect_session(REQUEST)


async def test_a_request_that_is_withdrawn_cancels_whoever_thinks_about_it(autojump_clock: MockClock) -> None:
    """A client that gives up leaves nothing: the offer's scope is cancelled, and answers to it are no matter."""
    async with open_pair() as pair:
        offers: list[SessionOffer] = []
        pair.server.on_session = offers.append
        with trio.move_on_after(1):
            await pair.client.connect_session(REQUEST)
        await trio.sleep(1)
        assert offers[0].cancel_scope.cancel_called
        assert offers[0].request.peer == "client"
        assert offers[0].accept() is None
        offers[0].refuse(500)


class Taker:
    """Serves the streams of a session in place of the session."""

    def __init__(self, session: WebTransportSession) -> None:
        self.session = session
        self.told: list[tuple[object, ...]] = []
        self.stream_ids: list[int] = []

    def on_stream_opened(self, stream_id: int, is_unidirectional: bool) -> None:
        self.told.append(("opened", is_unidirectional))
        self.stream_ids.append(stream_id)
        self.session.link.add_stream_sink(stream_id, Sink(self.told))

    def on_flush(self) -> None:
        pass

    def on_streams_allowed(self, is_unidirectional: bool) -> None:
        self.told.append(("allowed", is_unidirectional))

    def on_lost(self, over: Callable[[], Exception]) -> None:
        self.told.append(("lost", type(over())))
        for stream_id in self.stream_ids:
            self.session.link.drop_stream_sink(stream_id)


class Sink:
    """Hears what happens on a stream."""

    def __init__(self, told: list[tuple[object, ...]]) -> None:
        self.told = told

    def on_received(self, run: Sequence[bytes], is_ended: bool) -> None:
        self.told.append((b"".join(run), is_ended))

    def on_reset(self, code: int | None) -> None:
        self.told.append(("reset", code))

    def on_stopped(self, code: int | None) -> None:
        self.told.append(("stopped", code))

    def on_writable(self) -> None: ...
    def on_delivered(self) -> None: ...
    def on_lost(self, over: object) -> None: ...


async def test_streams_can_be_handed_over(autojump_clock: MockClock) -> None:
    """Who takes the streams over hears of those that wait, with what arrived on them, then of all that come."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        ended = await client.create_unidirectional_stream()
        await ended.write(b"early", end_stream=True)
        reset = await client.create_unidirectional_stream()
        await reset.write(b"x")
        await trio.sleep(1)
        reset.abort(code=4)
        await trio.sleep(1)
        taker = Taker(server)
        server.hand_over(taker)
        with pytest.raises(LocalProtocolError, match="somebody else"):
            server.hand_over(taker)
        assert taker.told == [("opened", True), (b"early", True), ("opened", True), ("reset", 4)]
        taker.told.clear()
        stream = await client.create_bidirectional_stream()
        await stream.write(b"late")
        stream.stop(6)
        await trio.sleep(1)
        assert taker.told[0] == ("opened", False)
        assert set(taker.told[1:]) == {(b"late", False), ("stopped", 6)}
        client.close(1)
        await server.wait_closed()
        assert taker.told[-1:] == [("lost", SessionClosed)]


async def test_a_handed_over_session_that_is_over_says_so_at_once(autojump_clock: MockClock) -> None:
    """Who comes too late is told that the session is over."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        server.close()
        await client.wait_closed()
        taker = Taker(client)
        client.hand_over(taker)
        assert taker.told == [("lost", SessionClosed)]
