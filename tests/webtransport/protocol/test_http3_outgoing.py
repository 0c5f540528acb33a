"""A message that leaves: its turn, its length, and frames that fit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.webtransport.protocol.http3_fake import GET, OK, FakeQuic, data, headers
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.http3_outgoing import Outgoing
from trio_streams.webtransport.protocol.requests import RawHeaders

POST: RawHeaders = [(b":method", b"POST"), *GET[1:], (b"content-length", b"3")]
SECTION = b"section " * 5


def outgoing(quic: FakeQuic | None = None) -> tuple[FakeQuic, Outgoing]:
    quic = quic or FakeQuic(is_client=True)
    return quic, Outgoing(0, quic, lambda stream_id, head: SECTION)


def test_a_request() -> None:
    """Head, body, trailers, and the end with them."""
    quic, message = outgoing()
    message.send_request(POST, allows_protocol=False)
    assert message.method == b"POST"
    assert message.send_body(b"ab") == 2
    assert message.send_body(bytearray(b"c")) == 1
    message.send_trailers([(b"checksum", b"1")])
    assert quic.sent[0] == headers(SECTION) + data(b"ab") + data(b"c") + headers(SECTION)
    assert quic.ended == {0}
    assert message.is_over
    assert not message.receive_writable()


def test_an_answer() -> None:
    """Heads that are not final, the head, the end."""
    quic, message = outgoing()
    message.send_answer([(b":status", b"103")])
    message.send_answer([(b":status", b"103")])
    message.send_answer(OK)
    assert quic.ended == set()
    message.end()
    assert quic.sent[0] == headers(SECTION) * 3
    assert quic.ended == {0}


def test_large_bodies_are_not_copied() -> None:
    """A body that fits goes on as the very object, behind the head of its frame; an empty one makes no frame."""
    sent: list[object] = []

    class Watched(FakeQuic):
        def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
            sent.append(data)
            return super().send(stream_id, data)

    _, message = outgoing(Watched(is_client=True))
    message.send_answer(OK)
    body = bytes(5_000)
    assert message.send_body(body) == 5_000
    assert message.send_body(b"") == 0
    assert sent[1] == b"\x00\x53\x88"
    assert sent[2] is body
    assert message.send_body(memoryview(body)[:4_000]) == 4_000
    assert len(sent) == 5


@given(st.integers(0, 70_000), st.integers(0, 70_000))
def test_a_frame_fits_the_room(size: int, room: int) -> None:
    """Whole frames only, as long as there is room for; whoever wants more room is told when it comes."""
    quic, message = outgoing()
    message.send_answer(OK)
    quic.sent.clear()
    quic.rooms[0] = room
    taken = message.send_body(bytes(size))
    assert taken <= size
    assert bytes(quic.sent.get(0, b"")) == (data(bytes(taken)) if taken else b"")
    assert (quic.wanting == {0}) is (taken < size)
    assert taken == size or room - len(quic.sent.get(0, b"")) < 12


def test_fields_without_room_wait() -> None:
    """A head leaves as one frame; what finds no room waits, and so does all behind it, the end too."""
    quic, message = outgoing(FakeQuic(is_client=True, room_bytes=28))
    wire = bytearray()

    def take() -> None:
        wire.extend(quic.sent.pop(0, b""))

    message.send_answer(OK)
    assert message.unsent
    assert quic.wanting == {0}
    assert message.send_body(b"abc") == 0
    with pytest.raises(LocalProtocolError, match="another head"):
        other = outgoing(FakeQuic(is_client=True, room_bytes=3))[1]
        other.send_answer([(b":status", b"103")])
        other.send_answer([(b":status", b"103")])
    take()
    assert message.receive_writable()
    assert message.send_body(b"abc") == 3
    message.send_trailers([])
    assert quic.ended == set()
    take()
    assert not message.receive_writable()
    assert quic.ended == set()
    take()
    assert not message.receive_writable()
    assert quic.ended == {0}
    take()
    assert wire == headers(SECTION) + data(b"abc") + headers(SECTION)


def test_a_head_that_waits_and_waits() -> None:
    """Room comes in small pieces; nobody may go on before all of it has left."""
    quic, message = outgoing(FakeQuic(is_client=True, room_bytes=15))
    message.send_answer(OK)
    quic.sent.clear()
    assert not message.receive_writable()
    quic.sent.clear()
    assert message.receive_writable()


def test_what_is_abandoned_does_not_wait() -> None:
    """Nothing of it is kept."""
    quic, message = outgoing(FakeQuic(is_client=True, room_bytes=5))
    message.send_answer(OK)
    message.abandon()
    assert message.unsent == b""
    assert not message.receive_writable()
    assert quic.ended == set()


def started(head: RawHeaders = OK, method: bytes = b"GET") -> Outgoing:
    message = outgoing()[1]
    message.method = method
    message.send_answer(head)
    return message


def ended() -> Outgoing:
    message = started()
    message.end()
    return message


@pytest.mark.parametrize(
    "step",
    [
        lambda: outgoing()[1].send_body(b"a"),
        lambda: outgoing()[1].send_trailers([]),
        outgoing()[1].end,
        lambda: started().send_answer(OK),
        lambda: started().send_request(GET, allows_protocol=False),
        lambda: ended().send_answer(OK),
        lambda: ended().send_body(b"a"),
        lambda: ended().send_trailers([]),
        lambda: ended().end(),
    ],
)
def test_what_is_not_its_turn(step: Callable[[], object]) -> None:
    """Head, body, trailers, each in its turn; nothing is sent else."""
    with pytest.raises(LocalProtocolError, match="stream 0"):
        step()


FIVE: RawHeaders = [*OK, (b"content-length", b"5")]


@pytest.mark.parametrize(
    "step",
    [
        lambda: started(FIVE).end(),
        lambda: started(FIVE).send_trailers([]),
        lambda: started(FIVE).send_body(b"123456"),
        lambda: started(FIVE, b"HEAD").send_body(b"1"),
        lambda: started([(b":status", b"304")]).send_body(b"1"),
    ],
)
def test_the_length_is_kept(step: Callable[[], object]) -> None:
    """Neither more nor less than content-length, and nothing where there is never content."""
    with pytest.raises(LocalProtocolError) as caught:
        step()
    assert caught.value.field == "content-length"
    assert caught.value.limit is not None


def test_lengths_that_mean_something_else() -> None:
    """An answer to HEAD says what there would be; a tunnel's bytes are no content."""
    started(FIVE, b"HEAD").end()
    tunnel = started(FIVE, b"CONNECT")
    assert tunnel.send_body(b"1234567") == 7
    with pytest.raises(LocalProtocolError, match="tunnel"):
        tunnel.send_trailers([])
    tunnel.end()
    message = outgoing()[1]
    message.send_request([(b":method", b"CONNECT"), (b":authority", b"a")], allows_protocol=False)
    assert message.send_body(b"any") == 3
    message.end()


def test_a_refused_tunnel_is_an_answer() -> None:
    """Its trailers are trailers."""
    quic, message = outgoing()
    message.method = b"CONNECT"
    message.send_answer([(b":status", b"404")])
    message.send_trailers([])
    assert quic.ended == {0}


@pytest.mark.parametrize(
    "step",
    [
        lambda: outgoing()[1].send_request([], allows_protocol=True),
        lambda: outgoing()[1].send_request([*GET, (b"Upper", b"")], allows_protocol=True),
        lambda: outgoing()[1].send_request([*GET, (b":protocol", b"x")], allows_protocol=True),
        lambda: outgoing()[1].send_answer(GET),
        lambda: started().send_trailers([(b":status", b"200")]),
    ],
)
def test_malformed_fields_are_not_sent(step: Callable[[], object]) -> None:
    """What the peer would have to call malformed is our own error."""
    with pytest.raises(LocalProtocolError, match="can't send the fields"):
        step()


def test_what_cannot_be_encoded_changes_nothing() -> None:
    """A head that is too large can be followed by one that is not."""

    def refuse(stream_id: int, head: RawHeaders) -> bytes:
        if head is not OK:
            raise LocalProtocolError("too large")
        return SECTION

    quic = FakeQuic(is_client=False)
    message = Outgoing(0, quic, refuse)
    with pytest.raises(LocalProtocolError, match="too large"):
        message.send_answer(FIVE)
    message.send_answer(OK)
    message.end()
    assert quic.sent[0] == headers(SECTION)
