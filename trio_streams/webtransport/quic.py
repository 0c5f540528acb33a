"""A QUIC connection without I/O: credit by consumption, bounded buffers, and a cost that idle streams do not have.

aioquic does the handshake, packets, acknowledgements, loss recovery and congestion control. What it leaves to the application
is here, and what it does otherwise than an application needs is overridden in `quic_connection`:

- A peer may send what was *consumed* plus a window, on each stream and on the connection. What a reset, a stop or a
  release leaves unread counts as consumed.
- A stream takes as much as its send buffer has room for, and says `Writable` below a low mark. aioquic gets what the peer's
  limits and the congestion window let out, in the order of the scheduler.
- Datagrams that fit no packet are refused, and those that wait are bounded in number, bytes and age.

Whoever drives it calls `receive` for each UDP datagram, then takes the `events`, then sends `datagrams_to_send`, and takes
the events again, since sending makes room. All ids, codes and numbers are QUIC's (RFC 9000, 9221).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from aioquic.quic import events as stock
from aioquic.quic.configuration import QuicConfiguration

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport import quic_events
from trio_streams.webtransport.quic_config import QuicLimits
from trio_streams.webtransport.quic_connection import TunedConnection
from trio_streams.webtransport.quic_datagrams import ArrivedDatagrams
from trio_streams.webtransport.quic_streams import QuicStreams

__all__ = ["Address", "Quic"]

Address: TypeAlias = Any
"""Where a UDP datagram comes from or goes to, as the socket has it; it is only compared and handed back."""

_MAX_REASON_BYTES: Final = 512  # a longer one might not fit the packet that closes the connection


class Quic(QuicStreams):
    """One side of a connection.

    Args:
      configuration: of `quic_config`, for a client or a server.
      limits: what the connection may hold; those that the configuration was made with.
      original_destination_connection_id: on a server, where the client's first packet was sent to.
      retry_source_connection_id: on a server that asked for a retry, the id it did that with.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        limits: QuicLimits,
        *,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        connection = TunedConnection(
            configuration,
            limits,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        super().__init__(connection, limits)
        self._largest_datagram: int | None = None
        self._is_largest_known = False
        self._received = ArrivedDatagrams(limits.max_queued_datagrams, limits.max_queued_datagram_bytes)
        self._allowed = (0, 0)
        self._is_handshaken = False
        self._handlers: dict[type[stock.QuicEvent], Callable[[Any], None]] = {
            stock.StreamDataReceived: self._on_data,
            stock.StreamReset: self._on_reset,
            stock.StopSendingReceived: self._on_stop,
            stock.HandshakeCompleted: self._on_handshake,
            stock.ConnectionIdIssued: self._on_connection_id_issued,
            stock.ConnectionIdRetired: self._on_connection_id_retired,
        }

    # The connection.

    @property
    def host_connection_id(self) -> bytes:
        """The first connection id of this side; later ones are events."""
        return self._connection.host_cid

    @property
    def peer_certificate(self) -> bytes | None:
        """The server's certificate as DER, on a client; None before it is here."""
        return self._connection.peer_certificate

    @property
    def is_closing(self) -> bool:
        """Whether the connection is over, or about to be: nothing is sent any more but that."""
        return self._connection.is_closing

    @property
    def round_trip(self) -> float | None:
        """Seconds there and back, smoothed; None before the first measurement."""
        return self._connection.round_trip

    @property
    def max_datagram_size(self) -> int | None:
        """The largest datagram that `send_datagram` takes now, in bytes; None where the peer takes none."""
        if not self._is_largest_known:  # what it depends on changes where something arrives, leaves or is due
            self._largest_datagram = self._connection.max_datagram_bytes
            self._is_largest_known = True
        return self._largest_datagram

    @property
    def dropped_datagrams(self) -> tuple[int, int]:
        """How many datagrams were dropped before they were sent, and before they were taken."""
        return self._connection.datagrams.dropped_items, self._received.dropped_items

    def connect(self, addr: Address, now: float) -> None:
        """Begin the handshake, on a client, once."""
        self._connection.connect(addr, now)

    def ping(self) -> None:
        """Make the peer answer, so that neither side takes a silence for the end."""
        self._connection.send_ping(0)

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close the connection with a code of the application; the next flush says so to the peer.

        Args:
          code: of the application.
          reason: in words; what passes 512 bytes is cut off.
        """
        cut = reason.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        self._connection.close(error_code=code, reason_phrase=cut)

    def receive(self, datagram: bytes, addr: Address, now: float) -> None:
        """Take a UDP datagram. A peer's fault does not raise: it closes the connection, and an event says so.

        Args:
          datagram: as it came.
          addr: from where.
          now: seconds.
        """
        self._connection.receive_datagram(datagram, addr, now)
        self._take_stock()

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Address]]:
        """What is to be sent at once, and to where. What pacing or the congestion window holds back comes later.

        Args:
          now: seconds.
        """
        connection = self._connection
        if not connection.has_path:
            return []
        if self._limits.max_datagram_age is not None:
            connection.datagrams.drop_older_than(now - self._limits.max_datagram_age)
        self._drop_what_no_longer_fits()
        connection.data_limit.grant(self._due_credit())
        self._feed()
        datagrams = connection.datagrams_to_send(now)
        if self._note_closed():  # the peer may open others, and waits for that if nothing else is to be sent
            datagrams += connection.datagrams_to_send(now)
        self._is_largest_known = False
        self._note_writable()
        return datagrams

    def next_deadline(self) -> float | None:
        """When `handle_deadline` wants to be called, in seconds; None for never."""
        return self._connection.get_timer() if self._connection.has_path else None

    def handle_deadline(self, now: float) -> None:
        """Note that time has passed; what that makes is in `events` and `datagrams_to_send`.

        Args:
          now: seconds.
        """
        if self.next_deadline() is None:
            return
        was_closing = self.is_closing
        self._connection.handle_timer(now)
        self._take_stock(is_timeout=not was_closing)

    def events(self) -> Iterator[quic_events.Event]:
        """Take what has happened, in order; datagrams come last."""
        while self._events:
            event = self._events.popleft()
            if type(event) is quic_events.StreamDataReceived:
                self._runs.pop(event.stream_id, None)
                if event.run or event.is_ended:
                    yield event
            elif not isinstance(event, quic_events.StreamEvent) or self._is_told(event.stream_id):
                yield event
        if self._is_handshaken and self._allowed != self._connection.allowed_streams:
            self._allowed = self._connection.allowed_streams
            yield quic_events.StreamsAllowed(*self._allowed)
        if self._received:
            yield quic_events.DatagramsReceived(self._received.take_run())

    # Datagrams.

    def send_datagram(self, data: bytes, now: float, *, group: int = 0) -> None:
        """Let a datagram leave with the next flush. It may be lost, and the oldest are dropped if too many wait.

        Args:
          data: at most `max_datagram_size` bytes.
          now: seconds; nobody looks at it where there is no `max_datagram_age`.
          group: those of one group leave in order, and groups take turns; whose group has most waiting pays for a flood.

        Raises:
          LocalProtocolError: it is too large, or the peer takes no datagrams.
        """
        limit = self._largest_datagram if self._is_largest_known else self.max_datagram_size
        if limit is None:
            raise LocalProtocolError("can't send a datagram: the peer takes none", field="max_datagram_frame_size")
        if len(data) > limit:
            raise LocalProtocolError(
                f"can't send a datagram of {len(data)} bytes: max_datagram_size is {limit}",
                field="max_datagram_size",
                size=len(data),
                limit=limit,
            )
        self._connection.datagrams.push(bytes(data), now, group)

    def drop_datagrams(self, group: int) -> None:
        """Drop what a group still has waiting."""
        self._connection.datagrams.drop_group(group)

    def _drop_what_no_longer_fits(self) -> None:
        # The peer may have gone over to a longer connection id since. One that fits no packet would block the others.
        queue = self._connection.datagrams
        while queue and len(queue[0]) > (self.max_datagram_size or 0):
            queue.drop_next()

    # What aioquic says.

    def _take_stock(self, *, is_timeout: bool = False) -> None:
        connection = self._connection
        self._is_largest_known = False
        if connection.arrived:
            self._received.push_run(connection.arrived)
            connection.arrived.clear()
        while (event := connection.next_event()) is not None:
            if isinstance(event, stock.ConnectionTerminated):
                self._on_terminated(event, is_timeout=is_timeout)
            elif (handler := self._handlers.get(type(event))) is not None:
                handler(event)
        self._note_raised()
        self._note_delivered()

    def _on_handshake(self, event: stock.HandshakeCompleted) -> None:
        self._is_handshaken = True
        self._events.append(quic_events.Handshaken(event.alpn_protocol, event.session_resumed))

    def _on_connection_id_issued(self, event: stock.ConnectionIdIssued) -> None:
        self._events.append(quic_events.ConnectionIdIssued(event.connection_id))

    def _on_connection_id_retired(self, event: stock.ConnectionIdRetired) -> None:
        self._events.append(quic_events.ConnectionIdRetired(event.connection_id))

    def _on_terminated(self, event: stock.ConnectionTerminated, *, is_timeout: bool) -> None:
        self._events.append(
            quic_events.ConnectionTerminated(
                event.error_code, event.reason_phrase, event.frame_type is None, is_timeout
            )
        )
