"""Streams whose server has a certificate of an authority that the system does not know."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme

from trio_streams.durable import AsyncDurableStream, DurableStream, FetchError, IdempotentProducer, astream, stream
from trio_streams.durable.server.serving import serve_durable


@asynccontextmanager
async def _secure(folder: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """The URL of a stream behind https, and a context that trusts its server."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"
    certificate.private_key_pem.write_to_path(str(keyfile))
    certificate.cert_chain_pems[0].write_to_path(str(certfile))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with trio.open_nursery() as nursery:
        serve = partial(serve_durable, port=0, certfile=str(certfile), keyfile=str(keyfile))
        url = await nursery.start(serve)
        yield f"{url}/v1/stream/a", context
        nursery.cancel_scope.cancel()


async def test_a_context_of_ones_own(tmp_path: Path) -> None:
    """`tls=` is used for everything that a handle, its forks, its readers and its producers do; without it nobody is trusted."""
    async with _secure(tmp_path) as (url, tls):
        with pytest.raises(FetchError, match="certificate was refused"):
            await AsyncDurableStream.connect(url)
        async with await AsyncDurableStream.create(url, content_type="application/json", tls=tls) as handle:
            await handle.append(1)
            async with IdempotentProducer(handle, "p") as producer:
                await producer.append(2)
            async with await handle.fork(url + "-fork") as fork, fork.stream(live=False) as response:
                assert await response.read_json() == [1, 2]
        async with await AsyncDurableStream.connect(url, tls=tls) as handle, handle.stream(live="sse") as response:
            assert await anext(response.iter_json()) == 1
        async with astream(url, live=False, tls=tls) as response:
            assert await response.read_json() == [1, 2]


async def test_a_context_of_ones_own_without_async(tmp_path: Path) -> None:
    """The functions that block take one, too."""
    async with _secure(tmp_path) as (url, tls):

        def script() -> object:
            with DurableStream.create(url, content_type="application/json", tls=tls) as handle:
                handle.append("x")
            with DurableStream.connect(url, tls=tls) as handle, handle.producer("p") as producer:
                producer.append("y")
            with stream(url, live=False, tls=tls) as response:
                return response.read_json()

        assert await trio.to_thread.run_sync(script) == ["x", "y"]
