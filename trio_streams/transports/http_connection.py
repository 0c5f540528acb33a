"""One connection of the lean host.

A request that is answered without waiting costs one task and no schedule point beyond the one that waits for the next
request: the owner task reads, runs the handler and writes. Only when a handler waits for something, which `Watched`
notices, does somebody else have to look at the client: then a second task becomes the connection's reader until the
owner is free again, and what the handler says from there on is written by the host's one writer task, which serves all
connections in a round. Where the request is here as a whole, that task begins only when the host looks at its deadlines
next: most handlers that wait for a disk are done by then. A write that the kernel does not take whole is finished by a task of its own.

    owner    [read] → machine → handler → machine → write                      until a handler waits; then:
    reader   read → machine → the request's body, the client's leaving
    owner    handler → exchange → marked
    writer   all that are marked: exchange → machine → write

A handler that only waits for its client to leave, because what it says comes from a source (`send_from`), is the reader
itself: one task, and whoever publishes writes to the socket in its own.

A request that `answer_nowait` answers has no exchange at all. While such an answer is waited for nobody looks at the
client, so it is for what ends by itself.

No task has a timer. The machine's deadlines and ours (a write that makes no way, a client that ended its side, a
goodbye) are numbers that the host looks at a few times a second.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from math import inf
from typing import Any, Final

import trio

from trio_streams.streams.pace import Pace
from trio_streams.transports.answer import run_handler
from trio_streams.transports.exchange import HostedExchange
from trio_streams.transports.http_access import AccessRecord, report_access
from trio_streams.transports.http_host import (
    Host,
    NowaitAnswer,
    NowaitHandler,
    WholeAnswer,
    request_head,
    wants_websocket,
)
from trio_streams.transports.http_link import Link, SocketLink
from trio_streams.transports.http_output import NOTHING, HttpOutput
from trio_streams.transports.watched import Watched
from trio_streams.wire.http1 import BodyEnded, BodyReceived, Event, Failed, InputEnded, Request
from trio_streams.wire.http1_records import whole_request

__all__ = ["HttpConnection"]

_LOG: Final = logging.getLogger("trio_streams.http")

_PIPELINE_ANSWERS: Final = 16  # between two schedule points while requests are there without waiting

_JOINED_BYTES: Final = 65_536  # answers to pipelined requests leave together up to this much


class HttpConnection(HttpOutput):
    """See the module. `run` is the owner's; `check`, `write` and `drain` are called by the host.

    Args:
      host: what connections share.
      link: the connection's bytes.
      peer: who is on the other side, for people.
    """

    __slots__ = (
        "_goodbye_by", "_grace_ends", "_has_reader", "_has_waited", "_known", "_next", "_owner_reads", "_pace", "_peer",
        "_promise", "_reader_scope", "_refused", "_scope", "_watched",
    )  # fmt: skip

    def __init__(self, host: Host, link: Link, peer: str) -> None:
        super().__init__(host, link)  # in whose lot the owner waits, for the reader or for a write
        self._peer = peer
        self._pace = Pace()
        self._scope = trio.CancelScope()  # of every handler in turn: entering one costs a tenth of an answer
        self._next: tuple[Request, HostedExchange] | None = None
        self._known: tuple[Request, NowaitAnswer | None] | None = None
        self._promise: tuple[Request, float, Coroutine[Any, Any, WholeAnswer]] | None = None
        self._has_waited = False
        self._watched: Watched | None = None
        self._has_reader = False
        self._owner_reads = False
        self._reader_scope: trio.CancelScope | None = None
        self._refused = 0  # the status of a refusal in the handler's stead
        self._grace_ends = self._goodbye_by = inf

    # The owner.

    async def run(self) -> tuple[trio.abc.Stream, bytes] | None:
        """Serve the connection until it is over, or another protocol takes over.

        Returns:
          For that protocol, the connection, and what was received, from the head of its request on; None where the
          connection is closed.
        """
        received: bytes | None = None
        try:
            with self._scope:
                received = await self._serve()
            if received is None:
                await self._say_goodbye()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client left; whoever was answering it has been told
        except Exception:  # noqa: BLE001 - the server is the boundary: one fault ends one connection
            _LOG.exception("a connection failed, and was closed")
        finally:
            self._is_gone = True
            if received is None:
                self._link.close()
            if self._receiving is not None:
                self._receiving.drop_body()  # the reader may wait for room in it
            if self._promise is not None:
                self._promise[2].close()
            self._exchange = self._receiving = self._next = self._promise = None  # they hold us
            self._wake()
            self._host.forget(self)
        return None if received is None else (self._link.take_over(), received)

    async def _serve(self) -> bytes | None:
        """Answer requests; what another protocol that takes over begins with."""
        machine = self._machine
        answered = 0
        while not self._is_gone:
            if self._promise is not None:
                await self._keep_promise(*self._promise)
                continue
            if self._next is not None:
                if self._next[0].upgrade and self._host.takes_websockets and wants_websocket(self._next[0]):
                    return await self._detach()
                answered += 1
                if answered % _PIPELINE_ANSWERS == 0:
                    await trio.lowlevel.checkpoint()
                    self._pace.restart()
                await self._answer(*self._next)
                continue
            if machine.has_output or self._unsent or self._is_sending:
                if machine.is_closing or self._unsent or self._is_sending:
                    await self._send_rest()
                elif self._has_waited or self._host.is_busy(self):
                    self._host.mark(self)
                else:
                    await self._send_rest()
            if machine.is_closing or self._is_gone:
                break
            answered = 0
            if self._has_reader:
                await self._park()
            else:
                self._take(await self._link.receive())
            self._pace.restart()
        return None

    async def _answer(self, request: Request, exchange: HostedExchange) -> None:
        host = self._host
        access = None if host.on_access is None else (host.on_access, request, trio.current_time())
        del request  # a long answer has no use for it
        self._next = self._known = None
        self._exchange = exchange
        self._has_waited = self._head_sent = False
        self._sent = 0
        if self._machine.has_input_ended:
            self._grace_ends = trio.current_time() + host.config.half_close_timeout
        try:
            self._watched = watched = Watched(run_handler(exchange, host.handler), self._handler_waits)
            await watched
            exchange.drop_body()
            await self._finish(exchange)
        finally:
            self._exchange = self._watched = None
            self._grace_ends = inf
            if self._scope.deadline != inf:  # to set it costs more than all else here
                self._scope.deadline = inf
            if access is not None:
                status = exchange.head.status if exchange.head is not None else self._refused
                report_access(*access, status, self._sent, self._peer)

    async def _finish(self, exchange: HostedExchange) -> None:
        """The handler is done: so is the answer, or it never will be."""
        while self._is_sending:
            await self._park()
        if self._exchange is exchange:  # its end may have left while the handler cleaned up
            self._move_output(exchange)
        if self._unwritten >= _JOINED_BYTES:
            await self._send_rest()
        if exchange.is_broken_off and not self._machine.is_closing:
            # What was accepted has left. A reset is the only way to say that it is not all.
            await self._send_rest()
            self.lose()

    async def _say_goodbye(self) -> None:
        """Drop what still arrives: closing with unread bytes resets the connection, and that can overtake the answer."""
        if self._is_gone:
            return
        if self._scope.cancelled_caught:
            self._machine.refuse(504, "the deadline has passed")
            await self._send_rest()
        self._link.end_sending()
        self._goodbye_by = trio.current_time() + self._host.config.linger_timeout
        if self._has_reader and isinstance(self._link, SocketLink):
            while not self._is_gone:
                await self._park()
        else:
            await self._link.say_goodbye()

    async def _detach(self) -> bytes | None:
        await self._send_rest()
        if self._reader_scope is not None:
            self._reader_scope.cancel()
            while self._has_reader:
                await self._park()
        return None if self._is_gone else self._machine.detach()

    # Input.

    def _take(self, data: bytes) -> None:
        self._machine.receive(data, trio.current_time())
        self._hand_on()

    def _hand_on(self) -> None:
        events, choose = self._machine.events(), self._host.answer_nowait
        if choose is not None and self._exchange is None and self._next is None and self._promise is None:
            events = self._answer_nowait(choose, events)
        self._sort_events(events)

    def _answer_nowait(self, choose: NowaitHandler, events: list[Event]) -> list[Event]:
        """Answer what is here as a whole and needs no exchange; what is left has to be sorted."""
        for _ in range(_PIPELINE_ANSWERS):
            whole = whole_request(events)
            if whole is None:
                break
            request, body = whole
            known = self._known
            if known is None or known[0] is not request:
                head = request_head(request, self._peer, self._host.scheme)
                known = self._known = (request, choose(head))
            answer, began = known[1], trio.current_time()
            answered = None if answer is None else answer(body)
            if answered is None:
                break
            if not isinstance(answered, tuple):
                self._promise = (request, began, answered)
                return []
            self._move_whole(request, began, answered)
            events = self._machine.events()
        return events

    async def _keep_promise(self, request: Request, began: float, promise: Coroutine[Any, Any, WholeAnswer]) -> None:
        """Wait for an answer, but not for the client: nothing is read meanwhile."""
        self._has_waited = True
        answered = await promise
        self._promise = None
        self._move_whole(request, began, answered)
        self._pace.restart()
        self._hand_on()

    def _move_whole(self, request: Request, began: float, answered: WholeAnswer) -> None:
        machine, host = self._machine, self._host
        status, fields, data = answered
        if host.is_closing:
            machine.request_close()
        fields = fields.joined(host.date())
        machine.send_head(status, fields if host.alternative is None else fields.joined(host.alternative))
        machine.send_body(data)
        machine.end(trio.current_time())
        if host.on_access is not None:
            report_access(host.on_access, request, began, status, len(data), self._peer)

    def _sort(self) -> None:
        """Hand on what the machine has made of its input."""
        self._sort_events(self._machine.events())

    def _sort_events(self, events: list[Event]) -> None:
        host = self._host
        for event in events:
            if isinstance(event, Request):
                exchange = HostedExchange(
                    request_head(event, self._peer, host.scheme),
                    host.config,
                    pace=self._pace,
                    cancel_scope=self._scope,
                    connection=self,
                )
                self._next = (event, exchange)
                self._receiving = exchange
                if event.length == 0:
                    exchange.feed_nowait(b"", is_last=True)
            elif isinstance(event, BodyReceived):
                if self._receiving is not None:
                    self._receiving.feed_nowait(event.data, is_last=False)
            elif isinstance(event, BodyEnded):
                if self._receiving is not None:
                    self._receiving.feed_nowait(b"", is_last=True)
            elif isinstance(event, InputEnded):
                head = None if self._exchange is None else self._exchange.head
                if head is not None and head.is_event_stream:
                    self.lose()  # there is no other way to leave one, and nobody half-closes it
                elif self._exchange is not None or self._next is not None:
                    self._grace_ends = trio.current_time() + self._host.config.half_close_timeout
            else:
                self._refuse(event)

    def _refuse(self, event: Failed) -> None:
        if self._receiving is not None:
            self._refused = event.status
            self._receiving.abandon()
        elif self._host.on_access is not None:
            self._host.on_access(AccessRecord("", "", event.status, 0, 0.0, self._peer))

    async def _read(self) -> None:
        """The reader: everything the client sends, as long as there is room for it."""
        try:
            with trio.CancelScope() as self._reader_scope:
                while not self._is_gone:
                    await self._wait_room()
                    data = await self._link.receive()
                    self._take(data)
                    if self._exchange is None or self._machine.is_closing or not data:
                        break  # the owner is free to read again
                self._is_gone = self._is_gone or self._goodbye_by < inf
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.lose()
        finally:
            self._has_reader = False
            self._wake()

    @property
    def _has_room(self) -> bool:
        return not self._machine.is_full and (self._receiving is None or self._receiving.has_body_room)

    async def _wait_room(self) -> None:
        exchange = self._receiving
        if exchange is not None and not exchange.has_body_room:
            self._machine.pause()
            await exchange.wait_body_room()
            self._machine.resume(trio.current_time())
        while self._machine.is_full and not self._is_gone:
            await self._park()

    # For the exchange.

    def _handler_waits(self) -> None:
        self._has_waited = True
        exchange = self._exchange
        if exchange is None or not exchange.is_body_complete:
            self._start_reader()
        if self._machine.has_output or exchange is None or exchange.has_head:
            self._host.mark(self)

    def _start_reader(self) -> None:
        if not self._has_reader and not self._owner_reads:
            self._has_reader = True
            self._host.nursery.start_soon(self._read)

    def handle_output(self) -> None:
        """See `ExchangeConnection`."""
        if self._has_waited and not self.is_marked and not self._is_sending:
            self._host.mark(self)

    def handle_body_wanted(self) -> None:
        """See `ExchangeConnection`."""
        self._machine.send_continue()
        self.handle_output()

    def handle_source_over(self) -> None:
        """See `ExchangeConnection`."""
        self._wake()
        if self._owner_reads and isinstance(self._link, SocketLink):
            self._link.interrupt()

    async def wait_client(self) -> None:
        """See `ExchangeConnection`."""
        link = self._link
        if self._has_reader or not isinstance(link, SocketLink) or self._machine.has_input_ended or not self._has_room:
            await self._park()
            return
        self._owner_reads = True
        try:
            await link.wait_readable()
            data = link.receive_nowait()
            if data is not None:
                self._take(data)
        except trio.ClosedResourceError:
            await trio.lowlevel.checkpoint_if_cancelled()  # lost, or interrupted
        except OSError:
            self.lose()
            await trio.lowlevel.checkpoint_if_cancelled()
        finally:
            self._owner_reads = False
            if self._watched is not None:
                self._watched.is_armed = True

    # The host's.

    def check(self, now: float) -> None:
        """Look at the deadlines, and at the client of a handler that waits."""
        if self._has_waited and self._exchange is not None:
            self._start_reader()
        due = self._machine.next_deadline()
        if due is not None and now >= due:
            self._machine.handle_deadline(now)
            self._sort()
            self.pull()
            if self._machine.is_closing and self._exchange is None:
                self._link.end_sending()
                self._goodbye_by = min(self._goodbye_by, now + self._host.config.linger_timeout)
                self._wake()
        if now >= self._stalls_at or now >= self._grace_ends or now >= self._goodbye_by:
            self.lose()

    def drain(self) -> None:
        """Let the exchange under way be the last one."""
        if self._machine.is_closing:
            return  # on its way out already
        self.pull()
        self._machine.request_close()
        if self._machine.is_closing:
            self._link.end_sending()
            self._goodbye_by = min(self._goodbye_by, trio.current_time() + self._host.config.linger_timeout)
            self._wake()
            if not isinstance(self._link, SocketLink) and not self._is_sending:
                self._scope.cancel()  # a TLS connection's goodbye is for its owner to say, who waits for a request

    def lose(self) -> None:
        """There is nobody to answer, or nothing more to be said. Whoever waits is told."""
        self._is_gone = True
        self._scope.cancel()
        self._unsent = NOTHING
        for exchange in (self._exchange, self._receiving):
            if exchange is not None:
                exchange.abandon()
        self._link.abort()
        self._wake()
