"""Exchanges hosted by hypercorn over TLS, with our own client."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trio

from trio_streams.errors import ConnectionLost
from trio_streams.service.exchange import Exchange, ExchangeConfig, respond_json
from trio_streams.service.sse import respond_sse
from trio_streams.transports.asgi import serve_hypercorn
from trio_streams.transports.http_client import HttpClient, HttpClientConfig

# Self-signed, for localhost and 127.0.0.1, valid for a hundred years; it guards nothing.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmjCCAUGgAwIBAgIURi0VuxDJlmkTnlnvs9arC3+7jd0wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMDExNTIxN1oYDzIxMjYxMDI3
MTE1MjE3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASgVML6tcGNYPSaKUDrXIm9jYHxhmb4fbd0LERr3MV4e6q+8b4jFxH6
MmDrEjl83C4AoPJoYAwJGPvZo7gDZgY5o28wbTAdBgNVHQ4EFgQUmjIc5Ge0iF0h
gbiiccMUOlUCmhgwHwYDVR0jBBgwFoAUmjIc5Ge0iF0hgbiiccMUOlUCmhgwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDRwAwRAIgd3BODay0JpKuepPFc8LPK5cIvbvSiODrBoqR1vliNaQCIFz/
vHnpUV/OlC7QCnJTk0+xCggYnC2qHzINZ1hPw2HL
-----END CERTIFICATE-----
"""
KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDARVq6Ian7PSlNN+
CuE2h9VxTVb3bX7TtfO5WSkfH46hRANCAASgVML6tcGNYPSaKUDrXIm9jYHxhmb4
fbd0LERr3MV4e6q+8b4jFxH6MmDrEjl83C4AoPJoYAwJGPvZo7gDZgY5
-----END PRIVATE KEY-----
"""


@asynccontextmanager
async def serving(folder: Path, config: ExchangeConfig) -> AsyncIterator[tuple[str, ssl.SSLContext, list[str]]]:
    """The URL, a context that trusts it, and what has finished."""
    finished: list[str] = []

    async def handler(exchange: Exchange) -> None:
        if exchange.request.path == "/flood":

            async def items() -> AsyncIterator[bytes]:
                try:
                    while True:
                        yield b"x" * 1_000
                finally:
                    finished.append("flood")

            await respond_sse(exchange, items())
        else:
            await respond_json(exchange, [exchange.request.scheme, exchange.request.http_version])

    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    certfile.write_text(CERTIFICATE)
    keyfile.write_text(KEY)
    serve = partial(serve_hypercorn, handler, config=config, certfile=str(certfile), keyfile=str(keyfile))
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve)
        yield url, ssl.create_default_context(cafile=str(certfile)), finished
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("http2", "version"), [(False, "1.1"), (True, "2")])
async def test_a_request_over_tls(tmp_path: Path, http2: bool, version: str) -> None:
    """The URL says https, the certificate is checked, and ALPN chooses the version."""
    async with serving(tmp_path, ExchangeConfig()) as (url, tls, _):
        assert url.startswith("https://127.0.0.1:")
        async with HttpClient(HttpClientConfig(http2=http2), tls=tls) as client:
            answer = await client.request("GET", url + "/")
            assert answer.body == b'["https","%s"]' % version.encode()


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """The client does not talk to a server that it can't know."""
    async with serving(tmp_path, ExchangeConfig()) as (url, _, _), HttpClient() as client:
        with pytest.raises(ConnectionLost, match="self-signed certificate"):
            await client.request("GET", url + "/")


async def test_a_client_that_never_reads_delays_nothing(tmp_path: Path) -> None:
    """A write that stalls below TLS is found and cut like a plain one."""
    async with serving(tmp_path, ExchangeConfig(close_timeout=0.2)) as (url, tls, finished):
        stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", urlsplit(url).port or 0, ssl_context=tls)
        await stream.send_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n")
        await trio.sleep(0.5)  # until the kernel's buffers are full
        assert finished == []
        start = trio.current_time()
    # Promised is `close_timeout`; a loaded machine is slow, and a write that stalls would have 30 s.
    assert trio.current_time() - start < 10
    assert finished == ["flood"]
    await trio.aclose_forcefully(stream)
