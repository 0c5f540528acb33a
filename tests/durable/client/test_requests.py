"""Requests of the protocol: what is sent, what is tried again and when, and what `on_error` may change."""

from __future__ import annotations

import gc
import os
import ssl
import warnings
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.durable.client.scripted_http import Asked, Reply, ScriptedHttp
from trio_streams.durable import DurableStreamError, FetchError, RetryOptions, StreamNotFoundError
from trio_streams.durable.client.requests import Endpoint, Repeat, in_query_order
from trio_streams.errors import ConnectionLost, LocalProtocolError
from trio_streams.transports.exchange import HostedExchange
from trio_streams.transports.http import serve_lean
from trio_streams.transports.http_client import NotConnected

URL = "http://127.0.0.1:9/v1/stream/a"


def answers(*replies: Reply | Exception) -> ScriptedHttp:
    """Gives one answer after the other, the last for ever."""
    left = list(replies)

    async def script(_: Asked) -> Reply:
        reply = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(reply, Exception):
            raise reply
        return Reply(reply.status, reply.headers, reply.chunks)

    return ScriptedHttp(script)


def endpoint(http: ScriptedHttp, **options: Any) -> Endpoint:
    return Endpoint(URL, http=http, random=lambda: 1.0, **options)


async def test_parameters_are_in_the_order_of_their_names(autojump_clock: MockClock) -> None:
    """The URL's own query, the caller's parameters and the protocol's are merged and sorted, and quoted."""
    assert in_query_order("http://h/p?old=1#f", {"offset": "a b&c", "b": "é", "a": ""}) == (
        "http://h/p?a=&b=%C3%A9&offset=a%20b%26c"
    )
    http = answers(Reply())
    at = Endpoint(URL + "?z=1&offset=9", params={"m": "2", "none": None}, http=http)
    await at.request("GET", "read", params={"offset": "7"})
    assert list(http.asked[0].params.items()) == [("m", "2"), ("offset", "7"), ("z", "1")]
    await at.aclose()


async def test_callables_are_asked_for_each_request(autojump_clock: MockClock) -> None:
    """A header or parameter may be a function, sync or async, and is what it says at that moment; a retry asks again."""
    count = iter(range(100))

    async def token() -> str:
        await trio.lowlevel.checkpoint()
        return f"Bearer {next(count)}"

    http = answers(Reply(500), Reply())
    at = endpoint(http, headers={"Authorization": token}, params={"n": lambda: None, "m": lambda: str(next(count))})
    await at.request("GET", "read", headers={"X-Own": "1"})
    assert [(each.headers["authorization"], each.params) for each in http.asked] == [
        ("Bearer 0", {"m": "1"}),
        ("Bearer 2", {"m": "3"}),
    ]
    assert http.asked[0].headers["x-own"] == "1"


async def test_a_requests_own_headers_win(autojump_clock: MockClock) -> None:
    """What an operation sets can't be overridden by accident, whatever the case of its letters."""
    http = answers(Reply())
    await endpoint(http, headers={"Content-Type": "a/b"}).request("PUT", "create", headers={"content-type": "c/d"})
    assert http.asked[0].headers["content-type"] == "c/d"


@pytest.mark.parametrize("value", [7, None, b"x", "snow ☃"])
async def test_a_header_that_can_not_be_sent(value: object) -> None:
    """It is the caller's error, and names the header."""
    with pytest.raises(LocalProtocolError, match="token"):
        await endpoint(answers(Reply()), headers={"Token": lambda: value}).request("GET", "read")


async def test_a_parameter_that_is_no_text() -> None:
    """It is the caller's error, and names the parameter."""
    with pytest.raises(LocalProtocolError, match="tenant"):
        await endpoint(answers(Reply()), params={"tenant": lambda: 7}).request("GET", "read")


@pytest.mark.parametrize("url", ["/v1/stream", "ftp://h/a", "http:///a", ""])
def test_a_url_that_is_none(url: str) -> None:
    """Only absolute URLs of http and https can be asked; a wrong one fails where it is written."""
    with pytest.raises(LocalProtocolError, match="absolute"):
        Endpoint(url)


async def test_reads_are_tried_again_with_growing_waits(autojump_clock: MockClock) -> None:
    """A server that is away is asked again, each time later, until it is enough."""
    http = answers(Reply(500))
    with pytest.raises(FetchError) as caught:
        await endpoint(http, retry=RetryOptions(max_retries=3, initial_delay=1.0)).request("GET", "read")
    assert caught.value.status == 500
    times = [each.at - http.asked[0].at for each in http.asked]
    assert times == pytest.approx([0.0, 1.0, 3.0, 7.0])


async def test_a_server_gets_the_time_it_asks_for(autojump_clock: MockClock) -> None:
    """Retry-After is obeyed, up to a bound."""
    http = answers(Reply(429, {"Retry-After": "5"}), Reply(503, {"retry-after": "1000"}), Reply())
    await endpoint(http, retry=RetryOptions(max_retry_after=20.0)).request("POST", "append", repeat=Repeat.UNDONE)
    assert [each.at - http.asked[0].at for each in http.asked] == pytest.approx([0.0, 5.0, 25.0])


@pytest.mark.parametrize(
    ("fault", "count"),
    [(Reply(500), 1), (ConnectionLost("lost"), 1), (NotConnected("nobody"), 3), (Reply(503), 3), (Reply(429), 3)],
)
async def test_what_must_not_be_done_twice(fault: Reply | Exception, count: int, autojump_clock: MockClock) -> None:
    """An append is sent again only after what says that nothing was done."""
    http = answers(fault)
    with pytest.raises((FetchError, DurableStreamError)):
        await endpoint(http, retry=RetryOptions(max_retries=2)).request("POST", "append", repeat=Repeat.UNDONE)
    assert len(http.asked) == count


async def test_no_answer_has_no_status(autojump_clock: MockClock) -> None:
    """Where nobody answers, the error says why, and has its cause."""
    http = answers(ConnectionLost("broken pipe"))
    with pytest.raises(FetchError, match="broken pipe") as caught:
        await endpoint(http, retry=RetryOptions(max_retries=0)).request("GET", "read")
    assert (caught.value.status, caught.value.code) == (None, "NETWORK_ERROR")
    assert isinstance(caught.value.__cause__, ConnectionLost)


async def test_an_answer_that_refuses_explains_itself(autojump_clock: MockClock) -> None:
    """The text of a refusal is kept, as much of it as is reasonable; its connection is let go."""
    http = answers(Reply(404, {}, (b"No ", b"such stream: ", b"n" * 5_000, b"y")))
    with pytest.raises(StreamNotFoundError) as caught:
        await endpoint(http).request("GET", "read")
    assert (caught.value.details or "").startswith("No such stream: nn")
    assert http.open_replies == 0


async def test_on_error_may_change_headers_and_parameters(autojump_clock: MockClock) -> None:
    """What it returns is merged, kept for later requests, and it is tried again."""
    seen: list[Exception] = []

    async def refresh(error: Exception) -> Mapping[str, Any]:
        await trio.lowlevel.checkpoint()
        seen.append(error)
        return {"headers": {"authorization": "new"}, "params": {"p": "1"}}

    http = answers(Reply(401), Reply())
    at = endpoint(http, headers={"Authorization": "old", "X": "x"}, on_error=refresh)
    await at.request("GET", "read")
    await at.request("GET", "read")
    assert [each.headers["authorization"] for each in http.asked] == ["old", "new", "new"]
    assert [each.headers["x"] for each in http.asked] == ["x"] * 3
    assert [each.params for each in http.asked] == [{}, {"p": "1"}, {"p": "1"}]
    assert [(type(each), each.status) for each in seen if isinstance(each, FetchError)] == [(FetchError, 401)]


@pytest.mark.parametrize("changes", [None, {}])
async def test_on_error_decides(changes: dict[str, Any] | None, autojump_clock: MockClock) -> None:
    """None has the error raised; an empty answer has it tried again as it was."""
    http = answers(Reply(401), Reply())
    at = endpoint(http, on_error=lambda _: changes)
    if changes is None:
        with pytest.raises(FetchError):
            await at.request("GET", "read")
    else:
        await at.request("GET", "read")
    assert len(http.asked) == (1 if changes is None else 2)


async def test_recoveries_are_bounded(autojump_clock: MockClock) -> None:
    """An `on_error` that never gives up is not obeyed for ever."""
    http = answers(Reply(401))
    with pytest.raises(FetchError):
        await endpoint(http, on_error=lambda _: {}, retry=RetryOptions(max_recoveries=3)).request("GET", "read")
    assert len(http.asked) == 4


async def test_what_a_callable_raises_is_its_own(autojump_clock: MockClock) -> None:
    """An exception of the caller's code comes out bare."""

    def fail() -> str:
        raise KeyError("no token")

    with pytest.raises(KeyError):
        await endpoint(answers(Reply()), headers={"a": fail}).request("GET", "read")


@pytest.mark.parametrize("moment", [0.5, 1.5])
async def test_a_cancelled_request(moment: float, autojump_clock: MockClock) -> None:
    """Cancelled while it waits for an answer or for its next attempt, it leaves nothing open, and the endpoint works."""
    slow = Reply(200, {}, (1.0, b"x"))

    async def script(asked: Asked) -> Reply:
        if len(http.asked) == 1:
            await trio.sleep(1.0)
            return Reply(500)
        return Reply(slow.status, slow.headers, slow.chunks)

    http = ScriptedHttp(script)
    at = endpoint(http, retry=RetryOptions(initial_delay=5.0))
    with trio.move_on_after(moment) as scope:
        await at.request("GET", "read")
    assert scope.cancelled_caught
    assert http.open_replies == 0
    assert (await at.request("GET", "read")).body == b"x"


async def test_a_closed_endpoint_asks_nothing() -> None:
    """Using it is an error of whoever closed it; closing it again is none."""
    at = Endpoint(URL)
    await at.aclose()
    await at.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await at.request("GET", "read")


def test_a_handle_makes_no_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint opens nothing and loads no certificates until it is used: a thousand make no context."""
    made: list[object] = []
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: made.append(1))
    monkeypatch.setattr("httpcore2.default_ssl_context", lambda: made.append(1))
    points = [Endpoint("https://127.0.0.1:9/a") for _ in range(1_000)]
    assert made == []
    assert sum(point.open_connections for point in points) == 0


async def hello(exchange: HostedExchange) -> None:
    await exchange.send_head(200)
    await exchange.send(b"hello")


async def with_server(test: Callable[[str], Awaitable[None]]) -> None:
    """Run a test beside a real server."""
    async with trio.open_nursery() as nursery:
        url = await nursery.start(serve_lean, hello, "127.0.0.1", 0)
        with trio.fail_after(30):
            await test(url)
        nursery.cancel_scope.cancel()


def test_an_endpoint_lives_in_any_run_of_trio() -> None:
    """Made outside of Trio, it can be used in one run and then in another one."""
    points: list[Endpoint] = []

    async def use(url: str) -> None:
        if not points:
            points.append(Endpoint(url, retry=RetryOptions(max_retries=3)))
        points[0].url = url
        points[0]._parts = Endpoint(url)._parts
        assert (await points[0].request("GET", "read")).body == b"hello"
        await points[0]._http().aclose()

    for _ in range(2):
        trio.run(with_server, use)
    points[0].abandon()


async def test_who_never_closes_is_warned() -> None:
    """An endpoint that is dropped with a connection open says so; one that was closed, or never used, does not."""

    async def use(url: str) -> None:
        for closes in (False, True):
            at = Endpoint(url + "/a?token=secret")
            await at.request("GET", "read")
            assert at.open_connections == 1
            if closes:
                await at.aclose()
                assert at.open_connections == 0
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del at
                gc.collect()
                texts = [str(each.message) for each in caught if "never closed" in str(each.message)]
                caught.clear()  # a warning keeps its source, whose socket has one of its own to give
                gc.collect()
            assert len(texts) == (0 if closes else 1)
            assert "secret" not in "".join(texts)

    await with_server(use)


async def test_a_forked_process_begins_with_an_empty_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections of the parent are not used by its child, which would mix up their answers."""

    async def use(url: str) -> None:
        at = Endpoint(url)
        await at.request("GET", "read")
        parents = at._own_http
        assert parents is not None
        monkeypatch.setattr(os, "getpid", lambda: -1)
        assert at.open_connections == 0
        assert (await at.request("GET", "read")).body == b"hello"
        assert at._own_http is not parents
        await at.aclose()
        await parents.aclose()
        monkeypatch.undo()

    await with_server(use)
