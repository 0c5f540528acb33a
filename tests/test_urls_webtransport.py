"""`wt://` in `serve`, `connect`, `serve_peers` and `open_peer`: who is let in, what is refused by name, and how it ends."""

from __future__ import annotations

import math
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio

from tests.transports.more_links import client_trust, server_files
from trio_streams import Router, connect, serve
from trio_streams.config import ConnectionConfig, ReconnectOptions, StreamLimits
from trio_streams.connection import Connection
from trio_streams.core.errors import LocalProtocolError
from trio_streams.errors import ConnectionLost, RemoteProtocolError, StreamReset
from trio_streams.nursery import open_bare_nursery
from trio_streams.peer import RpcPeer
from trio_streams.service.access import StreamRecord
from trio_streams.service.drain import Drain
from trio_streams.service.server_config import ServerConfig
from trio_streams.testing.peers import live_tasks, until
from trio_streams.transports.bytes import ListenError
from trio_streams.urls import open_peer, serve_peers, serve_relay
from trio_streams.urls.webtransport import session_config
from trio_streams.webtransport import SessionRefused, WebTransportConfig
from trio_streams.webtransport import connect as connect_session
from trio_streams.webtransport import serve as serve_sessions

PATIENCE: Final = 30.0

app: Final = Router()


@app.call("double")
async def double(value: int) -> int:
    return 2 * value


@app.stream("hold")
async def hold() -> AsyncIterator[int]:
    yield 1
    await trio.sleep_forever()


@asynccontextmanager
async def serving(url: str = "wt://127.0.0.1:0", **options: Any) -> AsyncIterator[str]:
    """The application on a URL; no task is left behind."""
    certfile, keyfile = server_files()
    before = live_tasks()
    with trio.fail_after(PATIENCE):
        async with open_bare_nursery() as nursery:
            run = partial(serve, app, url, certfile=certfile, keyfile=keyfile, **options)
            (bound,) = await nursery.start(run)
            yield bound
            nursery.cancel_scope.cancel()
    assert live_tasks() == before


def calling(url: str, **options: Any) -> Any:  # noqa: ANN401
    return connect(url, **{"ssl_context": client_trust(), **options})


async def test_a_call() -> None:
    """The URL that is bound can be called; the connection says what it is, and streams are told to the access log."""
    connections: list[Connection] = []
    records: list[object] = []
    rules = ServerConfig(on_access=records.append)
    async with serving(on_connection=connections.append, server=rules) as url, calling(url) as client:
        assert url.startswith("wt://127.0.0.1:")
        assert await client.call("double", 21) == 42
        (connection,) = connections
        assert connection.transport == "wt"
        assert connection.statistics().streams_accepted == 1
        await until(lambda: bool(records))
    (record,) = records
    assert isinstance(record, StreamRecord)
    assert (record.procedure, record.transport) == ("double", "wt")


async def test_other_urls_are_served_beside_it() -> None:
    """One `serve` call, two schemes."""
    certfile, keyfile = server_files()
    with trio.fail_after(PATIENCE):
        async with open_bare_nursery() as nursery:
            run = partial(serve, app, "tcp://127.0.0.1:0", "wt://127.0.0.1:0", certfile=certfile, keyfile=keyfile)
            for url in await nursery.start(run):
                async with calling(url, ssl_context=client_trust() if url.startswith("wt") else None) as client:
                    assert await client.call("double", 2) == 4
            nursery.cancel_scope.cancel()


async def test_a_certificate_that_nobody_trusts_is_refused() -> None:
    """By default, and by a context with other authorities; one that does not look takes any."""
    async with serving() as url:
        with pytest.raises(RemoteProtocolError, match="wt://127.0.0.1:.*certificate") as caught:
            async with connect(url):
                raise AssertionError("never")
        assert caught.value.field == "handshake"
        blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE
        async with connect(url, ssl_context=blind) as client:
            assert await client.call("double", 1) == 2


async def test_what_quics_tls_cannot_do_is_refused_by_name() -> None:
    """A context that leaves the name unchecked, but not the certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    with pytest.raises(LocalProtocolError, match="can't leave the name in a certificate unchecked") as caught:
        async with connect("wt://127.0.0.1:1", ssl_context=context):
            raise AssertionError("never")
    assert caught.value.field == "ssl_context"


async def test_a_context_that_trusts_nobody_is_refused_by_name() -> None:
    """What trusts no authority at all must not come to trust the usual ones."""
    with pytest.raises(LocalProtocolError, match="can't trust anybody over wt") as caught:
        async with connect("wt://127.0.0.1:1", ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)):
            raise AssertionError("never")
    assert caught.value.field == "ssl_context"


async def test_what_a_session_cannot_do_is_refused_by_name() -> None:
    """Resuming, envelopes and relays have no place on it; serving takes a certificate in files."""
    with pytest.raises(LocalProtocolError, match="can't resume over wt"):
        async with connect("wt://127.0.0.1:1", resume=True):
            raise AssertionError("never")
    with pytest.raises(LocalProtocolError, match="can't resume over wt"):
        async with connect("wt://127.0.0.1:1", reconnect=ReconnectOptions()):
            raise AssertionError("never")
    with pytest.raises(LocalProtocolError, match="can't speak envelopes on 'wt://127.0.0.1:1'"):
        async with connect("wt://127.0.0.1:1", dialect="envelopes"):
            raise AssertionError("never")
    with pytest.raises(LocalProtocolError, match="its scheme is not one of"):
        await serve_relay("wt://127.0.0.1:0")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with pytest.raises(LocalProtocolError, match="can't serve wt:// without certfile and keyfile"):
        await serve(app, "wt://127.0.0.1:0", ssl_context=context)


async def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    """In one line that names what is wrong with it."""
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(LocalProtocolError, match="can't serve wt:// with this certificate"):
        await serve(app, "wt://127.0.0.1:0", certfile=str(tmp_path / "empty.pem"), keyfile=str(tmp_path / "empty.pem"))


async def test_a_port_that_is_taken_is_named() -> None:
    """As on any other scheme."""
    async with serving() as url:
        with pytest.raises(ListenError, match=f"cannot listen on {url}"):
            certfile, keyfile = server_files()
            await serve(app, url, certfile=certfile, keyfile=keyfile)


async def test_nobody_listens() -> None:
    """One line with the URL, within `connect_timeout`."""
    async with serving() as url:
        pass
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionLost, match=f"cannot connect to {url}"):
        async with calling(url, config=ConnectionConfig(connect_timeout=1)):
            raise AssertionError("never")


def _session(url: str, **options: Any) -> Any:  # noqa: ANN401
    certificates = b"".join(
        ssl.DER_cert_to_PEM_cert(der).encode()
        for found, der in zip(client_trust().get_ca_certs(), client_trust().get_ca_certs(binary_form=True), strict=True)
        if int(str(found["serialNumber"]), 16) > 0
    )
    return connect_session(url.replace("wt://", "https://"), authorities_pem=certificates, **options)


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/other", {}, 404),
        ("/", {"protocols": ("something-else",)}, 400),
        ("/", {"origin": "https://evil.example"}, 403),
    ],
)
async def test_who_is_not_let_in(path: str, options: dict[str, Any], status: int) -> None:
    """Another path, subprotocols without ours, and pages of other origins, which a rule may let in."""
    async with serving() as url:
        with pytest.raises(SessionRefused) as caught:
            async with _session(url + path, **options):
                raise AssertionError("never")
        assert caught.value.status == status


async def test_a_page_that_a_rule_lets_in() -> None:
    """And the subprotocol is answered where it is offered; who offers none is let in, too."""
    rules = ServerConfig(allowed_origins=("https://app.example",))
    async with serving(server=rules) as url:
        async with _session(url, origin="https://app.example", protocols=("x", "trio-streams.v1")) as session:
            assert session.protocol == "trio-streams.v1"
        async with _session(url) as session:
            assert session.protocol is None


async def test_a_path_that_is_not_served_is_told() -> None:
    """The URL and the status are in one line."""
    async with serving() as url:
        with pytest.raises(RemoteProtocolError, match=f"{url}/other refused the session: status 404"):
            async with calling(f"{url}/other"):
                raise AssertionError("never")


async def test_no_more_connections_than_the_gate_lets_in() -> None:
    """One more is answered 503; when one has left there is room."""
    async with serving(server=ServerConfig(max_connections=1)) as url:
        async with calling(url) as client:
            assert await client.call("double", 1) == 2
            with pytest.raises((RemoteProtocolError, ConnectionLost)):
                async with calling(url, config=ConnectionConfig(connect_timeout=2)):
                    raise AssertionError("never")
        with trio.fail_after(10):
            while True:
                try:
                    async with calling(url, config=ConnectionConfig(connect_timeout=2)) as client:
                        assert await client.call("double", 2) == 4
                        break
                except (RemoteProtocolError, ConnectionLost):
                    await trio.sleep(0.05)  # the server is still seeing the first one off


@pytest.mark.parametrize("is_patient", [True, False])
async def test_a_drain_lets_streams_finish(is_patient: bool) -> None:
    """It ends when the last one is over, and cuts what is not at its deadline."""
    drain = Drain()
    ended = trio.Event()
    certfile, keyfile = server_files()
    rules = ServerConfig(drain_timeout=10.0 if is_patient else 0.3)

    async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:
        await serve(
            app,
            "wt://127.0.0.1:0",
            certfile=certfile,
            keyfile=keyfile,
            drain=drain,
            server=rules,
            task_status=task_status,
        )
        ended.set()

    with trio.fail_after(PATIENCE):
        async with open_bare_nursery() as nursery:
            (url,) = await nursery.start(run)
            async with calling(url) as client:
                async with client.stream("hold", high_water_mark=1) as stream:
                    assert await stream.receive() == 1
                    drain.begin()
                    if is_patient:
                        with pytest.raises(ConnectionLost, match="going away"):
                            while True:
                                with suppress(StreamReset):  # it crossed the word on the wire
                                    await client.call("double", 1)
                    else:
                        with pytest.raises(Exception):  # noqa: B017, PT011 - a status, a reset or the loss: whichever comes
                            await stream.receive()
                await ended.wait()
    assert drain.was_cut is not is_patient


async def test_leaving_reaches_the_handlers_of_a_server_that_ends() -> None:
    """A cancelled server leaves no task, whatever it was doing."""
    async with serving() as url, open_bare_nursery() as nursery:

        async def listen() -> None:
            with pytest.raises(Exception):  # noqa: B017, PT011 - the loss, a reset or a status: whichever comes
                async with calling(url) as client, client.stream("hold") as stream:
                    async for _ in stream:
                        started.set()

        started = trio.Event()
        nursery.start_soon(listen)
        await started.wait()
        break_off = nursery.cancel_scope
        break_off.cancel()


async def test_connecting_can_be_cancelled() -> None:
    """While it shakes hands with nobody; nothing is left."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as silent:
        await silent.bind(("127.0.0.1", 0))
        before = live_tasks()
        with trio.move_on_after(0.2) as scope:
            async with calling(f"wt://127.0.0.1:{silent.getsockname()[1]}"):
                raise AssertionError("never")
        assert scope.cancelled_caught
        assert live_tasks() == before


async def test_a_server_that_speaks_something_else() -> None:
    """A session without our hello is given up after `handshake_timeout`, in one line."""
    certfile, keyfile = server_files()

    async def silent(session: object) -> None:
        await trio.sleep_forever()

    with trio.fail_after(PATIENCE):
        async with open_bare_nursery() as nursery:
            run = partial(serve_sessions, silent, bind="127.0.0.1:0", certfile=certfile, keyfile=keyfile)
            server = await nursery.start(run)
            with pytest.raises(ConnectionLost, match="no hello within handshake_timeout"):
                async with calling(f"wt://127.0.0.1:{server.port}", config=ConnectionConfig(handshake_timeout=0.3)):
                    raise AssertionError("never")
            nursery.cancel_scope.cancel()


async def test_peers_meet() -> None:
    """Each side calls the other, and pings it."""
    certfile, keyfile = server_files()
    heard: list[object] = []

    async def meet(peer: RpcPeer) -> None:
        @peer.method("twice")
        async def twice(value: int) -> int:
            heard.append((await peer.request({"method": "name"})).data)
            return 2 * value

        await peer.wait_closed()

    with trio.fail_after(PATIENCE):
        async with open_bare_nursery() as nursery:
            run = partial(serve_peers, meet, "wt://127.0.0.1:0", certfile=certfile, keyfile=keyfile)
            (url,) = await nursery.start(run)
            async with open_peer(url, ssl_context=client_trust()) as peer:

                @peer.method("name")
                async def name() -> str:
                    return "ada"

                assert (await peer.request({"method": "twice", "params": {"value": 4}})).data == 8
                assert await peer.ping() >= 0
            nursery.cancel_scope.cancel()
    assert heard == ["ada"]


def test_limits_become_those_of_the_session() -> None:
    """Windows, numbers and timeouts follow the connection's, and stay what QUIC can live with."""
    made = session_config(ConnectionConfig())
    assert made.quic.window_bytes == 1_048_576
    assert made.quic.connection_window_bytes == 16_777_216
    assert made.quic.max_bidirectional_streams == 1_025
    assert made.quic.idle_timeout == 60
    assert made.endpoint == WebTransportConfig().endpoint
    small = ConnectionConfig(
        stream=StreamLimits(window_bytes=1),
        connection_window_bytes=1,
        close_timeout=0,
        connect_timeout=0,
        idle_timeout=0.5,
    )
    made = session_config(small, max_connections=3)
    assert (made.quic.window_bytes, made.quic.connection_window_bytes) == (65_536, 131_072)
    assert (made.quic.idle_timeout, made.keep_alive_interval) == (1.0, 0.25)
    assert made.close_timeout == made.handshake_timeout == 0.001
    assert made.endpoint.max_connections == 3
    forever = session_config(attrs.evolve(small, idle_timeout=None))
    assert forever.keep_alive_interval is not None
    assert forever.keep_alive_interval * 2 < forever.quic.idle_timeout < math.inf


def test_without_the_extra_one_line_says_what_to_install() -> None:
    """The package can be imported, and only such a URL fails."""
    program = """
import sys
sys.modules["aioquic"] = None
import trio, trio_streams
async def main():
    async with trio_streams.connect("wt://127.0.0.1:1"):
        pass
try:
    trio.run(main)
except ImportError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.count("\n") == 1, done.stderr
    assert "pip install trio_streams[quic]" in done.stdout
