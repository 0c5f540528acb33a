"""What a client, or an `admit`, can do to a server of sessions: end its own business, and nobody else's."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import pytest
import trio
from aioquic.h3.connection import H3Connection

from tests.faults.quic_visitor import QuicVisitor, open_visitor
from tests.webtransport.serving import idle, serving
from trio_streams.webtransport import Accept, SessionHandler, SessionRefused, connect

DEADLINE: Final = 30
REQUEST_REJECTED: Final = 0x10B
GET: Final = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]


def allow_fields(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Have aioquic's next client take heads of no more than a size."""
    stock: Any = H3Connection._get_local_settings
    monkeypatch.setattr(H3Connection, "_get_local_settings", lambda http: {**stock(http), 0x06: size})


@pytest.mark.parametrize("routes", [idle, {}])
async def test_a_client_that_takes_no_answer_is_reset(
    monkeypatch: pytest.MonkeyPatch, routes: SessionHandler | dict[str, SessionHandler]
) -> None:
    """Its MAX_FIELD_SECTION_SIZE has no room for a status: its request is reset, and the server goes on."""
    with trio.fail_after(DEADLINE):
        async with serving(routes) as server:
            with monkeypatch.context() as patch:
                allow_fields(patch, 1)
                async with open_visitor(server.port, None) as visitor:
                    session_id = visitor.open_session("/")
                    await visitor.wait_until(lambda: session_id in visitor.resets)
                    assert visitor.resets[session_id] == REQUEST_REJECTED
            if routes:
                async with connect(server.url, verify=False):
                    pass


def ask(visitor: QuicVisitor, *, is_stopped: bool = False) -> int:
    """Send a plain request; its stream."""
    stream_id = visitor.quic.get_next_available_stream_id()
    visitor.http.send_headers(stream_id, GET, end_stream=True)
    if is_stopped:
        visitor.quic.stop_stream(stream_id, 0x10C)
    visitor.kick()
    return stream_id


async def test_a_plain_request_whose_answer_is_stopped_ends_alone() -> None:
    """A client that refuses the answer in the breath in which it asks keeps its connection and its session."""
    with trio.fail_after(DEADLINE):
        async with serving(idle) as server, open_visitor(server.port, "/room") as visitor:
            stream_id = ask(visitor, is_stopped=True)
            await visitor.wait_until(lambda: stream_id in visitor.resets)
            second = visitor.open_session("/room")
            await visitor.wait_until(lambda: visitor.statuses.get(second) == 200)


async def test_a_plain_request_whose_answer_is_too_large_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that takes no head of any size has each request reset, and keeps its connection."""
    allow_fields(monkeypatch, 1)
    with trio.fail_after(DEADLINE):
        async with serving(idle) as server, open_visitor(server.port, None) as visitor:
            for _ in range(2):
                stream_id = ask(visitor)
                await visitor.wait_until(partial(visitor.resets.__contains__, stream_id))
                assert visitor.resets[stream_id] == REQUEST_REJECTED


@pytest.mark.parametrize("decision", [True, None, Accept(headers=(("x-price", "\u20ac"),)), Accept(headers=(7,))])  # type: ignore[arg-type]
async def test_an_admit_that_decides_nothing_is_a_500(decision: object) -> None:
    """What is neither an `Accept` nor a `Refuse`, or can't be sent, is logged; nobody else hears of it."""
    decisions = [decision, Accept()]
    with trio.fail_after(DEADLINE):
        async with serving(idle, admit=lambda _: decisions.pop(0)) as server:
            with pytest.raises(SessionRefused) as caught:
                async with connect(server.url, verify=False):
                    pass
            assert caught.value.status == 500
            async with connect(server.url, verify=False) as session:
                assert session.is_open
