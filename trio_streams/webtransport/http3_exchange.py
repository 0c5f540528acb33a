"""One plain request over HTTP/3: an exchange that is its stream's reader and writer, too.

`HostedExchange` stands between a handler and a host that moves bytes. Here the host's side is a few plain calls: a machine's
stream takes what it has room for, without waiting, and tells when it has room again. So an exchange costs one task, its
handler's, and nothing else runs for it:

    handler → exchange → marked → written with all others of the round → stream       `send` waits while the stream is full
    stream → exchange → handler                                                       bytes are consumed as they are taken

The body of a request waits in the stream's window and nowhere else: its client may send what the handler has taken, and a
window. What a client resets or refuses cancels the handler, at once.

Ends: an answer that is whole ends its half, whatever came of the request; when it is delivered, no more of that is wanted
(STOP_SENDING with H3_NO_ERROR), and until then it is read and dropped, since its client may read nothing before it has said all. One that can't be whole is reset: with H3_INTERNAL_ERROR where the handler failed, with H3_REQUEST_CANCELLED where
it was cancelled, or its client reads nothing for `stall_timeout`.

Spec: RFC 9114 §4.1, §4.1.1, §8.1.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf
from typing import Final, Protocol

import trio

from trio_streams.core.errors import LocalProtocolError
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import (
    ExchangeConfig,
    ExchangeHandler,
    HostedExchange,
    RequestHead,
    ResponseHead,
)
from trio_streams.webtransport.http3_head import answer_fields
from trio_streams.webtransport.protocol.error_codes import Http3Code
from trio_streams.webtransport.protocol.requests import RawHeaders
from trio_streams.webtransport.sinks import RequestSink
from trio_streams.wire.http1_fields import Fields

__all__ = ["ExchangeHost", "Http3Exchange", "RequestLink", "RequestMachine"]

_LOG: Final = logging.getLogger("trio_streams.http3")

_NOTHING: Final = memoryview(b"")
_LOOK_SECONDS: Final = 0.01
"""Between two looks at whether what was said before a failure has left."""


class RequestMachine(Protocol):
    """What an exchange asks of its connection's machine."""

    def send_head(self, stream_id: int, headers: RawHeaders, *, is_ended: bool = False) -> None:
        """Say an answer's head."""
        ...

    def send_body(self, stream_id: int, data: bytes | memoryview) -> int:
        """Say a part of its body; how many bytes were taken. If not all were, the stream is told when it is writable."""
        ...

    def end_body(self, stream_id: int) -> None:
        """End the answer, after all that was taken."""
        ...

    def abandon(self, stream_id: int, code: Http3Code) -> None:
        """Reset what is unfinished of the answer, and refuse the rest of the request."""
        ...

    def unsent_bytes(self, stream_id: int) -> int:
        """What the stream took and never sent."""
        ...

    def consumed(self, stream_id: int, size: int) -> None:
        """Let the client send as much more."""
        ...

    def release(self, stream_id: int) -> None:
        """Be done with the stream, once: what is left of the request is refused with H3_NO_ERROR."""
        ...


class RequestLink(Protocol):
    """What an exchange asks of its connection."""

    @property
    def machine(self) -> RequestMachine:
        """The connection's machine."""
        ...

    @property
    def peer(self) -> str:
        """Who is on the other side, for people."""
        ...

    @property
    def kick(self) -> Callable[[], None]:
        """To be called when the machine may have something to send."""
        ...

    def take_request(self, stream_id: int, sink: RequestSink) -> None:
        """Have a sink told of a request's stream, until it is released."""
        ...

    def release_request(self, stream_id: int) -> None:
        """Be done with a request that was taken, once; see `RequestMachine.release`."""
        ...


class ExchangeHost(Protocol):
    """What exchanges share."""

    config: ExchangeConfig

    def mark(self, exchange: Http3Exchange) -> None:
        """Have its output written in the next round."""
        ...

    def watch(self, exchange: Http3Exchange) -> None:
        """Have it look at the time now and then, until `unwatch`."""
        ...

    def unwatch(self, exchange: Http3Exchange) -> None:
        """It waits for its client no more."""
        ...

    def forget(self, exchange: Http3Exchange) -> None:
        """It is over."""
        ...

    def date(self) -> Fields:
        """The time of day, as a header."""
        ...


class Http3Exchange(HostedExchange):
    """See the module. `run` is the handler's task; `on_…` are called by the link, `check` and `write_marked` by the host.

    Args:
      host: what exchanges share.
      link: the connection.
      stream_id: of the request.
      request: its head.
      is_ended: whether that was all of it.
    """

    __slots__ = (
        "_host", "_is_delivered", "_is_done", "_is_gone", "_is_head_sent", "_is_lost", "_is_sent", "_is_unread",
        "_link", "_seen_unsent_bytes", "_stalls_at", "_unsent", "is_marked", "sent_bytes", "stream_id",
    )  # fmt: skip

    def __init__(
        self, host: ExchangeHost, link: RequestLink, stream_id: int, request: RequestHead, *, is_ended: bool
    ) -> None:
        super().__init__(request, host.config)
        self._host = host
        self._link = link
        self.stream_id: int = stream_id
        self.is_marked: bool = False
        self.sent_bytes: int = 0  # of the body, into the stream
        self._unsent = _NOTHING  # taken from the handler, and not by the stream
        self._stalls_at = inf
        self._seen_unsent_bytes = 0
        self._is_head_sent = False
        self._is_sent = False  # the whole answer, into the stream
        self._is_gone = False  # the client, or the connection, or we have given up
        self._is_lost = False  # the connection
        self._is_delivered = False  # all of it
        self._is_unread = False  # what comes of the request from now on
        self._is_done = False  # the handler, and all that it has said is in the stream
        if is_ended:
            self.feed_nowait(b"", is_last=True)

    # The handler's task.

    async def run(self, handler: ExchangeHandler) -> None:
        """Run a handler, and bring the answer to an end.

        Cancellation: the handler is cancelled, and what is unfinished of the answer is reset.
        """
        try:
            await run_handler(self, handler)
            await self._finish()
        finally:
            self._settle()

    async def _finish(self) -> None:
        self._is_unread = True
        self.drop_body()
        self.write()
        while self._unsent and not self._is_gone:
            await self._park()
        if self.is_broken_off and not self._is_gone:
            await self._wait_left()
            self._give_up(Http3Code.H3_INTERNAL_ERROR)

    async def _wait_left(self) -> None:
        """A reset drops what has not left yet, and that may be what tells the client more than the reset."""
        while not self._is_gone and self._link.machine.unsent_bytes(self.stream_id):
            self._watch()
            await trio.sleep(_LOOK_SECONDS)

    def _settle(self) -> None:
        """Nobody handles the request any more."""
        if not self._is_sent:
            self._give_up(Http3Code.H3_REQUEST_CANCELLED)
        self._is_done = True
        if self._is_gone:
            self._close()
        elif self._is_delivered:
            self._leave()
        else:
            self._watch()

    async def receive_some(self) -> bytes:
        """See `Exchange`."""
        chunk = await super().receive_some()
        self._consume(len(chunk))
        return chunk

    def drop_body(self) -> None:
        """See `HostedExchange`."""
        size = self._body_bytes
        super().drop_body()
        self._consume(size)

    def _consume(self, size: int) -> None:
        if size and not self._is_gone:
            self._link.machine.consumed(self.stream_id, size)
            self._link.kick()

    # Output.

    def _tell_host(self) -> None:
        if self._source is not None:
            self.write()  # whoever publishes writes
        elif not self._is_gone and not self._unsent:
            self._host.mark(self)
        self._wake()

    def write_marked(self) -> None:
        """Write what there is, for the host's writer."""
        self.is_marked = False
        self.write()

    def write(self) -> None:
        """Give the stream what there is, as much as it takes."""
        if self._is_gone or self._is_sent or self.head is None:
            return
        try:
            if not self._is_head_sent:
                self._write_head(self.head)
            self._write_body()
        except LocalProtocolError as exc:
            # The client may have refused it, which is not yet told; or it does not take so long a head.
            level = logging.INFO if self._is_head_sent else logging.ERROR
            _LOG.log(level, "can't answer %s %r: %s", self.request.method, self.request.path, exc)
            self._give_up(Http3Code.H3_INTERNAL_ERROR)
        except Exception:  # noqa: BLE001 - of a source or an encoder: one fault ends one exchange
            _LOG.exception("can't answer %s %r", self.request.method, self.request.path)
            self._give_up(Http3Code.H3_INTERNAL_ERROR)
        self._link.kick()

    def _write_head(self, head: ResponseHead) -> None:
        self._link.machine.send_head(self.stream_id, answer_fields(head, self._host.date()))
        self._is_head_sent = True

    def _write_body(self) -> None:
        machine = self._link.machine
        while self._unsent or self._take():
            taken = machine.send_body(self.stream_id, self._unsent)
            self.sent_bytes += taken
            self._unsent = self._unsent[taken:]
            if self._unsent:
                self._watch(is_moving=taken > 0)
                return
        self._stop_watch()
        self._wake()
        if self.is_ended:
            machine.end_body(self.stream_id)
            self._is_sent = True

    def _take(self) -> bool:
        self._unsent = memoryview(self.take_nowait())
        return bool(self._unsent)

    # Time.

    def _watch(self, *, is_moving: bool = False) -> None:
        timeout = self.config.stall_timeout
        if timeout is not None and (is_moving or self._stalls_at == inf):
            self._stalls_at = trio.current_time() + timeout
            self._seen_unsent_bytes = self._link.machine.unsent_bytes(self.stream_id)
            self._host.watch(self)

    def _stop_watch(self) -> None:
        if self._stalls_at != inf:
            self._stalls_at = inf
            self._host.unwatch(self)

    def check(self, now: float) -> None:
        """Look at the time: a client that takes nothing is given up."""
        unsent = self._link.machine.unsent_bytes(self.stream_id)
        if self._is_done and not unsent:
            self._stop_watch()  # what is under way is QUIC's matter
        elif unsent < self._seen_unsent_bytes:
            self._watch(is_moving=True)
        elif now >= self._stalls_at:
            self._give_up(Http3Code.H3_REQUEST_CANCELLED)

    # The link's.

    def on_head(self, headers: RawHeaders, is_ended: bool) -> None:
        """See `RequestSink`. A server gets none."""

    def on_body(self, run: Sequence[bytes], size: int, is_ended: bool) -> None:
        """See `RequestSink`."""
        if self._is_unread:
            self._consume(size)
        else:
            self.feed_nowait(run[0] if len(run) == 1 else b"".join(run), is_last=is_ended)

    def on_trailers(self, headers: RawHeaders) -> None:
        """See `RequestSink`. Handlers have no use for the fields, as on the other hosts."""
        self.feed_nowait(b"", is_last=True)

    def on_reset(self, code: int) -> None:
        """See `RequestSink`. Who has been answered may well say no more."""
        if not self._is_done:
            self._give_up(Http3Code.H3_REQUEST_CANCELLED)

    def on_stopped(self, code: int) -> None:
        """See `RequestSink`."""
        self._give_up(Http3Code.H3_REQUEST_CANCELLED)

    def on_writable(self) -> None:
        """See `RequestSink`."""
        self.write()

    def on_delivered(self) -> None:
        """See `RequestSink`."""
        self._is_delivered = True
        if self._is_done:
            self._leave()

    def on_lost(self, over: Callable[[], Exception]) -> None:
        """See `RequestSink`."""
        self._is_lost = True
        self._leave()

    def _give_up(self, code: Http3Code) -> None:
        if not self._is_gone:
            self._link.machine.abandon(self.stream_id, code)
            self._link.kick()
            self._leave()

    def _leave(self) -> None:
        """There is nobody to answer, or nothing more to say."""
        if self._is_gone:
            return
        self._is_gone = True
        self._unsent = _NOTHING
        self._stop_watch()
        self.abandon()
        if self._is_done:
            self._close()

    def _close(self) -> None:
        if not self._is_lost:
            self._link.release_request(self.stream_id)
        self._host.forget(self)
