"""Connections of peers that speak the JSON messages of ts-signal-rpc."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Literal, TypeAlias

import attrs
import trio

from trio_streams.carrier import Carrier
from trio_streams.config import ConnectionConfig
from trio_streams.connection import Connection
from trio_streams.driver import run_connection
from trio_streams.peer.stream_options import StreamOptions
from trio_streams.transports.envelope_carrier import as_envelopes
from trio_streams.wire.envelope import SignsOfLife
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.signal_machine import SignalMachine

__all__ = ["PeerDialect", "Signal"]

PeerDialect: TypeAlias = Literal["trio-streams", "signal"]


@attrs.frozen(kw_only=True)
class Signal:
    """How one side speaks JSON messages.

    Attributes:
      config: limits and timeouts that every dialect has.
      limits: the dialect's own.
      name: what this side calls itself; None for nothing.
      is_relayed: whether the other end is a relay.
    """

    config: ConnectionConfig
    limits: MessageLimits
    name: str | None = None
    is_relayed: bool = False

    @classmethod
    def choose(
        cls,
        options: StreamOptions,
        config: ConnectionConfig,
        limits: MessageLimits | None,
        *,
        name: str | None,
        is_relayed: bool = False,
    ) -> Signal:
        """The limits that were given, or else those that the options of streams make."""
        limits = limits or MessageLimits(overflow_bytes=options.max_buffered_bytes)
        return cls(config=config, limits=limits, name=name, is_relayed=is_relayed)

    @contextlib.asynccontextmanager
    async def run_client(self, carrier: Carrier, transport: str) -> AsyncGenerator[Connection, None]:
        """Be the client on a carrier for as long as the block; see `run_connection`.

        Raises:
          ConnectionLost: nobody welcomed us.
        """
        texts = as_envelopes(carrier)
        make_machine = self.machine_maker(is_client=True, is_text=texts is not None, signs=_signs_of(carrier))
        async with run_connection(
            texts or carrier, is_client=True, config=self.config, transport=transport, make_machine=make_machine
        ) as connection:
            yield connection

    def machine_maker(
        self, *, is_client: bool, is_text: bool, signs: SignsOfLife | None
    ) -> Callable[[], SignalMachine]:
        """What makes the machine of a connection.

        Args:
          is_client: which side this is.
          is_text: whether it is a WebSocket, whose messages have a limit of their own.
          signs: of the other side's life, where the carrier has such.
        """
        limits = self.limits
        if is_text:
            limits = attrs.evolve(limits, max_message_bytes=limits.max_text_bytes)
        return partial(self._make_machine, is_client, limits, signs)

    def _make_machine(self, is_client: bool, limits: MessageLimits, signs: SignsOfLife | None) -> SignalMachine:
        now = trio.current_time()
        return SignalMachine(
            is_client=is_client,
            config=self.config,
            limits=limits,
            now=now,
            epoch=time.time() - now,
            name=self.name,
            is_relayed=self.is_relayed,
            awaits_welcome=is_client,
            signs=signs,
        )


def _signs_of(carrier: Carrier) -> SignsOfLife | None:
    """The carrier, where it can ask for a sign of life by itself."""
    return carrier if isinstance(carrier, SignsOfLife) else None
