"""The client suite's idempotent producers: each lives from the command that first names it to the end."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import trio

from trio_streams.durable import AppendResult, AsyncDurableStream, BlockingProducer, DurableStream, IdempotentProducer

Key: TypeAlias = tuple[str, str, int]


class Producer(Protocol):
    """What both forms of a producer can do."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None: ...
    async def append(self, data: bytes) -> None: ...
    async def flush(self) -> None: ...
    async def close(self, data: bytes | None) -> AppendResult: ...
    async def detach(self) -> None: ...


class InThreads:
    """A producer that blocks, called in threads of its own."""

    def __init__(self, producer: BlockingProducer) -> None:
        self._producer = producer

    async def __aenter__(self) -> Self:
        await trio.to_thread.run_sync(self._producer.__enter__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.CancelScope(shield=True):  # an adapter that ends leaves its producers' blocks
            await trio.to_thread.run_sync(self._producer.__exit__, kind, exc, traceback)

    async def append(self, data: bytes) -> None:
        await trio.to_thread.run_sync(self._producer.append, data)

    async def flush(self) -> None:
        await trio.to_thread.run_sync(self._producer.flush)

    async def close(self, data: bytes | None) -> AppendResult:
        return await trio.to_thread.run_sync(self._producer.close, data)

    async def detach(self) -> None:
        await trio.to_thread.run_sync(self._producer.detach)


class Producers:
    """Producers by stream, id and epoch, each in a task of its own.

    Args:
      nursery: where these tasks run.
      blocking: whether they are of the form that blocks.
    """

    def __init__(self, nursery: trio.Nursery, *, blocking: bool) -> None:
        self._nursery = nursery
        self._blocking = blocking
        self._found: dict[Key, Producer] = {}
        self._ends: dict[Key, trio.Event] = {}

    def make(self, url: str, content_type: str | None, command: dict[str, Any], **sizes: Any) -> Producer:
        """A producer that is not entered yet."""
        fields: dict[str, Any] = {"content_type": content_type, "headers": command.get("headers")}
        sizes |= {"epoch": command.get("epoch", 0), "auto_claim": command.get("autoClaim", False)}
        if self._blocking:
            return InThreads(DurableStream(url, **fields).producer(command["producerId"], **sizes))
        return IdempotentProducer(AsyncDurableStream(url, **fields), command["producerId"], **sizes)

    async def find(self, url: str, content_type: str | None, command: dict[str, Any]) -> Producer:
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
        producer: Producer,
        end: trio.Event,
        task_status: trio.TaskStatus[Producer] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with producer:
            task_status.started(producer)
            await end.wait()
