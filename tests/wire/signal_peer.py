"""A machine under test, and its peer as raw JSON messages."""

from __future__ import annotations

import itertools
import json
from typing import Any

from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.wire.message_framing import frame, split
from trio_streams.wire.message_limits import MessageLimits
from trio_streams.wire.signal_machine import SignalMachine


class Peered:
    """A machine with ids that count, whose welcome and greeting were taken.

    Args:
      is_client: which side it is.
      config, limits: the machine's.
      options: what else its constructor takes.
    """

    def __init__(
        self,
        *,
        is_client: bool = True,
        config: ConnectionConfig | None = None,
        limits: MessageLimits | None = None,
        **options: Any,
    ) -> None:
        numbers = itertools.count(1)
        self.now = 0.0
        self.machine = SignalMachine(
            is_client=is_client,
            config=config or ConnectionConfig(),
            limits=limits or MessageLimits(),
            now=0.0,
            new_id=lambda: f"id-{next(numbers)}",
            **options,
        )
        self.started = self.said()
        self.events()

    def hear(self, *messages: Any) -> list[events.Event]:
        """Feed messages, objects or bytes as they are, in one chunk; what happened."""
        texts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in messages]
        self.machine.receive(b"".join(map(frame, texts)), self.now)
        return self.events()

    def events(self) -> list[events.Event]:
        """What has happened."""
        return list(self.machine.events())

    def said(self) -> list[Any]:
        """What the machine has to say, decoded."""
        found: list[Any] = []
        while data := self.machine.to_send(self.now, 1 << 20):
            found += map(json.loads, split(data))
        return found
