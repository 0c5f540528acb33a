"""A relay for peers: who connects to a path hears what the others on that path say, or what is sent to it alone.

The original's server, without its losses: a peer that does not read makes those who send to it wait, and is
disconnected after `stall_timeout`; nothing is ever dropped on the way between two that are there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qs, urlsplit

import attrs
import trio

from trio_streams.config import positive
from trio_streams.errors import ConnectionLost
from trio_streams.nursery import open_bare_nursery
from trio_streams.transports.envelope_carrier import MessageCarrier
from trio_streams.wire.signal_relay import RelayLimits, RelayMachine, RelayMember

__all__ = ["Relay", "RelayOptions"]

_WRITE_BYTES: Final = 65_536
_LOOK_INTERVAL: Final = 0.02

_logger: Final = logging.getLogger("trio_streams")


@attrs.frozen(kw_only=True)
class RelayOptions:
    """How a relay treats its peers.

    Attributes:
      limits: what it holds.
      stall_timeout: seconds that a peer may take for one write of 64 KiB, or one message; then it is disconnected.
    """

    limits: RelayLimits = attrs.field(factory=RelayLimits)
    stall_timeout: float = attrs.field(default=10.0, validator=positive)


class _Seat:
    """One peer's connection: what wakes its writer, and what ends it."""

    def __init__(self, member: RelayMember) -> None:
        self.member = member
        self.scope = trio.CancelScope()
        self.waiting = trio.lowlevel.ParkingLot()
        self.reason = ""

    def end(self, reason: str) -> None:
        self.reason = reason
        self.scope.cancel()


class Relay:
    """All peers of one relay, whatever they are connected by.

    Args:
      options: limits and timeouts.
    """

    def __init__(self, options: RelayOptions | None = None) -> None:
        self._options = options or RelayOptions()
        self._machine = RelayMachine(self._options.limits)
        self._seats: dict[RelayMember, _Seat] = {}
        self._room = trio.lowlevel.ParkingLot()

    @property
    def members(self) -> tuple[RelayMember, ...]:
        """Who is there."""
        return self._machine.members

    @property
    def limits(self) -> RelayLimits:
        """What it holds."""
        return self._options.limits

    async def drain(self) -> None:
        """Let each peer go once nothing waits for it, and no answer is to come from it or to it; return when none is left.

        Cancellation: the others stay.
        """
        while self._seats:
            waiting = {asker for member in self._seats for asker in member.asked_by.values()}
            for member, seat in self._seats.items():
                if not member.queued_bytes and not member.asked_by and member.client_id not in waiting:
                    seat.end("the relay is going away")
            # Nobody reports that the last message has left; for the length of a drain this is cheap.
            await trio.sleep(_LOOK_INTERVAL)

    async def run(self, carrier: MessageCarrier, target: str) -> None:
        """Serve one peer until it leaves.

        Args:
          carrier: its open WebSocket; it is closed at the end, whatever happens.
          target: of its request, such as `/room?sessionId=…`: the path names the topic, and a `sessionId` of an earlier
            welcome brings its id back.

        Raises:
          LocalProtocolError: the relay is full.
          Exception: what ended the connection, from the carrier.

        Cancellation: the peer has left, and its connection is closed.
        """
        parts = urlsplit(target)
        asked = parse_qs(parts.query).get("sessionId")
        topic = parts.path.removeprefix("/") or "none"  # the original's word
        seat: _Seat | None = None
        try:
            member, replaced = self._machine.join(topic, trio.current_time(), session_id=asked[0] if asked else None)
            seat = self._seats[member] = _Seat(member)
            if replaced is not None:
                self._seats[replaced].end("the same peer has come back")
            with seat.scope:
                await self._run(seat, carrier)
            if seat.reason:
                _logger.info("peer %s of %s was disconnected: %s", member.client_id, carrier.peer, seat.reason)
        finally:
            if seat is not None:
                del self._seats[seat.member]
                self._machine.leave(seat.member, trio.current_time())
                self._wake()
            await carrier.aclose()

    async def _run(self, seat: _Seat, carrier: MessageCarrier) -> None:
        async with open_bare_nursery() as nursery:
            nursery.start_soon(self._write, seat, carrier)
            while messages := await carrier.receive_messages():
                await self._take(seat.member, messages)
            nursery.cancel_scope.cancel()

    async def _take(self, member: RelayMember, messages: Sequence[str | bytes]) -> None:
        machine = self._machine
        for message in messages:
            while not machine.is_open(member):
                self._wake()
                await self._room.park()
            machine.receive(member, message.encode() if isinstance(message, str) else message)
        self._wake()

    def _wake(self) -> None:
        for member in self._machine.take_ready():
            if (seat := self._seats.get(member)) is not None:
                seat.waiting.unpark()
        self._room.unpark_all()

    async def _write(self, seat: _Seat, carrier: MessageCarrier) -> None:
        machine, member, timeout = self._machine, seat.member, self._options.stall_timeout
        while True:
            while not (texts := machine.take(member, _WRITE_BYTES)):
                await seat.waiting.park()
            self._room.unpark_all()
            try:
                with trio.move_on_after(timeout) as scope:
                    await carrier.send_messages([text.decode() for text in texts])
            except ConnectionLost as exc:
                seat.end(str(exc))  # its reader may hear of the same: one of the two is enough
                return
            if scope.cancelled_caught:
                seat.end(f"it took no message within stall_timeout of {timeout:g} s")
                return
