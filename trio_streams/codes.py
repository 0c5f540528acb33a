"""The one error table: what each code is called, and what it becomes in every dialect.

A code travels as its *name* where there is text (END status, JSON), and as its *number* where a wire has room
for an integer only (RESET and STOP on QUIC and in our binary dialect). Numbers 0–16 are gRPC's, so that column
needs no mapping; numbers from 32 on are ours and project onto the nearest gRPC code.
"""

from __future__ import annotations

import enum

import attrs

__all__ = ["Code", "Projection", "http_status", "websocket_close_code"]


@attrs.frozen
class Projection:
    """What one code becomes elsewhere.

    Attributes:
      http: HTTP status of an answer that fails before its head was sent.
      websocket: WebSocket close code (RFC 6455 §7.4) when the code ends a whole connection.
      grpc: gRPC status number.
      jsonrpc: JSON-RPC 2.0 error number.
      is_retryable: whether the same request may succeed later without being changed.
    """

    http: int
    websocket: int
    grpc: int
    jsonrpc: int
    is_retryable: bool


class Code(enum.IntEnum):
    """Why a stream or a connection ended. The value is the number used on the wire."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16
    PROTOCOL_ERROR = 32
    FLOW_CONTROL_ERROR = 33
    STREAM_LIMIT_ERROR = 34
    MESSAGE_TOO_LARGE = 35
    HANDSHAKE_TIMEOUT = 36
    IDLE_TIMEOUT = 37

    @property
    def projection(self) -> Projection:
        """What this code becomes in other dialects."""
        return _TABLE[self]

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may succeed later without being changed."""
        return _TABLE[self].is_retryable

    @classmethod
    def from_number(cls, number: int) -> Code:
        """The code for a number read from a wire; UNKNOWN for one that this version has never heard of."""
        return _BY_NUMBER.get(number, cls.UNKNOWN)

    @classmethod
    def from_name(cls, name: str) -> Code:
        """The code for a name read from a wire; UNKNOWN for an application's own name."""
        return cls.__members__.get(name, cls.UNKNOWN)


_TABLE: dict[Code, Projection] = {
    #                                    HTTP   WS    gRPC JSON-RPC  retryable
    Code.OK: Projection(200, 1000, 0, 0, False),
    Code.CANCELLED: Projection(499, 1000, 1, -32000, False),
    Code.UNKNOWN: Projection(500, 1011, 2, -32000, False),
    Code.INVALID_ARGUMENT: Projection(400, 1008, 3, -32602, False),
    Code.DEADLINE_EXCEEDED: Projection(504, 1011, 4, -32000, True),
    Code.NOT_FOUND: Projection(404, 1008, 5, -32601, False),
    Code.ALREADY_EXISTS: Projection(409, 1008, 6, -32000, False),
    Code.PERMISSION_DENIED: Projection(403, 1008, 7, -32000, False),
    Code.RESOURCE_EXHAUSTED: Projection(429, 1013, 8, -32000, True),
    Code.FAILED_PRECONDITION: Projection(422, 1008, 9, -32000, False),
    Code.ABORTED: Projection(409, 1011, 10, -32000, True),
    Code.OUT_OF_RANGE: Projection(416, 1008, 11, -32000, False),
    Code.UNIMPLEMENTED: Projection(501, 1008, 12, -32601, False),
    Code.INTERNAL: Projection(500, 1011, 13, -32603, False),
    Code.UNAVAILABLE: Projection(503, 1012, 14, -32000, True),
    Code.DATA_LOSS: Projection(500, 1011, 15, -32000, False),
    Code.UNAUTHENTICATED: Projection(401, 1008, 16, -32000, False),
    Code.PROTOCOL_ERROR: Projection(400, 1002, 13, -32600, False),
    Code.FLOW_CONTROL_ERROR: Projection(400, 1002, 13, -32600, False),
    Code.STREAM_LIMIT_ERROR: Projection(429, 1008, 8, -32000, True),
    Code.MESSAGE_TOO_LARGE: Projection(413, 1009, 8, -32600, False),
    Code.HANDSHAKE_TIMEOUT: Projection(408, 1008, 4, -32000, True),
    Code.IDLE_TIMEOUT: Projection(408, 1001, 14, -32000, True),
}

_BY_NUMBER: dict[int, Code] = {code.value: code for code in Code}


def http_status(name: str) -> int:
    """The HTTP status for a code's name; 500 for an application's own name."""
    return Code.from_name(name).projection.http


def websocket_close_code(name: str) -> int:
    """The WebSocket close code for a code's name; 1011 for an application's own name."""
    return Code.from_name(name).projection.websocket
