"""Serves a router to clients that speak Raffel's JSON envelopes: calls, events and streams, channels, JSON-RPC texts.

Calls and streams are streams like any other, and served by the same handlers. What is neither stands beside them on the
connection: requests about channels are answered one after the other, JSON-RPC texts a few at once.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import attrs
import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.records import NO_METADATA, Status
from trio_streams.driver import Prepare, run_server
from trio_streams.errors import as_rpc_error
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.channels import Channels
from trio_streams.procedures.dispatch import Found, cancelled
from trio_streams.procedures.envelope_forms import find_form
from trio_streams.procedures.jsonrpc import JsonRpcRunner
from trio_streams.procedures.router import Router
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Invocation, intercept
from trio_streams.wire.envelope import EnvelopeMachine, MessageLimits, SignsOfLife
from trio_streams.wire.envelope_channels import (
    ChannelMessage,
    Publish,
    Subscribe,
    encode_channel_error,
    encode_subscribed,
    encode_unsubscribed,
)

__all__ = ["EnvelopeServer"]

_MAX_RUNNING_TEXTS: Final = 16

_logger: Final = logging.getLogger("trio_streams")


@attrs.frozen(kw_only=True)
class EnvelopeServer:
    """What all connections of envelopes share.

    Attributes:
      router: the application's procedures.
      json_rpc: runs JSON-RPC texts.
      config: limits and timeouts that every dialect has.
      limits: this dialect's own.
      channels: the application's; None where there are none.
    """

    router: Router
    json_rpc: JsonRpcRunner
    config: ConnectionConfig
    limits: MessageLimits = attrs.field(factory=MessageLimits)
    channels: Channels | None = None

    async def serve(
        self,
        carrier: Carrier,
        prepare: Prepare,
        *,
        is_text: bool = False,
        transport: str = "",
        received: bytes = b"",
        signs: SignsOfLife | None = None,
        on_connection: Callable[[Connection], None] | None = None,
    ) -> None:
        """Serve one connection until it is over.

        Args:
          carrier: of framed messages; it is closed at the end, whatever happens.
          prepare: chooses what serves a stream; its items are JSON.
          is_text: whether it is a WebSocket, whose messages have a limit of their own.
          transport: what the carrier is, for people.
          received: what was taken from the carrier already.
          signs: of the client's life, where the carrier has such; without, a client may be silent for ever.
          on_connection: told of the connection when it begins.

        Cancellation: the handlers are cancelled, their streams ended, and what says so leaves within `close_timeout`.
        """
        async with open_bare_nursery() as nursery:
            beside = _Beside(self, nursery, carrier.peer)
            limits = self.limits
            if is_text:
                limits = attrs.evolve(limits, max_message_bytes=limits.max_text_bytes)

            def began(connection: Connection) -> None:
                beside.connection = connection
                if on_connection is not None:
                    on_connection(connection)

            try:
                await run_server(
                    carrier,
                    prepare,
                    config=self.config,
                    transport=transport,
                    make_machine=partial(beside.make_machine, limits, signs),
                    received=received,
                    on_connection=began,
                )
            finally:
                beside.close()
                nursery.cancel_scope.cancel()


class _Beside:
    """What one connection has beside its streams; a `Listener` of channels.

    Its tasks exist only while there is something for them to do: most connections have nothing, most of the time.
    """

    connection: Connection
    _machine: EnvelopeMachine

    def __init__(self, server: EnvelopeServer, nursery: trio.Nursery, peer: str) -> None:
        self.id = secrets.token_urlsafe(16)
        self._server = server
        self._nursery = nursery
        self._peer = peer
        self._is_answering = False
        self._running = 0  # texts
        self._requests = 0
        self._is_over = False

    def make_machine(self, limits: MessageLimits, signs: SignsOfLife | None) -> EnvelopeMachine:
        server, now = self._server, trio.current_time()
        self._machine = EnvelopeMachine(
            find_form=partial(find_form, server.router),
            config=server.config,
            limits=limits,
            now=now,
            epoch=time.time() - now,
            has_channels=server.channels is not None,
            has_json_rpc=True,
            on_aside=partial(_Beside._look, weakref.proxy(self)),  # we hold the machine
            signs=signs,
        )
        return self._machine

    def close(self) -> None:
        self._is_over = True
        if self._server.channels is not None:
            self._server.channels.leave(self)

    # -- listening --------------------------------------------------------------------------------------------

    def deliver(self, message: bytes) -> None:
        if self._is_over:
            return
        if self._machine.send_aside(message):
            self.connection.kick()
            return
        self._is_over = True
        limit = self._server.config.max_control_bytes
        status = Status("RESOURCE_EXHAUSTED", f"Too slow: events beyond max_control_bytes of {limit} were not read")
        self._say(encode_channel_error("", status))
        self._nursery.cancel_scope.cancel()

    def _say(self, message: bytes) -> None:
        self._machine.send_aside(message, is_owed=True)
        self.connection.kick()

    # -- requests ---------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Have what waits seen to; called by the machine, in the midst of receiving."""
        if self._is_over:
            return
        machine = self._machine
        for text in machine.take_rpc_texts(_MAX_RUNNING_TEXTS - self._running):
            self._running += 1
            self._nursery.start_soon(self._run_text, text)
        if machine.has_channel_messages and not self._is_answering:
            self._is_answering = True
            self._nursery.start_soon(self._answer_all)

    async def _run_text(self, text: bytes) -> None:
        answer = await self._server.json_rpc.run(
            text,
            lambda found: self._context(found.procedure.name, found=found),
            peer=self._peer,
            transport=self.connection.transport,
        )
        if answer:
            self._say(answer)
        self._running -= 1
        self._look()
        self.connection.kick()  # there may be room again

    async def _answer_all(self) -> None:
        while messages := self._machine.take_channel_messages():
            self.connection.kick()  # as above
            for message in messages:
                await self._answer(message)
        self._is_answering = False

    async def _answer(self, message: ChannelMessage) -> None:
        try:
            answer = await self._perform(message)
        except Exception as exc:  # a request is the boundary: its failure is its answer
            error = as_rpc_error(exc)
            if error.is_our_fault:
                _logger.error("a request about channel %r from %s failed", message.channel, self._peer, exc_info=exc)
            answer = encode_channel_error(message.id, Status(error.code, error.message, error.details))
        if answer:
            self._say(answer)

    async def _perform(self, message: ChannelMessage) -> bytes:
        channels = self._server.channels
        assert channels is not None  # the machine refuses such messages otherwise
        channel = message.channel
        if isinstance(message, Subscribe):
            return await self._subscribe(channels, message)
        if isinstance(message, Publish):
            publish = partial(channels.publish_from, self, channel, message.event, message.data)
            await self._intercepted("channels.publish", message.metadata, channel, publish)
            return b""
        channels.unsubscribe(self, channel)
        return encode_unsubscribed(message.id, channel)

    async def _subscribe(self, channels: Channels, message: Subscribe) -> bytes:
        channel = message.channel
        members: list[object] | None = None

        async def subscribe(context: Context) -> None:
            nonlocal members
            found = await channels.subscribe(self, channel, context)
            members = None if found is None else [member.to_json() for member in found]

        await self._intercepted("channels.subscribe", message.metadata, channel, subscribe)
        return encode_subscribed(message.id, channel, members)

    async def _intercepted(
        self, name: str, metadata: Mapping[str, str], channel: str, perform: Callable[[Context], Awaitable[None]]
    ) -> None:
        """Perform a request inside the application's interceptors, which know who asks."""
        context = self._context(name, metadata, {"channel": channel})
        invocation = Invocation(name=name, kind="channel", context=context)
        with context.cancel_scope:
            await intercept(self._server.router.interceptors, invocation, lambda: perform(invocation.context))
            return
        raise cancelled(context)

    def _context(
        self,
        name: str,
        metadata: Mapping[str, str] = NO_METADATA,
        params: Mapping[str, str] = NO_METADATA,
        *,
        found: Found | None = None,
    ) -> Context:
        self._requests += 1
        return Context(
            procedure=name,
            peer=self._peer,
            metadata=metadata,
            deadline=math.inf,
            cancel_scope=trio.CancelScope(),
            request_id=f"{self.id}:{self._requests}",
            params=params if found is None else found.params,
        )
