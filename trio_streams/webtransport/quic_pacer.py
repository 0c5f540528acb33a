"""Pacing in bursts that are worth a timer and a system call.

aioquic's pacer lets one packet out at a time once its bucket is empty, with a timer of microseconds for the next. No timer is
that fine, and a system call takes dozens of packets. So what half a millisecond lets through may leave at once, as far as one
write of the kernel goes: at high rates that is the bound, and at low ones it is less than a packet, and nothing changes.
"""

from __future__ import annotations

from typing import Final

from aioquic.quic.recovery import QuicPacketPacer

__all__ = ["BurstPacer"]

_GRANULARITY: Final = 0.0005
_BURST_SECONDS: Final = 0.002
_MAX_BURST_PACKETS: Final = 64


class BurstPacer(QuicPacketPacer):
    """A token bucket, in seconds, that holds a burst.

    Args:
      max_datagram_size: bytes of a packet.
    """

    def resize(self, max_datagram_size: int) -> None:
        """Note that packets have another size from now on."""
        self._max_datagram_size = max_datagram_size

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        """Learn how fast to send; the bucket holds what that lets through in two milliseconds, or aioquic's few packets."""
        super().update_rate(congestion_window, smoothed_rtt)
        assert self.packet_time is not None
        self.bucket_max: float = max(self.bucket_max, min(_BURST_SECONDS, _MAX_BURST_PACKETS * self.packet_time))

    def next_send_time(self, now: float) -> float | None:  # type: ignore[override]  # aioquic's annotation forgets None
        """When the next burst may leave; None for now."""
        time = super().next_send_time(now)
        if time is None or self.packet_time is None:
            return time
        return now + max(self.packet_time, min(_GRANULARITY, self.bucket_max))
