"""Two QUIC connections in virtual time, and a link between them that loses, doubles and reorders datagrams."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import attrs
import trustme

from trio_streams.webtransport import quic_events as happened
from trio_streams.webtransport.quic import Address, Quic
from trio_streams.webtransport.quic_config import QuicLimits, client_configuration, server_configuration

__all__ = [
    "CLIENT",
    "LOSSLESS",
    "LOST",
    "SERVER",
    "AnyPair",
    "Driven",
    "Fate",
    "Link",
    "Pair",
    "Side",
    "certificate",
    "unsteady",
]

CLIENT: Final = ("192.0.2.1", 40_000)
SERVER: Final = ("192.0.2.2", 443)


@functools.cache
def certificate() -> tuple[Path, Path, bytes]:
    """A certificate and its key as files, and the authority that signed it as PEM."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("server.example", key_type=trustme.KeyType.ECDSA)
    folder = Path(tempfile.mkdtemp(prefix="quic-"))
    chain, key = folder / "cert.pem", folder / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return chain, key, authority.cert_pem.bytes()


@attrs.frozen
class Fate:
    """What becomes of a datagram: seconds until each of its copies arrives; none if it is lost."""

    delays: tuple[float, ...]


LOSSLESS: Final = Fate((0.01,))
LOST: Final = Fate(())

Link: TypeAlias = Callable[[], Fate]


def unsteady(seed: int, loss: float) -> Link:
    """A link of about 10 to 40 ms that loses a share of the datagrams and doubles one in twenty."""
    rng = random.Random(seed)

    def fate() -> Fate:
        if rng.random() < loss:
            return LOST
        copies = 2 if rng.random() < 0.05 else 1
        return Fate(tuple(rng.uniform(0.01, 0.04) for _ in range(copies)))

    return fate


class Driven(Protocol):
    """What has datagrams and deadlines: a connection, or a machine above it."""

    def receive(self, datagram: bytes, addr: Address, now: float) -> None: ...

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]: ...

    def next_deadline(self) -> float | None: ...

    def handle_deadline(self, now: float) -> None: ...


class Side:
    """A connection and an application that keeps what it is told, and reads unless told otherwise."""

    def __init__(self, quic: Quic, limits: QuicLimits) -> None:
        self.quic = quic
        self.driven: Driven = quic
        self.limits = limits
        self.reads: Callable[[int], bool] = lambda stream_id: True
        self.events: list[happened.Event] = []
        self.received: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.stops: dict[int, int] = {}
        self.datagrams: list[bytes] = []
        self.writable: list[int] = []
        self._to_send: dict[int, bytes] = {}

    def write(self, stream_id: int, data: bytes) -> None:
        """Send as much as the stream takes, and the rest and the end when it is writable."""
        taken = self.quic.send(stream_id, data)
        if taken < len(data):
            self._to_send[stream_id] = data[taken:]
        else:
            self._to_send.pop(stream_id, None)
            self.quic.end(stream_id)

    def take_events(self) -> None:
        """Do what an application does."""
        for event in self.quic.events():
            self.events.append(event)
            match event:
                case happened.StreamDataReceived(stream_id, run, is_ended):
                    self.received.setdefault(stream_id, bytearray()).extend(b"".join(run))
                    if is_ended:
                        assert stream_id not in self.ended
                        self.ended.add(stream_id)
                    if self.reads(stream_id):
                        self.quic.consumed(stream_id, sum(map(len, run)))
                case happened.StreamReset(stream_id, code):
                    assert stream_id not in self.resets
                    self.resets[stream_id] = code
                case happened.StopReceived(stream_id, code):
                    assert stream_id not in self.stops
                    self.stops[stream_id] = code
                    self._to_send.pop(stream_id, None)
                case happened.Writable(stream_id):
                    self.writable.append(stream_id)
                    if stream_id in self._to_send:
                        self.write(stream_id, self._to_send[stream_id])
                case happened.DatagramsReceived(run):
                    self.datagrams += run
                case _:
                    pass

    @property
    def is_shaken(self) -> bool:
        """Whether streams can be opened."""
        return any(isinstance(event, happened.Handshaken) for event in self.events)

    @property
    def terminated(self) -> happened.ConnectionTerminated | None:
        """How the connection ended."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, happened.ConnectionTerminated) else None


S = TypeVar("S", bound=Side)


class AnyPair(Generic[S]):
    """A client and a server.

    Args:
      client_limits: what the client may hold.
      server_limits: what the server may hold, None for the same.
      link: what becomes of each datagram, in both directions.
      verify: whether the client looks at the certificate.
      make_side: an application, from a connection, its limits, and whether it is the client's.
    """

    def __init__(
        self,
        make_side: Callable[[Quic, QuicLimits, bool], S],
        client_limits: QuicLimits | None = None,
        server_limits: QuicLimits | None = None,
        *,
        link: Link = lambda: LOSSLESS,
        verify: bool = False,
    ) -> None:
        client_limits = client_limits or QuicLimits()
        server_limits = server_limits or client_limits
        chain, key, authority = certificate()
        self.now = 1_000.0
        self.link = link
        self._arrivals: list[tuple[float, int, bytes, S]] = []
        self._numbers = itertools.count()
        configuration = client_configuration(
            client_limits, server_name="server.example", verify=verify, authorities_pem=authority if verify else None
        )
        quic = Quic(configuration, client_limits)
        quic.connect(SERVER, self.now)
        self.client = make_side(quic, client_limits, True)
        first = self.client.driven.datagrams_to_send(self.now)
        destination = first[0][0][6 : 6 + first[0][0][5]]
        configuration = server_configuration(server_limits, certificate_file=chain, key_file=key)
        quic = Quic(configuration, server_limits, original_destination_connection_id=destination)
        self.server = make_side(quic, server_limits, False)
        self._put(first, self.server)

    def _put(self, datagrams: list[tuple[bytes, object]], to: S) -> None:
        for data, _ in datagrams:
            for delay in self.link().delays:
                heapq.heappush(self._arrivals, (self.now + delay, next(self._numbers), data, to))

    def flush(self) -> None:
        """Let both applications and both connections do what they can at this moment."""
        for side, other in ((self.client, self.server), (self.server, self.client)):
            side.take_events()
            self._put(side.driven.datagrams_to_send(self.now), other)
            side.take_events()

    def step(self, end: float = math.inf) -> bool:
        """Flush, and go on to whatever is next, at most to a moment; False where nothing will happen any more."""
        self.flush()
        times = [
            deadline for side in (self.client, self.server) if (deadline := side.driven.next_deadline()) is not None
        ]
        times += [self._arrivals[0][0]] if self._arrivals else []
        if not times:
            return False
        self.now = max(self.now, min(*times, end))
        while self._arrivals and self._arrivals[0][0] <= self.now:
            _, _, data, to = heapq.heappop(self._arrivals)
            to.driven.receive(data, CLIENT if to is self.server else SERVER, self.now)
        for side in (self.client, self.server):
            deadline = side.driven.next_deadline()
            if deadline is not None and deadline <= self.now:
                side.driven.handle_deadline(self.now)
        return True

    def run_until(self, condition: Callable[[], bool], *, seconds: float = 600.0) -> None:
        """Let time pass until something is so."""
        end = self.now + seconds
        self.flush()
        while not condition():
            goes_on = self.step()
            self.flush()
            assert condition() or (goes_on and self.now < end), "it never came"

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end and self.step(end):
            pass
        self.flush()

    def shake_hands(self) -> None:
        """Let time pass until both sides may open streams, and nothing is under way."""
        self.run_until(lambda: all(self._is_shaken(side) for side in (self.client, self.server)))
        self.run_for(0.5)

    @staticmethod
    def _is_shaken(side: Side) -> bool:
        return side.is_shaken


class Pair(AnyPair[Side]):
    """Two connections whose applications are told QUIC's own events."""

    def __init__(
        self,
        client_limits: QuicLimits | None = None,
        server_limits: QuicLimits | None = None,
        *,
        link: Link = lambda: LOSSLESS,
        verify: bool = False,
    ) -> None:
        super().__init__(
            lambda quic, limits, _: Side(quic, limits), client_limits, server_limits, link=link, verify=verify
        )
