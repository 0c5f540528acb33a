"""A client of envelopes without any I/O: it says JSON to a machine, and hears what that answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.core.flow import cost
from trio_streams.wire.envelope import EnvelopeMachine, Form, MessageLimits
from trio_streams.wire.message_framing import frame, split

FORMS: Final = {
    "ping": Form.CALL,
    "log": Form.EVENT,
    "counter": Form.STREAM,
    "sum": Form.UPLOAD,
    "echo": Form.BIDIRECTIONAL,
}


class EnvelopeClient:
    """One machine and the client that talks to it; `events` has all that the machine told."""

    def __init__(
        self,
        config: ConnectionConfig | None = None,
        limits: MessageLimits | None = None,
        *,
        epoch: float = 0.0,
        has_channels: bool = False,
        has_json_rpc: bool = False,
        on_aside: Callable[[], None] | None = None,
    ) -> None:
        self.now = 0.0
        self.machine = EnvelopeMachine(
            find_form=FORMS.get,
            config=config or ConnectionConfig(),
            limits=limits or MessageLimits(),
            now=0.0,
            epoch=epoch,
            has_channels=has_channels,
            has_json_rpc=has_json_rpc,
            on_aside=on_aside,
        )
        self.events: list[events.Event] = []
        self.greeting = self.take()

    def say(self, *envelopes: dict[str, Any]) -> None:
        self.say_raw(b"".join(frame(json.dumps(envelope).encode()) for envelope in envelopes))

    def say_raw(self, data: bytes) -> None:
        self.machine.receive(data, self.now)
        self.events += self.machine.events()

    def start(self, type_: str, procedure: str, id_: str | int = "a", **more: Any) -> int:
        """Ask for something; its number."""
        self.say({"type": type_, "id": id_, "procedure": procedure, **more})
        opened = [event for event in self.take() if isinstance(event, events.Opened)]
        return opened[-1].stream_id

    def take(self) -> list[events.Event]:
        self.events += self.machine.events()
        taken, self.events = self.events, []
        return taken

    def hear(self, max_bytes: int = 65_536) -> list[dict[str, Any]]:
        """All that the machine has to say."""
        heard: list[dict[str, Any]] = []
        while self.machine.has_output:
            heard += [json.loads(message) for message in split(self.machine.to_send(self.now, max_bytes))]
        self.events += self.machine.events()
        return heard

    def consume(self, stream_id: int, *items: bytes) -> None:
        self.machine.consume(stream_id, len(items), cost(items))


def items(happened: list[events.Event]) -> list[bytes]:
    return [item for event in happened if isinstance(event, events.Received) for item in event.items]
