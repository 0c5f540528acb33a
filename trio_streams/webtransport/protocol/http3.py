"""HTTP/3 on one QUIC connection, without I/O: control streams, QPACK, requests and answers. Nothing is ever pushed.

Spec: RFC 9114, 9204, 9218 §7.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.http3_config import Http3Config
from trio_streams.webtransport.protocol.http3_events import Http3Event
from trio_streams.webtransport.protocol.port import QuicPort
from trio_streams.webtransport.protocol.requests import RawHeaders

__all__ = ["Http3"]


class Http3:
    """One side of a connection.

    The peer's faults: one that ends the connection is raised, and whoever gets it closes the connection with its code; one
    of a request resets and stops its stream, and is an event. Streams that are rejected, and unidirectional ones of an unknown
    kind, are stopped and released here, and no event names them.

    Args:
      quic: the connection.
      is_client: which side this is.
      settings: what to tell the peer beside what the machine says itself (QPACK's, MAX_FIELD_SECTION_SIZE).
      config: limits.
    """

    def __init__(
        self, quic: QuicPort, *, is_client: bool, settings: Mapping[int, int], config: Http3Config | None = None
    ) -> None:
        raise NotImplementedError

    # The connection.

    def start(self) -> None:
        """Open our control and QPACK streams and send SETTINGS; once, when the handshake is complete.

        Raises:
          Http3Error: the peer does not allow three unidirectional streams; the connection is over.
        """
        raise NotImplementedError

    def go_away(self, next_id: int | None = None) -> None:
        """Send GOAWAY: no more requests, please. What comes regardless is rejected.

        Args:
          next_id: the first request that will not be looked at. None on a server: any (2**62 - 4) at first, so that requests
            under way still count, and, a second time, the one behind the last that was seen. A client's is a push's, so 0.

        Raises:
          LocalProtocolError: it is no request's id, or above one that was sent before.
        """
        raise NotImplementedError

    @property
    def peer_settings(self) -> Mapping[int, int] | None:
        """The peer's SETTINGS; None until they are here."""
        raise NotImplementedError

    @property
    def peer_went_away(self) -> bool:
        """Whether the peer has sent GOAWAY."""
        raise NotImplementedError

    # What arrives. Raises Http3Error where the connection is over; nothing is parsed after that.

    def receive(self, stream_id: int, run: Sequence[bytes], *, is_ended: bool) -> None:
        """Bytes of a stream of HTTP/3 arrived, from its first one on."""
        raise NotImplementedError

    def receive_reset(self, stream_id: int, code: int) -> None:
        """The peer abandoned its half of a stream of HTTP/3."""
        raise NotImplementedError

    def receive_stop(self, stream_id: int, code: int) -> None:
        """The peer refuses more of our half of a stream of HTTP/3, also of one that we opened in `start`."""
        raise NotImplementedError

    def receive_writable(self, stream_id: int) -> bool:
        """A request's stream takes bytes again: send what is left of a frame that was cut.

        Returns:
          Whether the application may go on.
        """
        raise NotImplementedError

    def owns(self, stream_id: int) -> bool:
        """Whether a stream is HTTP/3's: a request that is not released, a control or a QPACK stream."""
        raise NotImplementedError

    def events(self) -> Iterator[Http3Event]:
        """Take what has happened, in order."""
        raise NotImplementedError

    # Requests and answers.

    def open_request(self) -> int:
        """Open a request's stream, on a client.

        Returns:
          Its id.

        Raises:
          LocalProtocolError: the peer went away, allows no more streams for now, or this is a server.
        """
        raise NotImplementedError

    def send_head(self, stream_id: int, headers: RawHeaders, *, is_ended: bool = False) -> None:
        """Send the head of a request or an answer; before the latter any number of heads that are not final (1xx).

        Raises:
          LocalProtocolError: the peer would have to call it malformed, or it is above the peer's MAX_FIELD_SECTION_SIZE
            (`field`, `size` and `limit` say so); it is not its turn; our half is over. Nothing was sent.
        """
        raise NotImplementedError

    def send_body(self, stream_id: int, data: bytes | bytearray | memoryview) -> int:
        """Send bytes of a body, as many as the stream has room for.

        Returns:
          How many were taken. If not all were, `Writable` comes, and `receive_writable` then says True.

        Raises:
          LocalProtocolError: it is not its turn; more than content-length; our half is over.
        """
        raise NotImplementedError

    def send_trailers(self, stream_id: int, headers: RawHeaders) -> None:
        """Send the fields behind a body, and end our half.

        Raises:
          LocalProtocolError: as `send_head`, and less than content-length was sent.
        """
        raise NotImplementedError

    def end(self, stream_id: int) -> None:
        """End our half.

        Raises:
          LocalProtocolError: it is not its turn; less than content-length was sent; our half is over.
        """
        raise NotImplementedError

    def unsent_bytes(self, stream_id: int) -> int:
        """What of our half is left here, beside what QUIC has: at most a head and a kilobyte."""
        raise NotImplementedError

    def reset(self, stream_id: int, code: Http3Code) -> None:
        """Abandon our half of a request. One that is over is no matter."""
        raise NotImplementedError

    def stop(self, stream_id: int, code: Http3Code) -> None:
        """Refuse more of the peer's half of a request; no event tells more of it. One that is over is no matter."""
        raise NotImplementedError

    def release(self, stream_id: int, code: Http3Code = Http3Code.H3_NO_ERROR) -> None:
        """Be done with a request, once; QUIC's stream is released with it. Our half is to be ended or reset before.

        Args:
          stream_id: the request's.
          code: why the peer's half is stopped, if it is not over.
        """
        raise NotImplementedError
