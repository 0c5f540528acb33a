"""The access log of JSON-RPC: each call is a record, whatever carried it."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from tests.conformance.http.hosts import until
from trio_streams import Router, serve
from trio_streams.errors import RpcError
from trio_streams.service.access import AccessRecord, StreamRecord
from trio_streams.service.server_config import ServerConfig
from trio_streams.transports.http_client import HttpClient
from trio_streams.transports.messages import connect_websocket
from trio_streams.urls.server import HostName

BATCH = (
    '[{"jsonrpc":"2.0","method":"double","params":[21],"id":1},'
    '{"jsonrpc":"2.0","method":"refuse","id":2},'
    '{"jsonrpc":"2.0","method":"nope","id":3},'
    '{"jsonrpc":"2.0","method":"double","params":[4]},'
    '{"jsonrpc":"1.0"}]'
)
EXPECTED = [("double", "OK", 1, 0), ("double", "OK", 2, 2), ("nope", "NOT_FOUND", 0, 0), ("refuse", "OWN", 0, 0)]


def make_app() -> Router:
    app = Router()

    @app.call("double")
    async def double(n: int) -> int:
        return 2 * n

    @app.call("refuse")
    async def refuse() -> None:
        raise RpcError("OWN", "no")

    @app.call("wait")
    async def wait() -> None:
        await trio.sleep_forever()

    return app


def calls(records: list[AccessRecord | StreamRecord]) -> list[tuple[str, str, int, int]]:
    """What the records of calls say, in an order of their own: the calls of a batch run together."""
    found = [record for record in records if isinstance(record, StreamRecord)]
    return sorted((one.procedure, one.code, one.received_bytes, one.sent_bytes) for one in found)


@pytest.mark.parametrize("host", ["hypercorn", "lean"])
async def test_each_call_is_a_record(host: HostName) -> None:
    """Over HTTP beside the one of the exchange, which comes last; on a WebSocket alone. The caller is named."""
    records: list[AccessRecord | StreamRecord] = []
    async with trio.open_nursery() as nursery:
        rules = ServerConfig(on_access=records.append)
        (url,) = await nursery.start(partial(serve, make_app(), "http://127.0.0.1:0", server=rules, host=host))
        async with HttpClient() as http:
            assert (await http.request("POST", f"{url}/rpc", body=BATCH.encode())).status == 200
        await until(lambda: len(records) == 5)
        assert calls(records) == EXPECTED
        *of_calls, of_exchange = records
        assert isinstance(of_exchange, AccessRecord)
        assert (of_exchange.path, of_exchange.status) == ("/rpc", 200)
        assert {one.peer for one in of_calls} == {of_exchange.peer}
        assert {one.transport for one in of_calls if isinstance(one, StreamRecord)} == {"http"}
        records.clear()
        client = await connect_websocket(url.replace("http", "ws"), subprotocols=(), require_subprotocol=False)
        await client.send_messages([BATCH])
        await client.receive_messages()
        await until(lambda: len(calls(records)) == 4)
        assert calls(records) == EXPECTED
        assert {one.transport for one in records if isinstance(one, StreamRecord)} == {"ws"}
        await client.aclose()
        nursery.cancel_scope.cancel()


async def test_a_call_that_is_left_is_a_record() -> None:
    """Its client goes, and the log says so."""
    records: list[AccessRecord | StreamRecord] = []
    async with trio.open_nursery() as nursery:
        rules = ServerConfig(on_access=records.append)
        (url,) = await nursery.start(partial(serve, make_app(), "ws://127.0.0.1:0", server=rules))
        client = await connect_websocket(url, subprotocols=(), require_subprotocol=False)
        await client.send_messages(
            ['{"jsonrpc":"2.0","method":"wait","id":1}', '{"jsonrpc":"2.0","method":"double","params":[1],"id":2}']
        )
        await client.receive_messages()  # so both have begun
        await client.aclose()
        await until(lambda: len(records) == 2)
        assert calls(records) == [("double", "OK", 1, 1), ("wait", "CANCELLED", 0, 0)]
        nursery.cancel_scope.cancel()
