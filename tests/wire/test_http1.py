"""The server's machine: order, framing, faults, limits and deadlines, in virtual time."""

from __future__ import annotations

import attrs
import pytest

from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.http1 import (
    BodyEnded,
    BodyReceived,
    Event,
    Failed,
    Http1Limits,
    Http1Server,
    InputEnded,
    Request,
)
from trio_streams.wire.http1_fields import Fields

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LIMITS = Http1Limits(
    max_request_line_bytes=100,
    max_head_bytes=300,
    max_headers=5,
    max_pipelined_bytes=200,
    max_drain_bytes=50,
    header_timeout=10,
    body_timeout=20,
    keep_alive_timeout=30,
    drain_timeout=5,
)


def post(*lines: str, body: bytes = b"", version: str = "1.1") -> bytes:
    return (
        f"POST /p HTTP/{version}\r\nHost: x\r\n{''.join(f'{line}{chr(13)}{chr(10)}' for line in lines)}\r\n".encode()
        + body
    )


def machine(data: bytes = b"", *, limits: Http1Limits = LIMITS) -> Http1Server:
    server = Http1Server(limits, 0.0)
    if data:
        server.receive(data, 0.0)
    return server


def kinds(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def answer(server: Http1Server, status: int = 200, body: bytes = b"ok", *, now: float = 0.0) -> bytes:
    server.send_head(status, (("content-length", str(len(body))),))
    server.send_body(body)
    server.end(now)
    return server.to_send()


def test_requests_one_after_the_other() -> None:
    """The connection is idle between them, and goes on."""
    server = machine()
    assert server.is_idle
    for _ in range(2):
        server.receive(GET, 1.0)
        assert server.has_events
        assert kinds(server.events()) == ["Request"]
        assert not server.has_events
        assert answer(server) == b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
        assert server.is_idle
        assert not server.is_closing


@pytest.mark.parametrize("forgets", [False, True])
def test_a_request_that_repeats_the_last_one(forgets: bool) -> None:
    """It is served as the first was, with a body of its own, whether its head is remembered or not."""
    server = machine()
    for body in (b"12345", b"54321", b"GET /"):
        server.receive(post("Content-Length: 5", body=body), 1.0)
        assert server.events()[1:] == [BodyReceived(body), BodyEnded()]
        if forgets:
            server.forget_head()
        assert answer(server).endswith(b"ok")


def test_headers_that_were_checked_before() -> None:
    """They are what the same headers are as pairs, and frame the answer as those do."""
    headers = [("content-length", "0"), ("date", "x"), ("connection", "close")]
    answers: list[bytes] = []
    for given in (headers, Fields(headers)):
        server = machine(GET)
        server.send_head(200, given)
        assert server.has_output
        server.end(0.0)
        answers.append(server.to_send())
        assert server.is_closing
    assert answers[0] == answers[1]


def test_pipelined_requests_wait_for_the_answers_before_them() -> None:
    """The second one is not looked at before the first is answered, and past the limit the host stops reading."""
    server = machine(GET * 3)
    assert kinds(server.events()) == ["Request"]
    assert not server.is_full
    server.receive(GET * 8, 0.0)
    assert server.is_full
    for left in range(10, -1, -1):
        answer(server)
        assert kinds(server.events()) == (["Request"] if left else [])
    assert not server.is_full


def test_empty_lines_before_a_request_are_ignored() -> None:
    """RFC 9112 §2.2, also when they come by halves; they don't prolong anything."""
    server = machine(b"\r\n\r\n\r")
    server.receive(b"\n", 1.0)
    server.receive(b"\r\n" + GET, 2.0)
    assert kinds(server.events()) == ["Request"]


@pytest.mark.parametrize(
    ("request_bytes", "body"),
    [
        (post("Content-Length: 6", body=b"abcdef"), b"abcdef"),
        (post("Transfer-Encoding: chunked", body=b"2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n"), b"abcdef"),
        (post("Transfer-Encoding: chunked", body=b"0\r\n\r\n"), b""),
    ],
)
def test_bodies_in_every_split(request_bytes: bytes, body: bytes) -> None:
    """The same body comes out of the whole, of single bytes, and of every cut; the next request is found behind it."""
    data = request_bytes + GET
    for cut in range(len(data) + 1):
        parts = [data[:cut], data[cut:]] if cut else [bytes([byte]) for byte in data]
        server = machine()
        for part in parts:
            if part:
                server.receive(part, 0.0)
        _, *middle, last = server.events()
        assert isinstance(last, BodyEnded)
        assert b"".join(event.data for event in middle if isinstance(event, BodyReceived)) == body
        answer(server)
        assert kinds(server.events()) == ["Request"]


def test_the_answers_framing() -> None:
    """By its length, in chunks, or up to the connection's end where the client is too old for those."""
    server = machine(GET)
    server.send_head(200, (("etag", '"1"'),))
    server.send_body(b"a" * 17)
    server.send_body(b"")
    server.end(0.0)
    assert (
        server.to_send() == b'HTTP/1.1 200 OK\r\netag: "1"\r\n'
        b"transfer-encoding: chunked\r\n\r\n11\r\n" + b"a" * 17 + b"\r\n0\r\n\r\n"
    )
    server = machine(post(version="1.0"))
    server.send_head(299, ())
    server.send_body(b"a")
    server.end(0.0)
    assert server.to_send() == b"HTTP/1.1 299 \r\nconnection: close\r\n\r\na"
    assert server.is_closing
    server = machine(post("Connection: keep-alive", version="1.0"))
    assert answer(server).startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\n")
    assert not server.is_closing


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_answers_without_a_body(method: str, status: int) -> None:
    """HEAD, 204 and 304 have none, whatever is given; the length may be told, and nothing follows the head."""
    server = machine(method.encode() + GET[3:])
    server.send_head(status, (("content-length", "5"),))
    server.send_body(b"12345678")
    server.end(0.0)
    head = server.to_send()
    assert head.endswith(b"content-length: 5\r\n\r\n")
    assert not server.is_closing


@pytest.mark.parametrize("where", ["request", "answer", "host"])
def test_either_side_may_end_the_connection(where: str) -> None:
    """After the answer, which says so once, nothing is looked at."""
    server = machine(GET[:-2] + b"Connection: close\r\n\r\n" + GET if where == "request" else GET + GET)
    server.events()
    if where == "host":
        server.request_close()
        assert not server.is_closing
    server.send_head(200, (("connection", "close"), ("content-length", "0")) if where == "answer" else ())
    server.end(0.0)
    assert server.to_send().count(b"connection: close\r\n") == 1
    assert server.is_closing
    assert server.next_deadline() is None
    server.receive(GET, 0.0)
    assert server.events() == []


def test_an_idle_connection_closes_on_request() -> None:
    """There is nothing to wait for."""
    server = machine()
    server.request_close()
    assert server.is_closing


def test_commands_out_of_order_change_nothing() -> None:
    """A head before a request, a body before a head, a second head, an end too early: each is refused."""
    server = machine()
    with pytest.raises(LocalProtocolError, match="IDLE"):
        server.send_head(200, ())
    with pytest.raises(LocalProtocolError, match="IDLE"):
        server.send_body(b"x")
    with pytest.raises(LocalProtocolError, match="IDLE"):
        server.end(0.0)
    server.receive(GET, 0.0)
    with pytest.raises(LocalProtocolError, match="HEADLESS"):
        server.end(0.0)
    for status, headers in (
        (199, ()),
        (600, ()),
        (200, (("a", "b\r\nc: d"),)),
        (200, (("transfer-encoding", "chunked"),)),
        (200, (("content-length", "x"),)),
        (200, (("content-length", "\xb2"),)),
        (200, (("content-length", "1"), ("content-length", "1"))),
    ):
        with pytest.raises(LocalProtocolError):
            server.send_head(status, headers)
    server.send_head(200, (("content-length", "3"),))
    with pytest.raises(LocalProtocolError, match="SIZED"):
        server.send_head(200, ())
    with pytest.raises(LocalProtocolError, match="3 are left"):
        server.send_body(b"1234")
    server.send_body(b"12")
    with pytest.raises(LocalProtocolError, match="1 bytes of its length are missing"):
        server.end(0.0)
    server.send_body(b"3")
    server.end(0.0)
    assert server.to_send().endswith(b"\r\n\r\n123")


def test_a_fault_in_a_head_is_answered_and_ends_the_connection() -> None:
    """One line of text, no word of what the client sent, and nothing behind it is looked at."""
    server = machine(b"GET /secret HTTP/1.1\r\n\r\n" + GET)
    (failed,) = server.events()
    assert failed == Failed(400, "there is not exactly one valid Host")
    sent = server.to_send()
    assert sent.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"connection: close\r\n" in sent
    assert b"secret" not in sent
    assert server.is_closing
    server.handle_deadline(1e9)
    assert server.events() == []


def test_a_fault_in_a_body_overtakes_whoever_is_answering() -> None:
    """Before the answer's head the client is told; after it, the body stops. Commands do nothing then."""
    broken = post("Transfer-Encoding: chunked", body=b"1\r\na\r\nx\r\n")
    server = machine(broken)
    assert kinds(server.events()) == ["Request", "BodyReceived", "Failed"]
    assert server.to_send().startswith(b"HTTP/1.1 400 ")
    server.send_head(200, ())
    server.send_body(b"x")
    server.end(0.0)
    server.send_continue()
    server.refuse(504, "late")
    assert server.to_send() == b""
    server = machine(broken[:-3])
    server.send_head(200, ())
    server.to_send()
    server.receive(b"x\r\n", 0.0)
    assert kinds(server.events())[-1] == "Failed"
    assert server.to_send() == b""
    assert server.is_closing


def test_the_host_may_answer_in_the_handlers_stead() -> None:
    """Where the handler has not begun, the client is told, and the connection ends."""
    server = machine(GET)
    server.events()
    server.refuse(504, "the deadline has passed")
    assert server.to_send().startswith(b"HTTP/1.1 504 Gateway Timeout\r\n")
    assert server.is_closing
    assert server.events() == []


@pytest.mark.parametrize("coding", ["Content-Length: 11", "Transfer-Encoding: chunked"])
def test_a_body_past_the_limit_is_413(coding: str) -> None:
    """By its declared length before it comes, in chunks when it passes."""
    body = b"b\r\n12345678901\r\n0\r\n\r\n" if coding.startswith("T") else b""
    server = machine(post(coding, body=body), limits=attrs.evolve(LIMITS, max_body_bytes=10))
    assert kinds(server.events())[-1] == "Failed"
    assert server.to_send().startswith(b"HTTP/1.1 413 ")
    server = machine(post("Content-Length: 10", body=b"1234567890"), limits=attrs.evolve(LIMITS, max_body_bytes=10))
    assert kinds(server.events()) == ["Request", "BodyReceived", "BodyEnded"]


def test_100_continue_is_sent_to_who_waits_for_it() -> None:
    """Once, when somebody wants the body, and not after the body has begun to come."""
    expecting = post("Expect: 100-continue", "Content-Length: 2")
    server = machine(expecting)
    server.send_continue()
    server.send_continue()
    assert server.to_send() == b"HTTP/1.1 100 Continue\r\n\r\n"
    server.receive(b"ab", 0.0)
    assert b"close" not in answer(server)
    server = machine(expecting + b"a")
    server.send_continue()
    assert server.to_send() == b""


def test_an_answer_instead_of_100_ends_the_connection() -> None:
    """Nobody knows whether the body comes, so nothing that does is looked at."""
    server = machine(post("Expect: 100-continue", "Content-Length: 2"))
    assert b"connection: close\r\n" in answer(server, 417)
    assert server.is_closing


def test_an_early_answers_body_is_dropped_within_bounds() -> None:
    """If it ends in time and is small the connection goes on; else it ends."""
    server = machine(post("Content-Length: 40", body=b"a"))
    server.events()
    answer(server, 413, now=1.0)
    assert server.next_deadline() == 6.0
    server.receive(b"b" * 39 + GET, 2.0)
    assert kinds(server.events()) == ["Request"]
    big = machine(post("Content-Length: 1000"))
    answer(big)
    big.receive(b"b" * 51, 0.0)
    assert big.is_closing
    slow = machine(post("Content-Length: 40"))
    answer(slow)
    slow.handle_deadline(5.0)
    assert slow.is_closing
    broken = machine(post("Transfer-Encoding: chunked"))
    answer(broken)
    broken.receive(b"x\r\n", 0.0)
    assert broken.to_send() == b""
    assert broken.is_closing


def test_the_clients_end_of_input() -> None:
    """Idle, it is the end; after requests they are answered first; within a head nothing is said; within a body 400."""
    server = machine()
    assert not server.has_input_ended
    server.receive(b"", 0.0)
    server.receive(b"", 0.0)
    assert server.has_input_ended
    assert kinds(server.events()) == ["InputEnded"]
    assert server.is_closing
    server = machine(GET + GET)
    server.receive(b"", 0.0)
    assert kinds(server.events()) == ["Request", "InputEnded"]
    assert b"close" not in answer(server)
    assert kinds(server.events()) == ["Request"]
    server.receive(b"", 0.0)
    assert b"connection: close" in answer(server)
    assert server.is_closing
    server = machine(GET[:-1])
    server.receive(b"", 0.0)
    assert (kinds(server.events()), server.to_send(), server.is_closing) == (["InputEnded"], b"", True)
    server = machine(post("Content-Length: 2", body=b"a"))
    server.receive(b"", 0.0)
    assert server.events()[-2:] == [InputEnded(), Failed(400, "the request's body stops short")]
    server = machine(post("Content-Length: 2"))
    answer(server)
    server.receive(b"", 0.0)
    assert server.is_closing


def test_a_slow_head_is_408() -> None:
    """From its first byte on; neither more of it nor empty lines before it prolong that."""
    server = machine()
    assert server.next_deadline() == 10.0
    server.receive(b"\r\n", 5.0)
    assert server.next_deadline() == 10.0
    server.receive(b"GET", 6.0)
    server.receive(b" /", 15.0)
    assert server.next_deadline() == 16.0
    server.handle_deadline(15.9)
    assert server.events() == []
    server.handle_deadline(16.0)
    assert server.events() == [Failed(408, "the request's head did not come in time")]
    assert server.to_send().startswith(b"HTTP/1.1 408 ")


def test_a_slow_body_is_408() -> None:
    """Between two pieces, unless the host itself does not read."""
    server = machine(post("Content-Length: 9"))
    assert server.next_deadline() == 20.0
    server.receive(b"a", 19.0)
    assert server.next_deadline() == 39.0
    server.pause()
    assert server.next_deadline() is None
    server.handle_deadline(1_000.0)
    server.resume(1_000.0)
    assert server.next_deadline() == 1_020.0
    server.handle_deadline(1_020.0)
    assert kinds(server.events())[-1] == "Failed"
    assert server.to_send().startswith(b"HTTP/1.1 408 ")


def test_silence_between_requests_ends_without_a_word() -> None:
    """The handler's time does not count; what is pipelined has a head's time."""
    server = machine(GET)
    assert server.next_deadline() is None
    server.resume(3.0)
    answer(server, now=100.0)
    server.events()
    assert server.next_deadline() == 130.0
    server.handle_deadline(130.0)
    assert (server.events(), server.to_send(), server.is_closing) == ([], b"", True)
    server = machine(GET + b"GE")
    answer(server, now=100.0)
    assert server.next_deadline() == 110.0


UPGRADE = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_another_protocol_takes_over_with_all_that_came() -> None:
    """The head and what is behind it are handed over, and the machine is done."""
    server = machine(UPGRADE + b"frames")
    (request,) = server.events()
    assert isinstance(request, Request)
    assert request.upgrade == "websocket"
    assert server.detach() == UPGRADE + b"frames"
    assert server.is_closing
    with pytest.raises(LocalProtocolError, match="no upgrade"):
        server.detach()


def test_a_declined_upgrade_is_a_request_like_others() -> None:
    """It is answered, and the next one is found behind its head."""
    server = machine(UPGRADE + GET)
    server.events()
    answer(server)
    assert kinds(server.events()) == ["Request"]
    with pytest.raises(LocalProtocolError, match="no upgrade"):
        server.detach()


def test_chunks_may_go_past_the_machine_only_behind_its_own_output() -> None:
    """While a chunked answer is open and nothing waits in front of them."""
    server = machine(GET)
    assert not server.is_chunking
    server.send_head(200, ())
    assert not server.is_chunking
    server.to_send()
    assert server.is_chunking
    server.end(0.0)
    assert not server.is_chunking
