"""The parts of a connection over a QUIC that keeps what it is told, for exact rows."""

from __future__ import annotations

from collections.abc import Mapping

from tests.webtransport.machine_pair import CONNECT, control
from tests.webtransport.protocol.http3_fake import FakeQuic
from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.inbound import Inbound
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.requests import Answer
from trio_streams.webtransport.protocol.settings import SessionLimits, local_settings
from trio_streams.webtransport.protocol.varint import encode_varint

__all__ = ["COUNTED", "FakeMachine", "PortQuic"]

COUNTED = local_settings(
    is_client=True,
    max_sessions=1,
    limits=SessionLimits(window_bytes=100, max_bidirectional_streams=2, max_unidirectional_streams=2),
)
"""A client's settings that ask for flow control of sessions."""


class PortQuic(FakeQuic):
    """A `QuicPort` that knows priorities, datagrams and late resets.

    Attributes:
      resets_now: whether a reset is over at once.
      unsent: how much of each stream was not sent yet.
      stopped: streams that take nothing any more.
      wants_flush: whether there is something to say.
    """

    wants_flush: bool = False
    max_datagram_size: int | None = 1_200

    def __init__(self, *, is_client: bool, streams: int = 100) -> None:
        super().__init__(is_client=is_client, streams=streams)
        self.priorities: dict[int, tuple[int, int, bool]] = {}
        self.datagrams: list[tuple[int, bytes]] = []
        self.dropped_groups: list[int] = []
        self.closed: tuple[int, str] | None = None
        self.resets_now = True
        self.unsent: dict[int, int] = {}
        self.stopped: set[int] = set()

    @property
    def is_closing(self) -> bool:  # type: ignore[override]
        return self.closed is not None

    def allow(self, streams: int) -> None:
        """Let so many streams of each kind be opened."""
        self._left = {False: streams, True: streams}

    def close(self, code: int = 0, reason: str = "") -> None:
        self.closed = code, reason

    def set_priority(self, stream_id: int, priority: int, *, group: int = 0, is_urgent: bool = False) -> None:
        self.priorities[stream_id] = priority, group, is_urgent

    def send(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        if stream_id in self.stopped:
            raise LocalProtocolError("it was stopped")
        return super().send(stream_id, data)

    def end(self, stream_id: int) -> None:
        if stream_id in self.stopped:
            raise LocalProtocolError("it was stopped")
        super().end(stream_id)

    def reset(self, stream_id: int, code: int, *, after_bytes: int = 0) -> bool:
        self.resets.setdefault(stream_id, code)
        return self.resets_now

    def unsent_bytes(self, stream_id: int) -> int:
        return self.unsent.get(stream_id, 0)

    def sent_bytes(self, stream_id: int) -> int:
        return len(self.sent.get(stream_id, b"")) - self.unsent_bytes(stream_id)

    def send_datagram(self, data: bytes, now: float, *, group: int = 0) -> None:
        self.datagrams.append((group, data))

    def drop_datagrams(self, group: int) -> None:
        self.dropped_groups.append(group)


class FakeMachine:
    """All parts of one side.

    Args:
      is_client: which side.
      limits: the machine's.
      settings: the peer's; None for none so far.
    """

    def __init__(
        self,
        *,
        is_client: bool = False,
        limits: WebTransportLimits | None = None,
        settings: Mapping[int, int] | None = COUNTED,
    ) -> None:
        self.quic = PortQuic(is_client=is_client)
        self.inbound = Inbound(self.quic, is_client=is_client, limits=limits or WebTransportLimits())
        self.now = 100.0
        self.is_client = is_client
        self.tell(quic_events.Handshaken("h3", False))
        self._next = {True: 2 + is_client, False: int(is_client)}
        if settings is not None:
            extra = {8: 1} if is_client else {}
            self.arrive(control({**settings, **extra}), is_unidirectional=True)

    def tell(self, event: quic_events.Event) -> list[events.Event]:
        """Let the parts hear an event of QUIC; what they make of it."""
        self.inbound.take(event, self.now)
        return self.take()

    def take(self) -> list[events.Event]:
        """What is to be told."""
        self.inbound.serve(self.now)
        told = list(self.inbound.queue)
        self.inbound.queue.clear()
        return told

    def new_id(self, *, is_unidirectional: bool = False) -> int:
        """The id of the peer's next stream."""
        stream_id = self._next[is_unidirectional]
        self._next[is_unidirectional] += 4
        return stream_id

    def arrive(self, data: bytes, *, is_unidirectional: bool = False, is_ended: bool = False) -> int:
        """Let bytes come on a new stream of the peer."""
        stream_id = self.new_id(is_unidirectional=is_unidirectional)
        self.more(stream_id, data, is_ended=is_ended)
        return stream_id

    def more(self, stream_id: int, data: bytes = b"", *, is_ended: bool = False) -> list[events.Event]:
        """Let bytes come on a stream."""
        return self.tell(quic_events.StreamDataReceived(stream_id, [data] if data else [], is_ended))

    def session(self) -> int:
        """A server's session that is open."""
        session_id = self.arrive(CONNECT)
        assert self.inbound.sessions is not None
        self.inbound.sessions.accept(session_id, Answer(status=200), self.now)
        self.take()
        return session_id

    def stream(self, session_id: int, data: bytes = b"", *, is_unidirectional: bool = False) -> int:
        """A stream of the peer's in a session."""
        header = encode_varint(0x54 if is_unidirectional else 0x41) + encode_varint(session_id)
        stream_id = self.arrive(header + data, is_unidirectional=is_unidirectional)
        assert stream_id in self.inbound.streams.table
        return stream_id
