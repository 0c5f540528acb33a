"""What users of WebTransport catch, beside the errors of the whole library."""

from __future__ import annotations

from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, StreamReset, StreamsError, StreamStopped

__all__ = ["HandshakeFailed", "SessionClosed", "SessionRefused", "WebTransportStreamReset", "WebTransportStreamStopped"]


def _code(application_code: int | None) -> Code:
    return Code.UNKNOWN if application_code is None else Code.from_number(application_code)


class WebTransportStreamReset(StreamReset):
    """The peer abandoned its half of a stream with RESET_STREAM: what was not yet read is gone.

    Attributes:
      application_code: its application's number, 32 bits; None where no application said why.
    """

    def __init__(self, application_code: int | None, reason: str = "") -> None:
        super().__init__(_code(application_code), reason or f"application code {application_code}")
        self.application_code = application_code


class WebTransportStreamStopped(StreamStopped):
    """The peer refuses more of our half of a stream with STOP_SENDING.

    Attributes:
      application_code: its application's number, 32 bits; None where no application said why.
    """

    def __init__(self, application_code: int | None, reason: str = "") -> None:
        super().__init__(_code(application_code), reason or f"application code {application_code}")
        self.application_code = application_code


class HandshakeFailed(ConnectionLost):
    """TLS failed: the server's certificate is not to be trusted, or the two sides have no protocol in common."""


class SessionClosed(ConnectionLost):
    """The peer closed the session: all its streams are over with it.

    Attributes:
      code: its application's number, 32 bits; 0 where nothing is wrong.
      reason: for people; may be empty.
    """

    def __init__(self, code: int = 0, reason: str = "") -> None:
        super().__init__(f"the peer closed the session with code {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class SessionRefused(StreamsError):
    """The server answered the request for a session with something else than 2xx.

    Attributes:
      status: of the answer.
      headers: its fields, names in lower case.
    """

    def __init__(self, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"the server refused the session with status {status}")
        self.status = status
        self.headers = headers
