"""What becomes of a datagram that belongs to no connection: it is dropped, answered without keeping anything, or let in."""

from __future__ import annotations

import secrets

import attrs

from trio_streams.webtransport.attached import Roster
from trio_streams.webtransport.driven import Address, Opening
from trio_streams.webtransport.endpoint_config import EndpointConfig
from trio_streams.webtransport.quic_packets import (
    CONNECTION_ID_BYTES,
    CONNECTION_REFUSED,
    INVALID_TOKEN,
    FirstPacket,
    first_packet,
    refusal,
    retry,
    version_negotiation,
)
from trio_streams.webtransport.retry_tokens import RetryTokens

__all__ = ["Entry", "FrontDoor"]


@attrs.frozen
class Entry:
    """A client that may come in.

    Attributes:
      packet: its first one.
      opening: what its connection has to know.
    """

    packet: FirstPacket
    opening: Opening

    def refuse(self) -> bytes:
        """What tells it that it may not, after all."""
        return refusal(self.packet, CONNECTION_REFUSED)


class FrontDoor:
    """Who is let in. No state for a stranger: what a Retry has to remember is in its token.

    Args:
      config: limits.
    """

    def __init__(self, config: EndpointConfig) -> None:
        self._config = config
        self._tokens = RetryTokens(config.retry_token_lifetime)

    def look_at(self, datagram: bytes, addr: Address, now: float, roster: Roster) -> Entry | bytes | None:
        """Decide about a datagram.

        Args:
          datagram: it is for no id that leads anywhere.
          addr: from where.
          now: seconds.
          roster: the connections that are here.

        Returns:
          Who may come in, or what to answer, or None for a datagram to be dropped.

        Spec: RFC 9000 §5.2.2, §6.1, §8.1.
        """
        packet = first_packet(datagram)
        if packet is None:
            return None
        if not packet.is_supported:
            return version_negotiation(packet)
        if self._tokens.is_one(packet.token):
            original_id = self._tokens.original_id(packet.token, packet.destination_id, addr, now)
            if original_id is None:
                return refusal(packet, INVALID_TOKEN)  # it took one Retry, and would not take another
            opening = Opening(original_id, packet.destination_id, addr)
        elif roster.half_open_items >= self._config.retry_above_half_open:
            return self._send_away(packet, addr, now)
        else:
            opening = Opening(packet.destination_id, None, addr)
        if roster.half_open_items >= self._config.max_half_open:
            return None
        if len(roster.attached) >= self._config.max_connections:
            return refusal(packet, CONNECTION_REFUSED)
        return Entry(packet, opening)

    def _send_away(self, packet: FirstPacket, addr: Address, now: float) -> bytes:
        source_id = secrets.token_bytes(CONNECTION_ID_BYTES)
        return retry(packet, source_id, self._tokens.issue(packet.destination_id, source_id, addr, now))
