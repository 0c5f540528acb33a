"""aioquic's connection with packets that grow, and a goodbye that is said again.

Below `quic_connection`, and like it by overriding alone; the same canary watches the private names.

- *Size.* Stock packets have one size for ever. Here a packet of nothing but padding probes a larger one once the handshake is
  confirmed, and again on each path the peer migrates to. It is in no congestion window and sets no timer, so that losing it costs
  nothing. `quic_packet_size` decides which size is next.
- *Pacing* is `quic_pacer`.
- *Closing.* Stock says CONNECTION_CLOSE once, and if that is lost the peer waits until it is idle for too long. Here whoever
  still sends hears it again, less and less often (RFC 9000 §10.2.1).
- *Logging.* Stock warns of every fault of a peer, so that strangers could fill a log. What matters is in the event that ends the
  connection, and nothing is logged here.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from aioquic._buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionAdapter, QuicConnectionState, QuicNetworkPath
from aioquic.quic.packet import QuicFrameType, QuicPacketType, pull_quic_transport_parameters
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.tls import Epoch

from trio_streams.webtransport.quic_pacer import BurstPacer
from trio_streams.webtransport.quic_packet_size import MIN_PACKET_BYTES, PacketSizeSearch

__all__ = ["SizedConnection"]

_BLACK_HOLE_TIMEOUTS: Final = 3
"""Probe timeouts in a row after which packets that are larger than they have to be are taken for the reason."""

_ROUNDING_SECONDS: Final = 1e-6


class _Silence(QuicConnectionAdapter):
    """A logger that is not even asked for its level."""

    def log(self, level: int, msg: object, *args: object, **kwargs: object) -> None:
        """Log nothing."""


_SILENT: Final = _Silence(logging.getLogger("trio_streams.quic.machine"), {"id": ""})


class SizedConnection(QuicConnection):
    """The connection below `TunedConnection`.

    Args:
      configuration: aioquic's.
      max_packet_bytes: the largest UDP payload to send.
      original_destination_connection_id: on a server, where the client's first packet was sent to.
      retry_source_connection_id: on a server that asked for a retry, the id it did that with.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        max_packet_bytes: int,
        *,
        original_destination_connection_id: bytes | None,
        retry_source_connection_id: bytes | None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self._logger = self._loss._logger = _SILENT  # noqa: SLF001
        self.packet_size: PacketSizeSearch = PacketSizeSearch(max_packet_bytes)
        self._pacer = BurstPacer(max_datagram_size=MIN_PACKET_BYTES)
        self._loss._pacer = self._pacer  # noqa: SLF001
        self._sized_path: QuicNetworkPath | None = None
        self._farewell: list[tuple[bytes, Any]] = []
        self._late_items = 0
        self._farewell_is_due = False

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:  # noqa: ANN401 - as the socket has it
        """Take a UDP datagram; one that comes after the goodbye may be answered with it."""
        if self._farewell and self._state is QuicConnectionState.CLOSING:
            self._late_items += 1
            self._farewell_is_due = self._farewell_is_due or self._late_items & (self._late_items - 1) == 0
            return
        super().receive_datagram(data, addr, now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """What is to be sent at once, and to where; now and then with a probe of a larger packet."""
        path = self._network_paths[0]
        if path is not self._sized_path:
            self._sized_path = path
            self.packet_size.restart()
            self._take_size()
        if self._close_event is not None:
            return self._say_goodbye(now)
        datagrams = super().datagrams_to_send(now)
        # Only a peer that completed the handshake is worth a probe, and only where its address is its own.
        if self._handshake_confirmed and path.is_validated and self._close_event is None:
            size = self.packet_size.next_probe()
            if size is not None:
                datagrams += self._probe(size, path, now)
        return datagrams

    def handle_timer(self, now: float) -> None:
        """Note that time has passed."""
        # Stock adds a delay for the deadline and subtracts it for the decision, which may then be an error of rounding away: told
        # the time of the deadline itself, it would do nothing, and name the same deadline again.
        super().handle_timer(now + _ROUNDING_SECONDS)
        if self._max_datagram_size > MIN_PACKET_BYTES and self._loss._pto_count >= _BLACK_HOLE_TIMEOUTS:  # noqa: SLF001
            self.packet_size.restart()
            self._take_size()

    def _say_goodbye(self, now: float) -> list[tuple[bytes, Any]]:
        if self._close_pending:
            self._farewell = super().datagrams_to_send(now)
            return self._farewell
        if not self._farewell_is_due or self._state is not QuicConnectionState.CLOSING:
            return []
        self._farewell_is_due = False
        return self._farewell

    def _probe(self, size: int, path: QuicNetworkPath, now: float) -> list[tuple[bytes, Any]]:
        """A packet of a size that may not pass, with nothing in it (RFC 9000 §14.4)."""
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            peer_cid=self._peer_cid.cid,
            spin_bit=self._spin_bit,
            version=self._version or 0,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[Epoch.ONE_RTT])
        frame = builder.start_frame(QuicFrameType.PING, handler=self._on_probe_delivery, handler_args=(size, path))
        frame.push_bytes(bytes(builder.remaining_buffer_space))
        packet = builder._packet  # noqa: SLF001
        assert packet is not None
        # Neither the congestion window nor the probe timeout shall hear of its loss.
        packet.in_flight = packet.is_ack_eliciting = False
        return self._flush_builder(builder=builder, network_path=path, peer_cid=self._peer_cid.cid, now=now)

    def _on_probe_delivery(self, delivery: QuicDeliveryState, size: int, path: QuicNetworkPath) -> None:
        if path is not self._sized_path:
            return
        if delivery is QuicDeliveryState.ACKED:
            self.packet_size.on_acknowledged(size)
            self._take_size()
        else:
            self.packet_size.on_lost(size)

    def _take_size(self) -> None:
        self._max_datagram_size = self.packet_size.size_bytes
        self._pacer.resize(self._max_datagram_size)

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        peer = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if peer is not None and not from_session_ticket:
            self.packet_size.limit(peer)
