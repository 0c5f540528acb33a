"""TLS: the handshake and its failures, the goodbye, and what cancellation leaves behind."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from tests.transports.carrier_checks import open_socket_pair, two
from tests.transports.links import IMPATIENT
from tests.transports.more_links import client_trust, open_tls_pair, server_tls
from tests.transports.stream_view import ReceiveView, SendView
from trio_streams import Router, connect, serve
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.errors import ConnectionLost
from trio_streams.transports.bytes import open_tcp_listeners
from trio_streams.transports.tls import accept_tls, client_context, connect_tls, open_server_tls, server_context

HASTY = ConnectionConfig(handshake_timeout=0.05, close_timeout=0.05)


@contextlib.asynccontextmanager
async def listening(serve_one: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncGenerator[int, None]:
    """The port of a server that treats one connection so."""
    (listener,) = await open_tcp_listeners("127.0.0.1", 0)

    async def accept() -> None:
        async with await listener.accept() as stream:
            await serve_one(stream)

    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def _accept(context: ssl.SSLContext, errors: list[Exception], stream: trio.SocketStream) -> None:
    try:
        carrier = await accept_tls(stream, context, config=IMPATIENT)
        await carrier.receive()
    except (RemoteProtocolError, ConnectionLost) as exc:
        errors.append(exc)


def untrusting() -> ssl.SSLContext:
    return client_context()


@pytest.mark.parametrize(
    ("client", "server", "field", "text"),
    [
        (untrusting, server_tls, "certificate", "its certificate was refused"),
        (client_trust, partial(server_tls, "somewhere.example"), "hostname", "not valid for '127.0.0.1'"),
    ],
)
async def test_a_certificate_that_is_refused(
    client: Callable[[], ssl.SSLContext], server: Callable[[], ssl.SSLContext], field: str, text: str
) -> None:
    """An unknown issuer and another's name are told apart, in one line with code and field; the server is told, too."""
    errors: list[Exception] = []
    async with listening(partial(_accept, server(), errors)) as port:
        with pytest.raises(RemoteProtocolError, match=text) as caught:
            await connect_tls("127.0.0.1", port, config=IMPATIENT, ssl_context=client())
        with trio.fail_after(30):
            while not errors:
                await trio.lowlevel.checkpoint()
    assert caught.value.code is Code.UNAUTHENTICATED
    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    (error,) = errors
    assert isinstance(error, RemoteProtocolError)
    assert error.code is Code.UNAUTHENTICATED
    assert error.field == "certificate"
    assert "it refused our certificate" in str(error)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"trio-streams.v1\n", b"SSH-2.0-OpenSSH_9\r\n"]
)
async def test_a_server_that_speaks_no_tls(answer: bytes) -> None:
    """A peer that is not TLS at all is refused in one line that says so."""

    async def serve_plain(stream: trio.SocketStream) -> None:
        await stream.send_all(answer)
        await stream.receive_some()
        await stream.send_eof()
        while await stream.receive_some():
            pass

    async with listening(serve_plain) as port:
        with pytest.raises(RemoteProtocolError, match="what it speaks is not TLS") as caught:
            await connect_tls("127.0.0.1", port, config=IMPATIENT)
    assert caught.value.field == "tls"
    assert caught.value.code is Code.PROTOCOL_ERROR


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"trio-streams.v1\n" * 8, b"\0" * 100])
async def test_a_client_that_speaks_no_tls(data: bytes) -> None:
    """A client that is not TLS at all is refused; wherever OpenSSL notices it, the field is `tls`."""
    async with open_socket_pair() as (ours, theirs):
        await theirs.send_all(data)
        with pytest.raises(RemoteProtocolError, match="the TLS connection to 127.0.0.1") as caught:
            await accept_tls(ours, server_tls(), config=IMPATIENT)
    assert caught.value.field == "tls"


async def test_a_handshake_that_is_too_slow(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that says nothing is left after `handshake_timeout`, on both sides and in both kinds of stream."""
    async with open_socket_pair() as (ours, _):
        with pytest.raises(RemoteProtocolError, match=r"no TLS handshake from 127.0.0.1:\d+ within 0.05 s") as caught:
            await accept_tls(ours, server_tls(), config=HASTY)
    assert (caught.value.code, caught.value.field) == (Code.HANDSHAKE_TIMEOUT, "handshake_timeout")
    async with open_socket_pair() as (ours, _):
        with pytest.raises(RemoteProtocolError, match="no TLS handshake"):
            await open_server_tls(ours, server_tls(), config=HASTY)

    async def say_nothing(stream: trio.SocketStream) -> None:
        await trio.sleep(1)

    async with listening(say_nothing) as port:
        with pytest.raises(RemoteProtocolError, match="no TLS handshake from tls://127.0.0.1"):
            await connect_tls("127.0.0.1", port, config=HASTY)


async def test_a_peer_that_leaves_during_the_handshake() -> None:
    """It is a lost connection, not a broken rule."""
    async with open_socket_pair() as (ours, theirs):
        await theirs.aclose()
        with pytest.raises(ConnectionLost, match="left during the TLS handshake"):
            await accept_tls(ours, server_tls(), config=IMPATIENT)
    async with open_socket_pair() as (ours, theirs):
        await theirs.aclose()
        with pytest.raises(ConnectionLost, match="left during the TLS handshake"):
            await open_server_tls(ours, server_tls(), config=IMPATIENT)


async def test_a_websockets_stream_says_the_same() -> None:
    """What `wss://` is served on refuses what is no TLS in the same words."""
    async with open_socket_pair() as (ours, theirs):
        await theirs.send_all(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(RemoteProtocolError, match="what it speaks is not TLS") as caught:
            await open_server_tls(ours, server_tls(), config=IMPATIENT)
    assert caught.value.field == "tls"


async def test_another_application_protocol_is_refused() -> None:
    """A peer that chose another protocol by ALPN is left; one that knows of no ALPN is not."""
    for protocols, is_refused in ((["h2"], True), ([], False)):
        server = trustme.CA()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.issue_cert("127.0.0.1").configure_cert(context)
        client = ssl.create_default_context()
        server.configure_trust(client)
        if protocols:
            context.set_alpn_protocols(protocols)
            client.set_alpn_protocols(protocols)
        async with listening(partial(_accept, context, [])) as port:
            if is_refused:
                with pytest.raises(RemoteProtocolError, match="it speaks h2, not trio-streams.v1") as caught:
                    await connect_tls("127.0.0.1", port, config=IMPATIENT, ssl_context=client)
                assert caught.value.field == "alpn"
            else:
                carrier = await connect_tls("127.0.0.1", port, config=IMPATIENT, ssl_context=client)
                assert carrier.alpn is None
                await carrier.aclose()


async def test_our_contexts_agree_on_our_protocol_and_check_clients(tmp_path: Path) -> None:
    """ALPN chooses `trio-streams.v1`; a client without the certificate that is asked for is refused, and told."""
    authority = trustme.CA()
    certificate, ca = authority.issue_cert("127.0.0.1"), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))

    async with listening(partial(_accept, server_context(str(chain), str(key)), [])) as port:
        carrier = await connect_tls("127.0.0.1", port, config=IMPATIENT, ssl_context=client_context(str(ca)))
        assert carrier.alpn == "trio-streams.v1"
        await carrier.aclose()

    errors: list[Exception] = []
    strict = server_context(str(chain), str(key), client_cafile=str(ca))
    async with listening(partial(_accept, strict, errors)) as port:
        # TLS 1.3 lets a client finish before the server has judged it.
        carrier = await connect_tls("127.0.0.1", port, config=IMPATIENT, ssl_context=client_context(str(ca)))
        with pytest.raises(RemoteProtocolError, match="it refused our certificate: certificate required") as caught:
            await carrier.receive()
        await carrier.aclose()
        with trio.fail_after(30):
            while not errors:
                await trio.lowlevel.checkpoint()
    assert caught.value.code is Code.UNAUTHENTICATED

    client = client_context(str(ca))
    client.load_cert_chain(chain, key)
    async with listening(partial(_accept, strict, [])) as port:
        carrier = await connect_tls("127.0.0.1", port, config=IMPATIENT, ssl_context=client)
        await carrier.aclose()


def test_files_that_are_no_certificates(tmp_path: Path) -> None:
    """A file that is missing or says nothing of use is named, in one line."""
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("nothing")
    cases: list[tuple[Callable[[], ssl.SSLContext], str]] = [
        (lambda: client_context(str(tmp_path / "missing.pem")), "cafile"),
        (lambda: client_context(str(nothing)), "cafile"),
        (lambda: server_context(str(nothing), str(nothing)), "certfile"),
        (lambda: server_context(str(tmp_path / "missing.pem"), str(nothing)), "certfile"),
    ]
    for make, field in cases:
        with pytest.raises(LocalProtocolError, match=r"^can't use the certificate") as caught:
            make()
        assert caught.value.field == field
        assert "\n" not in str(caught.value)


async def test_a_cancelled_send_corrupts_nothing() -> None:
    """A send that is cancelled in the middle of its records goes on with the next one: the peer gets every byte."""
    async with open_tls_pair() as (client, server, _):
        first, second = b"a" * 8_000_000, b"b" * 100_000
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.send, first)
                await trio.testing.wait_all_tasks_blocked(0.01)
                scope.cancel()
        assert scope.cancelled_caught
        received = bytearray()

        async def receive() -> None:
            while len(received) < len(first) + len(second):
                received.extend(await server.receive())

        await two(partial(client.send, second), receive)
        assert received == first + second


async def test_a_goodbye_arrives_although_data_is_unread() -> None:
    """Who closes with unread bytes still ends cleanly for the peer, who gets all that was sent before."""
    async with open_tls_pair() as (client, server, _):
        await server.send(b"nobody reads this")
        await client.send(b"the last words")
        await trio.testing.wait_all_tasks_blocked(0.01)

        async def receive() -> bytes:
            data = await server.receive()
            assert await server.receive() == b""
            await server.aclose()
            return data

        assert (await two(client.aclose, receive))[1] == b"the last words"


async def test_a_cut_is_no_goodbye() -> None:
    """The end of TCP without TLS's goodbye is a lost connection: somebody may have cut it."""
    async with open_tls_pair() as (client, _, stream):
        await stream.send_eof()
        with pytest.raises(ConnectionLost, match="it ended without TLS's goodbye"):
            await client.receive()
        with pytest.raises(ConnectionLost, match="goodbye"):
            await client.receive()


async def test_bytes_that_were_changed_on_the_way() -> None:
    """Bytes that are no record of the peer's are its fault."""
    async with open_tls_pair() as (client, _, stream):
        await stream.send_all(b"\x17\x03\x03\0\x20" + b"?" * 32)
        with pytest.raises(RemoteProtocolError, match="the TLS connection to .* failed") as caught:
            await client.receive()
        assert caught.value.field == "tls"


async def test_a_goodbye_is_bounded() -> None:
    """A peer that reads nothing and says nothing holds a close for `close_timeout` and no longer."""
    async with open_tls_pair() as (client, _, _):
        with trio.move_on_after(0.01):
            await client.send(b"x" * 8_000_000)
        start = trio.current_time()
        await client.aclose()
        assert trio.current_time() - start < 20
        with pytest.raises(trio.ClosedResourceError):
            await client.send(b"x")


@pytest.mark.parametrize("name", ["accept", "connect"])
async def test_a_cancelled_handshake_leaves_nothing_open(name: str) -> None:
    """The stream is closed when the handshake is cancelled."""
    async with open_socket_pair() as (ours, theirs):
        with trio.move_on_after(0.01) as scope:
            if name == "accept":
                await accept_tls(ours, server_tls(), config=ConnectionConfig())
            else:
                port = theirs.socket.getsockname()[1]
                with contextlib.suppress(ConnectionLost):
                    await connect_tls("127.0.0.1", port, config=IMPATIENT)
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert (ours.socket.fileno() == -1) is (name == "accept")


async def test_trios_own_checks() -> None:
    """Through a thin view, a TLS carrier keeps Trio's own contract for one-way streams."""
    async with contextlib.AsyncExitStack() as stack:

        async def make() -> tuple[SendView, ReceiveView]:
            client, server, _ = await stack.enter_async_context(open_tls_pair())
            return SendView(client), ReceiveView(server)

        await trio.testing.check_one_way_stream(make, None)


async def test_serving_and_calling(tmp_path: Path) -> None:
    """`tls://` and `wss://` are served from files, and called by who trusts them; http and https are unharmed beside."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    app = Router()

    @app.call("double")
    async def double(n: int) -> int:
        return 2 * n

    urls = [f"{scheme}://127.0.0.1:0" for scheme in ("tls", "wss", "https")]
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, app, *urls, certfile=str(chain), keyfile=str(key)))
        for url in bound:
            async with connect(url, ssl_context=trust) as client:
                assert await client.call("double", 21, returns=int) == 42
        with pytest.raises(RemoteProtocolError, match="certificate was refused"):
            async with connect(bound[0]):
                pytest.fail("trusted nobody")
        async with connect(bound[0], ssl_context=trust) as client:  # one refusal ends one connection
            assert await client.call("double", 1, returns=int) == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("scheme", ["tls", "wss"])
async def test_serving_without_a_certificate(scheme: str) -> None:
    """A URL in TLS without a certificate is refused before anything listens."""
    with pytest.raises(LocalProtocolError, match="without certfile and keyfile") as caught:
        await serve(Router(), f"{scheme}://127.0.0.1:0")
    assert caught.value.field == "certfile"
