"""The server's machine against any bytes in any split, and against h11 for what is valid."""

from __future__ import annotations

from collections.abc import Iterable

import h11
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.wire.http1 import BodyEnded, BodyReceived, Failed, Http1Limits, Http1Server, InputEnded, Request

LIMITS = Http1Limits(
    max_request_line_bytes=60, max_head_bytes=200, max_headers=6, max_body_bytes=40, max_drain_bytes=30
)

PIECES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /p HTTP/1.1\r\n",
        b"HEAD /p HTTP/1.0\r\n",
        b"Host: x\r\n",
        b"Content-Length: 5\r\n",
        b"content-length: 50\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"hello",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b"x" * 70,
        b" ",
        b":",
        b"\0",
    ]
)
INPUT = st.lists(PIECES | st.binary(max_size=8), max_size=14).map(b"".join)


def run(data: Iterable[bytes], *, is_early: bool) -> list[object]:
    """Events, bodies joined, with each request answered at its end or at once, until the client's end of input."""
    server = Http1Server(LIMITS, 0.0)
    seen: list[object] = []

    def act() -> None:
        while server.has_events:
            for event in server.events():
                if isinstance(event, BodyReceived) and seen and isinstance(seen[-1], bytes):
                    seen[-1] += event.data
                    continue
                seen.append(event.data if isinstance(event, BodyReceived) else event)
                is_due = isinstance(event, BodyEnded) or (
                    isinstance(event, Request) and (is_early or event.length == 0)
                )
                if is_due and not (is_early and isinstance(event, BodyEnded)):
                    server.send_head(200, ())
                    server.send_body(b"x")
                    server.end(0.0)

    for part in data:
        if part:
            server.receive(part, 0.0)
            act()
    server.receive(b"", 0.0)
    act()
    seen.append(server.to_send())
    assert server.is_closing
    # When the end of input is noticed depends on what came with what; whether a fault came first does not.
    return [event for event in seen if not isinstance(event, InputEnded)]


@given(INPUT, st.data())
def test_any_bytes_in_any_split_are_the_same_events(data: bytes, draw: st.DataObject) -> None:
    """Nothing raises, the machine ends, and neither events nor answers depend on how the bytes were split."""
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    parts = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    whole = run([data], is_early=False)
    assert run(parts, is_early=False) == whole
    assert run([bytes([byte]) for byte in data], is_early=False) == whole
    assert run([data], is_early=True)[-1] == run(parts, is_early=True)[-1]


TOKENS = st.text("abcXYZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
VALUES = st.text(
    st.characters(
        min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f" + "".join(map(chr, range(0x80, 0xA1)))
    ),
    max_size=12,
)
RESERVED = {"host", "content-length", "transfer-encoding", "connection", "expect", "upgrade"}
HEADERS = st.lists(st.tuples(TOKENS, VALUES).filter(lambda field: field[0].lower() not in RESERVED), max_size=4)
BODIES = st.none() | st.binary(max_size=30)


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "X-OWN"]),
    st.text("abc/%20?=&", max_size=10),
    HEADERS,
    BODIES,
    st.booleans(),
    st.sampled_from(["", "close", "keep-alive"]),
    st.sampled_from(["1.1", "1.0"]),
)
def test_valid_requests_are_what_h11_makes_of_them(
    method: str,
    path: str,
    headers: list[tuple[str, str]],
    body: bytes | None,
    is_chunked: bool,
    connection: str,
    version: str,
) -> None:
    """Method, target, headers, body, and whether the connection goes on."""
    lines = [f"{method} /{path} HTTP/{version}", "Host: x", *(f"{name}: {value}" for name, value in headers)]
    data = b""
    if body is not None and is_chunked and version == "1.1":
        lines.append("Transfer-Encoding: chunked")
        chunks = [body[at : at + 7] for at in range(0, len(body), 7)]
        data = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    elif body is not None:
        lines.append(f"Content-Length: {len(body)}")
        data = body
    if connection:
        lines.append(f"Connection: {connection}")
    raw = "".join(f"{line}\r\n" for line in lines).encode("latin-1") + b"\r\n" + data
    ours = Http1Server(Http1Limits(), 0.0)
    ours.receive(raw, 0.0)
    request, *rest = ours.events()
    assert isinstance(request, Request)
    theirs = h11.Connection(h11.SERVER)
    theirs.receive_data(raw)
    expected = theirs.next_event()
    assert isinstance(expected, h11.Request)
    assert (request.method.encode(), request.target.encode()) == (expected.method, expected.target)
    assert [(name.encode(), value.encode("latin-1")) for name, value in request.headers] == list(expected.headers)
    assert b"".join(event.data for event in rest if isinstance(event, BodyReceived)) == _h11_body(theirs)
    if version == "1.1":  # h11 keeps no HTTP/1.0 connection, whatever its client asks for
        assert request.is_persistent == _h11_persists(theirs)


def _h11_body(theirs: h11.Connection) -> bytes:
    body = b""
    while isinstance(event := theirs.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return body


def _h11_persists(theirs: h11.Connection) -> bool:
    theirs.send(h11.Response(status_code=204, headers=[]))
    theirs.send(h11.EndOfMessage())
    return theirs.our_state is h11.DONE


def _ours_refuses(raw: bytes) -> bool:
    server = Http1Server(Http1Limits(), 0.0)
    server.receive(raw, 0.0)
    server.receive(b"", 0.0)
    return any(isinstance(event, Failed) for event in server.events())


def _h11_refuses(raw: bytes) -> bool:
    server = h11.Connection(h11.SERVER)
    server.receive_data(raw)
    server.receive_data(b"")
    try:
        while not isinstance(event := server.next_event(), h11.EndOfMessage) and event is not h11.NEED_DATA:
            pass
    except h11.RemoteProtocolError:
        return True
    return False


@given(st.lists(PIECES, max_size=8).map(b"".join))
def test_what_h11_refuses_is_refused(data: bytes) -> None:
    """We are nowhere more lenient about where a message ends."""
    raw = b"POST / HTTP/1.1\r\nHost: x\r\n" + data + b"\r\n\r\n"
    if _h11_refuses(raw):
        assert _ours_refuses(raw)
