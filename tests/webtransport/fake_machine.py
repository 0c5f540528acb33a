"""A `ConnectionMachine` without QUIC, for tests of what stands on it: in order, without loss, with windows and limits."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Iterator
from typing import Any

import attrs

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.events import Closer

__all__ = ["FakeMachine"]

WINDOW = 65_536
SEND_BUFFER = 16_384


@attrs.define(eq=False)
class _Stream:
    session_id: int
    unsent: bytearray = attrs.field(factory=bytearray)
    credit: int = WINDOW
    sent_over: bool = False
    wants_end: bool = False
    starved: bool = False
    received_over: bool = False


class FakeMachine:
    """One side."""

    def __init__(self, *, is_client: bool, max_streams: int = 100) -> None:
        self.is_client = is_client
        self.is_ready = self.is_over = self.is_closing = False
        self.round_trip = 0.01
        self.host_connection_id = b"client" if is_client else b"server"
        self.max_streams = max_streams
        self._out: list[Any] = [("hello", max_streams)]
        self._events: deque[Any] = deque()
        self._streams: dict[int, _Stream] = {}
        self._undelivered: dict[int, int] = {}
        self._sessions: dict[int, Any] = {}
        self._next = {False: 0 if is_client else 1, True: 2 if is_client else 3}
        self._opened = {False: 0, True: 0}
        self._allowed = {False: 0, True: 0}
        self._granted = {False: max_streams, True: max_streams}
        self._wanted: set[tuple[int, bool]] = set()
        self.released: list[int] = []
        self.consumed_bytes = 0

    def receive(self, datagram: bytes, addr: object, now: float) -> None:
        for name, *args in pickle.loads(datagram):
            getattr(self, f"_on_{name}")(*args)

    def events(self) -> Iterator[Any]:
        while self._events:
            yield self._events.popleft()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, object]]:
        if self.is_over:
            return []
        for stream_id, stream in list(self._streams.items()):
            self._feed(stream_id, stream)
        out, self._out = self._out, []
        return [(pickle.dumps(out), None)] if out else []

    def _feed(self, stream_id: int, stream: _Stream) -> None:
        size = min(stream.credit, len(stream.unsent))
        is_last = stream.wants_end and size == len(stream.unsent) and not stream.sent_over
        if size or is_last:
            self._out.append(("data", stream_id, bytes(stream.unsent[:size]), is_last))
            del stream.unsent[:size]
            stream.credit -= size
            stream.sent_over = stream.sent_over or is_last
        if stream.starved and len(stream.unsent) <= SEND_BUFFER // 2:
            stream.starved = False
            self._events.append(events.Writable(stream_id))

    def next_deadline(self) -> float | None:
        return None

    def handle_deadline(self, now: float) -> None:
        pass

    def close(self, code: int = 0, reason: str = "") -> None:
        if not self.is_closing:
            self.is_closing = True
            self._out = [("gone", code, reason)]
            self._events.append(events.ConnectionOver(None, code, reason, False, True))

    def _on_gone(self, code: int, reason: str) -> None:
        if not self.is_over:
            self.is_over = self.is_closing = True
            self._events.append(events.ConnectionOver(None, code, reason, False, True))

    def _on_hello(self, max_streams: int) -> None:
        self.is_ready = True
        self._allowed = {False: max_streams, True: max_streams}
        self._events.append(events.Ready(None))  # type: ignore[arg-type]

    # Sessions.

    def connect_session(self, request: Any, now: float) -> int:
        session_id = self._next[False]
        self._next[False] += 4
        self._sessions[session_id] = _Session()
        self._out.append(("connect", session_id, request))
        return session_id

    def _on_connect(self, session_id: int, request: Any) -> None:
        self._sessions[session_id] = _Session()
        self._events.append(events.SessionRequested(session_id, request))

    def accept_session(self, session_id: int, answer: Any, now: float) -> None:
        self._out.append(("answer", session_id, answer))

    def refuse_session(self, session_id: int, answer: Any, now: float) -> None:
        self._out.append(("answer", session_id, answer))

    def _on_answer(self, session_id: int, answer: Any) -> None:
        self._events.append(events.SessionAnswered(session_id, answer))

    def session(self, session_id: int) -> Any:
        return self._sessions.get(session_id)

    def drain_session(self, session_id: int) -> None:
        self._out.append(("drain", session_id))

    def _on_drain(self, session_id: int) -> None:
        self._events.append(events.SessionDrained(session_id))

    def close_session(self, session_id: int, code: int, reason: str, now: float) -> None:
        if session_id in self._sessions and not self._sessions[session_id].closed:
            self._end(session_id, code, reason, Closer.LOCAL)
            self._out.append(("close", session_id, code, reason))

    def _on_close(self, session_id: int, code: int, reason: str) -> None:
        if session_id in self._sessions:
            if not self._sessions[session_id].closed:
                self._end(session_id, code, reason, Closer.PEER)
                self._out.append(("close", session_id, code, reason))
            del self._sessions[session_id]

    def _end(self, session_id: int, code: int, reason: str, closer: Closer) -> None:
        self._sessions[session_id].closed = True
        for stream_id, stream in list(self._streams.items()):
            if stream.session_id == session_id:
                del self._streams[stream_id]
        self._events.append(events.SessionClosed(session_id, code, reason, closer))

    def undelivered_streams(self, session_id: int) -> int:
        return sum(owner == session_id for owner in self._undelivered.values())

    # Streams.

    def can_open(self, session_id: int, *, is_unidirectional: bool) -> bool:
        if self._opened[is_unidirectional] < self._allowed[is_unidirectional]:
            return True
        self._wanted.add((session_id, is_unidirectional))
        return False

    def open_stream(self, session_id: int, *, is_unidirectional: bool, priority: int = 0) -> int:
        stream_id = self._next[is_unidirectional]
        self._next[is_unidirectional] += 4
        self._opened[is_unidirectional] += 1
        self._streams[stream_id] = _Stream(session_id)
        self._out.append(("open", session_id, stream_id))
        return stream_id

    def _on_open(self, session_id: int, stream_id: int) -> None:
        if session_id in self._sessions and not self._sessions[session_id].closed:
            self._streams[stream_id] = _Stream(session_id)
            self._events.append(events.StreamOpened(session_id, stream_id, bool(stream_id & 2)))

    def send(self, stream_id: int, data: Any) -> int:
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        if stream.wants_end or stream.sent_over:
            raise LocalProtocolError("over")
        taken = min(SEND_BUFFER - len(stream.unsent), len(data))
        stream.unsent += bytes(data[:taken])
        stream.starved = stream.starved or taken < len(data)
        return taken

    def end(self, stream_id: int) -> None:
        if (stream := self._streams.get(stream_id)) is not None:
            assert not stream.wants_end
            stream.wants_end = True
            self._undelivered[stream_id] = stream.session_id

    def _on_data(self, stream_id: int, data: bytes, is_ended: bool) -> None:
        stream = self._streams.get(stream_id)
        if is_ended:
            self._out.append(("acked", stream_id))
        if stream is None or stream.received_over:
            self._out.append(("credit", stream_id, len(data)))
            return
        self._events.append(events.StreamReceived(stream_id, [data] if data else [], is_ended))

    def _on_acked(self, stream_id: int) -> None:
        if self._undelivered.pop(stream_id, None) is not None:
            self._events.append(events.Delivered(stream_id))

    def reset(self, stream_id: int, code: int) -> None:
        if (stream := self._streams.get(stream_id)) is not None and not (stream.sent_over and not stream.wants_end):
            stream.sent_over, stream.wants_end, stream.unsent = True, False, bytearray()
            self._undelivered.pop(stream_id, None)
            self._out.append(("reset", stream_id, code))

    def _on_reset(self, stream_id: int, code: int) -> None:
        if (stream := self._streams.get(stream_id)) is not None and not stream.received_over:
            stream.received_over = True
            self._events.append(events.StreamReset(stream_id, code))

    def stop(self, stream_id: int, code: int) -> None:
        if (stream := self._streams.get(stream_id)) is not None and not stream.received_over:
            stream.received_over = True
            self._out.append(("stop", stream_id, code))

    def _on_stop(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and (not stream.sent_over or stream_id in self._undelivered):
            stream.sent_over, stream.unsent = True, bytearray()
            self._undelivered.pop(stream_id, None)
            self._events.append(events.StreamStopped(stream_id, code))

    def consumed(self, stream_id: int, size: int) -> None:
        self.consumed_bytes += size
        self._out.append(("credit", stream_id, size))

    def _on_credit(self, stream_id: int, size: int) -> None:
        if (stream := self._streams.get(stream_id)) is not None:
            stream.credit += size

    def release(self, stream_id: int, code: int = 0) -> None:
        assert stream_id not in self.released
        self.released.append(stream_id)
        self._streams.pop(stream_id, None)
        if bool(stream_id & 1) is self.is_client:
            self._granted[bool(stream_id & 2)] += 1
            self._out.append(("streams", bool(stream_id & 2), self._granted[bool(stream_id & 2)]))

    def _on_streams(self, is_unidirectional: bool, limit: int) -> None:
        self._allowed[is_unidirectional] = limit
        wanted = [one for one in self._wanted if one[1] is is_unidirectional]
        self._wanted.difference_update(wanted)
        self._events.extend(events.StreamsAllowed(session_id, is_unidirectional) for session_id, _ in wanted)

    def set_priority(self, stream_id: int, priority: int) -> None:
        pass

    def unsent_bytes(self, stream_id: int) -> int:
        stream = self._streams.get(stream_id)
        return len(stream.unsent) if stream is not None else 0

    def send_datagram(self, session_id: int, payload: bytes, now: float) -> None:
        if len(payload) > 1_000:
            raise LocalProtocolError("too large", field="max_datagram_size", size=len(payload), limit=1_000)
        self._out.append(("datagram", session_id, payload))

    def _on_datagram(self, session_id: int, payload: bytes) -> None:
        self._events.append(events.DatagramReceived(session_id, payload))

    def max_datagram_size(self, session_id: int) -> int | None:
        return 1_000


@attrs.define
class _Session:
    closed: bool = False

    @property
    def is_over(self) -> bool:
        return False
