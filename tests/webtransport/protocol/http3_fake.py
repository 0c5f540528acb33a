"""A QUIC connection that keeps what it is told, and two machines of HTTP/3 over such ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.http3 import Http3
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_events import (
    BodyReceived,
    HeadReceived,
    Http3Event,
    InterimReceived,
    TrailersReceived,
)
from trio_streams.webtransport.protocol.http3_frames import encode_frame
from trio_streams.webtransport.protocol.requests import RawHeaders

__all__ = ["GET", "OK", "FakeQuic", "Pair", "Side", "data", "headers", "merged"]

GET: RawHeaders = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.org"),
    (b":path", b"/"),
]
OK: RawHeaders = [(b":status", b"200")]


def data(payload: bytes) -> bytes:
    """A DATA frame."""
    return encode_frame(0, payload)


def headers(section: bytes) -> bytes:
    """A HEADERS frame."""
    return encode_frame(1, section)


class FakeQuic:
    """A `QuicPort`.

    Args:
      is_client: which side it is.
      streams: how many of each kind may be opened.
      room_bytes: what each stream takes before somebody takes it out of `sent`.
    """

    def __init__(self, *, is_client: bool, streams: int = 100, room_bytes: int = 1 << 20) -> None:
        self.room_bytes = room_bytes
        self.rooms: dict[int, int] = {}
        self.sent: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.released: dict[int, int] = {}
        self.consumed_bytes: dict[int, int] = {}
        self.wanting: set[int] = set()
        self.urgent: set[int] = set()
        self._left = {False: streams, True: streams}
        self._next = {False: int(not is_client), True: 2 + int(not is_client)}

    is_closing = False
    max_datagram_size: int | None = None

    def streams_available(self, *, unidirectional: bool = False) -> int:
        return self._left[unidirectional]

    def open_stream(self, *, unidirectional: bool = False) -> int:
        if not self._left[unidirectional]:
            raise LocalProtocolError("no more streams")
        stream_id = self._next[unidirectional]
        self._next[unidirectional] += 4
        self._left[unidirectional] -= 1
        return stream_id

    def set_priority(self, stream_id: int, priority: int, *, group: int = 0, is_urgent: bool = False) -> None:
        assert is_urgent
        self.urgent.add(stream_id)

    def send_room(self, stream_id: int) -> int:
        return max(0, self.rooms.get(stream_id, self.room_bytes) - len(self.sent.get(stream_id, b"")))

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        assert not any(stream_id in over for over in (self.ended, self.resets, self.released))
        taken = min(self.send_room(stream_id), len(data))
        self.sent.setdefault(stream_id, bytearray()).extend(data[:taken])
        if taken < len(data):
            self.wanting.add(stream_id)
        return taken

    def want_room(self, stream_id: int) -> None:
        self.wanting.add(stream_id)

    def end(self, stream_id: int) -> None:
        assert stream_id not in self.ended
        self.ended.add(stream_id)

    def reset(self, stream_id: int, code: int, *, after_bytes: int = 0) -> bool:
        assert stream_id & 2 == 0
        self.resets.setdefault(stream_id, code)
        return True

    def stop(self, stream_id: int, code: int) -> None:
        assert stream_id not in self.released
        self.stops.setdefault(stream_id, code)

    def consumed(self, stream_id: int, size: int) -> None:
        self.consumed_bytes[stream_id] = self.consumed_bytes.get(stream_id, 0) + size

    def release(self, stream_id: int, code: int = 0) -> None:
        assert stream_id not in self.released
        self.released[stream_id] = code

    def close(self, code: int = 0, reason: str = "") -> None:
        raise NotImplementedError

    def unsent_bytes(self, stream_id: int) -> int:
        raise NotImplementedError

    def sent_bytes(self, stream_id: int) -> int:
        raise NotImplementedError

    def unacknowledged_bytes(self, stream_id: int) -> int:
        raise NotImplementedError

    def unread_bytes(self, stream_id: int) -> int:
        raise NotImplementedError

    def send_datagram(self, data: bytes, now: float, *, group: int = 0) -> None:
        raise NotImplementedError

    def drop_datagrams(self, group: int) -> None:
        raise NotImplementedError


class Side:
    """A machine, and what it sent and told."""

    def __init__(
        self,
        *,
        is_client: bool,
        config: Http3Config | None = None,
        settings: Mapping[int, int] | None = None,
        quic: FakeQuic | None = None,
    ) -> None:
        self.quic = quic or FakeQuic(is_client=is_client)
        own = {} if is_client else {0x08: 1}
        self.http3 = Http3(self.quic, is_client=is_client, settings={**own, **(settings or {})}, config=config)
        self.told: list[Http3Event] = []
        self._ended: set[int] = set()

    def take_events(self) -> list[Http3Event]:
        """New events; they are in `told`, too. Bodies are consumed."""
        events = list(self.http3.events())
        for event in events:
            if isinstance(event, BodyReceived) and event.size:
                self.quic.consumed(event.stream_id, event.size)
        self.told += events
        return events

    def take_sent(self, order: Callable[[Iterable[int]], Iterable[int]] = sorted) -> list[tuple[int, bytes, bool]]:
        """What was sent and not taken yet: stream, bytes, whether it has ended."""
        taken: list[tuple[int, bytes, bool]] = []
        for stream_id in order(self.quic.sent.keys() | self.quic.ended):
            is_ended = stream_id in self.quic.ended - self._ended
            if (chunk := bytes(self.quic.sent.pop(stream_id, b""))) or is_ended:
                taken.append((stream_id, chunk, is_ended))
            if is_ended:
                self._ended.add(stream_id)
        return taken


class Pair:
    """A client and a server, started."""

    def __init__(self, client: Side | None = None, server: Side | None = None) -> None:
        self.client = client or Side(is_client=True)
        self.server = server or Side(is_client=False)
        self.client.http3.start()
        self.server.http3.start()

    def move(self, order: Callable[[Iterable[int]], Iterable[int]] = sorted, *, piece_bytes: int = 1 << 20) -> None:
        """Let all that was sent arrive, until nothing more is sent; streams in any order."""
        sides = (self.client, self.server)
        moved = True
        while moved:
            moved = False
            for side, other in (sides, sides[::-1]):
                for stream_id, chunk, is_ended in side.take_sent(order):
                    run = [chunk[start : start + piece_bytes] for start in range(0, len(chunk), piece_bytes)]
                    other.http3.receive(stream_id, run, is_ended=is_ended)
                    moved = True
        for side in sides:
            side.take_events()


def merged(events: Iterable[Http3Event]) -> list[tuple[object, ...]]:
    """Events without what depends on how the bytes were cut: bodies joined, and ends on their own."""
    told: list[tuple[object, ...]] = []
    for event in events:
        match event:
            case BodyReceived(stream_id, run, size, is_ended):
                joined = b"".join(run)
                assert len(joined) == size
                if told and told[-1][:2] == ("BodyReceived", stream_id):
                    before = told.pop()[2]
                    assert isinstance(before, bytes)
                    joined = before + joined
                told += [("BodyReceived", stream_id, joined)] if joined else []
                told += [("end", stream_id)] if is_ended else []
            case HeadReceived(stream_id, fields, is_ended):
                told += [("HeadReceived", stream_id, tuple(fields))]
                told += [("end", stream_id)] if is_ended else []
            case InterimReceived(stream_id, fields):
                told += [("InterimReceived", stream_id, tuple(fields))]
            case TrailersReceived(stream_id, fields):
                told += [("TrailersReceived", stream_id, tuple(fields)), ("end", stream_id)]
            case _:
                told.append((type(event).__name__, repr(event)))
    return told
