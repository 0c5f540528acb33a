"""A stream as a pure function: what a server answers to a reader's request, for tests of machines.

Positions are offsets, zero-padded. Answers are bounded by a number of messages, and cut where a test says.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import attrs

from trio_streams.durable.protocol.follower import Follower
from trio_streams.durable.protocol.reading import Piece, ReaderConfig
from trio_streams.durable.protocol.retry import Attempts, RetryOptions
from trio_streams.durable.types import LiveMode

__all__ = ["Answer", "ModelStream", "follower", "take", "text_of"]


def text_of(position: int) -> str:
    """The offset of a position."""
    return f"{position:06}"


@attrs.frozen
class Answer:
    """A head and a body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""


@attrs.define
class ModelStream:
    """Messages: bytes, or JSON texts.

    Attributes:
      messages: what the stream holds; each costs its length plus one of offsets, so that an empty one moves, too.
      content_type: of them.
      is_closed: whether there will be no more.
    """

    messages: Sequence[bytes]
    content_type: str = "application/octet-stream"
    is_closed: bool = False

    @property
    def data(self) -> bytes:
        """All bytes."""
        return b"".join(self.messages)

    @property
    def tail(self) -> int:
        """The number of messages, which is the last offset."""
        return len(self.messages)

    def answer(self, params: dict[str, str], most: int) -> Answer:
        """Answer a read, without waiting.

        Args:
          params: of the query.
          most: messages in one answer.
        """
        asked = params["offset"]
        start = self.tail if asked == "now" else 0 if asked == "-1" else int(asked)
        end = min(start + most, self.tail)
        live = params.get("live", "")
        if live == "sse":
            return self._events(start, most)
        headers = [("content-type", self.content_type), ("stream-next-offset", text_of(end))]
        if live:
            headers.append(("stream-cursor", str(int(params.get("cursor", "0")) + 1)))
        if end == self.tail:
            headers.append(("stream-up-to-date", "true"))
            headers += [("stream-closed", "true")] if self.is_closed else []
        if live and start == end:
            return Answer(204, tuple(headers))
        return Answer(200, tuple(headers), self._body(start, end))

    def _body(self, start: int, end: int) -> bytes:
        messages = self.messages[start:end]
        return b"[" + b",".join(messages) + b"]" if self.content_type == "application/json" else b"".join(messages)

    def _events(self, start: int, most: int) -> Answer:
        is_text = self.content_type in {"application/json", "text/plain"}
        headers = [("content-type", "text/event-stream")]
        if not is_text:
            headers.append(("stream-sse-data-encoding", "base64"))
        body, position = b"", start
        while position < self.tail or position == start:
            end = min(position + most, self.tail)
            if end > position:
                data = self._body(position, end)
                data = data if is_text else base64.b64encode(data)
                body += b"event: data\n" + b"".join(b"data: " + line + b"\n" for line in data.split(b"\n")) + b"\n"
            control = {"streamNextOffset": text_of(end), "streamCursor": "c", "upToDate": end == self.tail}
            if end == self.tail and self.is_closed:
                control["streamClosed"] = True
            body += f"event: control\ndata: {json.dumps(control)}\n\n".encode()
            position = end
            if end == self.tail:
                break
        return Answer(200, tuple(headers), body)


def follower(
    live: LiveMode = False,
    *,
    offset: str | None = None,
    config: ReaderConfig | None = None,
    retry: RetryOptions | None = None,
    share: float = 0.5,
) -> Follower:
    """A reader; chance always takes the same share."""
    attempts = Attempts(RetryOptions(initial_delay=1.0) if retry is None else retry, lambda: share)
    return Follower(live, offset=offset, config=ReaderConfig() if config is None else config, attempts=attempts)


def take(machine: Follower) -> list[Piece]:
    """What it has given out since the last time."""
    pieces = list(machine.pieces)
    machine.pieces.clear()
    return pieces
