"""The client's side of one GET: heads and bodies, whole, by single bytes and at every split; h11 is the other side."""

from __future__ import annotations

import h11
import pytest

from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.wire.http1_client import Answer, encode_get


def read(*pieces: bytes) -> tuple[Answer, bytes]:
    answer = Answer()
    return answer, b"".join([answer.receive(piece) for piece in pieces])


HEAD = b"HTTP/1.1 200 OK\r\nX-A:  b \r\n"
VECTORS = [
    (HEAD + b"content-length: 3\r\n\r\nabc", b"abc"),
    (HEAD + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabcdef", b"abc"),
    (HEAD + b"content-length: 0\r\n\r\nabc", b""),
    (HEAD + b"transfer-encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nt: 1\r\n\r\nrest", b"abcd"),
    (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100\r\n\r\n" + HEAD + b"content-length: 1\r\n\r\na", b"a"),
]


@pytest.mark.parametrize(("data", "body"), VECTORS)
def test_answers_at_every_split(data: bytes, body: bytes) -> None:
    """However an answer is cut, its head, its body and its end are the same."""
    cuts = [[data], [data[i : i + 1] for i in range(len(data))]]
    cuts += [[data[:i], data[i:]] for i in range(1, len(data))]
    for pieces in cuts:
        answer, received = read(*pieces)
        assert (answer.status, received, answer.is_ended) == (200, body, True)
        assert ("x-a", "b") in answer.headers
        assert answer.receive(b"") == b""


def test_a_body_without_a_length_lasts_as_long_as_the_connection() -> None:
    """RFC 9112 §6.3, its last case."""
    answer, body = read(b"HTTP/1.0 200\r\n\r\nab", b"cd")
    assert (body, answer.is_ended) == (b"abcd", False)
    answer.receive(b"")
    assert answer.is_ended


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_body(status: int) -> None:
    """Whatever the head says of a length."""
    answer, body = read(b"HTTP/1.1 %d X\r\ncontent-length: 5\r\n\r\nabcde" % status)
    assert (answer.is_ended, body) == (True, b"")


def test_chunks_of_one_read_are_one_piece() -> None:
    """A hundred chunks that arrive together leave together."""
    answer, _ = read(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    assert answer.receive(b"1\r\na\r\n" * 100) == b"a" * 100
    assert answer.receive(b"2\r\n") == b""
    assert answer.receive(b"bc") == b"bc"


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"SSH-2.0-x\r\n\r\n", "the head is malformed"),
        (b"HTTP/1.1 200 OK\nx: y\n\n", "ends without CR"),
        (b"HTTP/1.1 200 OK\r\nx : y\r\n\r\n", "the head is malformed"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "switches protocols"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, "more than"),
        (HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", "not one number"),
        (HEAD + b"content-length: +1\r\n\r\n", "not one number"),
        (HEAD + b"content-length: " + b"1" * 19 + b"\r\n\r\n", "not one number"),
        (HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n", "not chunked"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n", "size is malformed"),
    ],
)
def test_what_is_not_http(data: bytes, match: str) -> None:
    """Whatever two parsers could read differently is refused, as the server's side does."""
    with pytest.raises(RemoteProtocolError, match=match):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        HEAD + b"content-length: 3\r\n\r\nab",
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n",
    ],
)
def test_an_answer_that_is_cut(data: bytes) -> None:
    """The end of the connection before the answer's is not taken for its end."""
    answer = Answer()
    if data:
        answer.receive(data)
    with pytest.raises(RemoteProtocolError, match="ended before the answer did"):
        answer.receive(b"")


def test_h11_reads_our_request() -> None:
    """A server of others takes the request, and our machine its answer."""
    server = h11.Connection(h11.SERVER)
    server.receive_data(encode_get("/a?b=c", [("host", "h:1"), ("accept", "text/event-stream")]))
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (b"GET", b"/a?b=c")
    assert (b"connection", b"close") in request.headers
    assert isinstance(server.next_event(), h11.EndOfMessage)
    sent = [server.send(h11.Response(status_code=200, headers=[("Transfer-Encoding", "chunked")]))]
    sent += [server.send(h11.Data(data=b"hello")), server.send(h11.EndOfMessage())]
    answer, body = read(*[piece for piece in sent if piece])
    assert (answer.status, body, answer.is_ended) == (200, b"hello", True)


def test_a_header_that_can_not_be_sent() -> None:
    """A line end in a header is refused before anything is sent."""
    with pytest.raises(LocalProtocolError, match="line end"):
        encode_get("/", [("x", "a\r\nb: c")])
