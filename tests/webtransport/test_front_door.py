"""Datagrams that belong to no connection: garbage, versions that nobody speaks, Retry and its tokens, refusals."""

from __future__ import annotations

import random
from typing import Final

import pytest
from aioquic._buffer import Buffer
from aioquic.quic import events as stock
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicPacketType, get_retry_integrity_tag, pull_quic_header
from hypothesis import given
from hypothesis import strategies as st

from tests.webtransport.quic_driven import LIMITS
from trio_streams.webtransport.attached import Roster
from trio_streams.webtransport.endpoint_config import EndpointConfig
from trio_streams.webtransport.front_door import Entry, FrontDoor
from trio_streams.webtransport.quic_config import client_configuration
from trio_streams.webtransport.quic_packets import CONNECTION_ID_BYTES, destination_id, first_packet
from trio_streams.webtransport.retry_tokens import RetryTokens

ADDR: Final = ("192.0.2.1", 40_000)
SERVER: Final = ("192.0.2.2", 443)
NOW: Final = 1_000.0
ALWAYS: Final = EndpointConfig(retry_above_half_open=0)


class _Client:
    """A stock client, before its handshake."""

    def __init__(self) -> None:
        self.quic = QuicConnection(configuration=client_configuration(LIMITS, verify=False))
        self.quic.connect(SERVER, NOW)

    def first(self) -> bytes:
        return self.quic.datagrams_to_send(NOW)[0][0]

    def take(self, answer: bytes) -> stock.ConnectionTerminated | None:
        """Give it an answer; how the connection ended, if it did."""
        self.quic.receive_datagram(answer, SERVER, NOW)
        self.quic.handle_timer(NOW + 30.0)
        for event in iter(self.quic.next_event, None):
            if isinstance(event, stock.ConnectionTerminated):
                return event
        return None


def _roster(half_open: int = 0) -> Roster:
    roster = Roster(lambda: None)
    roster.half_open_items = half_open
    return roster


def _look(door: FrontDoor, datagram: bytes, half_open: int = 0, now: float = NOW) -> Entry | bytes | None:
    return door.look_at(datagram, ADDR, now, _roster(half_open))


def test_a_first_packet_may_come_in() -> None:
    """A client's first datagram says whom it made up, and its connection is told."""
    client = _Client()
    datagram = client.first()
    entry = _look(FrontDoor(EndpointConfig()), datagram)
    assert isinstance(entry, Entry)
    assert entry.opening.original_destination_connection_id == client.quic.original_destination_connection_id
    assert entry.opening.retry_source_connection_id is None
    assert entry.opening.addr == ADDR
    assert entry.packet.destination_id == destination_id(datagram)


def test_the_length_of_ids_is_that_of_our_connections() -> None:
    """A short header does not say how long its id is: the endpoint reads as many bytes as our connections give out."""
    client = _Client()
    assert len(client.quic.host_cid) == CONNECTION_ID_BYTES
    assert destination_id(b"\x40" + client.quic.host_cid + b"rest") == client.quic.host_cid


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"\x00",
        b"\xff",
        b"\xc0\x00\x00\x00\x01",
        b"\xc0\x00\x00\x00\x01\xff",
        b"\x40" * 1_200,
        b"\xc0" + bytes(1_199),
        b"\xc0\x00\x00\x00\x01" + b"\xff" * 1_195,
        b"\xc0\x00\x00\x00\x01\x07" + bytes(1_194),
        b"\xc0\x00\x00\x00\x01\x08" + bytes(8) + b"\x00\x00\x7f\xff" + bytes(1_182),
        b"\xe0\x00\x00\x00\x01\x08" + bytes(1_194),
        b"\x80\x00\x00\x00\x01\x08" + bytes(1_194),
    ],
    ids=[
        "empty",
        "one byte",
        "one byte of a long header",
        "cut after the version",
        "cut after the length of its id",
        "a short header",
        "a version negotiation",
        "a header that is too long",
        "a made-up id that is too short",
        "a length beyond the datagram",
        "a handshake packet",
        "no fixed bit",
    ],
)
def test_garbage_is_dropped(datagram: bytes) -> None:
    """What begins no connection is dropped, without an answer and without an exception, whatever it is."""
    assert _look(FrontDoor(ALWAYS), datagram) is None


@given(data=st.binary(max_size=1_500), seed=st.integers(0, 2**32))
def test_noise_never_raises(data: bytes, seed: int) -> None:
    """Random bytes, and a first packet with some bytes changed, are dropped, answered or let in; nothing raises."""
    door = FrontDoor(EndpointConfig())
    destination_id(data)
    _look(door, data)
    rng = random.Random(seed)
    changed = bytearray(_Client().first())
    for _ in range(rng.randrange(1, 5)):
        changed[rng.randrange(60)] = rng.randrange(256)
    destination_id(bytes(changed))
    _look(door, bytes(changed))


def test_a_first_packet_that_is_too_short_is_dropped() -> None:
    """A first datagram below 1,200 bytes is dropped: an answer could be larger than what asked for it."""
    assert _look(FrontDoor(ALWAYS), _Client().first()[:1_199]) is None


def _of_version(version: int, datagram: bytes) -> bytes:
    return datagram[:1] + version.to_bytes(4, "big") + datagram[5:]


def test_an_unknown_version_is_answered_with_those_we_speak() -> None:
    """A version that we do not speak gets a Version Negotiation with the ids the other way round, and a reserved version."""
    client = _Client()
    answer = _look(FrontDoor(EndpointConfig()), _of_version(0x0BADCAFE, client.first()))
    assert isinstance(answer, bytes)
    header = pull_quic_header(Buffer(data=answer))
    assert header.packet_type is QuicPacketType.VERSION_NEGOTIATION
    assert header.destination_cid == client.quic.host_cid
    assert header.source_cid == client.quic.original_destination_connection_id
    assert {1, 0x6B3343CF} < set(header.supported_versions)
    assert any(version & 0x0F0F0F0F == 0x0A0A0A0A for version in header.supported_versions)


def test_ids_of_unknown_versions_may_have_any_length() -> None:
    """What another version calls an id is sent back as it is, up to 255 bytes (RFC 8999 §5.1)."""
    destination, source = bytes([1]) * 255, bytes([2]) * 200
    datagram = b"\xff\x0b\xad\xca\xfe\xff" + destination + b"\xc8" + source
    answer = _look(FrontDoor(EndpointConfig()), datagram.ljust(1_200, b"x"))
    assert isinstance(answer, bytes)
    assert answer[5 : 5 + 1 + 200 + 1 + 255] == b"\xc8" + source + b"\xff" + destination


@pytest.mark.parametrize("size", [100, 1_199])
def test_an_unknown_version_in_a_short_datagram_is_dropped(size: int) -> None:
    """Version Negotiation never answers a datagram below 1,200 bytes."""
    assert _look(FrontDoor(EndpointConfig()), _of_version(0x0BADCAFE, _Client().first())[:size]) is None


def test_a_version_negotiation_is_not_answered() -> None:
    """A Version Negotiation gets no answer, or two endpoints could be made to talk for ever."""
    assert _look(FrontDoor(EndpointConfig()), _of_version(0, _Client().first())) is None


# Retry


def _retry(door: FrontDoor, client: _Client) -> bytes:
    answer = _look(door, client.first())
    assert isinstance(answer, bytes)
    return answer


def test_a_client_that_takes_a_retry_comes_in() -> None:
    """A stock client believes the Retry, comes back with its token, and its connection is told both ids."""
    client, door = _Client(), FrontDoor(ALWAYS)
    first_id = client.quic.original_destination_connection_id
    answer = _retry(door, client)
    header = pull_quic_header(Buffer(data=answer))
    assert header.integrity_tag == get_retry_integrity_tag(answer[:-16], first_id, 1)
    client.quic.receive_datagram(answer, SERVER, NOW)
    entry = _look(door, client.first())
    assert isinstance(entry, Entry)
    assert entry.opening.original_destination_connection_id == first_id
    assert entry.opening.retry_source_connection_id == header.source_cid


def test_a_retry_comes_only_under_load() -> None:
    """Below the mark a client comes in at once, from the mark on it has to prove its address."""
    door = FrontDoor(EndpointConfig(retry_above_half_open=5))
    datagram = _Client().first()
    assert isinstance(_look(door, datagram, half_open=4), Entry)
    assert isinstance(_look(door, datagram, half_open=5), bytes)


@pytest.mark.parametrize("fault", ["late", "another address", "another port", "another endpoint", "changed"])
def test_a_token_that_is_not_good_ends_the_attempt(fault: str) -> None:
    """A Retry's token that is too old, from elsewhere or not ours is answered by INVALID_TOKEN, which the client believes."""
    client, door = _Client(), FrontDoor(ALWAYS)
    client.quic.receive_datagram(_retry(door, client), SERVER, NOW)
    datagram = client.first()
    addr, now = ADDR, NOW
    match fault:
        case "late":
            now += 11.0
        case "another address":
            addr = ("192.0.2.9", 40_000)
        case "another port":
            addr = ("192.0.2.1", 40_001)
        case "another endpoint":
            door = FrontDoor(ALWAYS)
        case _:
            packet = first_packet(datagram)
            assert packet is not None
            changed = packet.token[:15] + bytes([packet.token[15] ^ 1]) + packet.token[16:]
            datagram = datagram.replace(packet.token, changed)
    answer = door.look_at(datagram, addr, now, _roster())
    assert isinstance(answer, bytes)
    ended = client.take(answer)
    assert ended is not None
    assert ended.error_code == 0xB


def test_a_token_of_another_kind_says_nothing() -> None:
    """A token that no Retry made, such as one of an earlier connection, is as good as none."""
    client = _Client()
    client.quic._peer_token = b"from another day"
    datagram = client.first()
    assert isinstance(_look(FrontDoor(EndpointConfig()), datagram), Entry)
    answer = _look(FrontDoor(ALWAYS), datagram)
    assert isinstance(answer, bytes)
    assert pull_quic_header(Buffer(data=answer)).packet_type is QuicPacketType.RETRY


def test_a_token_is_good_for_one_id() -> None:
    """A token that is brought to another id than its Retry's is not good."""
    tokens = RetryTokens(10.0)
    token = tokens.issue(b"original", b"retry id", ADDR, NOW)
    assert tokens.original_id(token, b"retry id", ADDR, NOW + 9.9) == b"original"
    assert tokens.original_id(token, b"other id", ADDR, NOW) is None
    assert tokens.original_id(token[:-1], b"retry id", ADDR, NOW) is None
    assert tokens.original_id(b"", b"retry id", ADDR, NOW) is None


# Limits


def test_too_many_half_open_ones_are_dropped() -> None:
    """A client beyond the limit of half-open connections gets no answer, even with a good token."""
    door = FrontDoor(EndpointConfig(retry_above_half_open=0, max_half_open=3))
    client = _Client()
    client.quic.receive_datagram(_retry(door, client), SERVER, NOW)
    datagram = client.first()
    assert isinstance(_look(door, datagram, half_open=2), Entry)
    assert _look(door, datagram, half_open=3) is None


def test_too_many_connections_are_refused() -> None:
    """A client beyond the limit of connections is told CONNECTION_REFUSED, and believes it."""

    class Full(Roster):
        def __init__(self) -> None:
            super().__init__(lambda: None)
            self.attached = dict.fromkeys(range(3))  # type: ignore[arg-type]

    client = _Client()
    door = FrontDoor(EndpointConfig(max_connections=3))
    answer = door.look_at(client.first(), ADDR, NOW, Full())
    assert isinstance(answer, bytes)
    ended = client.take(answer)
    assert ended is not None
    assert ended.error_code == 2
