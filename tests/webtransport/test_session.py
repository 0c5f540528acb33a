"""Sessions: opening and taking streams, datagrams, and how they end for both sides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.link_pair import REQUEST, SMALL, LinkPair, open_pair, session_pair
from tests.webtransport.quic_pair import LOST
from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, LocalProtocolError, RpcError
from trio_streams.webtransport.ending import Closer
from trio_streams.webtransport.errors import SessionClosed, SessionRefused, WebTransportStreamReset
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_block import SessionBlock
from trio_streams.webtransport.session_offer import SessionOffer
from trio_streams.webtransport.streams import WebTransportReceiveStream, WebTransportStream

FEW: Final = attrs.evolve(
    SMALL, quic=attrs.evolve(SMALL.quic, max_bidirectional_streams=3, max_unidirectional_streams=5)
)
"""Two streams of each kind beside CONNECT's and HTTP/3's."""


async def test_streams_are_opened_first_come_first_served(autojump_clock: MockClock) -> None:
    """Who waits for the peer to allow another stream gets it in order, and one who gave up is passed over."""
    async with open_pair(server_config=FEW) as pair, session_pair(pair) as (client, server):
        order: list[int] = []
        is_done = trio.Event()

        async def use(number: int) -> None:
            async with await client.create_unidirectional_stream():
                order.append(number)
                if len(order) == 4:
                    is_done.set()

        async def give_up() -> None:
            with trio.move_on_after(1):
                await client.create_unidirectional_stream()

        held = [await client.create_unidirectional_stream() for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(use, number)
                nursery.start_soon(give_up)
                await wait_all_tasks_blocked()
            await trio.sleep(2)
            assert order == []
            nursery.start_soon(take_all, server)
            for stream in held:
                await stream.aclose()
            await is_done.wait()
            nursery.cancel_scope.cancel()
        assert order == [0, 1, 2, 3]
        assert client.statistics().streams_opened == 6


async def take_all(session: WebTransportSession) -> None:
    async for stream in session.incoming_streams():
        await stream.read_all()
        await stream.aclose()


async def test_both_kinds_come_in_the_order_in_which_they_were_opened(autojump_clock: MockClock) -> None:
    """`incoming_streams` gives both kinds; taking one kind leaves the others where they are."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        for number in range(6):
            opened = await (client.create_unidirectional_stream if number % 2 else client.create_bidirectional_stream)()
            await opened.write(bytes([number]))
        await trio.sleep(1)
        assert server.statistics().waiting_streams == 6
        second = await server.accept_unidirectional_stream()
        fourth = await server.accept_unidirectional_stream()
        first = await server.accept_bidirectional_stream()
        rest = [stream async for stream in aiter_some(server, 3)]
        kinds = [isinstance(stream, WebTransportStream) for stream in rest]
        assert kinds == [True, True, False]
        assert [await stream.read() for stream in (first, second, fourth, *rest)] == [
            b"\0",
            b"\1",
            b"\3",
            b"\2",
            b"\4",
            b"\5",
        ]


async def aiter_some(session: WebTransportSession, count: int):  # type: ignore[no-untyped-def]  # noqa: ANN201
    streams = session.incoming_streams()
    for _ in range(count):
        yield await anext(streams)


async def test_a_stream_that_nobody_takes_keeps_its_place(autojump_clock: MockClock) -> None:
    """A peer that opens and resets streams without end gets no more of them than it may have open."""
    async with open_pair(server_config=FEW) as pair, session_pair(pair) as (client, server):
        with trio.move_on_after(20):
            while True:
                (await client.create_unidirectional_stream()).abort(code=1)
        waiting = server.statistics().waiting_streams
        assert 0 < waiting <= 2
        for _ in range(waiting):
            with pytest.raises(WebTransportStreamReset):
                await (await server.accept_unidirectional_stream()).read()
        (await client.create_unidirectional_stream()).abort()


async def test_a_loop_over_streams_ends_with_a_session_that_ended_well(autojump_clock: MockClock) -> None:
    """Code 0 from the peer, and our own close, end loops over streams and datagrams; what came before is taken first."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        await (await server.create_unidirectional_stream()).write(b"x")
        server.send_datagram(b"d")
        await trio.sleep(1)
        server.close()
        assert (await client.wait_closed()).closer is Closer.PEER
        assert len([stream async for stream in client.incoming_streams()]) == 1
        assert [data async for data in client.datagrams()] == [b"d"]
        assert [stream async for stream in server.incoming_streams()] == []
        assert [data async for data in server.datagrams()] == []
        with pytest.raises(SessionClosed):
            await client.receive_datagram()


async def test_a_loop_over_streams_raises_where_the_session_ended_badly(autojump_clock: MockClock) -> None:
    """Another code than 0 raises `SessionClosed` from loops, and from every other operation of the client."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        server.close(3, "no more")
        await client.wait_closed()
        for use in uses_of(client):
            with pytest.raises(SessionClosed) as caught:
                await use()
            assert (caught.value.code, caught.value.reason) == (3, "no more")
        assert str(caught.value) == "the peer closed the session with code 3: no more"


def uses_of(session: WebTransportSession) -> list[Callable[[], Awaitable[object]]]:
    """Whatever can be done with a session."""

    async def send() -> None:
        session.send_datagram(b"x")

    async def drain() -> None:
        session.drain()

    return [
        session.create_bidirectional_stream,
        session.create_unidirectional_stream,
        session.accept_bidirectional_stream,
        session.accept_unidirectional_stream,
        lambda: anext(session.incoming_streams()),
        session.receive_datagram,
        lambda: anext(session.datagrams()),
        send,
        drain,
    ]


@pytest.mark.parametrize("is_client", [True, False])
async def test_a_session_that_was_closed_here_says_so(is_client: bool, autojump_clock: MockClock) -> None:
    """Our own close is idempotent, and everything but loops raises `trio.ClosedResourceError` behind it."""
    async with open_pair() as pair, session_pair(pair) as sessions:
        ours, theirs = sessions if is_client else reversed(sessions)
        with pytest.raises(LocalProtocolError):
            ours.close(1 << 32)
        assert ours.is_open
        stream = await ours.create_bidirectional_stream()
        ours.close(5, "enough")
        ours.close(6)
        for use in (
            ours.create_bidirectional_stream,
            ours.accept_unidirectional_stream,
            ours.receive_datagram,
            stream.read,
        ):
            with pytest.raises(trio.ClosedResourceError):
                await use()
        close = await theirs.wait_closed()
        assert (close.code, close.reason, close.closer) == (5, "enough", Closer.PEER)
        assert (await ours.wait_closed()).closer is Closer.LOCAL


async def test_waiting_operations_hear_that_the_session_is_closed(autojump_clock: MockClock) -> None:
    """Whoever waits in an operation of a client's session is woken by the peer's close."""
    async with open_pair(config=FEW) as pair, session_pair(pair) as (client, server):
        [await client.create_bidirectional_stream() for _ in range(2)]
        [await client.create_unidirectional_stream() for _ in range(2)]
        heard: list[int] = []

        async def expect_closed(use: Callable[[], Awaitable[object]]) -> None:
            with pytest.raises(SessionClosed) as caught:
                await use()
            heard.append(caught.value.code)

        async with trio.open_nursery() as nursery:
            for use in uses_of(client)[:7]:
                nursery.start_soon(expect_closed, use)
            nursery.start_soon(client.wait_drained)
            nursery.start_soon(trio.sleep, 1)
            await wait_all_tasks_blocked()
            server.close(8)
        assert heard == [8] * 7


async def test_datagrams_arrive(autojump_clock: MockClock) -> None:
    """Datagrams go both ways, as bytes-like objects, also empty ones."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        for data in (b"a", bytearray(b"b"), memoryview(b"c"), b""):
            client.send_datagram(data)
        assert [await server.receive_datagram() for _ in range(4)] == [b"a", b"b", b"c", b""]
        server.send_datagram(b"back")
        assert await client.receive_datagram() == b"back"
        assert client.statistics().datagrams_sent == 4
        assert server.statistics().datagrams_received == 4


async def test_a_datagram_that_is_too_large_is_an_error_at_the_sender(autojump_clock: MockClock) -> None:
    """The largest that is said to fit arrives; one byte more names field, size and limit."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        limit = client.max_datagram_size
        assert limit is not None
        client.send_datagram(bytes(limit))
        with pytest.raises(LocalProtocolError) as caught:
            client.send_datagram(bytes(limit + 1))
        assert (caught.value.field, caught.value.size, caught.value.limit) == ("max_datagram_size", limit + 1, limit)
        assert len(await server.receive_datagram()) == limit


async def test_datagrams_that_nobody_takes_are_dropped(autojump_clock: MockClock) -> None:
    """The oldest make room for the newest, what has waited too long is gone, and both are counted."""
    config = attrs.evolve(SMALL, max_received_datagrams=2, max_received_datagram_age=5.0)
    async with open_pair(config=config) as pair, session_pair(pair) as (client, server):
        for number in range(4):
            client.send_datagram(bytes([number]))
        await trio.sleep(1)
        assert await server.receive_datagram() == b"\2"
        await trio.sleep(10)
        with trio.move_on_after(1) as scope:
            await server.receive_datagram()
        assert scope.cancelled_caught
        statistics = server.statistics()
        assert (statistics.datagrams_received, statistics.datagrams_dropped, statistics.datagrams_expired) == (4, 2, 1)


async def test_a_cancelled_receive_takes_no_datagram(autojump_clock: MockClock) -> None:
    """Receives that are cancelled just when datagrams arrive lose none of them."""
    async with open_pair() as pair, session_pair(pair) as (client, server), trio.open_nursery() as nursery:

        async def send() -> None:
            for number in range(30):
                client.send_datagram(bytes([number]))
                await trio.sleep(0.1)

        nursery.start_soon(send)
        got: list[bytes] = []
        while len(got) < 30:
            with trio.move_on_after(0.1):
                got.append(await server.receive_datagram())
        assert got == [bytes([number]) for number in range(30)]


async def test_tasks_of_a_session_end_with_its_block(autojump_clock: MockClock) -> None:
    """Leaving the block cancels them, and their streams are reset with CANCELLED."""
    async with open_pair() as pair, session_pair(pair) as (_, server):
        ended = trio.Event()

        async def work(session: WebTransportSession) -> None:
            try:
                async with await session.create_unidirectional_stream() as stream:
                    await stream.write(b"x")
                    await trio.sleep_forever()
            finally:
                ended.set()

        session = await pair.client.connect_session(REQUEST)
        async with SessionBlock(session):
            session.start_soon(work, session)
            await trio.sleep(1)
        assert ended.is_set()
        assert not session.is_open
        assert session.nursery is None
        assert server.is_open


async def test_a_task_that_fails_ends_the_block_with_its_error_alone(autojump_clock: MockClock) -> None:
    """The error arrives bare, and the peer is told its code and no foreign text."""
    async with open_pair() as pair:
        closes = serve_all(pair)

        async def fail() -> None:
            raise ZeroDivisionError("secret")

        with pytest.raises(ZeroDivisionError):
            async with SessionBlock(await pair.client.connect_session(REQUEST)) as session:
                session.start_soon(fail)
                await trio.sleep_forever()
        close = await closes[0].wait_closed()
        assert (close.code, close.reason) == (Code.INTERNAL, "internal error")


def serve_all(pair: LinkPair) -> list[WebTransportSession]:
    """Accept every session; the sessions are nobody's."""
    sessions: list[WebTransportSession] = []

    def accept(offer: SessionOffer) -> None:
        session = offer.accept()
        assert session is not None
        sessions.append(session)

    pair.server.on_session = accept
    return sessions


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (RpcError(Code.ABORTED, "changed my mind"), Code.ABORTED, "changed my mind"),
        (ValueError("x"), 13, "internal error"),
    ],
)
async def test_a_block_that_fails_closes_with_the_code(
    failure: Exception, code: int, reason: str, autojump_clock: MockClock
) -> None:
    """What leaves the block decides about code and reason."""
    async with open_pair() as pair:
        sessions = serve_all(pair)
        with pytest.raises(type(failure)):
            async with SessionBlock(await pair.client.connect_session(REQUEST)):
                raise failure
        close = await sessions[0].wait_closed()
        assert (close.code, close.reason) == (code, reason)


async def test_a_block_that_is_cancelled_closes_with_cancelled(autojump_clock: MockClock) -> None:
    """The goodbye leaves though everything around is cancelled."""
    async with open_pair() as pair:
        sessions = serve_all(pair)
        with trio.move_on_after(1):
            async with SessionBlock(await pair.client.connect_session(REQUEST)):
                await trio.sleep_forever()
        assert (await sessions[0].wait_closed()).code == Code.CANCELLED


async def test_what_was_ended_is_delivered_before_the_close(autojump_clock: MockClock) -> None:
    """A block that is left right behind its last write loses nothing of it, however slow the peer."""
    async with open_pair() as pair:
        sessions = serve_all(pair)
        data = bytes(500_000)
        async with trio.open_nursery() as nursery:
            got: list[bytes] = []

            async def read() -> None:
                stream = await sessions[0].accept_unidirectional_stream()
                got.append(await stream.read_all())

            async with SessionBlock(await pair.client.connect_session(REQUEST)) as session:
                nursery.start_soon(read)
                await (await session.create_unidirectional_stream()).write(data, end_stream=True)
            assert (await sessions[0].wait_closed()).code == 0
        assert got == [data]


async def test_what_the_peer_does_not_take_delays_the_end_no_longer_than_agreed(autojump_clock: MockClock) -> None:
    """A peer that reads nothing, or has vanished, costs `close_timeout` for the delivery and once more for its answer."""
    async with open_pair() as pair:
        serve_all(pair)
        async with SessionBlock(await pair.client.connect_session(REQUEST)) as session:
            stream = await session.create_unidirectional_stream()
            await stream.write(b"x" * 10_000, end_stream=True)
            pair.network = lambda: LOST
            left = trio.current_time()
        assert 4 <= trio.current_time() - left <= 4.5


async def test_a_goodbye_that_is_cancelled_still_says_goodbye(autojump_clock: MockClock) -> None:
    """Cancelled while it waits for the delivery, the block closes the session with CANCELLED at once."""
    async with open_pair() as pair:
        sessions = serve_all(pair)
        with trio.move_on_after(1) as scope:
            async with SessionBlock(await pair.client.connect_session(REQUEST)) as session:
                stream = await session.create_unidirectional_stream()
                with trio.move_on_after(0.5):
                    await stream.write(bytes(10_000_000))
                await stream.close()
        assert scope.cancelled_caught
        assert (await sessions[0].wait_closed()).code == Code.CANCELLED


async def test_a_closed_session_cancels_the_servers_scope_and_not_the_clients(autojump_clock: MockClock) -> None:
    """The scope around a server's handler is cancelled by the client's close, and by nothing that the server does itself."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        assert not server.cancel_scope.cancel_called
        client.close()
        await server.wait_closed()
        assert server.cancel_scope.cancel_called
    async with open_pair() as pair, session_pair(pair) as (client, server):
        server.close()
        await client.wait_closed()
        assert not server.cancel_scope.cancel_called


async def test_a_handler_that_waits_is_cancelled_and_hears_nothing_else(autojump_clock: MockClock) -> None:
    """Whatever a server's handler and its tasks wait for: the client's close is a cancellation, not an error."""
    async with open_pair() as pair, trio.open_nursery() as nursery:
        left: list[type[BaseException]] = []

        async def wait(use: Callable[[], Awaitable[object]]) -> None:
            try:
                await use()
            except BaseException as exc:
                left.append(type(exc))
                raise

        async def handle(offer: SessionOffer) -> None:
            session = offer.accept()
            assert session is not None
            with session.cancel_scope:
                async with SessionBlock(session):
                    for use in (session.accept_bidirectional_stream, session.receive_datagram, session.wait_drained):
                        session.start_soon(wait, use)
                    await wait((await session.create_bidirectional_stream()).read)

        pair.server.on_session = lambda offer: nursery.start_soon(handle, offer)
        async with SessionBlock(await pair.client.connect_session(REQUEST)):
            await trio.sleep(1)
        await trio.sleep(1)
        assert left == [trio.Cancelled] * 4


async def test_a_lost_connection_fails_everything_on_it(autojump_clock: MockClock) -> None:
    """Sessions, streams, and requests for sessions raise `ConnectionLost`, each anew, and handlers are cancelled."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        stream = await client.create_bidirectional_stream()
        heard: list[BaseException] = []

        async def ask() -> None:
            with pytest.raises(ConnectionLost):
                await pair.client.connect_session(REQUEST)
            heard.append(ConnectionLost())

        async with trio.open_nursery() as nursery:
            pair.server.on_session = lambda offer: None
            nursery.start_soon(ask)
            await trio.sleep(1)
            pair.client.lose(OSError("the cable is out"))
        assert len(heard) == 1
        for use in (*uses_of(client), stream.read, lambda: stream.write(b"x"), pair.client.wait_ready):
            with pytest.raises(ConnectionLost, match="the cable is out") as caught:
                await use()
            assert isinstance(caught.value.__cause__, OSError)
            assert not isinstance(caught.value, SessionClosed)
        assert (await client.wait_closed()).closer is Closer.LOST
        await server.wait_closed()
        assert server.cancel_scope.cancel_called


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


async def test_what_a_session_is(autojump_clock: MockClock) -> None:
    """A session knows what it was asked for, and by whom."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        assert (client.path, server.path, server.peer) == ("/room", "/room", "client")
        assert (client.protocol, dict(server.headers)) == (None, {})
        assert repr(server) == f"<WebTransportSession {server.session_id} '/room' open>"
        stream = await client.create_bidirectional_stream()
        assert client.get_stream(stream.stream_id) is stream
        taken = await server.accept_bidirectional_stream()
        assert not isinstance(taken, WebTransportReceiveStream)


async def test_a_session_outlives_a_silence(autojump_clock: MockClock) -> None:
    """Nobody says anything for an hour, and the session is still there; the pings are few."""
    async with open_pair() as pair, session_pair(pair) as (client, server):
        await trio.sleep(5)
        before = pair.datagram_count
        await trio.sleep(3_600)
        client.send_datagram(b"x")
        assert await server.receive_datagram() == b"x"
        assert pair.datagram_count - before < 4 * 3_600 / 14


async def test_a_peer_that_vanished_is_noticed(autojump_clock: MockClock) -> None:
    """Pings that nobody answers end the connection after the idle timeout."""
    async with open_pair() as pair, session_pair(pair) as (client, _):
        pair.network = lambda: LOST
        began = trio.current_time()
        assert (await client.wait_closed()).closer is Closer.LOST
        assert trio.current_time() - began < 2 * SMALL.quic.idle_timeout
        with pytest.raises(ConnectionLost, match="too long"):
            await client.receive_datagram()
