"""A byte link in virtual time: late, unsteady, splitting, narrow, and, when you say so, silent.

What carries bytes in order can't lose some in the middle; what it can do is cut them anywhere, be late by a different
amount each time, and fall silent for good in one direction while the other still works (a half-open connection). All
of it comes from a seed, and time is a number that the caller passes in.
"""

from __future__ import annotations

import random
from collections import deque

__all__ = ["Link", "Pipe"]


class Pipe:
    """One direction of a link. Bytes arrive in order, whatever the delays.

    Args:
      rng: decides delays and splits.
      latency: the shortest and the longest delay of a chunk, in seconds.
      max_chunk: the most bytes that arrive at once, None for no splitting.
      bandwidth: bytes a second, None for no limit.
    """

    def __init__(
        self, rng: random.Random, latency: tuple[float, float], max_chunk: int | None, bandwidth: float | None
    ) -> None:
        self._rng = rng
        self._latency = latency
        self._max_chunk = max_chunk
        self._bandwidth = bandwidth
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._line_free_at = float("-inf")
        self._last_arrival = float("-inf")
        self._left: int | None = None
        self.in_flight: int = 0
        self.sent_bytes: int = 0
        self.lost_bytes: int = 0

    @property
    def next_arrival(self) -> float | None:
        """When the next chunk arrives; None where nothing is under way."""
        return self._chunks[0][0] if self._chunks else None

    @property
    def is_cut(self) -> bool:
        """Whether what is sent from now on is lost."""
        return self._left == 0

    def send(self, data: bytes, now: float) -> None:
        """Put bytes on the line. Sending never fails and never waits: a link that was cut takes them, too.

        Args:
          data: any number of bytes.
          now: seconds; never less than in an earlier call.
        """
        self.sent_bytes += len(data)
        if self._left is not None:
            kept = data[: self._left]
            self._left -= len(kept)
            self.lost_bytes += len(data) - len(kept)
            data = kept
        position = 0
        while position < len(data):
            size = self._chunk_size(len(data) - position)
            self._schedule(data[position : position + size], now)
            position += size

    def _chunk_size(self, available: int) -> int:
        if self._max_chunk is None:
            return available
        return min(available, self._rng.randint(1, self._max_chunk))

    def _schedule(self, chunk: bytes, now: float) -> None:
        leaves = max(now, self._line_free_at)
        if self._bandwidth is not None:
            leaves += len(chunk) / self._bandwidth
        self._line_free_at = leaves
        # Later bytes never overtake: a short delay after a long one arrives together with it.
        self._last_arrival = max(self._last_arrival, leaves + self._rng.uniform(*self._latency))
        self._chunks.append((self._last_arrival, chunk))
        self.in_flight += len(chunk)

    def receive(self, now: float) -> bytes:
        """Take the next chunk that is there.

        Args:
          now: seconds.

        Returns:
          The chunk, or nothing where none has arrived yet.
        """
        if not self._chunks or self._chunks[0][0] > now:
            return b""
        chunk = self._chunks.popleft()[1]
        self.in_flight -= len(chunk)
        return chunk

    def cut(self, after_bytes: int = 0) -> None:
        """Lose everything from a point on, silently: neither end is told.

        Args:
          after_bytes: how many more bytes arrive, counted from the next one to arrive.
        """
        self._left = after_bytes
        chunks, self._chunks = self._chunks, deque()
        for arrival, chunk in chunks:
            kept = chunk[: self._left]
            self._left -= len(kept)
            self.lost_bytes += len(chunk) - len(kept)
            if kept:
                self._chunks.append((arrival, kept))
        self.in_flight = sum(len(chunk) for _, chunk in self._chunks)


class Link:
    """Two pipes between a client and a server.

    Args:
      seed: the same seed gives the same delays and splits.
      latency: the shortest and the longest delay of a chunk, in seconds; each is drawn anew, which is the jitter.
      max_chunk: the most bytes that arrive at once: a chunk has 1 to `max_chunk` bytes. None for no splitting; 1 for
        single bytes.
      bandwidth: bytes a second in each direction, None for no limit.

    Raises:
      ValueError: a latency below 0 or the longest below the shortest, or a size or rate that lets nothing through.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        latency: tuple[float, float] = (0.0, 0.0),
        max_chunk: int | None = None,
        bandwidth: float | None = None,
    ) -> None:
        if not 0 <= latency[0] <= latency[1]:
            raise ValueError(f"latency must be (shortest, longest) in seconds, not {latency!r}")
        if max_chunk is not None and max_chunk < 1:
            raise ValueError(f"max_chunk must be at least 1, not {max_chunk}")
        if bandwidth is not None and not bandwidth > 0:
            raise ValueError(f"bandwidth must be above 0 bytes a second, not {bandwidth}")
        self.seed = seed
        # Reproducible, not secret. Each direction has its own numbers: what one sends does not change the other's.
        self.to_server: Pipe = Pipe(random.Random(f"{seed} to server"), latency, max_chunk, bandwidth)  # noqa: S311
        self.to_client: Pipe = Pipe(random.Random(f"{seed} to client"), latency, max_chunk, bandwidth)  # noqa: S311

    def cut(self) -> None:
        """Fall silent in both directions: what is under way is lost, too."""
        self.to_server.cut()
        self.to_client.cut()
