"""Where JSON envelopes are not spoken: who comes with them is told so, and everything else goes on there."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import hypercorn
import hypercorn.trio
import trio

from tests.procedures.envelope_site import Handled, make_router, serving
from tests.serving import ask
from trio_streams import asgi_app, connect
from trio_streams.transports.http_client import HttpClient
from trio_streams.transports.messages import SUBPROTOCOL

UPGRADE: Final = (
    "GET / HTTP/1.1\nhost: localhost\nupgrade: websocket\nconnection: upgrade\nsec-websocket-version: 13\n"
    "sec-websocket-key: MDEyMzQ1Njc4OWFiY2RlZg=="
)
"""As a client of envelopes has it: without a subprotocol."""


async def check_refusal(authority: str) -> None:
    """Such a WebSocket is answered 400, and told what is spoken here."""
    status, _, body = await ask(int(authority.rpartition(":")[2]), UPGRADE)
    assert status == 400
    assert SUBPROTOCOL.encode() in body


async def test_trio_websocket_carries_our_own_dialect_only() -> None:
    """Its carrier keeps no messages apart: a client of envelopes is refused with 400 and the subprotocol's name."""
    async with serving(make_router(Handled()), "ws", carrier="trio-websocket") as url:
        await check_refusal(url.partition("://")[2])
        async with connect(url) as client:
            assert await client.call("ping", {"a": 1}) == {"pong": {"a": 1}}


async def test_a_mounted_application_has_no_envelopes() -> None:
    """`asgi_app` refuses them likewise; calls, event streams, JSON-RPC and our own dialect are served there."""
    config = hypercorn.Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    async with trio.open_nursery() as nursery:
        app: Any = asgi_app(make_router(Handled()))  # hypercorn has types of its own for every message
        serve = partial(hypercorn.trio.serve, app, config)
        (bound,) = await nursery.start(serve)
        authority = bound.partition("//")[2]
        await check_refusal(authority)
        async with connect(f"ws://{authority}") as client:
            assert await client.call("ping", {"a": 1}) == {"pong": {"a": 1}}
        async with connect(f"http://{authority}") as client, client.stream("counter", {"count": 2}) as items:
            assert [item async for item in items] == [{"n": 0}, {"n": 1}]
        async with HttpClient() as http:
            rpc = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1}}'
            answer = await http.request("POST", f"http://{authority}/rpc", body=rpc)
        assert answer.body == b'{"jsonrpc":"2.0","result":{"pong":{"a":1}},"id":1}'
        nursery.cancel_scope.cancel()
