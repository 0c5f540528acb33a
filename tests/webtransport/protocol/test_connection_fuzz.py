"""A seeded fuzzer on a live pair: headers of streams, capsules, frames and datagrams, right, nearly right and wrong."""

from __future__ import annotations

import random
from typing import Final

import pytest

from tests.webtransport.machine_pair import CONNECT, RawPair, frame, head
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.capsules import Close, DataBlocked, Drain, MaxData, MaxStreams, encode_capsule
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.settings import SessionLimits, local_settings
from trio_streams.webtransport.protocol.varint import encode_varint
from trio_streams.webtransport.quic_config import QuicLimits

LIMITS: Final = WebTransportLimits(max_sessions=3, max_requests=3, max_unnamed_streams=4)
QUIC: Final = QuicLimits(max_bidirectional_streams=64, max_unidirectional_streams=64)
SETTINGS: Final = local_settings(
    is_client=True,
    max_sessions=1,
    limits=SessionLimits(window_bytes=10_000, max_bidirectional_streams=4, max_unidirectional_streams=4),
)
GET: Final = head((":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"))
CODES: Final = (0, 0x10C, 0x10F, Http3Code.WT_SESSION_GONE, 0x52E4_A40F_A8DB, 0x52E5_AC98_3162)


class Fuzzer:
    """A client that means well, more or less."""

    def __init__(self, seed: int, wildness: float) -> None:
        self.rng = random.Random(seed)
        self.wildness = wildness
        self.pair = RawPair(LIMITS, QUIC)
        self.pair.say_settings(SETTINGS)
        self.streams: list[int] = []
        self.sessions: list[int] = []

    @property
    def is_wild(self) -> bool:
        return self.rng.random() < self.wildness

    def session_id(self) -> int:
        """The id of a session, as a rule."""
        if self.is_wild:
            return self.rng.choice((1, 2, 400, 4_000, 1 << 40))
        return self.rng.choice(self.sessions) if self.sessions else 0

    def mangled(self, data: bytes) -> bytes:
        """Data as it was, cut, or with a byte that changed."""
        if not data or not self.is_wild:
            return data
        position = self.rng.randrange(len(data))
        if self.rng.random() < 0.5:
            return data[:position]
        return data[:position] + self.rng.randbytes(1) + data[position + 1 :]

    def capsule(self) -> bytes:
        """One that is known, or not."""
        known = self.rng.choice(
            (
                Close(self.rng.randrange(1 << 32), "bye" * self.rng.randrange(10)),
                Drain(),
                MaxData(self.rng.randrange(10_000, 1 << 30)),
                MaxStreams(self.rng.randrange(4, 1 << 20), is_unidirectional=self.rng.random() < 0.5),
                DataBlocked(self.rng.randrange(1 << 30)),
            )
        )
        unknown = encode_varint(self.rng.randrange(1 << 20)) + encode_varint(3) + b"abc"
        return self.mangled(self.rng.choice((encode_capsule(known), unknown)))

    def act(self) -> None:
        """Do something."""
        quic = self.pair.client.quic
        kind = self.rng.choice(
            ("connect", "uni", "bidi", "bidi", "capsule", "more", "end", "reset", "stop", "datagram", "get")
        )
        is_unidirectional = kind == "uni"
        if kind in {"connect", "uni", "bidi", "get"} and quic.streams_available(unidirectional=is_unidirectional):
            signal = encode_varint(0x54 if is_unidirectional else 0x41)
            named = signal + encode_varint(self.session_id()) + self.rng.randbytes(self.rng.randrange(200))
            data = {"connect": CONNECT, "get": GET}.get(kind, named)
            stream_id = self.pair.say(self.mangled(data), is_unidirectional=is_unidirectional)
            (self.sessions if kind == "connect" else self.streams).append(stream_id)
        elif kind == "datagram":
            quic.send_datagram(self.mangled(encode_varint(self.session_id() >> 2) + b"payload"), self.pair.now)
        else:
            self.touch(kind)

    def touch(self, kind: str) -> None:
        """Do something to a stream that there is."""
        quic = self.pair.client.quic
        known = self.sessions if kind == "capsule" or self.rng.random() < 0.1 else self.streams
        if not known:
            return
        stream_id = self.rng.choice(known)
        match kind:
            case "capsule" if quic.send_room(stream_id):
                quic.send(stream_id, self.mangled(frame(0, self.capsule())))
            case "more" if quic.send_room(stream_id):
                quic.send(stream_id, self.rng.randbytes(self.rng.randrange(1_000)))
            case "end" if quic.send_room(stream_id):
                quic.end(stream_id)
            case "reset":
                quic.reset(stream_id, self.rng.choice(CODES))
            case "stop" if not stream_id & 2:
                quic.stop(stream_id, self.rng.choice(CODES))
            case _:
                pass

    def answer(self) -> None:
        """Let the server's application do something, too."""
        server = self.pair.machine_side
        for stream_id in list(server.machine._streams.table):
            match self.rng.randrange(12):
                case 0:
                    server.machine.release(stream_id, self.rng.randrange(100))
                case 1:
                    server.machine.set_priority(stream_id, self.rng.randrange(-9, 9))
                case _:
                    pass
        for event in server.find(events.RequestReceived):
            server.machine.release(event.stream_id)

    def check(self) -> None:
        """What holds whatever was said."""
        machine = self.pair.machine
        inbound = machine._inbound
        assert inbound.sessions is not None
        assert (
            sum(event.session_id in inbound.sessions for event in self.pair.machine_side.find(events.SessionRequested))
            <= 20
        )
        assert inbound.sessions._live_count() <= LIMITS.max_sessions
        assert len(inbound.requests) <= LIMITS.max_requests
        assert inbound.router.unnamed_streams <= LIMITS.max_unnamed_streams
        assert inbound.router.early_streams <= LIMITS.early.max_early_streams
        early_bytes = LIMITS.early.max_early_stream_bytes + LIMITS.early.max_early_datagram_bytes
        assert inbound.router.early_bytes <= early_bytes
        assert self.pair.machine_side.quic.stream_count <= 128 + 3

    def run(self, steps: int) -> None:
        """Until the steps are done, or the connection is."""
        for _ in range(steps):
            self.act()
            if self.rng.random() < 0.3:
                self.pair.run_for(self.rng.choice((0.0, 0.02, 0.1)))
                self.answer()
                self.check()
            if self.pair.machine.is_closing:
                return


@pytest.mark.parametrize("seed", range(8))
def test_a_client_that_means_well_keeps_its_connection(seed: int) -> None:
    """However its streams and sessions come and go, no fault ends more than a session, and in the end all is forgotten."""
    fuzzer = Fuzzer(seed, 0.0)
    fuzzer.run(250)
    pair = fuzzer.pair
    faults = [event.error for event in pair.machine_side.find(events.SessionClosed) if event.error is not None]
    closed = pair.machine_side.find(events.ConnectionOver)
    # Random content of a request may be a frame that ends the connection, and that is right.
    assert all(over.error is not None for over in closed)
    assert all(not fault.ends_connection for fault in faults)
    if not closed:
        for session_id in fuzzer.sessions:
            if pair.client.quic.send_room(session_id):
                pair.client.quic.end(session_id)
        pair.run_for(20)
        assert pair.machine.is_settled
        assert pair.machine._streams.table == {}


@pytest.mark.parametrize("seed", range(16))
def test_a_client_out_of_its_mind_loses_its_connection_at_worst(seed: int) -> None:
    """Nothing raises, no limit is passed, and if the connection ends it is with a code and an error that says why."""
    fuzzer = Fuzzer(1_000 + seed, 0.15)
    fuzzer.run(250)
    machine = fuzzer.pair.machine
    if machine.is_closing:
        over = fuzzer.pair.over
        assert over.error is not None
        assert over.code in set(Http3Code) | {0x200, 0x201, 0x202}
    assert machine.next_deadline() is None or machine.next_deadline() > 0  # type: ignore[operator]
