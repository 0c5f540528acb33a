"""The states of the two directions of an HTTP/1.1 connection, as its server has them."""

from __future__ import annotations

import enum
from typing import Final

__all__ = [
    "BODILESS",
    "CHUNKED",
    "CLOSED",
    "HEADLESS",
    "IDLE",
    "INPUT_BODY",
    "INPUT_CLOSED",
    "INPUT_HEAD",
    "INPUT_WAITING",
    "IS_BODILESS",
    "OPEN",
    "OVER",
    "SIZED",
    "UNTIL_CLOSE",
    "InputState",
    "OutputState",
]


class InputState(enum.Enum):
    """Where the client's side stands."""

    HEAD = enum.auto()  # between messages, or in a head
    BODY = enum.auto()
    WAITING = enum.auto()  # the request is complete, its answer is not
    CLOSED = enum.auto()


class OutputState(enum.Enum):
    """Where the answer stands."""

    IDLE = enum.auto()  # nothing was asked
    HEADLESS = enum.auto()
    SIZED = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
    BODILESS = enum.auto()
    CLOSED = enum.auto()


# A request looks at some thirty of them, and to find a member in its class costs five times what a name costs.
INPUT_HEAD: Final = InputState.HEAD
INPUT_BODY: Final = InputState.BODY
INPUT_WAITING: Final = InputState.WAITING
INPUT_CLOSED: Final = InputState.CLOSED
IDLE: Final = OutputState.IDLE
HEADLESS: Final = OutputState.HEADLESS
SIZED: Final = OutputState.SIZED
CHUNKED: Final = OutputState.CHUNKED
UNTIL_CLOSE: Final = OutputState.UNTIL_CLOSE
BODILESS: Final = OutputState.BODILESS
CLOSED: Final = OutputState.CLOSED

# Tuples: they are searched by identity, and hashing an enum's member costs more than that.
OPEN: Final = (OutputState.SIZED, OutputState.CHUNKED, OutputState.UNTIL_CLOSE, OutputState.BODILESS)
OVER: Final = (OutputState.IDLE, OutputState.CLOSED)
IS_BODILESS: Final = frozenset({204, 304})
