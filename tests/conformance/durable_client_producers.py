"""The client suite's idempotent producers: each lives from the command that first names it to the end."""

from __future__ import annotations

from typing import Any, TypeAlias

import trio

from trio_streams.durable.client.handle import AsyncDurableStream
from trio_streams.durable.client.producing import IdempotentProducer

Key: TypeAlias = tuple[str, str, int]


class Producers:
    """Producers by stream, id and epoch, each in a task of its own.

    Args:
      nursery: where these tasks run.
    """

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._found: dict[Key, IdempotentProducer] = {}
        self._ends: dict[Key, trio.Event] = {}

    def make(self, url: str, content_type: str | None, command: dict[str, Any], **sizes: Any) -> IdempotentProducer:
        """A producer that is not entered yet."""
        handle = AsyncDurableStream(url, content_type=content_type, headers=command.get("headers"))
        epoch, auto_claim = command.get("epoch", 0), command.get("autoClaim", False)
        return IdempotentProducer(handle, command["producerId"], epoch=epoch, auto_claim=auto_claim, **sizes)

    async def find(self, url: str, content_type: str | None, command: dict[str, Any]) -> IdempotentProducer:
        """The running producer that a command names, started if there is none."""
        key = (url, command["producerId"], command.get("epoch", 0))
        if key not in self._found:
            self._ends[key] = trio.Event()
            producer = self.make(url, content_type, command, linger=0)
            self._found[key] = await self._nursery.start(self._run, producer, self._ends[key])
        return self._found[key]

    async def end(self, url: str, command: dict[str, Any]) -> None:
        """Leave a producer's block."""
        key = (url, command["producerId"], command.get("epoch", 0))
        del self._found[key]
        self._ends.pop(key).set()
        await trio.lowlevel.checkpoint()

    async def _run(
        self,
        producer: IdempotentProducer,
        end: trio.Event,
        task_status: trio.TaskStatus[IdempotentProducer] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with producer:
            task_status.started(producer)
            await end.wait()
