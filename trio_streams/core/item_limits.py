"""How large an item may be, on its way out and on its way in."""

from __future__ import annotations

from collections.abc import Sequence

from trio_streams.codes import Code
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError

__all__ = ["item_too_large", "refuse_larger"]

_FIELD = "max_item_bytes"


def refuse_larger(payloads: Sequence[bytes], limit: int) -> None:
    """Look at the items that are to be sent.

    Args:
      payloads: the items.
      limit: bytes that the peer takes in one.

    Raises:
      LocalProtocolError: one of them is larger.
    """
    for payload in payloads:
        if len(payload) > limit:
            raise LocalProtocolError(
                f"an item of {len(payload)} bytes passes {_FIELD} of {limit}",
                code=Code.MESSAGE_TOO_LARGE,
                field=_FIELD,
                size=len(payload),
                limit=limit,
            )


def item_too_large(size: int, limit: int) -> RemoteProtocolError:
    """What to say of an item that is larger than we take.

    Args:
      size: its bytes, as announced.
      limit: what we take.
    """
    return RemoteProtocolError(
        f"the peer sent an item of {size} bytes, {_FIELD} is {limit}",
        code=Code.MESSAGE_TOO_LARGE,
        field=_FIELD,
        size=size,
        limit=limit,
    )
