"""The line that the demo's own clients stand on, and the procedure that cuts it."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from tests.demo.links import open_client
from trio_streams.demo.outage import Line, add_outage
from trio_streams.errors import RpcError
from trio_streams.procedures.router import Router


async def _echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def test_a_line_carries_until_it_is_cut() -> None:
    """Both ends see the cut; what connects meanwhile is cut at once, and afterwards all is as before."""
    line = Line()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, _echo, 0, host="127.0.0.1"))
            url = await nursery.start(line.serve, f"tcp://127.0.0.1:{listener.socket.getsockname()[1]}")
            scheme, _, port = url.rpartition(":")
            assert scheme == "tcp://127.0.0.1"
            connect = partial(trio.open_tcp_stream, "127.0.0.1", int(port))
            async with await connect() as stream:
                await stream.send_all(b"x")
                assert await stream.receive_some() == b"x"
                assert line.cut(60) == 1
                assert await _ending(stream) == b""
            async with await connect() as stream:
                assert line.is_down
                assert await _ending(stream) == b""
            assert line.cut(0) == 0
            async with await connect() as stream:
                await stream.send_all(b"y")
                assert await stream.receive_some() == b"y"
            nursery.cancel_scope.cancel()


async def _ending(stream: trio.SocketStream) -> bytes:
    """What comes of a connection that was cut: an end, or a reset, which is as good."""
    try:
        return bytes(await stream.receive_some())
    except trio.BrokenResourceError:
        return b""


async def test_a_server_that_has_gone_is_an_end() -> None:
    """Nobody listens behind the line: whoever comes is let go, and the line stays."""
    line = Line()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listener.socket.getsockname()[1]
            await listener.aclose()
            url = await nursery.start(line.serve, f"tcp://127.0.0.1:{port}")
            for _ in range(2):
                async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as stream:
                    assert await _ending(stream) == b""
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("seconds", [-1, 31])
async def test_an_outage_has_an_end(seconds: float) -> None:
    """It is shorter than a session's life without a connection; anything else is refused."""
    line, notes, router = Line(), list[str](), Router()
    add_outage(router, line, notes.append)
    async with open_client(router) as client:
        with pytest.raises(RpcError, match="seconds are a number from 0 to 30"):
            await client.call("network.cut", {"seconds": seconds})
        assert not line.is_down
        assert notes == []
        assert await client.call("network.cut", {}) == {"connections": 0, "seconds": 3.0}
        assert line.is_down
        assert notes == ["network.cut: 0 connections, for 3 s"]
