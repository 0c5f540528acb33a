"""Does what the machine's operations need, in Trio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

import trio

from trio_streams.durable.protocol import needs
from trio_streams.durable.protocol.refusals import too_many, unavailable
from trio_streams.durable.protocol.registry import Registry
from trio_streams.durable.protocol.states import Pending
from trio_streams.durable.store.base import Store, StoreError

__all__ = ["Driver", "WaitingReaders"]

T = TypeVar("T")

_Satisfy: TypeAlias = Callable[[Any], Awaitable[Any]]


class WaitingReaders:
    """Counts those who wait, each within `with`; one object for all of them, since thousands may.

    Attributes:
      count: how many there are.

    Args:
      maximum: how many there may be.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self.count: int = 0

    def __enter__(self) -> None:
        """One more. Raises `Refused`, 429, where that is too many."""
        if self.count >= self._maximum:
            limit = self._maximum
            raise too_many("max_waiting_readers", limit, f"{limit} readers are waiting, and no more may")
        self.count += 1

    def __exit__(self, *_: object) -> None:
        self.count -= 1


class Driver:
    """Runs operations on a store.

    Args:
      store: what they read and write.
      registry: of the machine whose operations these are.
      nursery: for commits that nobody waits for any longer.
      max_waiting_readers: how many may wait for a stream to grow.
    """

    def __init__(self, store: Store, registry: Registry, nursery: trio.Nursery, max_waiting_readers: int) -> None:
        self._store = store
        self._registry = registry
        self.nursery: trio.Nursery = nursery
        self.readers: WaitingReaders = WaitingReaders(max_waiting_readers)
        self._satisfy: Final[dict[type, _Satisfy]] = {
            needs.Room: self._wait_room,
            needs.Find: self._find,
            needs.Get: self._get,
            needs.NewId: self._new_id,
            needs.ReadEntries: self._read,
            needs.Settle: self._settle,
            needs.Wait: self.wait,
            needs.Listing: self._list,
            needs.Count: self._count,
            needs.Expired: self._list_expired,
        }

    async def run(self, operation: needs.Running[T]) -> T:
        """Run an operation to its end.

        Raises:
          Refused: what was asked is not done; 503 where the store fails.
        Cancellation: what is decided stays decided, and becomes durable; its answer is lost.
        """
        satisfy = self._satisfy
        try:
            need = next(operation)
            while True:
                try:
                    result = await satisfy[type(need)](need)
                except BaseException as exc:  # noqa: BLE001 - the operation is told, and raises it again
                    need = operation.throw(exc)
                else:
                    need = operation.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except StoreError as exc:
            raise unavailable() from exc

    def run_nowait(self, operation: needs.Running[T]) -> T | None:
        """Run an operation on a store that always has room and whose changes are durable at once.

        Returns:
          Its result; None where something else has to be waited for, and it was given up before it decided anything.

        Raises:
          Refused: as `run`.
        """
        try:
            need = next(operation)
            while isinstance(need, needs.Room):
                need = operation.send(None)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except StoreError as exc:
            raise unavailable() from exc
        operation.close()
        return None

    async def _wait_room(self, _: needs.Room) -> None:
        await self._store.wait_room()

    async def _find(self, need: needs.Find) -> object:
        return await self._store.find(need.path)

    async def _get(self, need: needs.Get) -> object:
        return await self._store.get(need.stream_id)

    async def _new_id(self, _: needs.NewId) -> int:
        return await self._store.new_id()

    async def _read(self, need: needs.ReadEntries) -> object:
        return await self._store.read(need.stream_id, need.start, need.end, max_bytes=need.max_bytes)

    async def _list(self, need: needs.Listing) -> object:
        return await self._store.list_records(need.prefix, after=need.after, limit=need.limit)

    async def _count(self, _: needs.Count) -> int:
        return await self._store.count_records()

    async def _list_expired(self, need: needs.Expired) -> object:
        return await self._store.list_expired(need.now, limit=need.limit)

    async def _settle(self, need: needs.Settle) -> None:
        pending = need.pending
        try:
            await pending.commit.wait()
        except StoreError:
            self._registry.fail(pending)
            raise
        except trio.Cancelled:
            # Readers wait for it, whoever appended.
            self.nursery.start_soon(self._settle_later, pending)
            raise
        self._registry.settle(pending)

    async def _settle_later(self, pending: Pending) -> None:
        try:
            await pending.commit.wait()
        except StoreError:
            self._registry.fail(pending)
        else:
            self._registry.settle(pending)

    async def wait(self, need: needs.Wait) -> bool:
        """Wait as an operation does. Cancellation: atomic."""
        if need.is_ready():
            return True
        if not need.is_reader:
            return await self._wait_ready(need)
        with self.readers:
            return await self._wait_ready(need)

    async def _wait_ready(self, need: needs.Wait) -> bool:
        changed = trio.Event()

        def listen() -> None:
            if need.is_ready():
                changed.set()

        need.watched.listeners.add(listen)
        try:
            if need.timeout is None:
                await changed.wait()
            else:
                with trio.move_on_after(need.timeout):
                    await changed.wait()
        finally:
            need.watched.listeners.discard(listen)
        return need.is_ready()
