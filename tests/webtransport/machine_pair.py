"""Two connections of WebTransport in virtual time, with applications that keep what they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from tests.webtransport.quic_pair import LOSSLESS, AnyPair, Link, Side
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.connection import ConnectionMachine
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.requests import Answer, ConnectRequest
from trio_streams.webtransport.protocol.settings import SessionLimits, local_settings
from trio_streams.webtransport.protocol.varint import encode_varint
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import QuicLimits

__all__ = ["CONNECT", "REQUEST", "MachinePair", "MachineSide", "RawPair", "control", "frame", "head"]

REQUEST = ConnectRequest(authority="server.example", path="/")

E = TypeVar("E")


def frame(kind: int, payload: bytes) -> bytes:
    """A frame of HTTP/3."""
    return encode_varint(kind) + encode_varint(len(payload)) + payload


def head(*fields: tuple[str, str]) -> bytes:
    """A HEADERS frame, all of it literal, so that anything can be in it."""
    section = bytearray(2)
    for name, value in fields:
        section += _prefixed(0x20, 3, len(name)) + name.encode() + _prefixed(0, 7, len(value)) + value.encode()
    return frame(1, bytes(section))


def _prefixed(flags: int, bits: int, number: int) -> bytes:
    most = (1 << bits) - 1
    if number < most:
        return bytes([flags | number])
    assert number - most < 128
    return bytes([flags | most, number - most])


def control(settings: Mapping[int, int] | None = None) -> bytes:
    """What opens a client's control stream: its SETTINGS."""
    if settings is None:
        settings = local_settings(is_client=True, max_sessions=1, limits=SessionLimits())
    return b"\0" + frame(4, b"".join(encode_varint(number) for item in settings.items() for number in item))


CONNECT = head(
    (":method", "CONNECT"),
    (":protocol", "webtransport"),
    (":scheme", "https"),
    (":authority", "server.example"),
    (":path", "/"),
)


class MachineSide(Side):
    """A machine and its application: it accepts all sessions and reads all streams, unless told otherwise."""

    def __init__(self, quic: Quic, limits: QuicLimits, machine: ConnectionMachine) -> None:
        super().__init__(quic, limits)
        self.machine = machine
        self.driven = machine
        self.now = 1_000.0
        self.told: list[events.Event] = []
        self.answer: Callable[[events.SessionRequested], Answer | None] = lambda event: Answer(status=200)
        self.opened: dict[int, int] = {}
        self.stream_resets: dict[int, int | None] = {}
        self.stream_stops: dict[int, int | None] = {}
        self.session_datagrams: dict[int, list[bytes]] = {}
        self.delivered: list[int] = []
        self.rest: dict[int, bytes] = {}

    def find(self, kind: type[E]) -> list[E]:
        """All events of a kind."""
        return [event for event in self.told if isinstance(event, kind)]

    @property
    def is_shaken(self) -> bool:
        return self.machine.is_ready or self.machine.is_over

    def write(self, stream_id: int, data: bytes) -> None:
        """Send as much as a stream takes, and the rest and the end when it is writable."""
        taken = self.machine.send(stream_id, data)
        if taken < len(data):
            self.rest[stream_id] = data[taken:]
        else:
            self.rest.pop(stream_id, None)
            self.machine.end(stream_id)

    def open(self, session_id: int, *, is_unidirectional: bool = False, data: bytes | None = None) -> int:
        """Open a stream, and write to it."""
        stream_id = self.machine.open_stream(session_id, is_unidirectional=is_unidirectional)
        if data is not None:
            self.write(stream_id, data)
        return stream_id

    def take_events(self) -> None:
        for event in self.machine.events():
            self.told.append(event)
            self.on_event(event)

    def on_event(self, event: events.Event) -> None:  # noqa: C901, PLR0912 - a case for each kind
        """Do what an application does."""
        match event:
            case events.SessionRequested(session_id):
                if (answer := self.answer(event)) is not None:
                    act = self.machine.accept_session if answer.is_accepted else self.machine.refuse_session
                    act(session_id, answer, self.now)
            case events.StreamOpened(session_id, stream_id):
                assert stream_id not in self.opened
                self.opened[stream_id] = session_id
            case events.StreamReceived(stream_id, run, is_ended):
                self.received.setdefault(stream_id, bytearray()).extend(b"".join(run))
                if is_ended:
                    assert stream_id not in self.ended
                    self.ended.add(stream_id)
                if self.reads(stream_id):
                    self.machine.consumed(stream_id, sum(map(len, run)))
            case events.StreamReset(stream_id, code):
                assert stream_id not in self.stream_resets
                self.stream_resets[stream_id] = code
            case events.StreamStopped(stream_id, code):
                assert stream_id not in self.stream_stops
                self.stream_stops[stream_id] = code
                self.rest.pop(stream_id, None)
            case events.Writable(stream_id):
                self.writable.append(stream_id)
                if stream_id in self.rest:
                    self.write(stream_id, self.rest[stream_id])
            case events.Delivered(stream_id):
                self.delivered.append(stream_id)
            case events.DatagramsReceived(session_id, run):
                self.session_datagrams.setdefault(session_id, []).extend(run)
            case _:
                pass


class RawPair(AnyPair[Side]):
    """A client that says whatever a test makes it say, and a server's machine."""

    def __init__(self, limits: WebTransportLimits | None = None, quic_limits: QuicLimits | None = None) -> None:
        def make(quic: Quic, made_limits: QuicLimits, is_client: bool) -> Side:
            if is_client:
                return Side(quic, made_limits)
            self.machine_side = MachineSide(quic, made_limits, ConnectionMachine(quic, is_client=False, limits=limits))
            return self.machine_side

        super().__init__(make, quic_limits)
        self.run_for(1)

    @property
    def machine(self) -> ConnectionMachine:
        """The server's."""
        return self.machine_side.machine

    def flush(self) -> None:
        self.machine_side.now = self.now
        super().flush()

    def say(self, data: bytes, *, is_unidirectional: bool = False, is_ended: bool = False) -> int:
        """Let the client open a stream, and send on it."""
        stream_id = self.client.quic.open_stream(unidirectional=is_unidirectional)
        self.client.quic.send(stream_id, data)
        if is_ended:
            self.client.quic.end(stream_id)
        return stream_id

    def say_settings(self, settings: Mapping[int, int] | None = None) -> None:
        """Let the client send its SETTINGS."""
        self.say(control(settings), is_unidirectional=True)
        self.run_for(0.1)

    def connect(self) -> int:
        """A session that is open."""
        session_id = self.say(CONNECT)
        self.run_for(0.1)
        assert self.machine.session(session_id) is not None
        return session_id

    @property
    def over(self) -> events.ConnectionOver:
        """How the server's connection ended."""
        self.run_for(5)
        last = self.machine_side.told[-1]
        assert isinstance(last, events.ConnectionOver)
        return last


class MachinePair(AnyPair[MachineSide]):
    """A client's machine and a server's."""

    def __init__(
        self,
        limits: WebTransportLimits | None = None,
        quic_limits: QuicLimits | None = None,
        *,
        client: WebTransportLimits | None = None,
        server_quic: QuicLimits | None = None,
        link: Link = lambda: LOSSLESS,
    ) -> None:
        def make(quic: Quic, made_limits: QuicLimits, is_client: bool) -> MachineSide:
            own = client if is_client and client is not None else limits
            return MachineSide(quic, made_limits, ConnectionMachine(quic, is_client=is_client, limits=own))

        super().__init__(make, quic_limits, server_quic, link=link)

    def flush(self) -> None:
        self.client.now = self.server.now = self.now
        super().flush()

    @classmethod
    def ready(cls, *args: object, **options: object) -> MachinePair:
        """A pair whose handshake and settings are through."""
        pair = cls(*args, **options)  # type: ignore[arg-type]
        pair.shake_hands()
        return pair

    def connect(self, request: ConnectRequest = REQUEST) -> int:
        """A session that is open on both sides."""
        session_id = self.client.machine.connect_session(request, self.now)
        self.run_until(
            lambda: any(event.session_id == session_id for event in self.client.find(events.SessionAnswered))
        )
        return session_id
