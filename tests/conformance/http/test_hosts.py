"""What every host of exchanges owes them, on loopback: one suite over hypercorn, the lean host and HTTP/3."""

from __future__ import annotations

import logging
import socket
from functools import partial
from urllib.parse import urlsplit

import pytest
import trio

from tests.conformance.http.hosts import (
    ALL_HOSTS,
    HOSTS,
    Site,
    ask,
    echo,
    open_request,
    place_at,
    port_of,
    read_all,
    read_until,
    serving,
    serving_anywhere,
    stop_growing,
    until,
)
from tests.webtransport.http3_client import Http3Request
from trio_streams.errors import ConnectionLost
from trio_streams.service.exchange import ExchangeConfig
from trio_streams.transports.bytes import ListenError
from trio_streams.webtransport.quic_config import QuicLimits

every_host = pytest.mark.parametrize("host", sorted(ALL_HOSTS))
every_host_over_tcp = pytest.mark.parametrize("host", sorted(HOSTS))


@every_host
async def test_answers_whole_requests(host: str) -> None:
    """Bodies come back, unknown paths are 404, wrong methods 405, HEAD has no body, oversized bodies are 413."""
    async with serving_anywhere(host, ExchangeConfig(max_body_bytes=100_000)) as (_, port):
        assert (await ask(port, "/")).endswith(b'\r\n\r\n"hello"')
        assert (await ask(port, "/nope")).startswith(b"HTTP/1.1 404")
        assert b"allow: GET, HEAD\r\n" in await ask(port, "/", method="DELETE")
        head = await ask(port, "/", method="HEAD")
        assert head.startswith(b"HTTP/1.1 200")
        assert head.endswith(b"\r\n\r\n")
        body = b"y" * 100_000
        assert (await ask(port, "/echo", method="POST", extra="content-length: 100000\r\n", body=body)).endswith(body)
        refused = await ask(port, "/echo", method="POST", extra="content-length: 400000\r\n", body=b"y" * 400_000)
        assert refused.startswith(b"HTTP/1.1 413")
        assert b'"field":"body","size":400000,"limit":100000' in refused


@every_host
async def test_streams_events_then_the_error(host: str) -> None:
    """Three items and then the error arrive, in that order."""
    async with serving_anywhere(host) as (_, port):
        answer = await ask(port, "/three")
    assert (
        answer.index(b'"n":0') < answer.index(b'"n":2') < answer.index(b"event: error") < answer.index(b"after three")
    )


@every_host_over_tcp
async def test_keeps_a_connection_for_the_next_request(host: str) -> None:
    """Two exchanges in a row on one connection."""
    async with serving(host) as (_, port):
        stream = await open_request(port, "/")
        await read_until(stream, b'"hello"')
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await read_until(stream, b'"hello"')
        await stream.aclose()


@every_host
async def test_a_disconnect_cancels_a_blocked_handler(host: str) -> None:
    """A client that leaves wakes a handler blocked in an await, and its `finally` runs."""
    async with serving_anywhere(host) as (site, port):
        stream = await open_request(port, "/block")
        await until(lambda: site.started == 1)
        await stream.aclose()
        await until(lambda: site.finished == ["block"])
        assert b'"hello"' in await ask(port, "/")


@every_host
async def test_a_client_that_never_reads_stops_the_producer_and_delays_nothing(host: str) -> None:
    """The producer stops within buffers that are counted; others are served; cancellation takes `close_timeout`."""
    start = 0.0
    async with serving_anywhere(host, ExchangeConfig(close_timeout=0.2)) as (site, port):
        stream = await open_request(port, "/flood")
        await stop_growing(lambda: site.produced)
        # 64 KiB wait, 64 KiB are being written, and the rest is below: the two sockets' buffers, which the kernel sizes, or
        # the stream's send buffer and its client's window.
        if isinstance(stream, Http3Request):
            below = QuicLimits().max_send_buffer_bytes + QuicLimits().window_bytes
        else:
            below = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) + 4_194_304
        assert site.produced * 1_008 < 2 * 65_536 + below
        assert b'"hello"' in await ask(port, "/")
        assert site.finished == []
        start = trio.current_time()
    # Promised is `close_timeout`; a loaded machine is slow, and a write that stalls would have 30 s.
    assert trio.current_time() - start < 10
    assert site.finished == ["flood"]
    await stream.aclose()


@every_host
async def test_a_stalled_write_resets_the_connection(host: str) -> None:
    """After `stall_timeout` without progress the client is cut off and the generator closed; others are served."""
    async with serving_anywhere(host, ExchangeConfig(stall_timeout=0.3)) as (site, port):
        stream = await open_request(port, "/flood")
        await until(lambda: site.finished == ["flood"])
        with pytest.raises(trio.BrokenResourceError):
            await read_all(stream)
        assert b'"hello"' in await ask(port, "/")


@every_host_over_tcp
async def test_half_closed_and_unread_does_not_hold_the_server(host: str) -> None:
    """A client that shuts its sending side and reads nothing is a lost client: its connection is reset."""
    async with serving(host) as (site, port):
        stream = await open_request(port, "/flood")
        await stop_growing(lambda: site.produced)
        await stream.send_eof()
        await until(lambda: site.finished == ["flood"])
        await stream.aclose()


@every_host
async def test_a_refused_upload_leaves_no_task_behind(host: str) -> None:
    """A client that goes on sending a body nobody reads gets its answer, and its connection ends."""
    async with serving_anywhere(host, ExchangeConfig(linger_timeout=0.1, close_timeout=0.2)) as (_, port):
        before = trio.lowlevel.current_statistics().tasks_living
        stream = await open_request(port, "/nope", method="POST", extra="content-length: 100000000\r\n")
        with trio.move_on_after(5), pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"z" * 65_536)
        await stream.aclose()
        await until(lambda: trio.lowlevel.current_statistics().tasks_living <= before)


@every_host_over_tcp
@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 100_000,
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"GET /%ff%00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    ],
)
async def test_survives_garbage(host: str, garbage: bytes) -> None:
    """Whatever one connection brings, a second one is served."""
    async with serving(host) as (_, port):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(garbage)
        await stream.send_eof()
        with trio.fail_after(10):
            try:
                await read_all(stream)
            except trio.BrokenResourceError:
                pass
        assert b'"hello"' in await ask(port, "/")


@every_host
async def test_a_taken_port_is_one_clear_line(host: str) -> None:
    """A second server on the same port fails at once, and says where and why."""
    async with serving_anywhere(host) as (site, place):
        port = port_of(place)
        with pytest.raises(ListenError) as info:
            await ALL_HOSTS[host](site.routes(), "127.0.0.1", port)
        where = f"https://127.0.0.1:{port} over UDP" if host == "http3" else f"http://127.0.0.1:{port}"
        assert str(info.value) == f"cannot listen on {where}: address already in use"


@every_host_over_tcp
async def test_listens_on_a_names_first_address(host: str) -> None:
    """`localhost` with port 0 is one URL that answers."""
    async with trio.open_nursery() as nursery:
        url = await nursery.start(HOSTS[host], Site().routes(), "localhost")
        parts = urlsplit(url)
        assert parts.hostname in {"127.0.0.1", "::1"}
        assert parts.port
        async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        nursery.cancel_scope.cancel()


@every_host
@pytest.mark.parametrize("path", ["/block", "/flood"])
async def test_a_shutdown_waits_for_exchanges_and_then_cancels_them(host: str, path: str) -> None:
    """After the trigger no connection is accepted; what outlasts `graceful_timeout` is cancelled within bounds."""
    site, trigger = Site(), trio.Event()
    config = ExchangeConfig(close_timeout=0.2)
    async with trio.open_nursery() as nursery:
        options = {"config": config, "graceful_timeout": 0.3, "shutdown_trigger": trigger.wait}
        port = urlsplit(await nursery.start(partial(ALL_HOSTS[host], site.routes(), **options))).port
        assert port
        async with place_at(host, port) as place:
            stream = await open_request(place, path)
            await until(lambda: site.started + site.produced > 0)
            start = trio.current_time()
            trigger.set()
            await until(lambda: site.finished == [path[1:]])
            assert 0.25 < trio.current_time() - start < 10  # promised are 0.5
    with pytest.raises((OSError, ConnectionLost)):
        async with place_at(host, port) as place:
            await open_request(place, "/")
    await stream.aclose()


@every_host
async def test_is_quiet(host: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Serving, answering and stopping write nothing to the terminal, and no warnings to the log."""
    with caplog.at_level(logging.WARNING):
        async with serving_anywhere(host) as (_, port):
            await ask(port, "/")
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


@every_host
async def test_a_failing_trigger_surfaces_bare(host: str) -> None:
    """What the shutdown trigger raises reaches the caller outside of any group."""

    async def trigger() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("trigger")

    with pytest.raises(ValueError, match="trigger"):
        await ALL_HOSTS[host](echo, shutdown_trigger=trigger)
