"""How sessions end, for both sides: blocks, closes, losses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.webtransport.link_pair import REQUEST, SMALL, open_pair, session_pair
from tests.webtransport.quic_pair import LOST
from tests.webtransport.session_uses import FEW, serve_all, uses_of
from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, LocalProtocolError, RpcError
from trio_streams.webtransport.ending import Closer
from trio_streams.webtransport.errors import SessionClosed
from trio_streams.webtransport.session import WebTransportSession
from trio_streams.webtransport.session_block import SessionBlock
from trio_streams.webtransport.session_offer import SessionOffer


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


async def test_a_session_whose_tasks_are_cancelled_keeps_that_to_itself(autojump_clock: MockClock) -> None:
    """Cancelling the session's nursery leaves its block as a nursery's own cancellation does: without an error."""
    async with open_pair() as pair, session_pair(pair) as (_, server):
        session = await pair.client.connect_session(REQUEST)
        left = False
        with trio.CancelScope() as outside:
            async with SessionBlock(session):
                assert session.nursery is not None
                session.nursery.cancel_scope.cancel()
                await trio.sleep_forever()
            left = True
        assert left
        assert not outside.cancelled_caught
        assert (await session.wait_closed()).code == Code.CANCELLED
        assert server.is_open


@pytest.mark.parametrize("is_ended", [False, True])
async def test_a_flush_hears_why_its_bytes_did_not_leave(is_ended: bool, autojump_clock: MockClock) -> None:
    """The connection is lost before all has left: that is what `flush` raises, be the half ended or not."""
    async with open_pair() as pair, session_pair(pair) as (client, _):
        stream = await client.create_bidirectional_stream()
        heard: list[Exception] = []

        async def expect_lost() -> None:
            with pytest.raises(ConnectionLost, match="gone") as caught:
                await stream.flush()
            heard.append(caught.value)

        async with trio.open_nursery() as nursery:
            pair.network = lambda: LOST
            await stream.write(bytes(20_000), end_stream=is_ended)
            nursery.start_soon(expect_lost)
            await wait_all_tasks_blocked()
            pair.client.lose(ConnectionLost("gone"))
        assert heard
