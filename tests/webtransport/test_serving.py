"""Servers and clients of sessions over UDP on loopback."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.webtransport.quic_pair import certificate
from tests.webtransport.serving import idle, serving
from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.service.drain import Drain
from trio_streams.transports.origin import OriginPolicy
from trio_streams.webtransport import (
    Accept,
    Refuse,
    SessionClosed,
    SessionRefused,
    SessionRequest,
    WebTransportConfig,
    WebTransportLimits,
    WebTransportReceiveStream,
    WebTransportSession,
    WebTransportStream,
    connect,
    serve,
)

DEADLINE: Final = 30


async def echo(session: WebTransportSession) -> None:
    """Send back what arrives on streams in both directions."""
    async for stream in session.incoming_streams():
        session.start_soon(_echo_one, stream)


async def _echo_one(stream: WebTransportStream | WebTransportReceiveStream) -> None:
    assert isinstance(stream, WebTransportStream)
    async with stream:
        async for chunk in stream.read_iter():
            await stream.write(chunk)


async def refusal(url: str, **options: object) -> SessionRefused:
    """How a server refuses a session."""
    with pytest.raises(SessionRefused) as caught:
        async with connect(url, verify=False, **options):  # type: ignore[arg-type]
            pass
    return caught.value


async def test_a_session_over_udp() -> None:
    """A megabyte comes back, the block is left, and no task is."""
    data = bytes(range(256)) * 4_096
    with trio.fail_after(DEADLINE):
        async with serving(echo) as server, connect(server.url, verify=False) as session:
            stream = await session.create_bidirectional_stream()
            session.start_soon(partial(stream.write, data, end_stream=True))
            assert await stream.read_all() == data
            session.send_datagram(b"nobody reads it")


async def test_paths_have_handlers() -> None:
    """Routes are paths without queries; a path that is not there is 404."""
    asked: list[str] = []

    async def note(session: WebTransportSession) -> None:
        asked.append(session.path)

    with trio.fail_after(DEADLINE):
        async with serving({"/room": note}) as server:
            async with connect(f"{server.url}/room?id=7", verify=False) as session:
                assert (await session.wait_closed()).code == 0
            assert (await refusal(f"{server.url}/other")).status == 404
        assert asked == ["/room?id=7"]


async def test_pages_of_other_origins_are_refused() -> None:
    """A program has no origin and may ask; a page may if it is of this server, or of a host that is allowed to."""
    with trio.fail_after(DEADLINE):
        async with serving(idle, allowed_origins=["https://app.example"]) as server:
            for origin in (None, server.url, "https://app.example"):
                async with connect(server.url, verify=False, origin=origin):
                    pass
            assert (await refusal(server.url, origin="https://evil.example")).status == 403
        policy = OriginPolicy(allowed_origins=["*"])
        async with (
            serving(idle, allowed_origins=policy) as server,
            connect(server.url, verify=False, origin="https://any.example") as session,
        ):
            assert session.request.origin == "https://any.example"


@pytest.mark.parametrize("is_async", [False, True])
async def test_admit_decides(is_async: bool) -> None:
    """What `admit` says is answered: any status, fields, and the subprotocol, waiting or not."""

    def decide(request: SessionRequest) -> Accept | Refuse:
        assert request.peer.startswith("127.0.0.1:")
        if dict(request.headers).get("x-key") == "open":
            return Accept(protocol=request.protocols[-1], headers=(("x-greeting", "hello"),))
        return Refuse(status=418, headers=(("x-why", "teapot"),))

    async def decide_later(request: SessionRequest) -> Accept | Refuse:
        await trio.lowlevel.checkpoint()
        return decide(request)

    with trio.fail_after(DEADLINE):
        async with serving(idle, admit=decide_later if is_async else decide) as server:
            refused = await refusal(server.url)
            assert (refused.status, dict(refused.headers)["x-why"]) == (418, "teapot")
            opened = connect(server.url, verify=False, headers=[("x-key", "open")], protocols=["a", "b"])
            async with opened as session:
                assert (session.protocol, session.answer_headers["x-greeting"]) == ("b", "hello")


async def test_admit_that_fails_or_takes_too_long(caplog: pytest.LogCaptureFixture) -> None:
    """One that raises is 500 and logged, one that chooses what was not offered likewise, one that waits too long is 503."""

    async def admit(request: SessionRequest) -> Accept | Refuse:
        if request.path == "/fail":
            raise ZeroDivisionError
        if request.path == "/choose":
            return Accept(protocol="never heard of")
        await trio.sleep_forever()
        raise AssertionError

    config = WebTransportConfig(admit_timeout=0.2)
    with trio.fail_after(DEADLINE):
        async with serving(idle, admit=admit, config=config) as server:
            assert [(await refusal(f"{server.url}/{path}")).status for path in ("fail", "choose", "wait")] == [
                500,
                500,
                503,
            ]
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


async def test_subprotocols_are_the_servers_choice() -> None:
    """The server's order decides among what is offered; without a common one there is none."""
    with trio.fail_after(DEADLINE):
        async with serving(idle, protocols=["new", "old"]) as server:
            for offered, chosen in ((["old", "new"], "new"), (["old"], "old"), (["x"], None), ([], None)):
                async with connect(server.url, verify=False, protocols=offered) as session:
                    assert session.protocol == chosen


@pytest.mark.parametrize(
    "config",
    [WebTransportConfig(max_sessions=1), WebTransportConfig(limits=WebTransportLimits(max_sessions=1))],
    ids=["server", "connection"],
)
async def test_sessions_past_a_limit_are_refused(config: WebTransportConfig) -> None:
    """One session more than the server may have is 429; when one is over another may come."""
    with trio.fail_after(DEADLINE):
        async with serving(idle, config=config) as server:
            async with connect(server.url, verify=False) as session:
                if config.max_sessions == 1:
                    assert (await refusal(server.url)).status == 429
                else:
                    with pytest.raises(Exception, match="session") as caught:
                        await session.link.connect_session(session.request)
                    assert getattr(caught.value, "status", 429) == 429
            async with connect(server.url, verify=False):
                pass


async def test_a_handler_that_fails_closes_its_session_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, its client hears INTERNAL without the text, and another session goes on."""

    async def fail(session: WebTransportSession) -> None:
        await session.accept_bidirectional_stream()
        raise ZeroDivisionError("secret")

    with trio.fail_after(DEADLINE):
        async with (
            serving({"/fail": fail, "/echo": echo}) as server,
            connect(f"{server.url}/echo", verify=False) as good,
            connect(f"{server.url}/fail", verify=False) as bad,
        ):
            await (await bad.create_bidirectional_stream()).write(b"x")
            close = await bad.wait_closed()
            assert (close.code, close.reason) == (Code.INTERNAL, "internal error")
            with pytest.raises(SessionClosed):
                await bad.create_bidirectional_stream()
            stream = await good.create_bidirectional_stream()
            await stream.write(b"still here", end_stream=True)
            assert await stream.read_all() == b"still here"
    assert [record.getMessage().startswith("session /fail of") for record in caplog.records] == [True]


async def test_a_handler_says_with_what_its_session_ends(caplog: pytest.LogCaptureFixture) -> None:
    """An `RpcError` closes with its code and text, and is no fault of the server's, so it is not in the log."""

    async def fail(session: WebTransportSession) -> None:
        raise RpcError(Code.PERMISSION_DENIED, "not you")

    with trio.fail_after(DEADLINE):
        async with serving(fail) as server, connect(server.url, verify=False) as session:
            close = await session.wait_closed()
            assert (close.code, close.reason) == (Code.PERMISSION_DENIED, "not you")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_client_that_leaves_cancels_the_handler() -> None:
    """The handler's scope and the session's tasks are cancelled, whatever they wait for, and their `finally` blocks run."""
    ended: list[str] = []

    async def wait(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(name)

    async def handler(session: WebTransportSession) -> None:
        session.start_soon(wait, "task")
        await wait("handler")

    with trio.fail_after(DEADLINE):
        async with serving(handler) as server:
            async with connect(server.url, verify=False):
                pass
            async with connect(server.url, verify=False):
                pass
    assert sorted(ended) == ["handler", "handler", "task", "task"]


async def test_a_server_that_is_cancelled_says_so() -> None:
    """Its clients hear CANCELLED, not a silence."""
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            chain, key, _ = certificate()
            stop = trio.CancelScope()

            async def run(task_status: trio.TaskStatus[object]) -> None:
                with stop:
                    await serve(idle, bind="127.0.0.1:0", certfile=chain, keyfile=key, task_status=task_status)

            server = await nursery.start(run)
            async with connect(server.url, verify=False) as session:
                stop.cancel()
                assert (await session.wait_closed()).code == Code.CANCELLED


async def test_a_drain_lets_sessions_end() -> None:
    """Clients are asked to leave, new sessions are refused, and `serve` returns once they have."""
    drain = Drain()
    chain, key, _ = certificate()
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                partial(serve, idle, bind="127.0.0.1:0", certfile=chain, keyfile=key, drain=drain)
            )
            async with connect(server.url, verify=False) as session:
                drain.begin()
                await session.wait_drained()
                assert session.is_open
                with pytest.raises(Exception, match=r"away|503|refus"):
                    await session.link.connect_session(session.request)
    assert not drain.was_cut


async def test_a_drain_has_a_deadline() -> None:
    """What has not ended by then is cancelled, and the drain says so."""
    drain = Drain()
    chain, key, _ = certificate()
    config = WebTransportConfig(drain_timeout=0.2)
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                partial(serve, idle, bind="127.0.0.1:0", certfile=chain, keyfile=key, drain=drain, config=config)
            )
            async with connect(server.url, verify=False) as session:
                drain.begin()
                assert (await session.wait_closed()).code == Code.CANCELLED
    assert drain.was_cut


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.0.0.1:http", ":1", "127.0.0.1:70000"])
async def test_an_address_to_bind_has_host_and_port(bind: str) -> None:
    """Anything else is refused before there is a socket."""
    chain, key, _ = certificate()
    with pytest.raises(ValueError, match="host:port"):
        await serve(idle, bind=bind, certfile=chain, keyfile=key)


async def test_a_missing_certificate_is_told_at_once(tmp_path: Path) -> None:
    """A file that is not there is an OSError of `serve`."""
    with pytest.raises(OSError, match="nothing"):
        await serve(idle, certfile=tmp_path / "nothing.pem", keyfile=tmp_path / "nothing.pem")


def write_useless_key(path: Path, fault: str) -> None:
    """A server's key with a password, or somebody else's."""
    hiding: serialization.KeySerializationEncryption = serialization.NoEncryption()
    key: Any = ec.generate_private_key(ec.SECP256R1())
    if fault == "has a password":
        hiding = serialization.BestAvailableEncryption(b"secret")
        key = serialization.load_pem_private_key(Path(certificate()[1]).read_bytes(), None)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hiding))


@pytest.mark.parametrize("fault", ["has a password", "is not that of the certificate"])
async def test_a_key_that_is_of_no_use_is_told_at_once(fault: str, tmp_path: Path) -> None:
    """One with a password, or of another certificate, is a ValueError of `serve`, not a handshake that always fails."""
    write_useless_key(tmp_path / "key.pem", fault)
    with trio.fail_after(DEADLINE), pytest.raises(ValueError, match=fault):
        await serve(idle, bind="127.0.0.1:0", certfile=certificate()[0], keyfile=tmp_path / "key.pem")


async def test_an_ipv6_server_has_brackets_in_its_url() -> None:
    """What `serve` reports can be given to `connect`."""
    chain, key, _ = certificate()
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve, idle, bind="[::1]:0", certfile=chain, keyfile=key))
            assert server.url == f"https://[::1]:{server.port}"
            async with connect(server.url, verify=False) as session:
                assert session.is_open
            nursery.cancel_scope.cancel()
