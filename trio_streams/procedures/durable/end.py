"""How the end of a run is stored: as the last message of its closed log, in JSON that any reader of the log can read.

::

    {"end": {"code": "OK"}}
    {"end": {"code": "NOT_FOUND", "message": "no such model", "details": {"model": "x"}}}

What makes it the end is its place, not its look: the last message of a log that is closed, which no item can be, since the
end is appended in the step that closes the log.
"""

from __future__ import annotations

import msgspec

from trio_streams.codecs import json_codec
from trio_streams.codes import Code
from trio_streams.errors import CodecError, RpcError
from trio_streams.service.replay_log import RunEnded

__all__ = ["encode_end", "read_end"]


class _Status(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    code: str
    message: str = ""
    details: object = None


class _End(msgspec.Struct, forbid_unknown_fields=True):
    end: _Status


def encode_end(error: RpcError | None) -> bytes:
    """The message that ends a run.

    Args:
      error: what it has ended with; None for well.
    """
    if error is None:
        return msgspec.json.encode(_End(_Status(Code.OK.name)))
    try:
        details = msgspec.json.decode(json_codec(object).encode(error.details))
    except CodecError:
        details = None  # they would not travel either
    return msgspec.json.encode(_End(_Status(error.code, error.message, details)))


def read_end(message: bytes) -> RpcError | None:
    """What the last message of a closed log says; None where the run has ended well.

    Raises:
      RunEnded: ABORTED: it is no end; somebody else has closed the log.
    """
    try:
        status = msgspec.json.decode(message, type=_End).end
    except msgspec.MsgspecError:
        raise RunEnded(Code.ABORTED, "the run's log was closed without its end") from None
    if status.code == Code.OK.name:
        return None
    return RunEnded(status.code, status.message, status.details)
