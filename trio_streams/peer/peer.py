"""A peer: calls and streams, both ways, over one connection."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast, overload

import trio

from trio_streams.codes import Code
from trio_streams.connection import Connection
from trio_streams.core import events
from trio_streams.errors import ConnectionLost, LocalProtocolError, RpcError, as_rpc_error
from trio_streams.handling import serve_owned
from trio_streams.nursery import open_bare_nursery
from trio_streams.peer.activity import Activity
from trio_streams.peer.batch import BatchOptions
from trio_streams.peer.calling import address_to, note_caller, only_item, refuse, reply_address
from trio_streams.peer.coding import CompressionName, ContentType, any_json
from trio_streams.peer.manager import StreamManager
from trio_streams.peer.methods import Methods
from trio_streams.peer.pinging import Pinging
from trio_streams.peer.proxy import make_proxy
from trio_streams.peer.rate_limit import RateLimit
from trio_streams.peer.receive_stream import PeerReceiveStream, connection_closed
from trio_streams.peer.response import Response
from trio_streams.peer.sending import Sending
from trio_streams.peer.stream_options import StreamOptions
from trio_streams.streams.wire import StopPolicy, WireStream
from trio_streams.wire.signal_names import REQUEST, SEND, STREAM

__all__ = ["RpcPeer"]

T = TypeVar("T")
P = TypeVar("P")
HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])

_Raw = WireStream[bytes, bytes]

_logger: Final = logging.getLogger("trio_streams")


class RpcPeer:
    """One of two equals: ``async with RpcPeer(connection) as peer:``. Either calls, answers, sends and receives streams.

    Declare what is answered before the block's first await: until then nothing of the other side is looked at. Leaving
    the block cancels what is under way; `drain` lets it finish before.

    Args:
      connection: of any dialect, and either side of it; whoever made it closes it.
      options: limits of streams; None for the defaults.
      methods: what is answered; None for nothing yet. Several peers may share it.

    Attributes:
      connection: as given.
      streams: the streams of both directions, with statistics.
    """

    def __init__(
        self, connection: Connection, *, options: StreamOptions | None = None, methods: Methods | None = None
    ) -> None:
        self.connection: Connection = connection
        self.streams: StreamManager = StreamManager(options)
        self._methods = Methods() if methods is None else methods
        self._manager = open_bare_nursery()
        self._nursery: trio.Nursery | None = None
        self._activity = Activity()
        self.streams.on_change = self._activity.note_change
        self._pinging = Pinging(connection)
        self._is_draining = False
        self._closed = trio.Event()

    def __repr__(self) -> str:
        return f"<RpcPeer with {self.connection.peer}>"

    async def __aenter__(self) -> Self:
        nursery = await self._manager.__aenter__()
        # From here to the caller's first await there is none, so that what it declares comes first.
        try:
            self.streams.attach(self.connection, nursery)
            self._nursery = nursery
            self.connection.hand_over(self._on_accepted)
        except LocalProtocolError:
            await self._manager.__aexit__(None, None, None)
            raise
        self.connection.on_lost = self._on_lost
        self.connection.on_ponged = self._on_ponged
        if self.connection.lost is not None:
            self._on_lost(self.connection.lost)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        nursery, self._nursery = self._nursery, None
        assert nursery is not None
        nursery.cancel_scope.cancel()
        self.connection.on_lost = self.connection.on_ponged = None
        self.streams.close()
        return await self._manager.__aexit__(kind, exc, traceback)

    # -- what the connection tells ------------------------------------------------------------------------------

    def _on_lost(self, error: ConnectionLost) -> None:
        self.streams.lose(error)
        self._pinging.lose()
        self._activity.note_change()
        self._closed.set()

    def _on_ponged(self, event: events.Ponged) -> None:
        self._pinging.on_ponged(event)

    def _on_accepted(self, stream: _Raw) -> None:
        if self._nursery is None:
            refuse(self.connection, stream, Code.UNAVAILABLE, "the peer has left")
        elif stream.name == STREAM:
            self.streams.accept(stream)
        elif stream.name == REQUEST:
            self._nursery.start_soon(self._serve, stream)
        elif stream.name == SEND:
            stream.stop_policy = StopPolicy.ON_ERROR  # its sender does not wait for the end
            self._nursery.start_soon(self._serve, stream)
        else:
            refuse(self.connection, stream, Code.UNIMPLEMENTED, f"peers open no stream {stream.name[:64]!r}")

    # -- answering ----------------------------------------------------------------------------------------------

    def match(self, handler: Callable[[Any], Awaitable[object] | object]) -> None:
        """Answer what no named method does; the last handler counts.

        Args:
          handler: takes a call's data, of the type that its parameter is annotated with, and returns the answer, or
            awaits it. What it raises is the call's status: an `RpcError` as it is, anything else as INTERNAL.
        """
        self._methods.match(handler)

    def method(self, name: str) -> Callable[[HandlerT], HandlerT]:
        """Answer calls of a name: ``@peer.method("add")`` over an async function.

        Its parameters are the call's `params`, of the annotated types. An async generator function answers with the id
        of a stream, which its items are sent in.

        Args:
          name: what callers ask for.

        Raises:
          TypeError: the function's form or annotations don't fit.
          ValueError: the name is taken.
        """

        def add(handler: HandlerT) -> HandlerT:
            self._methods.add(name, handler)
            return handler

        return add

    async def _serve(self, stream: _Raw) -> None:
        note_caller(stream)
        with self._activity:
            await serve_owned(self.connection, stream, self._answer)

    async def _answer(self, stream: _Raw) -> None:
        try:
            payload = await stream.receive()
        except trio.EndOfChannel:
            raise RpcError(Code.INVALID_ARGUMENT, f"{stream.name} came without data") from None
        found = self._methods.find(payload)
        if found is None:
            answer = await self._methods.handle(payload)
        else:
            method, arguments = found
            if method.gives_items:
                to = reply_address(self.connection, stream)
                answer = any_json.encode({"streamId": self.start_stream(method.handler(**arguments), to=to)})
            else:
                answer = method.encode(await method.handler(**arguments))
        if stream.name == REQUEST:
            await stream.send_last(answer)

    # -- calling ------------------------------------------------------------------------------------------------

    async def request(self, data: object, *, to: str | None = None) -> Response:
        """Call the other side.

        Args:
          data: anything JSON can say; a named method is called by `{"method": name, "params": …}`.
          to: the `client_id` of the one who is to answer, through a relay; None for whoever is there.

        Raises:
          RpcError: the status that ended the call.
          ConnectionLost: the connection was closed; whether the handler ran is unknown.
          LocalProtocolError: this peer is draining.

        Cancellation: the handler is cancelled too. A deadline around the call travels with it.
        """
        return Response(any_json.decode(await self.exchange(any_json.encode(data), to=to)))

    async def exchange(self, payload: bytes, *, to: str | None = None) -> bytes:
        """Call the other side with data that is JSON text already; else as `request`.

        Args:
          payload: the data.
          to: as for `request`.

        Returns:
          The answer, likewise.

        Cancellation: as `request`.
        """
        self._check_open("call")
        with self._activity:
            try:
                async with self.connection.open_stream(REQUEST, metadata=address_to(self.connection, to)) as stream:
                    await stream.send_last(payload)
                    stream.end()
                    return await only_item(stream)
            except ConnectionLost as exc:
                raise self._lost(exc) from exc

    def proxy(self, protocol: Callable[..., P], *, prefix: str = "") -> P:
        """An object whose methods are the other side's, as a `Protocol` class declares them.

        An async method calls the method of its name, with its arguments as named `params`; its result is decoded to the
        declared type. A method that returns an `AsyncIterator` (or a `PeerReceiveStream`) and is not async gives a
        stream, which the first item asked for starts.

        Args:
          protocol: the class.
          prefix: of the names on the wire, such as `math.`.

        Raises:
          TypeError: a method can't be used so; the message names it.
        """
        return cast("P", make_proxy(self, protocol, prefix))

    async def send(self, data: object, *, to: str | None = None) -> None:
        """Tell the other side something; nothing comes back, not even whether it was understood.

        Args:
          data, to: as for `request`; a named method may take it.

        Raises:
          ConnectionLost: the connection was closed.
          LocalProtocolError: this peer is draining.

        Cancellation: it was sent, or nothing was.
        """
        self._check_open("send")
        payload = any_json.encode(data)
        with self._activity:
            try:
                async with self.connection.open_stream(SEND, metadata=address_to(self.connection, to)) as stream:
                    await stream.send_last(payload)
            except ConnectionLost as exc:
                raise self._lost(exc) from exc

    def _lost(self, error: ConnectionLost) -> ConnectionLost:
        return error if self.connection.lost is None else connection_closed(error)

    def _check_open(self, action: str) -> None:
        if self._nursery is None:
            raise LocalProtocolError(f"can't {action}: the peer's block is not open")
        if self._is_draining:
            raise LocalProtocolError(f"can't {action}: the peer is draining", code=Code.UNAVAILABLE)

    # -- streams ------------------------------------------------------------------------------------------------

    async def send_stream(
        self,
        iterable: Iterable[object] | AsyncIterable[object],
        stream_id: str | None = None,
        *,
        after: str | None = None,
        batch: BatchOptions | None = None,
        compression: CompressionName | None = None,
        content_type: ContentType | None = None,
        priority: int = 0,
        rate_limit: RateLimit | None = None,
        to: str | None = None,
        weight: int = 1,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> str:
        """Send a stream to its end: ``await nursery.start(peer.send_stream, items)`` gives the id at once.

        Args:
          iterable: the items, anything JSON can say. A generator is closed, by the task that iterates it.
          stream_id: what the receiver asks for; None makes one up.
          after: a stream of ours that comes first: until it is over nothing of this one leaves, and its receiver gets
            no item before the other one's receiver has the last.
          batch: how small items are joined; None for each by itself, which frames join as well.
          compression: `deflate`, with one window for the whole stream. Not where secrets travel beside what others choose.
          content_type: `application/octet-stream` for items that are bytes; JSON by default.
          priority: higher goes first, -128 to 127.
          rate_limit: how fast; it waits, and drops nothing.
          to: as for `request`.
          weight: turns that the stream has in a round with others of its priority, 1 to 256.
          task_status: started with the id.

        Returns:
          The id, when everything was sent, or the receiver wants no more.

        Raises:
          StreamStopped: the receiver refused the stream; `code` and `reason` say why.
          ConnectionLost: the connection was closed.
          LocalProtocolError: the id is under way, or an argument can't be used, or can't be carried by the dialect.
          Exception: what `iterable` raised, or an item that can't be encoded; the receiver gets a status after the
            items before it.

        Cancellation: the receiver gets `StreamReset`.
        """
        self._check_open("send a stream")
        return await self.streams.send_stream(
            iterable,
            stream_id,
            after=after,
            batch=batch,
            compression=compression,
            content_type=content_type,
            priority=priority,
            rate_limit=rate_limit,
            to=to,
            weight=weight,
            task_status=task_status,
        )

    def start_stream(
        self,
        iterable: Iterable[object] | AsyncIterable[object],
        stream_id: str | None = None,
        *,
        to: str | None = None,
    ) -> str:
        """Send a stream beside everything else: in a task of the peer's block, which it does not outlive.

        What goes wrong is the receiver's to hear; here it is logged.

        Args:
          iterable: as for `send_stream`.
          stream_id, to: likewise.

        Returns:
          The id.
        """
        self._check_open("send a stream")
        assert self._nursery is not None
        sending = self.streams.begin_sending(stream_id, to=to)
        self._nursery.start_soon(self._send_quietly, sending, iterable)
        return sending.stream_id

    async def _send_quietly(self, sending: Sending, iterable: Iterable[object] | AsyncIterable[object]) -> None:
        try:
            await self.streams.run_sending(sending, iterable)
        except Exception as exc:
            expected = not as_rpc_error(exc).is_our_fault
            _logger.log(
                logging.DEBUG if expected else logging.ERROR, "stream %r failed", sending.stream_id, exc_info=exc
            )

    @overload
    def receive_stream(self, stream_id: str, type: type[T]) -> tuple[str, PeerReceiveStream[T]]: ...
    @overload
    def receive_stream(self, stream_id: str, type: object = ...) -> tuple[str, PeerReceiveStream[Any]]: ...
    @overload
    def receive_stream(self, stream_id: None = ..., *, type: type[T]) -> tuple[str | None, PeerReceiveStream[T]]: ...
    @overload
    def receive_stream(
        self, stream_id: str | None = ..., type: object = ...
    ) -> tuple[str | None, PeerReceiveStream[Any]]: ...
    def receive_stream(
        self,
        stream_id: str | None = None,
        type: object = object,  # noqa: A002 - the seed's word
    ) -> tuple[str | None, PeerReceiveStream[Any]]:
        """Claim a stream of the other side, before or after it begins.

        Args:
          stream_id: which; None takes the next that nobody has claimed.
          type: of its items; any JSON by default, `bytes` for bytes.

        Returns:
          Its id, None while it is not known which it will be (`PeerReceiveStream.wait_begun` tells), and the stream.

        Raises:
          LocalProtocolError: the stream has a receiver.
        """
        return self.streams.receive_stream(stream_id, type)

    def abort_stream(self, stream_id: str) -> None:
        """Abandon a stream that this side sends: its receiver gets `StreamReset`. Too late is no fault.

        Args:
          stream_id: of `send_stream`, which returns.

        Raises:
          LocalProtocolError: NOT_FOUND: this side never sent such a stream.
        """
        self.streams.abort_stream(stream_id)

    def close_receiving_stream(self, stream_id: str) -> None:
        """Tell the other side to stop sending; what was not taken is dropped. Too late is no fault.

        Args:
          stream_id: of `receive_stream`, or of a stream that nobody has claimed.

        Raises:
          LocalProtocolError: NOT_FOUND: the other side never sent such a stream.
        """
        self.streams.close_receiving_stream(stream_id)

    # -- the connection -----------------------------------------------------------------------------------------

    @property
    def client_id(self) -> str | None:
        """What the other side, or the relay, calls us; None in our own dialect, and on the side that was called."""
        return self.connection.machine.client_id

    @property
    def round_trip(self) -> float | None:
        """Seconds that the last ping took, be it ours or one that kept the connection alive; None before the first."""
        return self.connection.machine.round_trip

    async def ping(self) -> float:
        """Ask the other side for a sign of life.

        Returns:
          Seconds that it took. Those who ask while one is under way share its answer.

        Raises:
          ConnectionLost: the connection was closed.

        Cancellation: the answer still counts for `round_trip`.
        """
        return await self._pinging.ping()

    async def wait_closed(self) -> None:
        """Wait until the connection is over. Cancellation: atomic."""
        await self._closed.wait()

    async def drain(self) -> None:
        """Take no new calls and streams, from either side, and wait until those under way have finished.

        Cancellation: nothing new is taken all the same.
        """
        self._is_draining = True
        self.connection.go_away("draining")
        await trio.lowlevel.checkpoint()
        while self.connection.lost is None and (self._activity.count or not self.streams.is_idle):
            await self._activity.wait_change()
