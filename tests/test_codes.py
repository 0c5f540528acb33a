"""The one error table."""

from __future__ import annotations

import pytest

from trio_streams.codes import Code, http_status, websocket_close_code


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_row(code: Code) -> None:
    """Each code projects to every dialect, within that dialect's numbers; 0 to 16 are gRPC's own."""
    row = code.projection
    assert 200 <= row.http <= 599
    assert 1000 <= row.websocket <= 1015
    assert row.websocket not in {1004, 1005, 1006, 1015}  # never sent: RFC 6455 §7.4.1
    assert row.grpc == code if code <= 16 else 0 < row.grpc <= 16
    assert -32_768 <= row.jsonrpc <= 0
    assert code.is_retryable is row.is_retryable
    assert (row.http == 200) is (code is Code.OK)


@pytest.mark.parametrize(
    ("name", "http", "websocket"),
    [("OK", 200, 1000), ("NOT_FOUND", 404, 1008), ("MESSAGE_TOO_LARGE", 413, 1009), ("MY_OWN", 500, 1011)],
)
def test_names_project(name: str, http: int, websocket: int) -> None:
    """A name becomes an HTTP status and a WebSocket close code; an application's own name is UNKNOWN."""
    assert (http_status(name), websocket_close_code(name)) == (http, websocket)


def test_numbers_and_names_of_the_future_are_unknown() -> None:
    """What this version has never heard of is UNKNOWN, not an error."""
    assert Code.from_number(5) is Code.NOT_FOUND
    assert Code.from_name("NOT_FOUND") is Code.NOT_FOUND
    assert Code.from_number(9_999) is Code.UNKNOWN
    assert Code.from_name("not_found") is Code.UNKNOWN
