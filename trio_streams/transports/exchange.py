"""One HTTP exchange: a request and its answer, as a handler sees them, whoever the host is.

A handler is written once, against `Exchange`. Hosts (ASGI, lean) run it over a `HostedExchange`, which stands between
two sides that must not wait for each other's peculiarities: the handler fills and drains two small bounded buffers,
and the host moves bytes between those and its connection. So a host that can't be cancelled in a write, or that is
slow per write, costs the handler nothing: whatever waits is joined into one write.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator
from typing import Final, Protocol

import trio

from trio_streams.errors import ConnectionLost, LocalProtocolError
from trio_streams.streams.pace import Pace
from trio_streams.streams.parking import Parking
from trio_streams.transports.body_limits import check_length, check_pace, late_body
from trio_streams.transports.exchange_head import ExchangeConfig as ExchangeConfig
from trio_streams.transports.exchange_head import Headers as Headers
from trio_streams.transports.exchange_head import RequestHead as RequestHead
from trio_streams.transports.exchange_head import ResponseHead as ResponseHead
from trio_streams.transports.exchange_head import with_alternative
from trio_streams.transports.exchange_protocol import BodyEncoder as BodyEncoder
from trio_streams.transports.exchange_protocol import BodySource as BodySource
from trio_streams.transports.exchange_protocol import Exchange as Exchange
from trio_streams.transports.exchange_protocol import ExchangeHandler as ExchangeHandler

__all__ = [
    "BodyEncoder",
    "BodySource",
    "Exchange",
    "ExchangeConfig",
    "ExchangeConnection",
    "ExchangeHandler",
    "Headers",
    "HostedExchange",
    "RequestHead",
    "ResponseHead",
]

GATHER_BYTES: Final = 16_384
"""Where joining more stops paying: the kernel takes no more than this unsent (`TCP_NOTSENT_LOWAT`)."""


_NOTHING: Final = memoryview(b"")


class ExchangeConnection(Protocol):
    """What an exchange tells a host that does not wait in `take_head` and `take_body`."""

    def handle_output(self) -> None:
        """There is something to take, or the answer is over."""
        ...

    def handle_body_wanted(self) -> None:
        """The handler waits for more of the request's body."""
        ...

    def handle_source_over(self) -> None:
        """The body's source has ended; whoever is in `wait_client` is to return."""
        ...

    def pull(self) -> None:
        """See `BodySource.attach`."""
        ...

    async def wait_client(self) -> None:
        """Wait, as the handler, until something has changed. Cancellation: atomic."""
        ...


class _Answer(enum.Enum):
    HEADLESS = enum.auto()
    OPEN = enum.auto()
    ENDED = enum.auto()
    ABANDONED = enum.auto()


# To find a member in its class costs five times what a name costs.
_HEADLESS: Final = _Answer.HEADLESS
_OPEN: Final = _Answer.OPEN
_ENDED: Final = _Answer.ENDED
_ABANDONED: Final = _Answer.ABANDONED


class HostedExchange(Parking):
    """An `Exchange` between a handler and a host; what follows `# The host's side` is for hosts alone.

    Args:
      request: the request's head.
      config: limits.
      pace: for a host that lets other tasks run anyway between two exchanges, and restarts it then.
      cancel_scope: one that the host has entered, where the end of an exchange by cancellation is its connection's end,
        too; None for one of its own.
      connection: of a host that is told what happens; None for one that waits in `take_head` and `take_body`.
    """

    # Thousands may wait at once.
    __slots__ = (
        "_answer", "_body", "_body_bytes", "_body_ended", "_connection", "_encoder", "_has_body", "_head", "_joined",
        "_left", "_pace", "_source", "_waiting", "_waiting_bytes", "cancel_scope", "config", "has_own_scope",
        "request",
    )  # fmt: skip

    def __init__(
        self,
        request: RequestHead,
        config: ExchangeConfig,
        *,
        pace: Pace | None = None,
        cancel_scope: trio.CancelScope | None = None,
        connection: ExchangeConnection | None = None,
    ) -> None:
        super().__init__()  # those who wait are three tasks at most
        self.request: RequestHead = request
        self.has_own_scope: bool = cancel_scope is None
        self.cancel_scope: trio.CancelScope = trio.CancelScope() if cancel_scope is None else cancel_scope
        self.config: ExchangeConfig = config
        self._pace = Pace() if pace is None else pace
        self._connection = connection
        # The request's body: a few chunks, bounded by body_buffer_bytes.
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_ended = False
        # The answer: its head, and what waits to be written, bounded by send_buffer_bytes.
        self._answer: _Answer = _HEADLESS
        self._head: ResponseHead | None = None
        self._has_body = request.method != "HEAD"
        self._left: int | None = None
        self._encoder: BodyEncoder | None = None
        self._source: BodySource | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._joined = _NOTHING

    @property
    def has_head(self) -> bool:
        """See `Exchange`."""
        return self._head is not None

    async def receive_some(self) -> bytes:
        """See `Exchange`."""
        await self._pace.step()
        while not self._body and not self._body_ended:
            if self._connection is None:
                await self._wait_piece()
            else:  # which keeps the time
                self._connection.handle_body_wanted()
                await self._park()
        if not self._body:
            return b""
        chunk = self._body.pop(0)
        self._body_bytes -= len(chunk)
        self._wake()
        return chunk

    async def _wait_piece(self) -> None:
        with trio.move_on_after(self.config.body_timeout):
            while not self._body and not self._body_ended:
                await self._park()
            return
        raise late_body("body_timeout", self.config.body_timeout, "seconds without a byte")

    async def iter_body(self, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
        """See `Exchange`."""
        check_length(self._declared_size, max_bytes)
        size = 0
        while chunk := await self.receive_some():
            size += len(chunk)
            check_length(size, max_bytes)
            yield chunk

    async def receive_body(self, *, max_bytes: int | None = None) -> bytes:
        """See `Exchange`."""
        limit = self.config.max_body_bytes if max_bytes is None else max_bytes
        if self._body_ended and len(self._body) <= 1:
            check_length(self._body_bytes, limit)
            return await self.receive_some()
        check_length(self._declared_size, limit)
        begun, size = trio.current_time(), 0
        chunks: list[bytes] = []
        while chunk := await self.receive_some():
            size += len(chunk)
            check_length(size, limit)
            chunks.append(chunk)
            if not self._body_ended:
                check_pace(self.config, size, trio.current_time() - begun)
        return b"".join(chunks)

    @property
    def _declared_size(self) -> int:
        declared = self.request.header("content-length") or ""
        return int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 20 else 0

    async def send_head(self, status: int, headers: Headers = ()) -> None:
        """See `Exchange`."""
        await self._pace.step()
        if self._head is not None:
            raise LocalProtocolError(f"can't send a second head (status {status}): {self._head.status} has been sent")
        if self._answer is _ABANDONED:
            raise self._lost()
        head = ResponseHead(status, with_alternative(headers, self.config.alt_svc))
        self._left = head.content_length
        self._has_body = self._has_body and status not in {204, 304}
        self._head = head
        self._answer = _OPEN
        self._tell_host()

    async def send(self, data: bytes) -> None:
        """See `Exchange`."""
        self._check_open()
        if self._left is not None and len(data) > self._left:
            raise LocalProtocolError(
                f"can't send {len(data)} bytes: {self._left} are left of the declared length", field="content-length"
            )
        await self._pace.step()
        while self._waiting_bytes >= self.config.send_buffer_bytes and self._answer is _OPEN:
            await self._park()
        self._check_open()
        if self._left is not None:
            self._left -= len(data)
        if self._encoder is not None:
            data = self._encoder.encode(data)
        self._add(data)

    async def send_from(self, source: BodySource) -> None:
        """See `Exchange`."""
        self._check_open()
        if self._left is not None:
            raise LocalProtocolError("can't send from a source: the answer declares a length", field="content-length")
        if self._source is not None:
            raise LocalProtocolError("can't send from a source: another one is under way")
        # No schedule point yet: whoever waits later is a reader without a second task.
        await trio.lowlevel.checkpoint_if_cancelled()
        if not self._has_body:
            return
        connection = self._connection
        self._source = source
        try:
            pull = self._tell_host if connection is None else connection.pull
            source.attach(pull)
            pull()
            while self._source is source and self._answer is _OPEN:
                if connection is None:
                    await self._park()
                else:
                    await connection.wait_client()
        finally:
            self._source = None
        if self._answer is _ABANDONED:
            raise self._lost()

    def encode_body(self, encoder: BodyEncoder) -> None:
        """See `Exchange`."""
        self._encoder = encoder

    def _add(self, data: bytes) -> None:
        if data and self._has_body:
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._tell_host()

    def end(self) -> None:
        """See `Exchange`."""
        if self._answer is _OPEN:
            if self._encoder is not None:
                self._add(self._encoder.finish())
            # A short body must not look whole.
            is_short = bool(self._left) and self._has_body
            self._answer = _ABANDONED if is_short else _ENDED
            self._tell_host()

    def _tell_host(self) -> None:
        if self._connection is not None:
            self._connection.handle_output()
        self._wake()

    def _check_open(self) -> None:
        if self._answer is not _OPEN:
            if self._answer is _HEADLESS:
                raise LocalProtocolError("can't send a body before the head")
            if self._answer is _ENDED:
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
        return self._answer is _ENDED

    async def feed(self, chunk: bytes, *, is_last: bool) -> None:
        """Add to the request's body, waiting for room.

        Cancellation: atomic.
        """
        await self.wait_body_room()
        self.feed_nowait(chunk, is_last=is_last)

    @property
    def has_body_room(self) -> bool:
        """Whether more of the request's body is to be read ahead."""
        return self._body_bytes < self.config.body_buffer_bytes

    async def wait_body_room(self) -> None:
        """Wait until the handler has read so much that more may be read ahead. Cancellation: atomic."""
        while not self.has_body_room:
            await self._park()

    def feed_nowait(self, chunk: bytes, *, is_last: bool) -> None:
        """Add to the request's body without looking at the room."""
        if chunk:
            self._body.append(chunk)
            self._body_bytes += len(chunk)
        self._body_ended = is_last
        self._wake()

    def drop_body(self) -> None:
        """Forget what was read ahead, so that the host can go on reading what nobody will."""
        self._body.clear()
        self._body_bytes = 0
        self._wake()

    def break_off(self) -> None:
        """The answer can't be completed: what is accepted still leaves, and then the body visibly stops short."""
        self._answer = _ABANDONED
        self._source = None
        self._tell_host()

    def abandon(self) -> None:
        """There is nobody to answer: what waits is dropped, `send` raises, and the handler is cancelled."""
        self._waiting.clear()
        self._waiting_bytes = 0
        self._joined = _NOTHING
        self.cancel_scope.cancel()
        self.break_off()

    async def take_head(self) -> ResponseHead | None:
        """The answer's head; None when there will be none. Cancellation: atomic."""
        while self._answer is _HEADLESS:
            await self._park()
        return self._head

    @property
    def head(self) -> ResponseHead | None:
        """The answer's head, once it is decided."""
        return self._head

    @property
    def is_broken_off(self) -> bool:
        """Whether the answer will never be complete."""
        return self._answer is _ABANDONED

    @property
    def takes_chunks(self) -> bool:
        """Whether all that there is to take is the chunks of a source."""
        return self._source is not None and self._encoder is None and not self._waiting

    def take_chunks(self) -> bytes:
        """As `take_nowait`, in the chunked coding, where `takes_chunks`."""
        source = self._source
        if source is None:
            return b""
        data = source.take_nowait(is_chunked=True)
        if not data and source.is_ended:
            self._end_source()
        return data

    def _take_source(self) -> bytes:
        while (source := self._source) is not None:
            data = source.take_nowait(is_chunked=False)
            if not data:
                if source.is_ended:
                    self._end_source()
                break
            if self._encoder is not None:
                data = self._encoder.encode(data)
            if data:
                return data
        return b""

    def _end_source(self) -> None:
        self._source = None
        if self._connection is not None:
            self._connection.handle_source_over()
        self._wake()

    def take_nowait(self) -> bytes:
        """All that waits of the answer's body."""
        waiting = self._waiting
        if not waiting:
            return self._take_source() if self._source is not None else b""
        whole = waiting[0] if len(waiting) == 1 else b"".join(waiting)
        waiting.clear()
        self._waiting_bytes = 0
        self._wake()
        return whole

    async def take_body(self) -> bytes | None:
        """All that waits of the answer's body, up to `send_buffer_bytes`; None at its end. Cancellation: atomic."""
        while not self._joined and not self._waiting:
            if data := self._take_source():
                self._waiting.append(data)
                self._waiting_bytes += len(data)
                break
            if self._answer is _ENDED or self._answer is _ABANDONED:
                return None
            await self._park()
        await self._gather()
        size = self.config.send_buffer_bytes
        if not self._joined:
            whole = self.take_nowait()
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
        while (
            quiet < 2 and before < GATHER_BYTES and not self._joined and self._answer is _OPEN and self._source is None
        ):
            await trio.lowlevel.checkpoint()
            quiet = quiet + 1 if self._waiting_bytes == before else 0
            before = self._waiting_bytes
