"""The client of an event stream as a machine: when to ask, with which id, what an answer means, and when to give up.

It follows the standard's EventSource, and goes beyond it where a program that runs for months needs that: waits grow
while the server is away (the standard lets a client "wait some more") and are spread by chance; an overloaded server's
429 or 503 is waited out instead of being the end; silence counts as a loss; and trying has a limit.

The state is CONNECTING → OPEN → WAITING → CONNECTING …, and CLOSED for good. Whoever drives it asks for `url` and
`headers()` while it is CONNECTING, hands in the answer's head and its chunks, and says when the connection is lost: by
itself, or because `next_deadline` came while something was expected. While it is WAITING, the deadline is the next
attempt's time. `failure` says why it closed; None where the server said that there is no more.

What a lost connection left of an event is dropped: `SseParser` gives out whole events only, and `last_event_id` is that
of the last whole one. So a server that goes on behind that id neither repeats nor skips one.

Spec: HTML Living Standard §9.2.2 and §9.2.3; RFC 9110 §10.2.3 (Retry-After), §15.4 (redirects).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urljoin, urlsplit

import attrs

from trio_streams.config import positive
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.wire.retry_after import seconds_to_wait
from trio_streams.wire.sse import CONTENT_TYPE, DEFAULT_MAX_EVENT_BYTES, END_ID, Event, SseParser

__all__ = ["EventSourceConfig", "EventSourceMachine", "State"]

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PERMANENT: Final = frozenset({301, 308})
_NO_CONTENT: Final = 204
_PASSING: Final = frozenset({408, 425, 429})
"""The refusals among 4xx that are about the moment, not about the request."""

_SECRETS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})
"""Headers that another origin must not see."""

_LEAST_GROWING_DELAY: Final = 0.1
"""Seconds. A server may ask to be asked again at once, but attempts that fail must not become a loop without a wait."""

_OWN: Final = frozenset({"accept", "cache-control", "last-event-id"})


class State(enum.Enum):
    """Where an event source is."""

    CONNECTING = "connecting"
    OPEN = "open"
    WAITING = "waiting"
    CLOSED = "closed"


@attrs.frozen(kw_only=True)
class EventSourceConfig:
    """Patience and limits of an event source.

    Attributes:
      retry_delay: seconds between a loss and the next attempt, until the server says another time (`retry:`).
      backoff_factor: how much longer each wait is than the one before it while attempts fail.
      max_retry_delay: seconds at which waits stop growing.
      jitter: the part of a wait that chance may add to it, so that a server's clients do not all come back at once.
      max_attempts: attempts that may fail in a row; None for any number.
      max_elapsed: seconds without an open stream after which the source gives up; None for never.
      max_retry_after: the longest wait, in seconds, that a server can ask for by `retry:` or Retry-After; more counts
        as this much.
      idle_timeout: seconds without a byte after which a stream counts as lost, as does a request without an answer;
        None for never. Three heartbeats of our server.
      max_redirects: redirects that one attempt follows.
      max_event_bytes: the most that one event may hold.
    """

    retry_delay: float = attrs.field(default=1.0, validator=positive)
    backoff_factor: float = attrs.field(default=2.0)
    max_retry_delay: float = attrs.field(default=30.0, validator=positive)
    jitter: float = attrs.field(default=0.5)
    max_attempts: int | None = attrs.field(default=None, validator=positive)
    max_elapsed: float | None = attrs.field(default=300.0, validator=positive)
    max_retry_after: float = attrs.field(default=120.0, validator=positive)
    idle_timeout: float | None = attrs.field(default=45.0, validator=positive)
    max_redirects: int = attrs.field(default=20, validator=attrs.validators.ge(0))
    max_event_bytes: int = attrs.field(default=DEFAULT_MAX_EVENT_BYTES, validator=positive)

    @backoff_factor.validator
    def _check_factor(self, _: object, value: float) -> None:
        if not 1 <= value <= 100:
            raise ValueError(f"backoff_factor is 1 to 100, not {value!r}")

    @jitter.validator
    def _check_jitter(self, _: object, value: float) -> None:
        if not 0 <= value <= 1:
            raise ValueError(f"jitter is 0 to 1, not {value!r}")


class EventSourceMachine:
    """One event stream, over as many connections as it takes.

    Attributes:
      state: where it is.
      url: what to ask for now; a redirect changes it.
      failure: what went wrong last; once it is CLOSED, why, and None where the server said that there is no more (204).
      last_event_id: of the last whole event; empty before the first.
      attempts: how many have failed in a row.

    Args:
      url: absolute, `http` or `https`.
      config: patience and limits.
      now: seconds of any clock that only moves forward.
      random: a number from 0 up to 1, each time it is called.
      headers: added to the source's own; another origin's server, which a redirect may lead to, sees no secrets of them.
      last_event_id: where to go on; empty for the beginning.
    """

    def __init__(
        self,
        url: str,
        config: EventSourceConfig,
        *,
        now: float,
        random: Callable[[], float],
        headers: Sequence[tuple[str, str]] = (),
        last_event_id: str = "",
    ) -> None:
        self.state: State = State.CONNECTING
        self.url: str = url
        self.failure: Exception | None = None
        self.last_event_id: str = _checked_id(last_event_id)
        self.attempts: int = 0
        self._config = config
        self._random = random
        self._base_url = url  # where the next attempt begins; only a permanent redirect changes it
        self._origin = _origin(url)
        self._headers = [(name, value) for name, value in headers if name.lower() not in _OWN]
        self._delay = config.retry_delay
        self._redirects = 0
        self._lost_at = now  # since when there is no open stream
        self._until: float | None = None  # the end of the wait, or of the silence
        self.listen(now)
        self._is_proven = False  # whether the open stream has brought a byte
        self._parser = SseParser(max_event_bytes=config.max_event_bytes)

    def headers(self) -> list[tuple[str, str]]:
        """What the request for `url` says."""
        headers = [("accept", CONTENT_TYPE), ("cache-control", "no-store")]
        if self.last_event_id:
            # UTF-8 on the wire; headers are written as ISO 8859-1.
            headers.append(("last-event-id", self.last_event_id.encode().decode("latin-1")))
        is_at_home = _origin(self.url) == self._origin
        return headers + [(name, value) for name, value in self._headers if is_at_home or name.lower() not in _SECRETS]

    def receive_head(self, status: int, headers: Sequence[tuple[str, str]], now: float) -> None:
        """Take the head of an answer.

        Afterwards the source is OPEN, WAITING, CLOSED, or still CONNECTING, to another `url`.

        Args:
          status: as a number.
          headers: names in lower case.
          now: the time.

        Raises:
          LocalProtocolError: no answer was expected.
        """
        self._expect(State.CONNECTING)
        fields = dict(headers)
        content_type = fields.get("content-type", "").partition(";")[0].strip().lower()
        if status == 200 and content_type == CONTENT_TYPE:
            self._open(now)
        elif status == 200:
            self._close(self._refusal(f"with content of type {content_type[:100]!r}", "content-type"))
        elif status == _NO_CONTENT:
            self._close(None)
        elif status in _REDIRECTS and "location" in fields:
            self._redirect(status, fields["location"])
        elif status in _PASSING or 500 <= status <= 599:
            self._lose(self._refusal(f"with status {status}", "status", status), now, seconds_to_wait(fields))
        else:
            self._close(self._refusal(f"with status {status}", "status", status))

    def receive(self, chunk: bytes, now: float) -> list[Event]:
        """Take the next bytes of an open stream and return the events that they complete.

        An event past the limit closes the source, for it would come again; so does one with the id that ends a stream
        of our servers, to save a request that would be answered 204.

        Raises:
          LocalProtocolError: no stream is open.
        """
        self._expect(State.OPEN)
        parser = self._parser
        if not self._is_proven:
            self._is_proven = True
            self.attempts = 0
        self.listen(now)
        try:
            events = parser.receive(chunk)
        except RemoteProtocolError as exc:
            self._close(exc)
            return []
        self.last_event_id = parser.last_event_id
        if parser.retry_ms is not None:
            self._delay = min(parser.retry_ms / 1000, self._config.max_retry_after)
        if parser.last_event_id == END_ID:
            self._close(None)
        return events

    def lose(self, error: Exception, now: float) -> None:
        """The connection could not be made, broke, or ended; there may be a next one.

        Args:
          error: what happened: what `failure` will be if this was the last attempt.
          now: the time.

        Raises:
          LocalProtocolError: there is no connection to lose.
        """
        self._expect(State.CONNECTING, State.OPEN)
        self._lose(error, now, 0.0)

    def close(self, failure: Exception | None = None) -> None:
        """Try no more.

        Args:
          failure: why; None where nobody is at fault, which changes nothing once the source is closed.
        """
        if self.state is not State.CLOSED or failure is not None:
            self._close(failure)

    def listen(self, now: float) -> None:
        """Begin anew to count silence: time in which nobody reads is not the server's."""
        timeout = self._config.idle_timeout
        self._until = None if timeout is None else now + timeout

    def next_deadline(self) -> float | None:
        """While WAITING, when to call `handle_deadline`; else when silence means that the connection is lost."""
        return self._until

    def handle_deadline(self, now: float) -> None:
        """Begin the next attempt, if its time has come."""
        if self.state is State.WAITING and self._until is not None and now >= self._until:
            self.state = State.CONNECTING
            self.url = self._base_url
            self._redirects = 0
            self.listen(now)

    def _expect(self, *states: State) -> None:
        if self.state not in states:
            raise LocalProtocolError(f"an event source that is {self.state.value} takes nothing", field="state")

    def _open(self, now: float) -> None:
        self.state = State.OPEN
        self._is_proven = False
        self.listen(now)
        self._parser = SseParser(max_event_bytes=self._config.max_event_bytes, last_event_id=self.last_event_id)

    def _redirect(self, status: int, location: str) -> None:
        try:
            url = urljoin(self.url, location)
            is_safe = urlsplit(url).scheme in {urlsplit(self._base_url).scheme, "https"} and url.isascii()
        except ValueError:
            is_safe = False
        self._redirects += 1
        if not is_safe or self._redirects > self._config.max_redirects:
            why = "with too many redirects" if is_safe else "with a redirect to where it can't be followed"
            self._close(self._refusal(why, "location", self._redirects))
            return
        if status in _PERMANENT and self._base_url == self.url:
            self._base_url = url
        self.url = url

    def _lose(self, error: Exception, now: float, at_least: float) -> None:
        if self.state is State.OPEN and self._is_proven:
            self._lost_at = now
        self.attempts += 1
        self.failure = error
        config = self._config
        delay = max(self._delay, min(at_least, config.max_retry_after))
        if self.attempts > 1:
            grown = max(self._delay, _LEAST_GROWING_DELAY) * config.backoff_factor ** min(self.attempts - 1, 64)
            delay = max(delay, min(grown, config.max_retry_delay))
        until = now + delay * (1 + config.jitter * self._random())
        is_last = config.max_attempts is not None and self.attempts >= config.max_attempts
        if is_last or (config.max_elapsed is not None and until > self._lost_at + config.max_elapsed):
            self._close(error)
        else:
            self.state = State.WAITING
            self._until = until

    def _close(self, failure: Exception | None) -> None:
        self.state = State.CLOSED
        self.failure = failure
        self._until = None

    def _refusal(self, how: str, field: str, size: int | None = None) -> RemoteProtocolError:
        return RemoteProtocolError(f"{self.url} answered {how}, not with an event stream", field=field, size=size)


def _checked_id(value: str) -> str:
    if any(character in value for character in "\r\n\0"):
        raise LocalProtocolError(f"can't resume after an id that holds a line end or NUL: {value!r}", field="id")
    return value


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.lower()
