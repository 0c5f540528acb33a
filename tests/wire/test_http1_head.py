"""Heads of HTTP/1.1 messages: what is admitted, and what is refused with which status."""

from __future__ import annotations

import pytest

from trio_streams.wire.http1_head import HeadFault, Request, find_head, parse_head


def parse(text: str) -> Request:
    return parse_head(text.encode("latin-1"), max_headers=10)


def get(*lines: str, start: str = "GET / HTTP/1.1", host: str | None = "Host: x") -> Request:
    every = [start, *([host] if host is not None else []), *lines]
    return parse("".join(f"{line}\r\n" for line in every) + "\r\n")


def status_of(*lines: str, start: str = "GET / HTTP/1.1", host: str | None = "Host: x") -> int:
    with pytest.raises(HeadFault) as info:
        get(*lines, start=start, host=host)
    return info.value.status


def test_a_plain_request() -> None:
    """Method, target, version and headers; names in lower case, values without the spaces around them."""
    request = get("X-A: \t b c \t", "x-a:", start="GET /p?q=%20 HTTP/1.1")
    assert request == Request(
        "GET", "/p?q=%20", "1.1", (("host", "x"), ("x-a", "b c"), ("x-a", "")), 0, True, False, ""
    )


@pytest.mark.parametrize(
    ("start", "lines", "persistent"),
    [
        ("GET / HTTP/1.1", (), True),
        ("GET / HTTP/1.1", ("Connection: x, Close",), False),
        ("GET / HTTP/1.0", (), False),
        ("GET / HTTP/1.0", ("Connection: Keep-Alive",), True),
        ("GET / HTTP/1.0", ("Connection: keep-alive, close",), False),
        ("GET / HTTP/1.9", (), True),
    ],
)
def test_who_lets_the_connection_go_on(start: str, lines: tuple[str, ...], persistent: bool) -> None:
    """HTTP/1.1 unless it says close, HTTP/1.0 only if it asks for it."""
    assert get(*lines, start=start).is_persistent is persistent


@pytest.mark.parametrize(
    ("line", "length"),
    [
        ("Content-Length: 0", 0),
        ("Content-Length: 17", 17),
        ("Content-Length: 007", 7),
        ("Transfer-Encoding: chunked", None),
        ("transfer-encoding:CHUNKED", None),
    ],
)
def test_how_long_a_body_is(line: str, length: int | None) -> None:
    """A number, or chunked."""
    assert get(line).length == length


SMUGGLED = [
    (400, ("Content-Length: 1", "Content-Length: 2")),
    (400, ("Content-Length: 1", "Content-Length: 1")),
    (400, ("Content-Length: 1, 1",)),
    (400, ("Content-Length: +1",)),
    (400, ("Content-Length: -1",)),
    (400, ("Content-Length: 0x1",)),
    (400, ("Content-Length: 1 1",)),
    (400, ("Content-Length: \xb2",)),
    (400, ("Content-Length:",)),
    (400, ("Content-Length: " + "1" * 19,)),
    (400, ("Content-Length: 5", "Transfer-Encoding: chunked")),
    (400, ("Transfer-Encoding: chunked", "Content-Length: 5")),
    (400, ("Transfer-Encoding: chunked", "Content-Length: 0")),
    (400, ("Transfer-Encoding: identity",)),
    (400, ("Transfer-Encoding: chunked, identity",)),
    (400, ("Transfer-Encoding: chunked, chunked",)),
    (400, ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")),
    (400, ("Transfer-Encoding: xchunked",)),
    (400, ("Transfer-Encoding: chunked;q=1",)),
    (400, ("Transfer-Encoding: , chunked",)),
    (400, ("Transfer-Encoding:",)),
    (400, ('Transfer-Encoding: "chunked"',)),
    (400, ("Transfer-Encoding: \x0bchunked",)),
    (501, ("Transfer-Encoding: gzip, chunked",)),
    (501, ("Transfer-Encoding: gzip", "Transfer-Encoding: chunked")),
    (400, ("Transfer-Encoding : chunked",)),
    (400, ("Content-Length : 5",)),
    (400, (" Content-Length: 5",)),
    (400, ("X: a", " folded")),
    (400, ("X: a", "\tfolded")),
    (400, ("X: a\nContent-Length: 5",)),
    (400, ("X: a\rContent-Length: 5",)),
    (400, ("X: a\0b",)),
    (400, ("X: a\x7f",)),
    (400, ("X\0: a",)),
    (400, (": a",)),
    (400, ("no colon",)),
    (400, ("X(: a",)),
    (400, ("\xe4: a",)),
]


@pytest.mark.parametrize(("status", "lines"), SMUGGLED)
def test_what_two_parsers_could_read_differently_is_refused(status: int, lines: tuple[str, ...]) -> None:
    """Both lengths, several, any other coding, folds, stray spaces, bare line ends, NUL: 400, or 501 where it is clear."""
    assert status_of(*lines, start="POST / HTTP/1.1") == status


def test_http_1_0_has_no_transfer_encoding() -> None:
    """A message that says otherwise is faulty framing (RFC 9112 §6.1)."""
    assert status_of("Transfer-Encoding: chunked", start="POST / HTTP/1.0") == 400


@pytest.mark.parametrize(
    ("status", "start"),
    [
        (400, "GET /"),
        (400, "GET  / HTTP/1.1"),
        (400, "GET / HTTP/1.1 "),
        (400, " GET / HTTP/1.1"),
        (400, "GET /a b HTTP/1.1"),
        (400, "GET /\xe9 HTTP/1.1"),
        (400, "GET /\0 HTTP/1.1"),
        (400, "GET\t/ HTTP/1.1"),
        (400, "G@T / HTTP/1.1"),
        (400, "GET / http/1.1"),
        (400, "GET / HTTP/11"),
        (400, "GET x HTTP/1.1"),
        (400, "GET * HTTP/1.1"),
        (400, "GET ftp://x/ HTTP/1.1"),
        (400, "GET http://a@b/ HTTP/1.1"),
        (501, "CONNECT x:443 HTTP/1.1"),
        (505, "GET / HTTP/2.0"),
        (505, "GET / HTTP/0.9"),
    ],
)
def test_request_lines_that_are_refused(status: int, start: str) -> None:
    """One space, a visible target in one of the forms that are served, and HTTP/1."""
    assert status_of(start=start) == status


@pytest.mark.parametrize(
    ("status", "host", "lines"),
    [
        (400, None, ()),
        (400, "Host: x", ("Host: x",)),
        (400, "Host: x, y/", ()),
        (400, "Host: a b", ()),
        (400, "Host: x:y", ()),
    ],
)
def test_exactly_one_valid_host(status: int, host: str | None, lines: tuple[str, ...]) -> None:
    """RFC 9112 §3.2: otherwise 400."""
    assert status_of(*lines, host=host) == status


@pytest.mark.parametrize("host", ["Host: x:80", "Host: [::1]:80", "Host:", "Host: a_b.c"])
def test_hosts_that_are_valid(host: str) -> None:
    """Names, addresses, ports, and none where the target has none."""
    assert get(host=host).headers[0][0] == "host"


def test_http_1_0_may_name_no_host() -> None:
    """It had no such header."""
    assert get(start="GET / HTTP/1.0", host=None).headers == ()


@pytest.mark.parametrize(
    ("target", "path"),
    [("http://h:1/p?q", "/p?q"), ("HTTPS://h", "/"), ("http://h?q", "/?q"), ("http://h/p#f", None)],
)
def test_an_absolute_target_overrules_host(target: str, path: str | None) -> None:
    """RFC 9112 §3.2.2: its authority is the host, and the rest the target."""
    if path is None:
        assert status_of(start=f"GET {target} HTTP/1.1") == 400
        return
    request = get("X: y", start=f"GET {target} HTTP/1.1")
    assert (request.target, request.headers[0][0], request.headers[1:]) == (path, "host", (("x", "y"),))
    assert request.headers[0][1].startswith("h")


def test_options_of_the_whole_server() -> None:
    """`*` is a target for OPTIONS alone."""
    assert get(start="OPTIONS * HTTP/1.1").target == "*"


def test_expectations() -> None:
    """100-continue counts where a body follows, another one is 417, and HTTP/1.0 has none."""
    assert get("Expect: 100-Continue", "Content-Length: 1").expects_continue
    assert not get("Expect: 100-continue").expects_continue
    assert not get("Expect: 100-continue", "Content-Length: 1", start="POST / HTTP/1.0").expects_continue
    assert status_of("Expect: 100-continue, x") == 417
    assert status_of("Expect: x", "Content-Length: 1") == 417


def test_upgrades() -> None:
    """Only what Connection names, too, and not in HTTP/1.0."""
    assert get("Upgrade: WebSocket", "Connection: keep-alive, Upgrade").upgrade == "websocket"
    assert not get("Upgrade: websocket").upgrade
    assert not get("Upgrade: websocket", "Connection: upgrade", start="GET / HTTP/1.0").upgrade


def test_too_many_headers() -> None:
    """One more than the limit is 431."""
    assert len(get(*["a: b"] * 9).headers) == 10
    assert status_of(*["a: b"] * 10) == 431


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", 0),
        (b"GET", 0),
        (b"12345678\r", 0),
        (b"12345678\r\n", 0),
        (b"12345678\r\n\r\nrest", 12),
        (b"123456789", 0),
        (b"123456789x", 414),
        (b"123456789\r\n", 414),
        (b"123456789\r\n\r\n", 414),
        (b"123456789\n", 414),
        (b"12345678\n", 400),
        (b"\n" + b"x" * 100, 400),
        (b"1\r\n" + b"x" * 18, 431),
        (b"1\r\n" + b"x" * 17, 0),
        (b"1\r\n" + b"x" * 13 + b"\r\n\r\n", 20),
        (b"1\r\n" + b"x" * 14 + b"\r\n\r\n", 431),
        (b"1\r\n" + b"x" * 17 + b"\n", 400),
        (b"1\r\n" + b"x" * 18 + b"\n", 431),
        (b"1\r\n\r\n\n", 5),
        (b"1\r\n\n\r\n\r\n", 400),
    ],
)
def test_where_a_head_ends(data: bytes, found: int) -> None:
    """The end, a bare LF or a limit, whichever comes first, and however the bytes were split."""

    def outcome(part: bytes, start: int) -> int:
        try:
            return find_head(part, start, max_line_bytes=8, max_head_bytes=20)
        except HeadFault as fault:
            return fault.status

    assert outcome(data, 0) == found
    results = [outcome(data[:end], end - 1) for end in range(1, len(data) + 1)]
    assert next((result for result in results if result), 0) == found
