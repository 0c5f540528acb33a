"""Against an HTTP/3 that we did not write: aioquic's, in both roles, over connections that only keep what they are told."""

from __future__ import annotations

import random
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, Final, TypeAlias

import pytest
from aioquic.h3 import events as stock
from aioquic.h3.connection import H3Connection
from aioquic.quic.events import StreamDataReceived
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.webtransport.protocol.http3_fake import GET, OK, Side, data, headers, merged
from trio_streams.webtransport.protocol.error_codes import Http3Error
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_events import SettingsReceived
from trio_streams.webtransport.protocol.http3_frames import encode_frame, encode_settings
from trio_streams.webtransport.protocol.qpack import Qpack
from trio_streams.webtransport.protocol.requests import RawHeaders

Told: TypeAlias = tuple[Any, ...]
"""An event: what it is, its stream, its content."""

POST: Final[RawHeaders] = [(b":method", b"POST"), *GET[1:]]


class StockSide:
    """aioquic's HTTP/3, and a stand-in for its QUIC connection."""

    def __init__(self, *, is_client: bool) -> None:
        self.configuration = SimpleNamespace(is_client=is_client)
        self._quic_logger = None
        self._remote_max_datagram_frame_size = 65_536
        self._next = {False: int(not is_client), True: 2 + int(not is_client)}
        self._sent: dict[int, bytearray] = {}
        self._to_end: set[int] = set()
        self.told: list[stock.H3Event] = []
        self.error_code: int | None = None
        quic: Any = self
        self.http3 = H3Connection(quic)

    # What it calls.

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        stream_id = self._next[is_unidirectional]
        self._next[is_unidirectional] += 4
        return stream_id

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        self._sent.setdefault(stream_id, bytearray()).extend(data)
        if end_stream:
            self._to_end.add(stream_id)

    def close(self, error_code: int, reason_phrase: str) -> None:
        self.error_code = error_code

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        self.error_code = error_code

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        self.error_code = error_code

    # What the tests call.

    def receive(self, stream_id: int, chunk: bytes, *, is_ended: bool) -> None:
        self.told += self.http3.handle_event(StreamDataReceived(chunk, is_ended, stream_id))

    def take_sent(self, rng: random.Random) -> list[tuple[int, bytes, bool]]:
        ids = sorted(self._sent.keys() | self._to_end)
        rng.shuffle(ids)
        taken = [(stream_id, bytes(self._sent.pop(stream_id, b"")), stream_id in self._to_end) for stream_id in ids]
        self._to_end.clear()
        return taken

    def merged(self) -> list[Told]:
        """Its events in our terms; it does not tell the heads of trailers from others."""
        told: list[Told] = []
        for event in self.told:
            if isinstance(event, stock.HeadersReceived):
                told.append(("fields", event.stream_id, tuple(event.headers)))
            elif isinstance(event, stock.DataReceived) and event.data:
                body = event.data
                if told and told[-1][:2] == ("body", event.stream_id):
                    body = told.pop()[2] + body
                told.append(("body", event.stream_id, body))
            if isinstance(event, stock.HeadersReceived | stock.DataReceived) and event.stream_ended:
                told.append(("end", event.stream_id))
        return told


NAMES: Final = {
    "HeadReceived": "fields",
    "InterimReceived": "fields",
    "TrailersReceived": "fields",
    "BodyReceived": "body",
}


class Both:
    """Ours and aioquic's, with all that they send between them cut and in any order.

    Args:
      ours_is_client: which of them is ours.
      seed: of the order.
      piece_bytes: how long pieces may be.
    """

    def __init__(self, *, ours_is_client: bool, seed: int = 0, piece_bytes: int = 1 << 20) -> None:
        self.ours = Side(is_client=ours_is_client)
        self.stock = StockSide(is_client=not ours_is_client)
        self._rng = random.Random(seed)
        self._piece_bytes = piece_bytes
        self.ours.http3.start()

    def move(self) -> None:
        def shuffled(ids: Iterable[int]) -> list[int]:
            return self._rng.sample(sorted(ids), len(list(ids)))

        moved = True
        while moved:
            moved = False
            for stream_id, chunk, is_ended in self.ours.take_sent(shuffled):
                moved = True
                size = self._rng.randint(1, self._piece_bytes)
                for start in range(0, len(chunk), size):
                    self.stock.receive(stream_id, chunk[start : start + size], is_ended=False)
                if is_ended:
                    self.stock.receive(stream_id, b"", is_ended=True)
            for stream_id, chunk, is_ended in self.stock.take_sent(self._rng):
                moved = True
                size = self._rng.randint(1, self._piece_bytes)
                run = [chunk[start : start + size] for start in range(0, len(chunk), size)]
                self.ours.http3.receive(stream_id, run, is_ended=is_ended)
        self.ours.take_events()

    def ours_told(self) -> list[Told]:
        told = merged(event for event in self.ours.told if not isinstance(event, SettingsReceived))
        return [(NAMES.get(str(event[0]), event[0]), *event[1:]) for event in told]


HEADS = st.lists(
    st.tuples(
        st.sampled_from([b"x-a", b"x-b", b"accept", b"content-type", b"user-agent"]),
        st.sampled_from([b"1", b"", b"v" * 60, b"w" * 300, b"text/html", b"*/*"]),
    ),
    max_size=6,
)
MESSAGE = st.tuples(HEADS, st.binary(max_size=300), st.none() | HEADS.filter(bool))


def expect(stream_id: int, head: RawHeaders, message: tuple[RawHeaders, bytes, RawHeaders | None]) -> list[Told]:
    fields, body, trailers = message
    told: list[Told] = [("fields", stream_id, (*head, *fields))]
    told += [("body", stream_id, body)] if body else []
    told += [] if trailers is None else [("fields", stream_id, tuple(trailers))]
    return [*told, ("end", stream_id)]


def ours_sends(
    both: Both, stream_id: int, head: RawHeaders, message: tuple[RawHeaders, bytes, RawHeaders | None]
) -> None:
    fields, body, trailers = message
    http3 = both.ours.http3
    http3.send_head(stream_id, [*head, *fields], is_ended=not body and trailers is None)
    if body:
        assert http3.send_body(stream_id, body) == len(body)
    if trailers is not None:
        http3.send_trailers(stream_id, trailers)
    elif body:
        http3.end(stream_id)


def stock_sends(
    both: Both, stream_id: int, head: RawHeaders, message: tuple[RawHeaders, bytes, RawHeaders | None]
) -> None:
    fields, body, trailers = message
    http3 = both.stock.http3
    http3.send_headers(stream_id, [*head, *fields], end_stream=not body and trailers is None)
    if body:
        http3.send_data(stream_id, body, end_stream=trailers is None)
    if trailers is not None:
        http3.send_headers(stream_id, trailers, end_stream=True)


def of(told: list[Told], stream_id: int) -> list[Told]:
    """What was told of a stream, with bodies joined again that others came between."""
    joined: list[Told] = []
    for event in told:
        if event[1] != stream_id:
            continue
        if event[0] == "body" and joined and joined[-1][0] == "body":
            joined[-1] = ("body", stream_id, joined[-1][2] + event[2])
        else:
            joined.append(event)
    return joined


@settings(max_examples=60)
@given(
    st.lists(st.tuples(MESSAGE, MESSAGE), min_size=1, max_size=6),
    st.integers(0, 2**32),
    st.sampled_from([1, 7, 2_000]),
    st.booleans(),
)
def test_both_understand_each_other(
    exchanges: list[tuple[Any, Any]], seed: int, piece_bytes: int, ours_is_client: bool
) -> None:
    """Heads, bodies and trailers pass both ways as they are, with the tables of QPACK in use and in any order."""
    both = Both(ours_is_client=ours_is_client, seed=seed, piece_bytes=piece_bytes)
    ask, answer = (ours_sends, stock_sends) if ours_is_client else (stock_sends, ours_sends)
    rng = random.Random(seed)
    both.move()
    for question, _ in exchanges:
        stream_id = both.ours.http3.open_request() if ours_is_client else both.stock.get_next_available_stream_id()
        ask(both, stream_id, POST, question)
        if rng.random() < 0.5:
            both.move()
    both.move()
    for number, (_, reply) in enumerate(exchanges):
        answer(both, 4 * number, OK, reply)
    both.move()
    assert both.stock.error_code is None
    client, server = both.ours_told(), both.stock.merged()
    client, server = (client, server) if ours_is_client else (server, client)
    for number, (question, reply) in enumerate(exchanges):
        assert of(server, 4 * number) == expect(4 * number, POST, question)
        assert of(client, 4 * number) == expect(4 * number, OK, reply)


@pytest.mark.parametrize("ours_is_client", [True, False])
def test_the_tables_are_in_use(*, ours_is_client: bool) -> None:
    """The same head costs a fraction the third time, in both directions; answers that are not final pass, too."""
    both = Both(ours_is_client=ours_is_client)
    both.move()
    message: Any = ([(b"x-a", b"v" * 200)], b"", None)
    sizes: dict[str, list[int]] = {"ours": [], "stock": []}
    for _ in range(3):
        if ours_is_client:
            stream_id = both.ours.http3.open_request()
            ours_sends(both, stream_id, POST, message)
        else:
            stream_id = both.stock.get_next_available_stream_id()
            stock_sends(both, stream_id, POST, message)
        before = len((both.ours.quic.sent if ours_is_client else both.stock._sent)[stream_id])
        sizes["ours" if ours_is_client else "stock"].append(before)
        both.move()
        if ours_is_client:
            both.stock.http3.send_headers(stream_id, [(b":status", b"103")])
            stock_sends(both, stream_id, OK, message)
            sizes["stock"].append(len(both.stock._sent[stream_id]))
        else:
            both.ours.http3.send_head(stream_id, [(b":status", b"103")])
            ours_sends(both, stream_id, OK, message)
            sizes["ours"].append(len(both.ours.quic.sent[stream_id]))
        both.move()
    assert both.stock.error_code is None
    assert all(third * 3 < first for first, _, third in sizes.values())
    statuses = [
        dict(event[2])[b":status"]
        for event in (both.ours_told() if ours_is_client else both.stock.merged())
        if event[0] == "fields"
    ]
    assert statuses == [b"103", b"200"] * 3


SETTINGS: Final = b"\x00" + encode_settings({})


def section(head: RawHeaders) -> bytes:
    return headers(Qpack(Http3Config()).encode(0, head, uses_table=False)[1])


@pytest.mark.parametrize(
    ("stream_id", "wire", "is_ended"),
    [
        (2, b"\x00" + encode_frame(0x07, b"\x00"), False),
        (2, SETTINGS * 2, False),
        (2, SETTINGS + SETTINGS[1:], False),
        (2, SETTINGS + data(b""), False),
        (2, SETTINGS + headers(b""), False),
        (2, SETTINGS + encode_frame(0x02, b""), False),
        (2, SETTINGS + encode_frame(0x0D, b"\x05") + encode_frame(0x0D, b"\x04"), False),
        (2, SETTINGS + encode_frame(0x0D, b"\x05\x05"), False),
        (2, b"\x00" + encode_frame(0x04, b"\x02\x00"), False),
        (2, b"\x00" + encode_frame(0x04, b"\x33\x01\x33\x01"), False),
        (2, b"\x00" + encode_frame(0x04, b"\x33"), False),
        (2, SETTINGS, True),
        (2, b"\x01\x00", False),
        (2, b"\x02\x80\x00", False),
        (2, b"\x03\x80", False),
        (0, data(b"a"), False),
        (0, section(POST) + section([(b"a", b"b")]) + data(b""), False),
        (0, section(POST) + encode_frame(0x04, b""), False),
        (0, section(POST) + encode_frame(0x05, b"\x00"), False),
        (0, section(POST) + encode_frame(0x06, b""), False),
        (0, section(POST) + b"\x00\x05a", True),
        (0, headers(b""), False),
        (0, headers(b"\x00\x00\xff\x24"), False),
    ],
)
def test_faults_have_the_same_names(stream_id: int, wire: bytes, is_ended: bool) -> None:
    """What ends a connection with us ends it with aioquic, and for the same reason."""
    ours, theirs = Side(is_client=False), StockSide(is_client=False)
    ours.http3.start()
    with pytest.raises(Http3Error) as caught:
        ours.http3.receive(stream_id, [wire], is_ended=is_ended)
    assert caught.value.ends_connection
    theirs.receive(stream_id, wire, is_ended=is_ended)
    assert theirs.error_code == caught.value.http3_code
