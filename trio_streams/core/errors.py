"""The errors that machines make. Whoever did it is in the name: Local is you, Remote is the peer."""

from __future__ import annotations

from trio_streams.codes import Code

__all__ = ["FlowControlError", "LocalProtocolError", "ProtocolError", "RemoteProtocolError", "StreamsError"]


class StreamsError(Exception):
    """The root of every error of this library."""


class ProtocolError(StreamsError):
    """Somebody broke the rules of a protocol.

    Attributes:
      code: what to tell the peer.
      field: the name of the offending field or limit, empty where the order of events is at fault.
      size: the offending value's size or number, where there is one.
      limit: the limit that it passed, where there is one.
    """

    def __init__(
        self,
        message: str,
        *,
        code: Code = Code.PROTOCOL_ERROR,
        field: str = "",
        size: int | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.size = size
        self.limit = limit


class LocalProtocolError(ProtocolError):
    """You asked for something that the state or a limit forbids; nothing was sent and nothing has changed."""


class RemoteProtocolError(ProtocolError):
    """The peer did something that the protocol or a limit forbids."""


class FlowControlError(RemoteProtocolError):
    """The peer sent more than it was granted."""
