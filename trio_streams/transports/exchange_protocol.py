"""What a handler sees of an HTTP exchange, whoever the host is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeAlias

import trio

from trio_streams.transports.exchange_head import Headers, RequestHead

__all__ = ["BodyEncoder", "BodySource", "Exchange", "ExchangeHandler"]


class BodyEncoder(Protocol):
    """A coding of an answer's body, such as gzip."""

    def encode(self, data: bytes) -> bytes:
        """What can be said of what there is so far."""
        ...

    def finish(self) -> bytes:
        """What is left to say."""
        ...


class BodySource(Protocol):
    """A body that is not sent but taken, as fast as its connection allows: a log that many read, for one.

    The host asks whenever the connection takes bytes, so nothing waits between the source and the kernel but what one
    write could not finish. All of it is called in the task of whoever publishes or writes, and must not wait.
    """

    @property
    def is_ended(self) -> bool:
        """Whether nothing comes after what `take_nowait` still has."""
        ...

    def attach(self, pull: Callable[[], None]) -> None:
        """The host is ready. `pull` is to be called, from any task, whenever there is something to take or the end has
        come; it writes at once where that does not block. It never raises."""
        ...

    def take_nowait(self, *, is_chunked: bool) -> bytes:
        """What one write should carry, some 16 KiB where there is so much; empty for nothing now.

        Args:
          is_chunked: whether to give whole chunks of HTTP/1.1's chunked coding, which a source with many readers makes
            once for all of them.
        """
        ...


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

        Raises:
          RpcError: IDLE_TIMEOUT (408): none came for `body_timeout`; on the lean host the exchange is cancelled instead,
            and the host answers.
        Cancellation: atomic; a cancelled call takes nothing.
        """
        ...

    def iter_body(self, *, max_bytes: int | None = None) -> AsyncIterator[bytes]:
        """The chunks of the request's body.

        Args:
          max_bytes: the most that the body may hold in all; None for no limit.

        Raises:
          RpcError: MESSAGE_TOO_LARGE (413), before the chunk that passes the limit; IDLE_TIMEOUT (408) as `receive_some`.
        """
        ...

    async def receive_body(self, *, max_bytes: int | None = None) -> bytes:
        """The whole body of the request.

        Args:
          max_bytes: the most that it may hold; None for the configured limit.

        Raises:
          RpcError: MESSAGE_TOO_LARGE (413), with field, size and limit as details; IDLE_TIMEOUT (408) as `receive_some`, and
            for a body that comes at less than `min_body_bytes_per_second`.
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

    async def send_from(self, source: BodySource) -> None:
        """Have the answer's body taken from a source until that has ended, or the client has left.

        Nobody sends meanwhile, and nothing is held for the exchange beyond what one write could not finish. HEAD and
        other answers without a body return at once.

        Raises:
          LocalProtocolError: there is no head yet, it declares a length, or another source is under way.
          trio.ClosedResourceError: the answer has ended.
          ConnectionLost: the client is gone.
        Cancellation: what was taken still leaves; nothing more is taken.
        """
        ...

    def end(self) -> None:
        """Complete the answer, after what is already accepted. Idempotent; returning from the handler does it, too."""
        ...

    def encode_body(self, encoder: BodyEncoder) -> None:
        """Have what is sent from now on pass through an encoder, whose rest leaves at the answer's end."""
        ...


ExchangeHandler: TypeAlias = Callable[[Exchange], Awaitable[None]]
