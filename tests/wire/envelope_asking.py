"""A server of envelopes without any I/O: it hears what a client's machine asks, and answers as a test says."""

from __future__ import annotations

import json
from typing import Any

from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.core.flow import cost
from trio_streams.wire.envelope_client import EnvelopeClientMachine
from trio_streams.wire.envelope_writer import Form
from trio_streams.wire.message_framing import frame, split
from trio_streams.wire.message_limits import MessageLimits


class Asking:
    """A client's machine, and the server that it talks to."""

    def __init__(
        self,
        config: ConnectionConfig | None = None,
        limits: MessageLimits | None = None,
        *,
        is_text: bool = False,
        epoch: float = 0.0,
    ) -> None:
        self.now = 0.0
        self.machine = EnvelopeClientMachine(
            config=config or ConnectionConfig(idle_timeout=None),
            limits=limits or MessageLimits(),
            is_text=is_text,
            now=0.0,
            epoch=epoch,
        )
        self.greeting = self.take()

    def ask(self, form: Form, name: str = "thing", *items: bytes, is_ended: bool = True, **options: Any) -> int:
        """Open a stream, begin it, send items and the end; its number."""
        machine = self.machine
        number = machine.open(name, **options)
        machine.begin(number, form, self.now)
        if items:
            machine.send(number, items)
        if is_ended:
            machine.end(number)
        return number

    def answer(self, *envelopes: dict[str, Any]) -> None:
        self.answer_raw(b"".join(frame(json.dumps(envelope).encode()) for envelope in envelopes))

    def answer_raw(self, data: bytes) -> None:
        self.machine.receive(data, self.now)

    def take(self) -> list[events.Event]:
        return list(self.machine.events())

    def hear(self, max_bytes: int = 65_536) -> list[dict[str, Any]]:
        """All that the machine has to say."""
        heard: list[dict[str, Any]] = []
        while self.machine.has_output:
            heard += [json.loads(message) for message in split(self.machine.to_send(self.now, max_bytes))]
        return heard

    def consume(self, number: int, *items: bytes) -> None:
        self.machine.consume(number, len(items), cost(items))
