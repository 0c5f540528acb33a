"""Datagrams of sessions: a number in front says whose, and what nobody takes grows old and is dropped.

Spec: RFC 9297 §2.1; draft-ietf-webtrans-http3 §4.5.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Final

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol.error_codes import Http3Code, Http3Error
from trio_streams.webtransport.protocol.varint import decode_varint, encode_varint

__all__ = ["DatagramQueue", "decode_datagram", "encode_datagram", "max_payload_bytes", "runs_by_session"]

_MAX_QUARTER: Final = (1 << 60) - 1
_MAX_ONE_BYTE: Final = 63


@lru_cache(maxsize=256)
def _header(session_id: int) -> bytes:
    return encode_varint(session_id >> 2)


def max_payload_bytes(session_id: int, max_datagram_bytes: int) -> int:
    """The longest payload of a session's datagrams; 0 where none fits.

    Args:
      session_id: whose.
      max_datagram_bytes: what QUIC carries in one datagram frame.
    """
    return max(0, max_datagram_bytes - len(_header(session_id)))


def encode_datagram(session_id: int, payload: bytes, max_datagram_bytes: int) -> bytes:
    """A datagram as QUIC carries it.

    Args:
      session_id: whose.
      payload: the application's.
      max_datagram_bytes: what QUIC carries in one datagram frame.

    Raises:
      LocalProtocolError: it is too large. Nothing cuts datagrams, and one that is too large for aioquic would hold up
        all behind it.
    """
    data = _header(session_id) + payload
    if len(data) > max_datagram_bytes:
        limit = max_payload_bytes(session_id, max_datagram_bytes)
        raise LocalProtocolError(
            f"a datagram of {len(payload)} bytes passes max_datagram_size of {limit}",
            field="max_datagram_size",
            size=len(payload),
            limit=limit,
        )
    return data


def decode_datagram(data: bytes) -> tuple[int, bytes]:
    """A datagram's session and payload.

    Raises:
      Http3Error: it names no stream; the connection is over.
    """
    found = decode_varint(data)
    if found is None or found[0] > _MAX_QUARTER:
        raise Http3Error(
            f"the peer sent a datagram of {len(data)} bytes that names no stream",
            Http3Code.H3_DATAGRAM_ERROR,
            ends_connection=True,
            field="quarter_stream_id",
        )
    quarter, end = found
    return quarter << 2, data[end:]


def runs_by_session(run: Sequence[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Datagrams sorted by their sessions: each session with its payloads, in order.

    Raises:
      Http3Error: one names no stream; the connection is over, behind what came before it.
    """
    found: dict[int, list[bytes]] = {}
    fault: Http3Error | None = None
    for data in run:
        if data and data[0] <= _MAX_ONE_BYTE:  # nearly always
            session_id, payload = data[0] << 2, data[1:]
        else:
            try:
                session_id, payload = decode_datagram(data)
            except Http3Error as error:
                fault = error
                break
        payloads = found.get(session_id)
        if payloads is None:
            payloads = found[session_id] = []
        payloads.append(payload)
    yield from found.items()
    if fault is not None:
        raise fault


class DatagramQueue:
    """Datagrams that wait; the oldest make room for the newest.

    Attributes:
      dropped_items: how many were dropped for want of room.
      expired_items: how many were dropped for their age.

    Args:
      max_items, max_bytes: how many wait, and their payloads together.
      max_age: seconds after which one is of no use; None for never.
    """

    __slots__ = ("_bytes", "_max_age", "_max_bytes", "_max_items", "_waiting", "dropped_items", "expired_items")

    def __init__(self, *, max_items: int, max_bytes: int, max_age: float | None = None) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self.dropped_items: int = 0
        self.expired_items: int = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting_bytes(self) -> int:
        """Payloads that wait, together."""
        return self._bytes

    def put_run(self, run: Sequence[bytes], now: float) -> int:
        """Put datagrams at the end.

        Returns:
          How many were dropped for them, those included that are larger than the whole queue.
        """
        self.expire(now)
        before = self.dropped_items
        size = sum(map(len, run))
        if size > self._max_bytes:
            fitting = [payload for payload in run if len(payload) <= self._max_bytes]
            self.dropped_items += len(run) - len(fitting)
            run, size = fitting, sum(map(len, fitting))
        self._waiting.extend(zip(repeat(now), run, strict=False))
        self._bytes += size
        while len(self._waiting) > self._max_items or self._bytes > self._max_bytes:
            self._pop()
            self.dropped_items += 1
        return self.dropped_items - before

    def take(self, now: float) -> bytes | None:
        """Take the oldest one that is not too old; None where there is none."""
        if self._max_age is not None:
            self.expire(now)
        if not self._waiting:
            return None
        payload = self._waiting.popleft()[1]
        self._bytes -= len(payload)
        return payload

    def peek(self, now: float) -> bytes | None:
        """Look at what `take` would take."""
        self.expire(now)
        return self._waiting[0][1] if self._waiting else None

    def expire(self, now: float) -> None:
        """Drop those that are too old."""
        while self._max_age is not None and self._waiting and now - self._waiting[0][0] > self._max_age:
            self._pop()
            self.expired_items += 1

    def _pop(self) -> bytes:
        _, payload = self._waiting.popleft()
        self._bytes -= len(payload)
        return payload
