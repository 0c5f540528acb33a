"""What an exchange's exceptions become."""

from __future__ import annotations

import logging

import pytest
import trio

from tests.transports.exchange_host import drive, post
from trio_streams.codes import Code
from trio_streams.errors import (
    CodecError,
    ConnectionLost,
    RemoteProtocolError,
    RpcError,
    StreamReset,
)
from trio_streams.service.exchange import (
    Exchange,
    ExchangeConfig,
    as_rpc_error,
    respond,
)
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import HostedExchange, RequestHead


@pytest.mark.parametrize(
    ("error", "code", "status", "details"),
    [
        (RpcError(Code.PERMISSION_DENIED, "no", {"why": "x"}), "PERMISSION_DENIED", 403, {"why": "x"}),
        (RpcError("MY_OWN", "own"), "MY_OWN", 500, None),
        (CodecError("not a number", path="$.n"), "INVALID_ARGUMENT", 400, {"path": "$.n"}),
        (RemoteProtocolError("bad", code=Code.MESSAGE_TOO_LARGE, field="f", size=2, limit=1), "MESSAGE_TOO_LARGE", 413,
         {"field": "f", "size": 2, "limit": 1}),
        (StreamReset(Code.ABORTED, "gone"), "ABORTED", 409, None),
        (ConnectionLost("upstream"), "UNAVAILABLE", 503, None),
        (ExceptionGroup("", [ExceptionGroup("", [RpcError(Code.NOT_FOUND, "x")])]), "NOT_FOUND", 404, None),
        (ValueError("a secret"), "INTERNAL", 500, None),
        (RpcError(Code.INTERNAL, "details that JSON can't say", {1j}), "INTERNAL", 500, None),
    ],
)  # fmt: skip
async def test_an_exception_before_the_head_is_an_error_answer(
    error: Exception, code: str, status: int, details: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Each exception becomes its status and JSON, and what is not ours keeps its text on the server."""

    async def handler(_: Exchange) -> None:
        raise error

    with caplog.at_level(logging.INFO, "trio_streams"):
        answer = await drive(handler)
    assert (answer.status, answer.error["code"], answer.error.get("details")) == (status, code, details)
    assert "secret" not in str(answer.error)
    assert answer.headers["content-type"] == "application/json"
    assert caplog.records


async def test_debug_tells_the_text_of_a_crash() -> None:
    """With `debug`, and only then, the client sees what crashed."""

    async def handler(_: Exchange) -> None:
        raise ValueError("the text")

    answer = await drive(handler, config=ExchangeConfig(debug=True))
    assert answer.error["message"] == "ValueError: the text"
    assert as_rpc_error(ValueError("the text")).message == "internal error"


async def test_a_crash_after_the_head_breaks_the_answer_off() -> None:
    """The status is out, so the body stays visibly unfinished."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        raise ValueError("late")

    answer = await drive(handler)
    assert (answer.status, answer.is_whole) == (200, False)


async def test_a_crash_after_the_end_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A complete answer stays complete; the crash is in the log."""

    async def handler(exchange: Exchange) -> None:
        await respond(exchange, 200, b"done")
        raise ValueError("very late")

    answer = await drive(handler)
    assert (answer.writes, answer.is_whole) == ([b"done"], True)
    assert "very late" in caplog.text


async def test_a_path_adds_no_line_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A path is decoded, so a client can put line ends and colours into it; the log shows them, and has no part of them."""

    async def handler(_: Exchange) -> None:
        raise ValueError("the text")

    await drive(handler, RequestHead(method="GET", path="/a\nCRITICAL all is lost\x1b[2J"))
    assert [record.getMessage() for record in caplog.records] == [r"GET '/a\nCRITICAL all is lost\x1b[2J' failed"]


async def test_a_handler_without_an_answer_is_500() -> None:
    """Forgetting to answer is our fault, not the client's."""

    async def handler(_: Exchange) -> None:
        await trio.lowlevel.checkpoint()

    assert (await drive(handler)).status == 500


async def test_cancellation_from_outside_passes_through() -> None:
    """A handler that is cancelled by the server's scope leaves the answer unfinished."""
    exchange = HostedExchange(post(), ExchangeConfig())

    async def handler(exchange: Exchange) -> None:
        await exchange.send_head(200)
        await trio.sleep_forever()

    with trio.CancelScope() as scope:
        scope.cancel()
        await run_handler(exchange, handler)
    assert scope.cancelled_caught
    assert not exchange.is_ended
