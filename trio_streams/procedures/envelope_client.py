"""Calls procedures of a server that speaks Raffel's JSON envelopes, the original's among them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import cast

import trio
from typing_extensions import TypeVar  # its `default` is in typing from 3.13 on

from trio_streams.carrier import Carrier
from trio_streams.codecs import Codec
from trio_streams.codes import Code
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.core.records import NO_METADATA
from trio_streams.driver import run_client
from trio_streams.errors import RpcError
from trio_streams.procedures.client import ConnectionClient, any_json, result_codec
from trio_streams.procedures.coding import BYTES, JSON
from trio_streams.procedures.durable.following import DurableItems
from trio_streams.procedures.envelope_forms import FORMS
from trio_streams.procedures.procedure import Kind
from trio_streams.streams.wire import WireStream
from trio_streams.wire.envelope_client import EnvelopeClientMachine
from trio_streams.wire.message_limits import MessageLimits

__all__ = ["EnvelopeClient", "open_envelope_client"]

T = TypeVar("T")
R = TypeVar("R", default=object)


class EnvelopeClient(ConnectionClient):
    """A client over a connection of envelopes. Items are JSON, and `bytes` are base64 in it.

    Marks mean nothing to such a server: what nobody takes is held up to `MessageLimits.overflow_bytes` a stream, and then
    nothing more is read of the whole connection, whoever waits for it. A stream that holds so much while others wait is
    ended after `stall_timeout`, so call from within a stream that you drain, or over a second connection.

    Args:
      connection: open; whoever made it closes it.
      machine: the connection's.
    """

    def __init__(self, connection: Connection, machine: EnvelopeClientMachine) -> None:
        super().__init__(connection)
        self._machine = machine

    def _prepare(
        self, metadata: Mapping[str, str], sent: str | None, returns: type[T] | None
    ) -> tuple[Codec[object], Codec[T], Mapping[str, str]]:
        if sent not in {None, JSON, BYTES}:
            raise RpcError(Code.INVALID_ARGUMENT, f"items travel as {JSON} in envelopes, not as {str(sent)[:64]!r}")
        return any_json, cast("Codec[T]", result_codec(returns)), metadata

    def durable_stream(
        self,
        name: str,
        input: object = None,  # noqa: A002
        *,
        returns: type[R] | None = None,
        metadata: Mapping[str, str] = NO_METADATA,
        after: str | None = None,
        high_water_mark: int | None = None,
        priority: int = 0,
    ) -> AbstractAsyncContextManager[DurableItems[R]]:
        """Refused: answers in envelopes have no place for ids; `stream` reads a run from its beginning."""
        raise RpcError(Code.UNIMPLEMENTED, f"{name!r}: envelopes can't say where a reader is; use stream()")

    @contextlib.asynccontextmanager
    async def _open(
        self,
        kind: Kind,
        name: str,
        metadata: Mapping[str, str],
        high_water_mark: int | None = None,
        priority: int = 0,
    ) -> AsyncGenerator[WireStream[bytes, bytes]]:
        async with super()._open(kind, name, metadata, high_water_mark, priority) as stream:
            self._machine.begin(stream.id, FORMS[kind], trio.current_time())
            self.connection.kick()
            yield stream


@contextlib.asynccontextmanager
async def open_envelope_client(
    carrier: Carrier, *, config: ConnectionConfig, limits: MessageLimits, is_text: bool, transport: str = ""
) -> AsyncGenerator[EnvelopeClient, None]:
    """Speak envelopes on a carrier for as long as the block.

    Args:
      carrier: of framed messages; it is closed when the block ends, whatever happens.
      config: limits and timeouts that every dialect has.
      limits: this dialect's own.
      is_text: whether it is a WebSocket, on which the server takes no more than `max_text_bytes`.
      transport: what the carrier is, for people.

    Yields:
      The client; the dialect has no greeting, so that a server which speaks another one shows it at the first answer.

    Raises:
      ConnectionLost: the carrier broke. Later faults surface from stream operations only.

    Cancellation: streams are cancelled, and what says so leaves within `close_timeout`.
    """
    now = trio.current_time()
    machine = EnvelopeClientMachine(config=config, limits=limits, is_text=is_text, now=now, epoch=time.time() - now)
    async with run_client(carrier, config=config, transport=transport, make_machine=lambda: machine) as connection:
        yield EnvelopeClient(connection, machine)
