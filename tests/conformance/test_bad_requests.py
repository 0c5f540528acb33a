"""What the HTTP face says to requests that break the rules. One row each."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import attrs
import msgspec
import pytest
import trio

from tests.conformance.faces import FACES, open_server
from tests.conformance.test_bad_input import Site
from trio_streams import connect
from trio_streams.procedures.http_server import TIMEOUT_HEADER
from trio_streams.transports.http_client import HttpClient


@attrs.frozen
class Row:
    """A request, and what its answer says."""

    name: str
    method: str
    target: str
    status: int
    code: str
    words: tuple[str, ...] = ()
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name


ROWS: Final = (
    Row("unknown-stream", "GET", "/streams/nope", 404, "NOT_FOUND", ("'nope'",)),
    Row("unknown-call", "POST", "/nope", 404, "NOT_FOUND", ("'nope'",)),
    Row("wrong-type", "POST", "/typed", 400, "INVALID_ARGUMENT", ("$.level",), b'{"level":"high"}'),
    Row("not-json", "POST", "/typed", 400, "INVALID_ARGUMENT", ("$",), b'{"level":'),
    Row("not-utf8", "POST", "/echo", 400, "INVALID_ARGUMENT", ("$",), b'"\xff"'),
    Row("nan", "POST", "/typed", 400, "INVALID_ARGUMENT", ("$",), b'{"level":1,"factor":NaN}'),
    Row("too-large", "POST", "/echo", 413, "MESSAGE_TOO_LARGE", ("body", "1048576"), b"x" * 1_048_577),
    Row("deadline", "POST", "/echo", 400, "INVALID_ARGUMENT", (TIMEOUT_HEADER,), b'"x"', ((TIMEOUT_HEADER, "soon"),)),
    Row("upload", "GET", "/streams/sink", 422, "FAILED_PRECONDITION", ("POST /streams/sink",)),
    Row("a-call-as-a-stream", "GET", "/streams/echo", 422, "FAILED_PRECONDITION", ("POST /echo",)),
    Row("a-method", "DELETE", "/echo", 405, "METHOD_NOT_ALLOWED", ("POST",)),
)


@pytest.mark.parametrize("row", ROWS, ids=str)
async def test_a_bad_request(row: Row) -> None:
    """The answer's status and error say what was wrong and where; the same client goes on, and another one."""
    async with open_server(FACES["http"], Site().router()) as served:
        async with HttpClient() as http:
            url = f"{served.url}{row.target}"
            answer = await http.request(row.method, url, headers=row.headers, body=row.body or None)
            assert answer.status == row.status
            error = msgspec.json.decode(answer.body)["error"]
            assert error["code"] == row.code
            for word in row.words:
                assert word in str(error)
            again = await http.request("POST", f"{served.url}/echo", body=b'"alive"')
            assert (again.status, again.body) == (200, b'"alive"')
        async with connect(served.url) as other:
            assert await other.call("echo", "alive") == "alive"


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\0\xff\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n"], ids=["not-http", "bad-header"]
)
async def test_a_malformed_request(data: bytes) -> None:
    """What is no HTTP request gets status 400, and another connection works."""
    async with open_server(FACES["http"], Site().router()) as served:
        async with await trio.open_tcp_stream("127.0.0.1", urlsplit(served.url).port or 0) as stream:
            await stream.send_all(data)
            answer = b"".join([bytes(part) async for part in stream])
            assert answer.startswith(b"HTTP/1.1 400 ")
        async with connect(served.url) as other:
            assert await other.call("echo", "alive") == "alive"
