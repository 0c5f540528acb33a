"""Clients of sessions: whom they trust, how long they wait, and what they leave behind."""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.webtransport.serving import idle
from trio_streams.errors import ConnectionLost, LocalProtocolError
from trio_streams.webtransport import (
    Accept,
    HandshakeFailed,
    SessionClosed,
    SessionHandler,
    WebTransportConfig,
    WebTransportServer,
    WebTransportSession,
    connect,
    serve,
)
from trio_streams.webtransport.certificates import make_certificate

DEADLINE: Final = 30


@cache
def local_certificate() -> tuple[Path, Path, bytes, bytes]:
    """A certificate for this host, its key, the authority that signed it as PEM, and its hash."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("127.0.0.1", "localhost", key_type=trustme.KeyType.ECDSA)
    folder = Path(mkdtemp(prefix="sessions-"))
    chain, key = folder / "cert.pem", folder / "key.pem"
    pem = issued.cert_chain_pems[0].bytes()
    chain.write_bytes(pem)
    key.write_bytes(issued.private_key_pem.bytes())
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    return chain, key, authority.cert_pem.bytes(), sha256(der).digest()


@asynccontextmanager
async def local_server(handler: SessionHandler = idle, **options: Any) -> AsyncIterator[WebTransportServer]:
    chain, key, _, _ = local_certificate()
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            run = partial(serve, handler, bind="127.0.0.1:0", certfile=chain, keyfile=key, **options)
            yield await nursery.start(run)
            nursery.cancel_scope.cancel()


async def test_a_certificate_of_a_trusted_authority_is_trusted() -> None:
    """By address and by name, where the certificate has both."""
    _, _, authority, _ = local_certificate()
    async with local_server() as server:
        for host in ("127.0.0.1", "localhost"):
            async with connect(f"https://{host}:{server.port}/", authorities_pem=authority) as session:
                assert session.peer == f"{host}:{server.port}"


async def test_a_certificate_of_nobody_is_not_trusted() -> None:
    """Without the authority, and with another one, the connection fails by TLS, and says so."""
    other = trustme.CA(key_type=trustme.KeyType.ECDSA).cert_pem.bytes()
    async with local_server() as server:
        for authority in (None, other):
            with pytest.raises(HandshakeFailed, match="TLS with 127.0.0.1"):
                async with connect(server.url, authorities_pem=authority):
                    pass


async def test_a_certificate_of_another_host_is_not_trusted() -> None:
    """A name that is not in the certificate fails by TLS, though the authority is trusted."""
    _, _, authority, _ = local_certificate()
    chain, key = issue("other.example", authority_of=authority)
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve, idle, bind="127.0.0.1:0", certfile=chain, keyfile=key[0]))
            with pytest.raises(HandshakeFailed):
                async with connect(server.url, authorities_pem=key[1]):
                    pass
            nursery.cancel_scope.cancel()


def issue(name: str, *, authority_of: bytes) -> tuple[Path, tuple[Path, bytes]]:
    """A certificate for another host, its key, and its own authority."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    assert authority.cert_pem.bytes() != authority_of
    issued = authority.issue_cert(name, key_type=trustme.KeyType.ECDSA)
    folder = Path(mkdtemp(prefix="sessions-"))
    chain, key = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    return chain, (key, authority.cert_pem.bytes())


async def test_a_certificate_can_be_trusted_by_its_hash() -> None:
    """The right hash is enough, among others; a wrong one fails, and says so."""
    *_, digest = local_certificate()
    async with local_server() as server:
        async with connect(server.url, certificate_hashes=[bytes(32), digest]) as session:
            assert session.is_open
        with pytest.raises(HandshakeFailed, match="none of the hashes"):
            async with connect(server.url, certificate_hashes=[bytes(32)]):
                pass


@pytest.mark.parametrize("days", [-14, 1])
async def test_a_certificate_that_is_trusted_by_its_hash_has_its_dates(days: int, tmp_path: Path) -> None:
    """One that is over, or has not begun, is not trusted, though its hash is."""
    made = make_certificate(now=dt.datetime.now(dt.UTC) + dt.timedelta(days=days))
    chain, key = made.write(tmp_path)
    with trio.fail_after(DEADLINE):
        async with trio.open_nursery() as nursery:
            run = partial(serve, idle, bind="127.0.0.1:0", certfile=chain, keyfile=key)
            server: WebTransportServer = await nursery.start(run)
            with pytest.raises(HandshakeFailed, match="not valid now"):
                async with connect(server.url, certificate_hashes=[made.sha256]):
                    pass
            async with connect(server.url, verify=False) as session:
                assert session.is_open
            nursery.cancel_scope.cancel()


async def test_where_nobody_listens_is_told_at_once() -> None:
    """A closed port is a lost connection, long before the handshake would be given up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with trio.fail_after(DEADLINE), pytest.raises(ConnectionLost, match=f"127.0.0.1:{port}"):
        async with connect(f"https://127.0.0.1:{port}/", config=WebTransportConfig(handshake_timeout=300)):
            pass


async def test_a_server_that_says_nothing_is_given_up() -> None:
    """A port that swallows everything costs `handshake_timeout`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        with trio.fail_after(DEADLINE), pytest.raises(ConnectionLost, match="longer than 0.2 s"):
            async with connect(f"https://127.0.0.1:{port}/", config=WebTransportConfig(handshake_timeout=0.2)):
                pass


async def test_a_server_that_does_not_answer_the_request_is_given_up() -> None:
    """A handshake alone is no session: the answer has its own time, and the server's `admit` is cancelled."""
    ended = trio.Event()

    async def admit(request: object) -> Accept:
        try:
            await trio.sleep_forever()
            raise AssertionError
        finally:
            ended.set()

    async with local_server(admit=admit) as server:
        with pytest.raises(ConnectionLost, match="longer than 0.5 s to answer"):
            async with connect(server.url, verify=False, config=WebTransportConfig(handshake_timeout=0.5)):
                pass
        await ended.wait()


@pytest.mark.parametrize(
    "url", ["http://x/", "https:///x", "https://u@x/", "https://x/#top", "x", "https://x:port/", "https://x:0/"]
)
def test_a_url_is_https_with_a_host(url: str) -> None:
    """Anything else is refused by the call, before a block is entered."""
    with pytest.raises(ValueError, match=r"https|[Pp]ort"):
        connect(url)


async def test_a_host_that_can_have_no_address_is_our_fault() -> None:
    """A part of its name is longer than any name's."""
    with pytest.raises(LocalProtocolError, match="a name is parts of 1 to 63 characters") as caught:
        async with connect(f"https://{'a' * 64}.example/"):
            raise AssertionError("connected")
    assert (caught.value.field, caught.value.size) == ("host", 72)


async def test_a_request_that_cannot_be_sent_is_our_fault() -> None:
    """A header with a line break in it is refused here, and nothing is left."""
    async with local_server() as server:
        with pytest.raises(LocalProtocolError):
            async with connect(server.url, verify=False, headers=[("x-a", "b\nc: d")]):
                pass


async def test_what_leaves_the_block_is_bare() -> None:
    """An error of the body, and one of a task of the session, arrive as they are; so does the server's close."""

    async def fail() -> None:
        raise ZeroDivisionError

    async with local_server() as server:
        with pytest.raises(KeyError):
            async with connect(server.url, verify=False):
                raise KeyError
        with pytest.raises(ZeroDivisionError):
            async with connect(server.url, verify=False) as session:
                session.start_soon(fail)
                await trio.sleep_forever()

    async def leave(session: WebTransportSession) -> None:
        session.close(4, "go")

    async with local_server(leave) as server:
        with pytest.raises(SessionClosed) as caught:
            async with connect(server.url, verify=False) as session:
                await session.receive_datagram()
        assert caught.value.code == 4


async def test_a_connect_that_is_cancelled_anywhere_leaves_nothing() -> None:
    """Cancelled at each schedule point on its way in and out, it lets the next one connect, and the server has no session."""
    async with local_server() as server:
        for points in range(0, 40, 3):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(cancel_after, points, nursery.cancel_scope)
                    async with connect(server.url, verify=False):
                        await trio.sleep_forever()
            assert not scope.cancelled_caught
        async with connect(server.url, verify=False) as session:
            assert session.is_open


async def cancel_after(points: int, scope: trio.CancelScope) -> None:
    for _ in range(points):
        await trio.lowlevel.checkpoint()
    scope.cancel()
