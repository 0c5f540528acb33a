"""A run of payloads as the answer to an exchange: a line of JSON for each."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from trio_streams.service.exchange import Exchange, RequestHead
from trio_streams.wire.sse import CONTENT_TYPE as SSE
from trio_streams.wire.sse import Event

__all__ = ["NDJSON", "prefers_ndjson", "respond_ndjson"]

NDJSON: Final = "application/x-ndjson"


def prefers_ndjson(request: RequestHead, default: str | None) -> bool:
    """Whether the client asks for lines rather than for events.

    By `Accept`, where it names one of the two (the one of the greater weight, or else the first); otherwise by what the
    stream is by default.

    Spec: RFC 9110 §12.5.1.
    """
    best: tuple[float, str] = (0.0, "")
    for part in (request.header("accept") or "").split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((_weight(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
        if media_type in {NDJSON, SSE} and weight > best[0]:
            best = (weight, media_type)
    return (best[1] or default) == NDJSON


def _weight(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0


async def respond_ndjson(exchange: Exchange, items: AsyncGenerator[bytes | Event, None]) -> None:
    """Answer with a line for each item. HEAD gets the head alone.

    Args:
      exchange: one without a head yet.
      items: payloads without line ends, such as JSON; closed here.

    Raises:
      BaseException: what the source raised. The answer then stops short, which its framing shows: a line that is no item
        could not be told from one.
    Cancellation: as an error.
    """
    async with aclosing(items):
        await exchange.send_head(
            200, [("content-type", NDJSON), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
        )
        if exchange.request.method == "HEAD":
            return
        async for item in items:
            await exchange.send((item.data if isinstance(item, Event) else item) + b"\n")
    exchange.end()
