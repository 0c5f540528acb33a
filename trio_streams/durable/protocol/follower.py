"""A reader of one stream as a machine: what to ask for next, what an answer brings, and when there is no more.

A reader first catches up by plain reads, which caches may answer, until an answer says that it is up to date. There it
ends, or goes on live: by long polls, each of which is one answer, or by server-sent events. Whoever drives it asks for
`request` while it is ASKING, hands in the answer's head, its chunks and its end, says when the answer is lost, and waits
until `next_deadline` while it is WAITING. What it brings are `pieces`, in order, each byte once.

**Exactly once.** An offset is opaque, and the only one that an answer names is that of its end. So what arrives of an
answer counts only once the place where it ends is known:

- JSON, and events with metadata, are given out by whole answers. Of one that is cut nothing is given out, and it is asked
  for again from where it began. Such an answer is held in memory, up to `max_answer_bytes`.
- Bytes of a long answer are given out as they come, in pieces of `max_piece_bytes`; all but the last name the offset at
  which the *answer* began, for that is where another reader would have to go on. If the answer is cut, it is asked for
  again, and as many bytes as were given out are skipped. That is sound, for "bytes at a given offset never change", even
  if the second answer is cut at another place than the first.
- Of server-sent events a data event counts when its control event is here, which names the offset behind it. What a
  connection's end leaves without one comes again.

**Falling back.** A server that refuses events, or that ends them at once again and again, is asked by long polls instead.

Spec: Durable Streams §5.6, §5.7, §5.8, §8, §10.1.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from trio_streams.core.errors import LocalProtocolError
from trio_streams.durable.errors import DurableStreamError
from trio_streams.durable.headers import (
    BEGINNING,
    CURSOR_PARAM,
    LIVE_PARAM,
    NOW,
    OFFSET_PARAM,
    STREAM_CLOSED,
    STREAM_CURSOR,
    STREAM_NEXT_OFFSET,
    STREAM_SSE_DATA_ENCODING,
    STREAM_UP_TO_DATE,
)
from trio_streams.durable.protocol.failures import is_true
from trio_streams.durable.protocol.live_events import EventsReader
from trio_streams.durable.protocol.media_types import is_json, is_text, media_type
from trio_streams.durable.protocol.reading import Piece, ReaderConfig
from trio_streams.durable.protocol.retry import Attempts, Repeat, is_passing
from trio_streams.durable.types import LiveMode
from trio_streams.wire.sse import CONTENT_TYPE

__all__ = ["Follower", "Mode", "Phase"]

_NO_CONTENT: Final = 204
_NO_EVENTS: Final = frozenset({400, 405, 406, 415, 501})
"""What a server may answer that does not speak events. If it means something else, the next long poll shows it."""

_HASTY_SECONDS: Final = 0.1
_MAX_HASTY: Final = 5
"""A long poll that is answered empty at once, so often in a row, is not waited for by the server, so it is by us."""


class Phase(enum.Enum):
    """What a reader is doing.

    Attributes:
      ASKING: the next request is to be sent.
      ASKED: an answer is expected.
      READING: its body is.
      WAITING: until the time for the next request.
      ENDED: there is no more; `failure` says why, and is None where all was read.
    """

    ASKING = "asking"
    ASKED = "asked"
    READING = "reading"
    WAITING = "waiting"
    ENDED = "ended"


class Mode(enum.Enum):
    """How it asks; the value is the query parameter's."""

    CATCH_UP = ""
    LONG_POLL = "long-poll"
    SSE = "sse"


class Follower:
    """One reader, over as many answers as it takes.

    Attributes:
      phase: what it is doing.
      mode: how it asks, or how the answer at hand was asked for.
      offset: where the next request begins.
      cursor: what live requests echo; None before the first answer.
      pieces: what has arrived and was not taken yet.
      failure: why it ended; None where all was read.
      status: of the last answer that was no refusal; 0 before the first.
      fields: its headers, names in lower case.
      content_type: the stream's; None where no answer has said it.
      is_following: whether to go on live at the tail; to be set before the first answer's body is read.
      takes_whole: whether pieces are whole answers; likewise.
      config: limits and patience.
      attempts: counts failures in a row.

    Args:
      live: how to go on at the tail.
      offset: where to begin; None for the beginning.
      config: limits and patience.
      attempts: counts failures in a row.
    """

    def __init__(self, live: LiveMode, *, offset: str | None, config: ReaderConfig, attempts: Attempts) -> None:
        self.phase: Phase = Phase.ASKING
        self.mode: Mode = Mode.CATCH_UP
        self.offset: str = BEGINNING if offset is None else offset
        self.cursor: str | None = None
        self.pieces: deque[Piece] = deque()
        self.failure: DurableStreamError | None = None
        self.status: int = 0
        self.fields: Mapping[str, str] = {}
        self.content_type: str | None = None
        self.is_following: bool = live is not False
        self.takes_whole: bool = False
        self._live = live
        self.config: ReaderConfig = config
        self.attempts: Attempts = attempts
        self._until: float | None = None
        self._asked_at = 0.0
        self._lost_at = 0.0
        self._chunks: list[bytes] = []
        self._chunks_bytes = 0
        self._given = 0  # bytes given out beyond `offset`
        self._to_skip = 0  # of them, those that the answer at hand has still to repeat
        self._events: EventsReader | None = None
        self._is_refusing_events = False
        self._short_streams = 0
        self._hasty_polls = 0

    def request(self, now: float) -> dict[str, str]:
        """Begin the next request.

        Returns:
          Its query parameters. `mode` says whether events are asked for.

        Raises:
          LocalProtocolError: it is not the time for one.
        """
        self._expect(Phase.ASKING)
        self.phase = Phase.ASKED
        self._asked_at = now
        self.listen(now)
        params = {OFFSET_PARAM: self.offset}
        if self.mode is not Mode.CATCH_UP:
            params[LIVE_PARAM] = self.mode.value
            if self.cursor is not None:
                params[CURSOR_PARAM] = self.cursor
        return params

    def receive_head(self, status: int, headers: Sequence[tuple[str, str]], now: float) -> bool:
        """Take the head of an answer; afterwards its body is expected if the phase is READING, else it is of no use.

        Args:
          status: as a number.
          headers: names in lower case.
          now: the time.

        Returns:
          False for a refusal, which goes on with `lose`.
        """
        self._expect(Phase.ASKED)
        self.listen(now)
        fields = dict(headers)
        is_stream = media_type(fields.get("content-type")) == CONTENT_TYPE
        if self.mode is Mode.SSE and (status in _NO_EVENTS or (status == 200 and not is_stream)):
            self._refuse_events()
            return True
        if status not in {200, _NO_CONTENT}:
            return False
        self.status, self.fields = status, fields
        encoding = fields.get("content-encoding", "").strip().lower()
        if encoding not in {"", "identity"}:
            what = f"an answer comes with Content-Encoding {encoding[:64]!r}, which was not asked for"
            self._fail(what, code="PROTOCOL_ERROR")
        elif self.mode is Mode.SSE and status == 200:
            self._open_events(fields, now)
        else:
            self._open_body(fields)
        return True

    def receive(self, chunk: bytes, now: float) -> None:
        """Take the next bytes of the answer's body; `pieces` may grow."""
        self._expect(Phase.READING)
        self.listen(now)
        if self._events is not None:
            self._receive_events(self._events, chunk)
            return
        skipped = min(self._to_skip, len(chunk))
        self._to_skip -= skipped
        if skipped < len(chunk):
            self._chunks.append(chunk[skipped:])
            self._chunks_bytes += len(chunk) - skipped
        if self.takes_whole:
            self._check_size(self._chunks_bytes)
        elif self._chunks_bytes >= self.config.max_piece_bytes:
            self._given += self._chunks_bytes
            self._give(self._take_chunks(), is_whole=False)

    def receive_end(self, now: float) -> None:
        """The answer's body is complete, or the connection of the events has ended."""
        self._expect(Phase.READING)
        if self._events is not None:
            self._end_events(now)
            return
        next_offset = self.fields[STREAM_NEXT_OFFSET.lower()]
        is_closed = is_true(self.fields.get(STREAM_CLOSED.lower()))
        is_up_to_date = (
            is_closed
            or self.status == _NO_CONTENT
            or is_true(self.fields.get(STREAM_UP_TO_DATE.lower()))
            or next_offset == self.offset  # no progress: to ask again would be to ask for ever
        )
        if is_up_to_date and self._to_skip:
            self._fail(f"the stream is {self._to_skip} bytes shorter than it was", code="PROTOCOL_ERROR")
            return
        is_hasty = self._is_hasty(now)
        self.offset, self._given = next_offset, self._to_skip
        self._give(self._take_chunks(), is_up_to_date=is_up_to_date, is_closed=is_closed)
        self._go_on(is_up_to_date=is_up_to_date, is_closed=is_closed)
        if is_hasty and self.phase is Phase.ASKING:
            self._wait(now + self.attempts.delay(self._hasty_polls - _MAX_HASTY))

    def lose(self, now: float, *, status: int | None = None, retry_after: float = 0.0) -> bool:
        """No answer came, it refuses, or it broke off.

        Args:
          now: the time.
          status: of a refusal.
          retry_after: seconds that it asks to be left alone.

        Returns:
          Whether there will be another request. If not, the reader is ASKING all the same: whoever has changed
          something may send it.
        """
        self._expect(Phase.ASKED, Phase.READING)
        if self._events is not None and status is None:
            self._end_events(now)
            if self.phase is not Phase.ASKING:
                return True
        self.drop()
        if not is_passing(status, Repeat.ALWAYS):
            return False
        delay = self.attempts.fail(retry_after, is_patient=self._is_patient(now))
        if delay is not None:
            self._wait(now + delay)
        return delay is not None

    def _is_patient(self, now: float) -> bool:
        """Whether a loss now is no reason to give up: who has followed for hours waits for a server to start again."""
        if not self.attempts.failures:
            self._lost_at = now
        patience = self.config.max_outage
        return self.is_following and self.status > 0 and (patience is None or now - self._lost_at < patience)

    def drop(self) -> None:
        """Forget the request under way and ask again, at nobody's fault: whoever waited was cancelled."""
        if self.phase in {Phase.ASKED, Phase.READING}:
            self._take_chunks()
            self._to_skip = self._given
            self._events = None
            self.phase = Phase.ASKING
            self._until = None

    def end(self) -> None:
        """Want no more."""
        self.phase = Phase.ENDED
        self._until = None

    def listen(self, now: float) -> None:
        """Begin anew to count silence: time in which nobody reads is not the server's."""
        timeout = self.config.idle_timeout
        self._until = None if timeout is None else now + timeout

    def next_deadline(self) -> float | None:
        """While WAITING, when to call `handle_deadline`; else when silence means that the answer is lost."""
        return self._until

    def handle_deadline(self, now: float) -> None:
        """Be ready for the next request, if its time has come."""
        if self.phase is Phase.WAITING and self._until is not None and now >= self._until:
            self.phase = Phase.ASKING
            self._until = None

    def _expect(self, *phases: Phase) -> None:
        if self.phase not in phases:
            raise LocalProtocolError(f"a reader that is {self.phase.value} can't do this", field="phase")

    def _open_body(self, fields: Mapping[str, str]) -> None:
        next_offset = fields.get(STREAM_NEXT_OFFSET.lower())
        if not next_offset:
            self._fail(f"an answer with status {self.status} has no {STREAM_NEXT_OFFSET}", code="PROTOCOL_ERROR")
            return
        self.content_type = fields.get("content-type", self.content_type)
        self.cursor = fields.get(STREAM_CURSOR.lower(), self.cursor)
        if self.offset == NOW and self.mode is Mode.CATCH_UP:
            self.offset = next_offset  # from here on nothing may be missed, even if this answer breaks off
        self.phase = Phase.READING

    def _give(
        self, parts: tuple[bytes, ...], *, is_whole: bool = True, is_up_to_date: bool = False, is_closed: bool = False
    ) -> None:
        self.pieces.append(Piece(parts, self.offset, is_whole, is_up_to_date, is_closed, self.cursor))
        self.attempts.succeed()

    def _take_chunks(self) -> tuple[bytes, ...]:
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._chunks_bytes = 0
        return (data,) if data else ()

    def _check_size(self, size: int) -> None:
        limit = self.config.max_answer_bytes
        if size > limit:
            what = f"an answer of {size} bytes or more passes max_answer_bytes, which is {limit}"
            self._fail(what, code="MESSAGE_TOO_LARGE")

    def _is_hasty(self, now: float) -> bool:
        is_hasty = (
            self.mode is Mode.LONG_POLL
            and not self._chunks_bytes
            and self.fields[STREAM_NEXT_OFFSET.lower()] == self.offset
            and now - self._asked_at < _HASTY_SECONDS
        )
        self._hasty_polls = self._hasty_polls + 1 if is_hasty else 0
        return self._hasty_polls > _MAX_HASTY

    def _go_on(self, *, is_up_to_date: bool, is_closed: bool) -> None:
        if is_closed or (is_up_to_date and not self.is_following):
            self.end()
            return
        self.phase = Phase.ASKING
        self._until = None
        if is_up_to_date and self.mode is Mode.CATCH_UP:
            self.mode = self._live_mode()

    def _live_mode(self) -> Mode:
        fits = self._live == "sse" or (
            self._live is True and (is_json(self.content_type) or is_text(self.content_type))
        )
        return Mode.SSE if fits and not self._is_refusing_events else Mode.LONG_POLL

    def _open_events(self, fields: Mapping[str, str], now: float) -> None:
        encoding = fields.get(STREAM_SSE_DATA_ENCODING.lower())
        if encoding is not None and encoding.lower() != "base64":
            self._fail(f"{STREAM_SSE_DATA_ENCODING} is base64 or absent, not {encoding[:100]!r}", code="PROTOCOL_ERROR")
            return
        self._events = EventsReader(self.config.max_answer_bytes, is_base64=encoding is not None)
        self._asked_at = now
        self.phase = Phase.READING

    def _receive_events(self, events: EventsReader, chunk: bytes) -> None:
        for control in events.receive(chunk):
            self.offset = control.next_offset
            self.cursor = control.cursor if control.cursor is not None else self.cursor
            self._give(control.parts, is_up_to_date=control.is_up_to_date, is_closed=control.is_closed)
            if control.is_closed:
                self.end()
                return
        if events.failure is not None:
            self._close(events.failure)

    def _end_events(self, now: float) -> None:
        """What the events' connection left of one is dropped with it."""
        is_short = now - self._asked_at < self.config.short_stream_seconds
        self._short_streams = self._short_streams + 1 if is_short else 0
        self._events = None
        self.phase = Phase.ASKING
        self._until = None
        if self._short_streams >= self.config.max_short_streams:
            self._refuse_events()
        elif is_short:
            self._wait(now + self.attempts.delay(self._short_streams))

    def _refuse_events(self) -> None:
        self._is_refusing_events = True
        self.mode = Mode.LONG_POLL
        self.phase = Phase.ASKING
        self._until = None

    def _wait(self, until: float) -> None:
        self.phase = Phase.WAITING
        self._until = until

    def _fail(self, message: str, *, code: str) -> None:
        self._close(DurableStreamError(message, status=self.status, code=code))

    def _close(self, failure: DurableStreamError) -> None:
        self.failure = failure
        self._take_chunks()
        self.end()
