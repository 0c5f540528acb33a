"""Who is told of what happens on the streams of a connection. Nothing here waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.stream_half import OverCause

__all__ = ["RequestSink", "SessionSink", "Sink", "StreamSink"]


class Sink(Protocol):
    """What streams of sessions and plain requests have in common."""

    def on_writable(self) -> None:
        """A half of ours that took less than it was given has room again."""
        ...

    def on_delivered(self) -> None:
        """The peer has all of a half of ours that was ended."""
        ...

    def on_lost(self, over: OverCause) -> None:
        """The session or the connection is over, and nothing more is told; the machine has released the stream.

        Args:
          over: makes the error that says why.
        """
        ...


class StreamSink(Sink, Protocol):
    """A stream of a session."""

    def on_received(self, run: Sequence[bytes], is_ended: bool) -> None:
        """Bytes arrived, maybe with the end behind them; they are to be `consumed`."""
        ...

    def on_reset(self, code: int | None) -> None:
        """The peer abandoned its half, with a code of its application."""
        ...

    def on_stopped(self, code: int | None) -> None:
        """The peer refuses more of ours, with a code of its application."""
        ...


class SessionSink(Protocol):
    """Who serves the streams that the peer opens in a session."""

    def on_stream_opened(self, stream_id: int, is_unidirectional: bool) -> None:
        """The peer opened a stream: say who hears of it with `Link.add_stream_sink`, and release it once."""
        ...

    def on_streams_allowed(self, is_unidirectional: bool) -> None:
        """The peer allows more streams, after `can_open` said no."""
        ...

    def on_flush(self) -> None:
        """What was sent is about to leave: now is the time to hand on what has come together."""
        ...

    def on_lost(self, over: OverCause) -> None:
        """The session is over, and its streams are: their sinks go with `Link.drop_stream_sink`, and are told nothing more.

        Args:
          over: makes the error that says why.
        """
        ...


class RequestSink(Sink, Protocol):
    """A plain request, on either side of it."""

    def on_head(self, headers: RawHeaders, is_ended: bool) -> None:
        """A head of the answer arrived, on a client; those with a status of 1xx come first."""
        ...

    def on_body(self, run: Sequence[bytes], size: int, is_ended: bool) -> None:
        """Content arrived, `size` bytes; they are to be `consumed`."""
        ...

    def on_trailers(self, headers: RawHeaders) -> None:
        """Fields behind the content arrived, and with them the end."""
        ...

    def on_reset(self, code: int) -> None:
        """The peer abandoned its half, with a code of HTTP/3."""
        ...

    def on_stopped(self, code: int) -> None:
        """The peer refuses more of ours, with a code of HTTP/3."""
        ...
