"""Who a carrier vouches for."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path

import pytest
import trio

from tests.transports.links import IMPATIENT
from tests.transports.more_links import open_tls_pair, unix_pair
from tests.transports.test_asgi_tls import CERTIFICATE, KEY
from trio_streams.carrier import Carrier
from trio_streams.nursery import open_bare_nursery
from trio_streams.transports.bytes import ByteCarrier, open_tcp_listeners
from trio_streams.transports.identity import identify_peer
from trio_streams.transports.memory import memory_carrier_pair
from trio_streams.transports.tls import accept_tls, client_context, connect_tls, server_context
from trio_streams.transports.unix import unix_peer


async def test_nobody_vouches_for_most() -> None:
    """In memory, on TCP, and on TLS without a client's certificate nobody knows who it is."""
    near, _ = memory_carrier_pair()
    assert identify_peer(near) is None
    async with open_tls_pair() as (client, server, _):
        assert identify_peer(server) is None
        assert identify_peer(client) is not None  # a server shows one


@pytest.mark.skipif(sys.platform != "linux", reason="only here the kernel tells")
async def test_the_user_of_a_unix_socket() -> None:
    """Any process of the same user is the same principal."""
    async with unix_pair() as (_, server, stream):
        told = ByteCarrier(stream, peer=unix_peer(stream))
        assert identify_peer(told) == str(os.getuid())
        assert identify_peer(ByteCarrier(stream, peer="unix:uid=7")) == "7"
        assert identify_peer(ByteCarrier(stream, peer="unix:pid=1,uid=7")) == "7"
        assert identify_peer(server) is None


async def test_the_certificate_of_a_client(tmp_path: Path) -> None:
    """Whoever shows the same certificate is the same principal."""
    chain, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    chain.write_text(CERTIFICATE)
    key.write_text(KEY)
    strict = server_context(str(chain), str(key), client_cafile=str(chain))
    trust = client_context(str(chain))
    trust.load_cert_chain(chain, key)
    found: list[object] = []

    async def accept(listener: trio.SocketListener) -> None:
        carrier: Carrier = await accept_tls(await listener.accept(), strict, config=IMPATIENT)
        found.append(identify_peer(carrier))
        await carrier.aclose()

    (listener,) = await open_tcp_listeners("127.0.0.1", 0)
    async with listener:
        for _ in range(2):
            async with open_bare_nursery() as nursery:
                nursery.start_soon(accept, listener)
                port = listener.socket.getsockname()[1]
                client = await connect_tls("127.0.0.1", port, config=IMPATIENT, ssl_context=trust)
                await client.aclose()
    assert found == [ssl.PEM_cert_to_DER_cert(CERTIFICATE[CERTIFICATE.index("-----BEGIN") :])] * 2
