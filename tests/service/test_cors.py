"""Cross-origin resource sharing, as the Fetch standard has it."""

from __future__ import annotations

import pytest

from tests.transports.exchange_host import drive
from trio_streams.errors import RpcError
from trio_streams.service.cors import CorsPolicy, with_cors
from trio_streams.service.exchange import Exchange, RequestHead, respond

APP = "https://app.example.org"


async def hello(exchange: Exchange) -> None:
    await respond(exchange, 200, b"hello", [("x-own", "1")])


async def refuse(exchange: Exchange) -> None:
    raise RpcError("NOT_FOUND", "nothing here")


async def break_off(exchange: Exchange) -> None:
    await exchange.send_head(200)
    raise ValueError("later")


def ask(origin: str | None = APP, method: str = "GET", **more: str) -> RequestHead:
    headers = [] if origin is None else [("origin", origin)]
    headers += [(name.replace("_", "-"), value) for name, value in more.items()]
    return RequestHead(method=method, path="/", headers=tuple(headers))


async def test_an_allowed_page_may_read_the_answer() -> None:
    """Its own headers stay, the origin is named, and caches are told that it matters."""
    policy = CorsPolicy(origins=[APP], exposed=["x-own"], has_credentials=True)
    answer = await drive(with_cors(hello, policy), ask())
    assert answer.writes == [b"hello"]
    assert answer.headers == {
        "x-own": "1",
        "content-length": "5",
        "access-control-allow-origin": APP,
        "vary": "origin",
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "x-own",
    }


@pytest.mark.parametrize("origin", [None, "https://evil.example.org", "null", APP.upper()])
async def test_others_get_no_headers(origin: str | None) -> None:
    """The answer is the handler's own; the browser keeps it from the page."""
    answer = await drive(with_cors(hello, CorsPolicy(origins=[APP])), ask(origin))
    assert answer.headers == {"x-own": "1", "content-length": "5"}


async def test_everybody() -> None:
    """`*` depends on nothing, so that caches may keep it."""
    answer = await drive(with_cors(hello, CorsPolicy(origins=["*"])), ask("https://any.example.org"))
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "vary" not in answer.headers
    with pytest.raises(ValueError, match="needs origins by name"):
        CorsPolicy(origins=["*"], has_credentials=True)


async def test_preflights_are_answered_here() -> None:
    """The handler is not asked; headers are those asked for, or those that are listed; other OPTIONS pass."""
    asked = ask(
        method="OPTIONS", access_control_request_method="POST", access_control_request_headers="authorization, x-ticket"
    )
    answer = await drive(with_cors(refuse, CorsPolicy(origins=[APP], max_age=5)), asked)
    assert (answer.status, answer.writes) == (204, [])
    assert answer.headers["access-control-allow-methods"] == "GET, HEAD, POST"
    assert answer.headers["access-control-allow-headers"] == "authorization, x-ticket"
    assert answer.headers["access-control-max-age"] == "5"
    listed = CorsPolicy(origins=[APP], headers=("x-a",))
    assert (await drive(with_cors(refuse, listed), asked)).headers["access-control-allow-headers"] == "x-a"
    plain = await drive(with_cors(refuse, listed), ask(method="OPTIONS"))
    assert plain.status == 404


async def test_errors_can_be_read_too() -> None:
    """What a handler raises is answered with the headers; what comes after the head breaks the body off as ever."""
    wrapped = with_cors(refuse, CorsPolicy(origins=[APP]))
    answer = await drive(wrapped, ask())
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (404, APP)
    assert answer.error == {"code": "NOT_FOUND", "message": "nothing here"}
    broken = await drive(with_cors(break_off, CorsPolicy(origins=[APP])), ask())
    assert not broken.is_whole
