"""Requests that are no sessions, on the same connection: how many, how urgent, and who holds them.

Spec: RFC 9114 §4.1; RFC 9218 §4, §7, §10.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict, deque
from typing import Final

from trio_streams.core.errors import LocalProtocolError
from trio_streams.webtransport.protocol import events
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.http3 import Http3
from trio_streams.webtransport.protocol.limits import WebTransportLimits
from trio_streams.webtransport.protocol.port import QuicPort
from trio_streams.webtransport.protocol.priority import Priority, parse_priority
from trio_streams.webtransport.protocol.requests import RawHeaders

__all__ = ["PlainRequests"]

_UNSAID: Final = Priority(is_incremental=True)


class PlainRequests:
    """The plain requests of one connection, on either side.

    Args:
      quic: the connection.
      http3: its HTTP/3.
      limits: how many there may be.
      queue: where events go.
    """

    def __init__(self, quic: QuicPort, http3: Http3, limits: WebTransportLimits, queue: deque[events.Event]) -> None:
        self._quic = quic
        self._http3 = http3
        self._limits = limits
        self._queue = queue
        self._open: dict[int, bool] = {}  # whether our half has an end
        self._priorities: OrderedDict[int, Priority] = OrderedDict()  # of requests that are yet to come, or are over

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._open

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> int:
        """Open the stream of a request, on a client.

        Raises:
          LocalProtocolError: too many are open, or the peer allows no more.
        """
        if len(self._open) >= self._limits.max_requests:
            raise LocalProtocolError(
                f"can't open another request: {self._limits.max_requests} are open",
                field="max_requests",
                limit=self._limits.max_requests,
            )
        stream_id = self._http3.open_request()
        self._open[stream_id] = False
        return stream_id

    def on_request(self, stream_id: int, headers: RawHeaders, *, is_ended: bool) -> None:
        """A request's head arrived, on a server."""
        if len(self._open) >= self._limits.max_requests:
            self.reject(stream_id)
            return
        self._open[stream_id] = False
        priority = self._priorities.pop(stream_id, None)
        if priority is None:  # a frame is newer than the field
            said = [value for name, value in headers if name == b"priority"]
            # A client that says nothing may know nothing of it: its streams would wait for one that never ends.
            priority = parse_priority(said) if said else _UNSAID
        self._prioritise(stream_id, priority)
        self._queue.append(events.RequestReceived(stream_id, headers, is_ended))

    def on_priority(self, stream_id: int, priority: Priority) -> None:
        """A client changed its mind, perhaps before its request is here."""
        if stream_id in self._open:
            self._prioritise(stream_id, priority)
            return
        self._priorities[stream_id] = priority
        if len(self._priorities) > self._limits.max_requests:
            self._priorities.popitem(last=False)

    def on_over(self, event: events.RequestReset | events.RequestStopped) -> None:
        """The peer gave up one of the halves."""
        if event.stream_id in self._open:
            self._queue.append(event)
        else:
            # Before its head was here; or it was rejected for its head, and this came in the same breath.
            with contextlib.suppress(LocalProtocolError):
                self.reject(event.stream_id, Http3Code.H3_REQUEST_CANCELLED)

    def reject(self, stream_id: int, code: Http3Code = Http3Code.H3_REQUEST_REJECTED) -> None:
        """Say that nobody has looked at a request, or does any more."""
        self._http3.reset(stream_id, code)
        self._http3.release(stream_id, code)

    def abandon(self, stream_id: int, code: Http3Code) -> None:
        """Reset our half and stop the peer's."""
        if stream_id in self._open:
            self._http3.reset(stream_id, code)
            self._http3.stop(stream_id, code)

    def release(self, stream_id: int) -> None:
        """Be done with a request; our half is reset if it has no end."""
        is_ended = self._open.pop(stream_id, None)
        if is_ended is None:
            return
        if not is_ended:
            self._http3.reset(stream_id, Http3Code.H3_REQUEST_CANCELLED)
        self._http3.release(stream_id, Http3Code.H3_NO_ERROR if is_ended else Http3Code.H3_REQUEST_CANCELLED)

    def send_head(self, stream_id: int, headers: RawHeaders, *, is_ended: bool) -> None:
        """Send a head.

        Raises:
          LocalProtocolError: it is malformed or too large, it is not its turn, or our half is over.
        """
        if stream_id in self._open:
            self._http3.send_head(stream_id, headers, is_ended=is_ended)
            self._open[stream_id] = is_ended

    def send_body(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Send content; how many bytes were taken.

        Raises:
          LocalProtocolError: it is not its turn, more than was announced, or our half is over.
        """
        return self._http3.send_body(stream_id, data) if stream_id in self._open else 0

    def send_trailers(self, stream_id: int, headers: RawHeaders) -> None:
        """Send trailers, and end.

        Raises:
          LocalProtocolError: as `send_head`.
        """
        if stream_id in self._open:
            self._http3.send_trailers(stream_id, headers)
            self._open[stream_id] = True

    def end(self, stream_id: int) -> None:
        """End our half.

        Raises:
          LocalProtocolError: it is not its turn, less than was announced, or our half is over.
        """
        if stream_id in self._open:
            self._http3.end(stream_id)
            self._open[stream_id] = True

    def clear(self) -> None:
        """The connection is over."""
        self._open.clear()
        self._priorities.clear()

    def _prioritise(self, stream_id: int, priority: Priority) -> None:
        self._quic.set_priority(stream_id, priority.rank(stream_id))
