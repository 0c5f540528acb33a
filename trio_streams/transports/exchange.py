"""One HTTP exchange: a request and its answer, as a handler sees them, whoever the host is.

A handler is written once, against `Exchange`. Hosts (ASGI now) run it over a `HostedExchange`, which stands between
two sides that must not wait for each other's peculiarities: the handler fills and drains two small bounded buffers,
and the host moves bytes between those and its connection. So a host that can't be cancelled in a write, or that is
slow per write, costs the handler nothing: whatever waits is joined into one write.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import cached_property
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import parse_qs

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.errors import ConnectionLost, LocalProtocolError, RpcError
from trio_streams.streams.pace import Pace

__all__ = [
    "Exchange",
    "ExchangeConfig",
    "ExchangeHandler",
    "Headers",
    "HostedExchange",
    "RequestHead",
    "ResponseHead",
]

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Pairs in order; names in lower case; values are ISO 8859-1, as on the wire."""

GATHER_BYTES: Final = 16_384
"""Where joining more stops paying: the kernel takes no more than this unsent (`TCP_NOTSENT_LOWAT`)."""

# RFC 9110 §5.6.2, in lower case.
_TOKEN: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz")


def _positive(_: object, attribute: attrs.Attribute[Any], value: float | None) -> None:
    if value is not None and not value > 0:
        raise ValueError(f"{attribute.name} must be more than 0, not {value!r}")


@attrs.frozen(kw_only=True)
class ExchangeConfig:
    """Limits and timeouts of one exchange.

    Attributes:
      max_body_bytes: the largest request body that `receive_body` takes when it is not told otherwise.
      body_buffer_bytes: request body read ahead of the handler; the chunk that crosses it is still taken.
      send_buffer_bytes: answer waiting for the connection before `send` waits; also the most that one write takes.
      stall_timeout: seconds that one write may take before the connection is aborted; None for ever. With the
        defaults a client that reads less than 2 KiB a second is given up.
      close_timeout: seconds that a write under way gets when the exchange is cancelled.
      linger_timeout: seconds to go on reading a request body that nobody wants, so that the client sees the answer
        that refuses it instead of a reset connection.
      debug: whether answers carry the text of unexpected exceptions.
    """

    max_body_bytes: int = attrs.field(default=1_048_576, validator=_positive)
    body_buffer_bytes: int = attrs.field(default=65_536, validator=_positive)
    send_buffer_bytes: int = attrs.field(default=65_536, validator=_positive)
    stall_timeout: float | None = attrs.field(default=30.0, validator=_positive)
    close_timeout: float = attrs.field(default=1.0, validator=_positive)
    linger_timeout: float = attrs.field(default=1.0, validator=_positive)
    debug: bool = False


@attrs.define(frozen=True, slots=False, kw_only=True)
class RequestHead:
    """What is asked for.

    Attributes:
      method: in upper case.
      path: percent-decoded, as text.
      query_string: what follows the `?`, as it came.
      headers: names in lower case.
      peer: who asks, for people: `127.0.0.1:5123`.
      scheme: `http` or `https`.
      http_version: `1.1`, `2`, …
    """

    method: str
    path: str
    query_string: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    peer: str = ""
    scheme: str = "http"
    http_version: str = "1.1"

    def header(self, name: str) -> str | None:
        """The value of a header, several joined by commas; None where there is none."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The query's fields, decoded, each with all its values."""
        return parse_qs(self.query_string, keep_blank_values=True, errors="replace")


@attrs.frozen
class ResponseHead:
    """The answer's status and headers.

    Raises:
      LocalProtocolError: the status is not final, or a header could be taken for another one.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()

    def __attrs_post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise LocalProtocolError(f"can't answer with status {self.status}", field="status")
        for name, value in self.headers:
            if not name or not _TOKEN.issuperset(name):
                raise LocalProtocolError(f"can't send a header named {name!r}: not a token in lower case", field=name)
            if any(character in value for character in "\r\n\0"):
                raise LocalProtocolError(f"can't send the header {name}: its value holds a line end or NUL", field=name)
            if max(value, default="") > "\xff":
                raise LocalProtocolError(f"can't send the header {name}: not ISO 8859-1", field=name)

    @property
    def content_length(self) -> int | None:
        """The declared length of the body; None where the body ends as it likes."""
        return next((int(value) for name, value in self.headers if name == "content-length"), None)


class Exchange(Protocol):
    """A request and its answer, for the one task that handles it."""

    @property
    def request(self) -> RequestHead:
        """What is asked for."""
        ...

    @property
    def cancel_scope(self) -> trio.CancelScope:
        """The handler's scope; cancelled when the client goes away."""
        ...

    @property
    def has_head(self) -> bool:
        """Whether the answer's head is decided, so that errors can no longer change it."""
        ...

    async def receive_some(self) -> bytes:
        """The next bytes of the request's body, as large as they come; empty at its end.

        Cancellation: atomic; a cancelled call takes nothing.
        """
        ...

    def iter_body(self, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
        """The chunks of the request's body.

        Args:
          max_bytes: the most that the body may hold in all; None for no limit.

        Raises:
          RpcError: MESSAGE_TOO_LARGE (413), before the chunk that passes the limit.
        """
        ...

    async def receive_body(self, *, max_bytes: int | None = None) -> bytes:
        """The whole body of the request.

        Args:
          max_bytes: the most that it may hold; None for the configured limit.

        Raises:
          RpcError: MESSAGE_TOO_LARGE (413), with field, size and limit as details.
        Cancellation: what was already received is lost.
        """
        ...

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        """Decide the answer's head. It leaves at once, without waiting for the body.

        Raises:
          LocalProtocolError: it has been decided before, or is not valid.
        Cancellation: atomic.
        """
        ...

    async def send(self, data: bytes) -> None:
        """Add to the answer's body, waiting for room. All that waits leaves in one write.

        A cancel check for each call, a schedule point for each batch.

        Raises:
          LocalProtocolError: there is no head yet, or the declared length is passed.
          trio.ClosedResourceError: the answer has ended.
          ConnectionLost: the client is gone.
        Cancellation: atomic; a cancelled call adds nothing.
        """
        ...

    def end(self) -> None:
        """Complete the answer, after what is already accepted. Idempotent; returning from the handler does it, too."""
        ...


ExchangeHandler: TypeAlias = Callable[[Exchange], Awaitable[None]]


class _Answer(enum.Enum):
    HEADLESS = enum.auto()
    OPEN = enum.auto()
    ENDED = enum.auto()
    ABANDONED = enum.auto()


class HostedExchange:
    """An `Exchange` between a handler and a host; what follows `# The host's side` is for hosts alone.

    Args:
      request: the request's head.
      config: limits.
    """

    def __init__(self, request: RequestHead, config: ExchangeConfig) -> None:
        self.request = request
        self.cancel_scope: trio.CancelScope = trio.CancelScope()
        self.config = config
        self._pace = Pace()
        # The request's body: a few chunks, bounded by body_buffer_bytes.
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_ended = False
        self._body_moved = trio.lowlevel.ParkingLot()
        # The answer: its head, and what waits to be written, bounded by send_buffer_bytes.
        self._answer = _Answer.HEADLESS
        self._head: ResponseHead | None = None
        self._has_body = request.method != "HEAD"
        self._left: int | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._joined = memoryview(b"")
        self._for_host = trio.lowlevel.ParkingLot()
        self._for_room = trio.lowlevel.ParkingLot()

    @property
    def has_head(self) -> bool:
        """See `Exchange`."""
        return self._head is not None

    async def receive_some(self) -> bytes:
        """See `Exchange`."""
        await trio.lowlevel.checkpoint()
        while not self._body and not self._body_ended:
            await self._body_moved.park()
        if not self._body:
            return b""
        chunk = self._body.pop(0)
        self._body_bytes -= len(chunk)
        self._body_moved.unpark_all()
        return chunk

    async def iter_body(self, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
        """See `Exchange`."""
        declared = self.request.header("content-length") or ""
        size = int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 20 else 0
        _check_body(size, max_bytes)
        size = 0
        while chunk := await self.receive_some():
            size += len(chunk)
            _check_body(size, max_bytes)
            yield chunk

    async def receive_body(self, *, max_bytes: int | None = None) -> bytes:
        """See `Exchange`."""
        limit = self.config.max_body_bytes if max_bytes is None else max_bytes
        return b"".join([chunk async for chunk in self.iter_body(max_bytes=limit)])

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        """See `Exchange`."""
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._head is not None:
            raise LocalProtocolError(f"can't send a second head (status {status}): {self._head.status} has been sent")
        if self._answer is _Answer.ABANDONED:
            raise self._lost()
        head = ResponseHead(status, tuple(headers))
        self._left = head.content_length
        self._has_body = self._has_body and status not in {204, 304}
        self._head = head
        self._answer = _Answer.OPEN
        self._for_host.unpark_all()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def send(self, data: bytes) -> None:
        """See `Exchange`."""
        self._check_open()
        if self._left is not None and len(data) > self._left:
            raise LocalProtocolError(
                f"can't send {len(data)} bytes: {self._left} are left of the declared length", field="content-length"
            )
        if self._pace.is_due():
            await trio.lowlevel.checkpoint()
            self._pace.restart()
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        while self._waiting_bytes >= self.config.send_buffer_bytes and self._answer is _Answer.OPEN:
            await self._for_room.park()
        self._check_open()
        if self._left is not None:
            self._left -= len(data)
        if data and self._has_body:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            if self._for_host:
                self._for_host.unpark_all()

    def end(self) -> None:
        """See `Exchange`."""
        if self._answer is _Answer.OPEN:
            # A short body must not look whole.
            is_short = bool(self._left) and self._has_body
            self._answer = _Answer.ABANDONED if is_short else _Answer.ENDED
            self._for_host.unpark_all()
            self._for_room.unpark_all()

    def _check_open(self) -> None:
        if self._answer is not _Answer.OPEN:
            if self._answer is _Answer.HEADLESS:
                raise LocalProtocolError("can't send a body before the head")
            if self._answer is _Answer.ENDED:
                raise trio.ClosedResourceError("can't send: the answer has ended")
            raise self._lost()

    def _lost(self) -> ConnectionLost:
        return ConnectionLost(f"can't answer {self.request.method} {self.request.path}: the client is gone")

    # The host's side.

    @property
    def is_body_complete(self) -> bool:
        """Whether the whole request has arrived."""
        return self._body_ended

    @property
    def is_ended(self) -> bool:
        """Whether the answer is complete, apart from what still waits to be written."""
        return self._answer is _Answer.ENDED

    async def feed(self, chunk: bytes, *, is_last: bool) -> None:
        """Add to the request's body, waiting for room.

        Cancellation: atomic.
        """
        while self._body_bytes >= self.config.body_buffer_bytes:
            await self._body_moved.park()
        if chunk:
            self._body.append(chunk)
            self._body_bytes += len(chunk)
        self._body_ended = is_last
        self._body_moved.unpark_all()

    def drop_body(self) -> None:
        """Forget what was read ahead, so that the host can go on reading what nobody will."""
        self._body.clear()
        self._body_bytes = 0
        self._body_moved.unpark_all()

    def break_off(self) -> None:
        """The answer can't be completed: what is accepted still leaves, and then the body visibly stops short."""
        self._answer = _Answer.ABANDONED
        self._for_host.unpark_all()
        self._for_room.unpark_all()

    def abandon(self) -> None:
        """There is nobody to answer: what waits is dropped, `send` raises, and the handler is cancelled."""
        self._waiting.clear()
        self._waiting_bytes = 0
        self._joined = memoryview(b"")
        self.cancel_scope.cancel()
        self.break_off()

    async def take_head(self) -> ResponseHead | None:
        """The answer's head; None when there will be none. Cancellation: atomic."""
        while self._answer is _Answer.HEADLESS:
            await self._for_host.park()
        return self._head

    async def take_body(self) -> bytes | None:
        """All that waits of the answer's body, up to `send_buffer_bytes`; None at its end. Cancellation: atomic."""
        while not self._joined and not self._waiting:
            if self._answer is not _Answer.OPEN:
                return None
            await self._for_host.park()
        await self._gather()
        size = self.config.send_buffer_bytes
        if not self._joined:
            whole = b"".join(self._waiting)
            self._waiting.clear()
            self._waiting_bytes = 0
            self._for_room.unpark_all()
            if len(whole) <= size:
                return whole
            self._joined = memoryview(whole)
        piece, self._joined = bytes(self._joined[:size]), self._joined[size:]
        return piece

    async def _gather(self) -> None:
        # A write costs twenty schedule points. While the handler keeps adding, let it: two rounds in which nothing
        # was added (one may just have run us first) say that it waits for something itself.
        quiet = 0
        before = self._waiting_bytes
        while quiet < 2 and before < GATHER_BYTES and not self._joined and self._answer is _Answer.OPEN:
            await trio.lowlevel.checkpoint()
            quiet = quiet + 1 if self._waiting_bytes == before else 0
            before = self._waiting_bytes


def _check_body(size: int, limit: int | None) -> None:
    if limit is not None and size > limit:
        raise RpcError(
            Code.MESSAGE_TOO_LARGE,
            f"the body is {size} bytes or more, the limit is {limit}",
            {"field": "body", "size": size, "limit": limit},
        )
