"""Node's own WebSocket and sockets as clients of JSON envelopes: they say what a capture of Raffel 0.2.3 holds."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from tests.browser.node import command
from tests.procedures.envelope_site import Handled, make_router
from trio_streams import serve
from trio_streams.procedures.channels import Channels

SCRIPT: Final = Path(__file__).parent / "js" / "envelopes.mjs"


def envelope(id_: str, procedure: str, type_: str, payload: object) -> dict[str, object]:
    return {"id": id_, "procedure": procedure, "type": type_, "payload": payload, "metadata": {}}


def items(id_: str, procedure: str, *payloads: object) -> list[dict[str, object]]:
    data = [envelope(f"{id_}:stream:data:{n}", procedure, "stream:data", one) for n, one in enumerate(payloads)]
    return [envelope(f"{id_}:stream:start", procedure, "stream:start", None), *data]


def error(code: str, status: int, message: str, **more: object) -> dict[str, object]:
    return {"code": code, "status": status, "message": message, **more}


EXPECTED: Final[list[Any]] = [
    envelope("r1:response", "ping", "response", {"pong": {"a": 1}}),
    *items("stream_1", "counter", {"n": 0}, {"n": 1}),
    envelope("stream_1:stream:end", "counter", "stream:end", None),
    *items("s3", "failcoded", {"n": 0}),
    envelope(
        "s3:stream:error", "failcoded", "stream:error", error("PERMISSION_DENIED", 403, "no", details={"why": "x"})
    ),
    *items("k", "stuck", {"n": 0}),
    envelope("k:stream:error", "", "stream:error", error("CANCELLED", 499, "Stream cancelled")),
    envelope("c1:response", "sum", "response", {"sum": 3}),
    *items("b1", "echo", {"n": 5}),
    envelope("b1:stream:end", "echo", "stream:end", None),
    envelope(
        "x:error",
        "",
        "error",
        error("INVALID_ENVELOPE", 400, "Missing procedure or type", details={"field": "procedure"}),
    ),
    {"id": "1", "type": "subscribed", "channel": "room"},
    {"id": "3", "type": "unsubscribed", "channel": "room"},
]
"""The capture's answers, but that items are counted, that client and bidirectional streams exist, and that every error has a
status."""


async def test_node_says_what_the_capture_holds() -> None:
    """The same answers on a WebSocket and on TCP, and no handler is left behind a cancel."""
    handled = Handled()
    urls = ("ws://127.0.0.1:0", "tcp://127.0.0.1:0")
    async with trio.open_nursery() as nursery:
        ws, tcp = await nursery.start(partial(serve, make_router(handled), *urls, channels=Channels()))
        with trio.fail_after(60):
            line = command(str(SCRIPT), ws, tcp.rpartition(":")[2])
            done = await trio.run_process(line, capture_stdout=True, capture_stderr=True, check=False)
        assert (done.returncode, done.stderr.decode()) == (0, "")
        assert [json.loads(heard) for heard in done.stdout.splitlines()] == [EXPECTED, EXPECTED]
        assert handled.closed == ["stuck", "stuck"]
        nursery.cancel_scope.cancel()
