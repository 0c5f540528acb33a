"""Measures the round trip on request."""

from __future__ import annotations

import trio

from trio_streams.connection import Connection
from trio_streams.core import events
from trio_streams.peer.receive_stream import connection_closed

__all__ = ["Pinging"]


class Pinging:
    """One ping at a time, whose answer all share that asked meanwhile.

    Args:
      connection: of the peer.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._number: int | None = None
        self._round_trip = 0.0
        self._answered = trio.lowlevel.ParkingLot()

    async def ping(self) -> float:
        """See `RpcPeer.ping`."""
        await trio.lowlevel.checkpoint()
        connection = self._connection
        if self._number is None and connection.lost is None:
            self._number = connection.machine.ping(trio.current_time())
            connection.kick()
        if connection.lost is None:
            await self._answered.park()
        if connection.lost is not None:
            raise connection_closed(connection.lost)
        return self._round_trip

    def on_ponged(self, event: events.Ponged) -> None:
        """A ping came back; one that kept the connection alive is not ours."""
        if event.number == self._number:
            self._number, self._round_trip = None, event.round_trip
            self._answered.unpark_all()

    def lose(self) -> None:
        """The connection is over."""
        self._answered.unpark_all()
