"""`GET /client.js` and its types."""

from __future__ import annotations

import pytest

from tests.transports.exchange_host import drive
from trio_streams.browser import add_client_routes, client_file, with_client
from trio_streams.service.exchange import Exchange, RequestHead, Routes, respond


def routes() -> Routes:
    table = Routes()
    add_client_routes(table)
    return table


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/client.js", "text/javascript; charset=utf-8"), ("/client.d.ts", "text/plain; charset=utf-8")],
)
async def test_a_file_is_served_once(path: str, content_type: str) -> None:
    """Whole with a validator, then 304 to who has it; a browser asks each time, and takes it for what it is."""
    answer = await drive(routes(), RequestHead(method="GET", path=path))
    assert (answer.status, b"".join(answer.writes)) == (200, client_file(path[1:]))
    assert answer.headers["content-type"] == content_type
    assert answer.headers["cache-control"] == "no-cache"
    again = RequestHead(method="GET", path=path, headers=(("if-none-match", answer.headers["etag"]),))
    answer = await drive(routes(), again)
    assert (answer.status, answer.writes) == (304, [])


def test_only_its_own_files_are_given() -> None:
    """A name that a request might bring is no path."""
    assert b"export async function connect" in client_file()
    with pytest.raises(ValueError, match=r"client\.js"):
        client_file("../codes.py")


@pytest.mark.parametrize(
    ("method", "path", "is_ours"),
    [
        ("GET", "/client.js", True),
        ("HEAD", "/client.js", True),
        ("GET", "/client.d.ts", True),
        ("POST", "/client.js", False),
        ("GET", "/client.json", False),
        ("GET", "/", False),
    ],
)
async def test_only_its_own_files_are_taken_from_a_handler(method: str, path: str, is_ours: bool) -> None:
    """`with_client` answers for two paths; a procedure of the same name is still a POST away."""

    async def other(exchange: Exchange) -> None:
        await respond(exchange, 200, b"other")

    answer = await drive(with_client(other), RequestHead(method=method, path=path))
    assert (answer.headers.get("etag") is not None) is is_ours
