"""HTTP/3 under mutated bytes: nothing but its own errors, the same in every split, and little memory."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Final, TypeAlias

import pytest

from tests.webtransport.protocol.http3_fake import GET, OK, Pair, Side, merged
from trio_streams.webtransport.protocol.error_codes import Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_events import Http3Event, MessageFailed
from trio_streams.webtransport.protocol.http3_frames import encode_frame
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.protocol.varint import encode_varint

Arrival: TypeAlias = tuple[int, bytes, bool]
"""A stream, bytes of it, and whether they are the last."""

POST: Final[RawHeaders] = [(b":method", b"POST"), *GET[1:], (b"content-length", b"300")]
NUMBERS: Final = [0, 1, 4, 5, 63, 64, 2**14 - 1, 2**14, 2**30, 2**62 - 1]
KINDS: Final = [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x07, 0x0D, 0x21, 0x41, 0xF0700, 0xF0701]
SMALL: Final = Http3Config(
    max_field_section_bytes=2_048,
    max_pending_field_bytes=8_192,
    max_control_frame_bytes=512,
    max_idle_frames=50,
    qpack_table_bytes=512,
    qpack_blocked_streams=2,
)


def conversation(rng: random.Random) -> dict[bool, list[Arrival]]:
    """What a server, and what a client, is sent in an exchange of four requests, in the order of sending."""
    wires: dict[bool, list[Arrival]] = {True: [], False: []}
    # The table's limits are those of the sides that will be tested.
    pair = Pair(Side(is_client=True, config=SMALL), Side(is_client=False, config=SMALL))

    def move() -> None:
        for side, other in ((pair.client, pair.server), (pair.server, pair.client)):
            for arrival in side.take_sent(lambda ids: rng.sample(sorted(ids), len(list(ids)))):
                wires[side is pair.client].append(arrival)
                other.http3.receive(arrival[0], [arrival[1]], is_ended=arrival[2])

    def fields() -> RawHeaders:
        names = [b"x-a", b"x-b", b"cookie", b"accept"]
        return [(rng.choice(names), rng.choice([b"1", b"v" * 40, b"w" * 90])) for _ in range(rng.randrange(5))]

    move()
    for _ in range(4):
        stream_id = pair.client.http3.open_request()
        pair.client.http3.send_head(stream_id, [*POST, *fields()])
        for _ in range(3):
            pair.client.http3.send_body(stream_id, bytes(100))
        pair.client.http3.end(stream_id)
        if rng.random() < 0.5:
            move()
    move()
    for stream_id in range(0, 16, 4):
        pair.server.http3.send_head(stream_id, [*OK, *fields()])
        pair.server.http3.send_body(stream_id, b"answer")
        pair.server.http3.send_trailers(stream_id, [(b"x-t", b"t" * 50)])
    pair.server.http3.go_away()
    move()
    return wires


def mutated(rng: random.Random, wire: bytes) -> bytes:
    """A few faults: other bytes, cuts, doubled parts, frames from nowhere, lengths without end."""
    out = bytearray(wire)
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        at = rng.randrange(len(out) + 1)
        match rng.randrange(6):
            case 0 if at < len(out):
                out[at] = rng.randrange(256)
            case 1:
                del out[at : at + rng.randrange(1, 9)]
            case 2:
                out[at:at] = out[at : at + rng.randrange(1, 40)]
            case 3:
                out[at:at] = encode_varint(rng.choice(KINDS)) + encode_varint(rng.choice(NUMBERS))
            case 4:
                out[at:at] = encode_frame(rng.choice(KINDS), rng.randbytes(rng.randrange(9)))
            case _:
                out[at:at] = rng.randbytes(rng.randrange(1, 9))
    return bytes(out)


def faulty(rng: random.Random, arrivals: Iterable[Arrival]) -> list[Arrival]:
    """An exchange with faults in some of its streams; now and then one is lost, or comes twice."""
    out: list[Arrival] = []
    for stream_id, wire, is_ended in arrivals:
        if stream_id & ~1 == 10 and not wire.startswith(b"\x03") and rng.random() < 0.95:
            continue  # acknowledgements of what another side has sent are faults from the start
        broken = mutated(rng, wire) if rng.random() < 0.2 else wire
        for _ in range(rng.choices([0, 1, 2], [1, 60, 1])[0]):
            out.append((stream_id, broken, is_ended))
            if is_ended:
                break
    if rng.random() < 0.1:
        rng.shuffle(out)
    return out


class Trial:
    """A side that gets such an exchange.

    Attributes:
      error: what ended the connection.
    """

    def __init__(self, *, is_client: bool) -> None:
        self.side = Side(is_client=is_client, config=SMALL)
        self.side.http3.start()
        self._received_bytes: dict[int, int] = {}
        self._ended: set[int] = set()
        self.error: Http3Error | None = None
        if is_client:
            for _ in range(4):
                self.side.http3.send_head(self.side.http3.open_request(), GET, is_ended=True)

    def run(self, arrivals: Iterable[Arrival], sizes: random.Random) -> None:
        for stream_id, wire, is_ended in arrivals:
            if stream_id in self._ended:
                continue  # QUIC has nothing behind an end
            size = sizes.choice([1, 3, 50, 10_000])
            pieces = [wire[at : at + size] for at in range(0, len(wire), size)] or [b""]
            for index, piece in enumerate(pieces):
                self._receive(stream_id, piece, is_ended=is_ended and index == len(pieces) - 1)
            if is_ended:
                self._ended.add(stream_id)

    def _receive(self, stream_id: int, piece: bytes, *, is_ended: bool) -> None:
        self._received_bytes[stream_id] = self._received_bytes.get(stream_id, 0) + len(piece)
        if stream_id in self.side.quic.released:
            return
        try:
            self.side.http3.receive(stream_id, [piece], is_ended=is_ended)
        except Http3Error as error:
            if self.error is not None or not error.ends_connection:
                raise  # once, and nothing else
            self.error = error
        self.side.take_events()
        self._look_at_what_is_kept()

    def _look_at_what_is_kept(self) -> None:
        http3, quic = self.side.http3, self.side.quic
        sections = 0
        for stream_id, message in http3._messages.items():
            incoming = message.incoming
            sections += len(incoming._section)
            credited = quic.consumed_bytes.get(stream_id, 0)
            assert len(incoming._held) <= self._received_bytes.get(stream_id, 0) - credited
            assert len(incoming._section) <= SMALL.max_field_section_bytes
        assert sections <= SMALL.max_pending_field_bytes
        assert http3._receiving.pending_field_bytes >= 0
        assert len(http3._control._payload or b"") <= SMALL.max_control_frame_bytes
        assert all(quic.consumed_bytes.get(at, 0) <= size for at, size in self._received_bytes.items())

    def outcome(self) -> tuple[object, ...]:
        """What must not depend on how bytes are cut: what each stream told. A fault that ends the connection may come before
        or after what another stream waits for, so there the fault itself is all.
        """
        if self.error is not None:
            return ("fatal",)
        failed = {
            event.stream_id: event.error.http3_code for event in self.side.told if isinstance(event, MessageFailed)
        }
        ids = {getattr(event, "stream_id", -1) for event in self.side.told}
        told = {at: merged(event for event in self.side.told if self._is_of(event, at)) for at in ids}
        quic = self.side.quic
        return told, failed, quic.resets, quic.stops, quic.released

    @staticmethod
    def _is_of(event: Http3Event, stream_id: int) -> bool:
        return getattr(event, "stream_id", -1) == stream_id and not isinstance(event, MessageFailed)


@pytest.mark.parametrize("is_client", [True, False])
@pytest.mark.parametrize("block", range(4))
def test_mutated_exchanges(block: int, *, is_client: bool) -> None:
    """Nothing but `Http3Error` is raised, once; the outcome is the same in any split, and what is kept has its limits."""
    outcomes = {"sound": 0, "failed": 0, "fatal": 0}
    for seed in range(block * 60, block * 60 + 60):
        rng = random.Random(seed)
        arrivals = faulty(rng, conversation(rng)[not is_client])
        trials = [Trial(is_client=is_client) for _ in range(3)]
        for trial, cut in zip(trials, [1, 2, 2], strict=True):
            trial.run(arrivals, random.Random(1_000 * seed + cut))
        assert trials[0].outcome() == trials[1].outcome(), f"seed {seed}"
        assert repr(trials[1].side.told) == repr(trials[2].side.told), f"seed {seed}"
        assert repr(trials[1].error) == repr(trials[2].error), f"seed {seed}"
        told = trials[0].side.told
        kind = (
            "fatal"
            if trials[0].error
            else "failed"
            if any(isinstance(event, MessageFailed) for event in told)
            else "sound"
        )
        outcomes[kind] += 1
    assert min(outcomes["fatal"], outcomes["sound"]) > 3, "the faults are of every weight"


def test_bytes_from_nowhere() -> None:
    """Random bytes on random streams, in both roles."""
    for seed in range(300):
        rng = random.Random(seed)
        is_client = seed % 2 == 0
        trial = Trial(is_client=is_client)
        arrivals = [
            (
                rng.choice([0, 4, 8, 1, 2 + is_client, 6 + is_client, 10 + is_client]),
                rng.randbytes(rng.randrange(60)),
                rng.random() < 0.2,
            )
            for _ in range(rng.randrange(1, 9))
        ]
        trial.run(arrivals, rng)
