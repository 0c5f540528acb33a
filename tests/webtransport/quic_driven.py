"""A connection for an endpoint that speaks nothing but QUIC: a server that echoes, and a client that asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from tests.webtransport.quic_pair import certificate
from trio_streams.errors import ConnectionLost
from trio_streams.webtransport import quic_events as happened
from trio_streams.webtransport.driven import Address, Attachment, Opening
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import QuicLimits, client_configuration, server_configuration

__all__ = ["LIMITS", "EchoingServer", "QuicDriven", "client"]

LIMITS: Final = QuicLimits()


class QuicDriven:
    """A `Driven` over `Quic`. A server's sends back what it receives; a client's keeps it.

    Args:
      quic: the machine.
      echoes: whether what arrives goes back.
    """

    def __init__(self, quic: Quic, *, echoes: bool) -> None:
        self.quic = quic
        self.echoes = echoes
        self.handshaken: happened.Handshaken | None = None
        self.terminated: happened.ConnectionTerminated | None = None
        self.lost: Exception | None = None
        self.received: dict[int, bytearray] = {}
        self.received_bytes = 0
        self.ended: set[int] = set()
        self.seen_from: list[Address] = []
        self.attachment: Attachment | None = None
        self.on_event: Callable[[happened.Event], None] = lambda event: None
        self._to_send: dict[int, memoryview] = {}
        self._to_end: set[int] = set()
        self._lot = trio.lowlevel.ParkingLot()

    # What the endpoint calls.

    @property
    def is_over(self) -> bool:
        return self.terminated is not None

    def attach(self, attachment: Attachment) -> None:
        self.attachment = attachment
        attachment.add_connection_id(self.quic.host_connection_id)

    def receive(self, datagram: bytes, addr: Address, now: float) -> None:
        if addr not in self.seen_from:
            self.seen_from.append(addr)
        self.quic.receive(datagram, addr, now)

    def dispatch(self) -> None:
        for event in self.quic.events():
            self.on_event(event)
            self._take(event)
            self._lot.unpark_all()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        return self.quic.datagrams_to_send(now)

    def next_deadline(self) -> float | None:
        return self.quic.next_deadline()

    def handle_deadline(self, now: float) -> None:
        self.quic.handle_deadline(now)

    def close(self) -> None:
        self.quic.close(0, "bye")

    def lose(self, error: Exception) -> None:
        self.lost = error
        self.quic.close(1, "lost")
        self._lot.unpark_all()

    # What it does.

    def _take(self, event: happened.Event) -> None:
        assert self.attachment is not None
        match event:
            case happened.Handshaken():
                self.handshaken = event
                self.attachment.note_handshake()
            case happened.ConnectionIdIssued(connection_id):
                self.attachment.add_connection_id(connection_id)
            case happened.ConnectionIdRetired(connection_id):
                self.attachment.remove_connection_id(connection_id)
            case happened.StreamDataReceived(stream_id, run, is_ended):
                self.take_data(stream_id, b"".join(run), is_ended)
            case happened.Writable(stream_id) if stream_id in self._to_send:  # it may have gone on since
                self._write(stream_id)
            case happened.ConnectionTerminated():
                self.terminated = event
            case _:
                pass

    def take_data(self, stream_id: int, data: bytes, is_ended: bool) -> None:
        """Keep it, or send it back."""
        self.received_bytes += len(data)
        self.quic.consumed(stream_id, len(data))
        if not self.echoes:
            self.received.setdefault(stream_id, bytearray()).extend(data)
        if is_ended:
            self.ended.add(stream_id)
        if self.echoes and stream_id % 4 == 0:
            self.write(stream_id, data, end=is_ended)

    def write(self, stream_id: int, data: bytes, *, end: bool = True) -> None:
        """Send all of it, in time, and the end."""
        self._to_send[stream_id] = memoryview(bytes(self._to_send.get(stream_id, b"")) + data)
        if end:
            self._to_end.add(stream_id)
        self._write(stream_id)

    def _write(self, stream_id: int) -> None:
        left = self._to_send.get(stream_id, memoryview(b""))
        self._to_send[stream_id] = left = left[self.quic.send(stream_id, left) :]
        if not left:
            del self._to_send[stream_id]
            if stream_id in self._to_end:
                self._to_end.remove(stream_id)
                self.quic.end(stream_id)
        assert self.attachment is not None
        self.attachment.kick()

    # What a test does.

    async def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so.

        Raises:
          ConnectionLost: the connection ended before.
        """
        while not condition():
            if self.lost is not None:
                raise ConnectionLost(str(self.lost)) from self.lost
            if self.terminated is not None:
                raise ConnectionLost(f"{self.terminated}")
            await self._lot.park()

    async def wait_ready(self) -> None:
        """Wait for the handshake."""
        await self.wait_for(lambda: self.handshaken is not None)

    async def wait_over(self) -> None:
        """Wait for the end of the connection."""
        while not self.is_over and self.lost is None:
            await self._lot.park()

    async def ask(self, data: bytes) -> bytes:
        """Send something on a stream of its own, and take what comes back."""
        stream_id = self.quic.open_stream()
        self.write(stream_id, data)
        await self.wait_for(lambda: stream_id in self.ended)
        self.quic.release(stream_id)
        return bytes(self.received.pop(stream_id))


class EchoingServer:
    """Makes a server's connections, and keeps them."""

    def __init__(
        self,
        limits: QuicLimits = LIMITS,
        make: Callable[[Quic], QuicDriven] = lambda quic: QuicDriven(quic, echoes=True),
    ) -> None:
        chain, key, _ = certificate()
        self._limits = limits
        self._make = make
        self._configuration = server_configuration(limits, certificate_file=chain, key_file=key)
        self.connections: list[QuicDriven] = []
        self.openings: list[Opening] = []

    def accept(self, opening: Opening) -> QuicDriven:
        quic = Quic(
            self._configuration,
            self._limits,
            original_destination_connection_id=opening.original_destination_connection_id,
            retry_source_connection_id=opening.retry_source_connection_id,
        )
        driven = self._make(quic)
        self.connections.append(driven)
        self.openings.append(opening)
        return driven


def client(addr: Address, limits: QuicLimits = LIMITS) -> QuicDriven:
    """A client's connection."""
    quic = Quic(client_configuration(limits, server_name="server.example", verify=False), limits)
    quic.connect(addr, trio.current_time())
    return QuicDriven(quic, echoes=False)
