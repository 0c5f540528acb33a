"""A client or a server is killed after every byte of HTTP/1.1: heads, chunk headers, chunks, trailers, events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio

from tests.conformance.http.hosts import HOSTS, ask, serving, stop_growing, until
from tests.faults.site import count_descriptors
from tests.faults.visitors import linger_not, open_narrow
from trio_streams import connect
from trio_streams.errors import ConnectionLost, RpcError
from trio_streams.service.exchange import ExchangeConfig
from trio_streams.testing.peers import live_tasks

_REQUEST: Final = (
    b"POST /echo HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
    b'5;name="value"\r\nhello\r\n10\r\n, this is chunk 2\r\n0\r\nx-sum: 22\r\n\r\n'
).replace(b"10\r\n", b"11\r\n")
_BODY: Final = b"hello, this is chunk 2"

_EVENTS: Final = (
    b'data: {"n":1}\n\n',
    b": a comment\n\n",
    b'data: {"n":2,\ndata: "more":true}\n\n',
    b'event: data\ndata: {"n":3}\n\n',
)
_VALUES: Final = ({"n": 1}, None, {"n": 2, "more": True}, {"n": 3})


def _chunk(data: bytes) -> bytes:
    return b"%x;ext=1\r\n" % len(data) + data + b"\r\n"


_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
)
_ANSWER: Final = b"".join((_HEAD, *map(_chunk, _EVENTS), _chunk(b"event: end\ndata: {}\n\n"), b"0\r\nx-sum: 3\r\n\r\n"))
_END_AT: Final = _ANSWER.index(b"event: end\ndata: {}\n\n") + len(b"event: end\ndata: {}\n\n")

_RESULT: Final = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n"whole"'


async def _strike_server(port: int, size: int, ending: str) -> bytes:
    """Send the first bytes of the request, and die; what the server still said."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        if size:
            await stream.send_all(_REQUEST[:size])
        if ending == "reset":
            linger_not(stream)
            return b""
        await stream.send_eof()
        return b"".join([bytes(part) async for part in stream])


@pytest.mark.parametrize("ending", ["fin", "reset"])
@pytest.mark.parametrize("host", HOSTS)
async def test_a_client_is_killed(host: str, ending: str) -> None:
    """After every byte of a request: no answer to half of one, no task or descriptor left, and the next is served."""
    with trio.fail_after(120):
        async with serving(host) as (_, port):
            tasks, descriptors = len(live_tasks()), count_descriptors()
            assert (await ask(port, "/")).endswith(b'"hello"')
            for size in range(len(_REQUEST)):
                answer = await _strike_server(port, size, ending)
                assert not answer.startswith(b"HTTP/1.1 2"), (size, answer)
            assert _BODY in await ask(port, "/echo", method="POST", extra="content-length: 22\r\n", body=_BODY)
            await until(lambda: len(live_tasks()) <= tasks)
            await until(lambda: count_descriptors() <= descriptors)


@pytest.mark.parametrize("ending", ["fin", "reset"])
@pytest.mark.parametrize("host", HOSTS)
async def test_a_client_that_pipelines_is_killed(host: str, ending: str) -> None:
    """Half of a second request behind an endless answer, and then nothing: the connection's tasks end like any other's."""
    with trio.fail_after(60):
        async with serving(host, ExchangeConfig(stall_timeout=1.0)) as (site, port):
            tasks, descriptors = len(live_tasks()), count_descriptors()
            async with await open_narrow(port) as stream:
                await stream.send_all(b"GET /flood HTTP/1.1\r\nhost: here\r\n\r\n")
                await stream.receive_some(1_024)
                await stream.send_all(_REQUEST[:90])
                await stop_growing(lambda: site.produced)
                if ending == "reset":
                    linger_not(stream)
            await until(lambda: "flood" in site.finished)
            await until(lambda: count_descriptors() <= descriptors)
            await until(lambda: len(live_tasks()) <= tasks)


@asynccontextmanager
async def _dying_server(answer: bytes, ending: str) -> AsyncIterator[str]:
    """A server that reads a request, says some bytes, and dies."""

    async def answer_one(stream: trio.SocketStream) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some(4_096)
        if answer:
            await stream.send_all(answer)
        if ending == "reset":
            # Only after the client has read: RST destroys what it has not.
            await trio.testing.wait_all_tasks_blocked(0.001)
            linger_not(stream)
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(trio.serve_listeners, answer_one, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def _read_events(url: str) -> tuple[list[object], Exception]:
    """All items of a stream, and what it ended with."""
    items: list[object] = []
    try:
        async with connect(url) as client, client.stream("any") as stream:
            while True:
                try:
                    items.append(await stream.receive())
                except (ConnectionLost, trio.EndOfChannel) as exc:
                    return items, exc
    except (ConnectionLost, RpcError) as exc:
        return items, exc


@pytest.mark.parametrize("ending", ["fin", "reset"])
async def test_a_server_of_events_is_killed(ending: str) -> None:
    """After every byte of an answer in events: whole events only, and one ConnectionLost unless the end was heard."""
    before, descriptors = live_tasks(), count_descriptors()
    positions = [_ANSWER.index(event) + len(event) for event in _EVENTS]
    with trio.fail_after(120):
        for size in range(len(_ANSWER) + 1):
            async with _dying_server(_ANSWER[:size], ending) as url:
                items, error = await _read_events(url)
            # The blank line's line end completes an event.
            heard = [value for value, end in zip(_VALUES, positions, strict=True) if end <= size and value is not None]
            assert items == heard[: len(items)], size
            if ending == "fin":
                assert items == heard, size
                assert isinstance(error, trio.EndOfChannel) == (size >= _END_AT), (size, error)
            assert isinstance(error, ConnectionLost | trio.EndOfChannel), (size, error)
            assert size >= _END_AT or isinstance(error, ConnectionLost), (size, error)
            assert "\n" not in str(error)
    assert live_tasks() == before
    assert count_descriptors() == descriptors


@pytest.mark.parametrize("ending", ["fin", "reset"])
async def test_a_server_of_a_call_is_killed(ending: str) -> None:
    """After every byte of an answer to a call: ConnectionLost, and never half a result."""
    with trio.fail_after(60):
        for size in range(len(_RESULT)):
            async with _dying_server(_RESULT[:size], ending) as url, connect(url) as client:
                with pytest.raises(ConnectionLost) as caught:
                    await client.call("any")
                assert "\n" not in str(caught.value), size
