"""A caller's side of durable streams: every item once, over as many connections as it takes.

On our own dialect a task reads the run and hands its items to the caller, so that it can go on over another connection
while the caller waits. What the caller has not taken stays here; what has not arrived is asked for again, behind the last
item that did.
"""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeVar

import attrs
import trio

from trio_streams.codes import Code
from trio_streams.config import ReconnectOptions
from trio_streams.connection import Connection
from trio_streams.core.records import Status
from trio_streams.errors import ConnectionLost, RpcError, StreamReset, StreamsError
from trio_streams.nursery import open_bare_nursery
from trio_streams.procedures.durable.path import new_run_id
from trio_streams.procedures.durable.place import LAST_ID_KEY, PLACE_KEY, RUN_KEY, Place
from trio_streams.resuming.client import delays
from trio_streams.streams.abc import ReceiveStream
from trio_streams.streams.local import LocalStream, open_stream
from trio_streams.streams.mapped import MappedReceiveStream
from trio_streams.streams.wire import WireStream

__all__ = ["DurableItems", "Numbered", "Redial", "Request", "follow", "not_durable"]

R = TypeVar("R")

Numbered = tuple[str, bytes]
"""An item and its id."""

_HIGH_WATER_MARK: Final = 64


class DurableItems(MappedReceiveStream[Numbered, R]):
    """The items of a run, and where the caller is in it.

    Attributes:
      last_id: the id of the last item that was taken: what to pass as `after` to go on later, perhaps in another process.
        Before the first item it stands for the beginning.

    Args:
      source: gives items with their ids.
      decode: a payload to its item.
      last_id: where the source begins.
      find_failure: what really ended the source, if its clean end was not the truth.
    """

    __slots__ = ("_decode_payload", "last_id")

    def __init__(
        self,
        source: ReceiveStream[Numbered],
        decode: Callable[[bytes], R],
        last_id: str,
        find_failure: Callable[[], Exception | None] = lambda: None,
    ) -> None:
        super().__init__(source, self._take, find_failure)
        self.last_id: str = last_id
        self._decode_payload = decode

    def _take(self, numbered: Numbered) -> R:
        self.last_id, payload = numbered
        return self._decode_payload(payload)


def not_durable(name: str) -> RpcError:
    """The error where a stream turns out to be an ordinary one."""
    return RpcError(Code.FAILED_PRECONDITION, f"{name!r} is no durable stream: use stream()")


@attrs.frozen
class Redial:
    """How a stream comes by another connection.

    Attributes:
      open: connects for as long as a block.
      options: how often, and how soon.
      max_elapsed: seconds without a connection after which the stream is given up.
    """

    open: Callable[[], AbstractAsyncContextManager[Connection]]
    options: ReconnectOptions
    max_elapsed: float


@attrs.frozen(kw_only=True)
class Request:
    """What is asked for, again and again.

    Attributes:
      name: of the procedure.
      payload: the input; None for none.
      metadata: string pairs for the handler.
      after: the id to go on behind; None for the beginning.
      high_water_mark: items the server may send ahead of what is taken here; None for the connection's.
      priority: higher goes first.
      run_id: of the run that the first attempt starts, where each call has its own: the next one joins it.
    """

    name: str
    payload: bytes | None
    metadata: Mapping[str, str]
    after: str | None
    high_water_mark: int | None = None
    priority: int = 0
    run_id: str = attrs.field(factory=new_run_id)


@contextlib.asynccontextmanager
async def follow(
    connection: Connection, request: Request, redial: Redial | None, decode: Callable[[bytes], R]
) -> AsyncGenerator[DurableItems[R], None]:
    """Read a durable stream for as long as the block.

    Args:
      connection: where the first attempt is made.
      request: what is asked for.
      redial: how to come by another connection; None to end with this one.
      decode: a payload to its item.

    Raises:
      Exception: what the first attempt is answered with, such as RpcError.
    Cancellation: the reading ends, the run goes on.
    """
    async with open_stream[Numbered](request.name, request.high_water_mark or _HIGH_WATER_MARK) as queue:
        follower = _Follower(request, redial, queue)
        async with open_bare_nursery() as nursery:
            first_id = await nursery.start(follower.run, connection)
            yield DurableItems(queue, decode, first_id, follower.find_failure)
            nursery.cancel_scope.cancel()


class _Follower:
    """The task behind a stream."""

    def __init__(self, request: Request, redial: Redial | None, queue: LocalStream[Numbered]) -> None:
        self._request = request
        self._redial = redial
        self._queue = queue
        self._after = request.after
        self._failure: Exception | None = None
        self._lost_at = math.inf

    def find_failure(self) -> Exception | None:
        """What has ended the stream, beside its end."""
        return self._failure

    async def run(self, connection: Connection, *, task_status: trio.TaskStatus[str]) -> None:
        """Read until the end of the run, or until there is no way on.

        Args:
          connection: to begin on.
          task_status: started with the id of where it begins.

        Raises:
          Exception: what came before it had started.
        """
        is_started = False

        def start() -> None:
            nonlocal is_started
            if not is_started:
                is_started = True
                task_status.started(self._after or "")

        try:
            await self._read_all(connection, start)
            self._queue.end()
        except RpcError as exc:
            if not is_started:
                raise
            self._queue.end(Status(exc.code, exc.message, exc.details))
        except (StreamsError, trio.ClosedResourceError) as exc:
            if not is_started:
                raise
            self._failure = exc
            self._queue.end()

    async def _read_all(self, connection: Connection, start: Callable[[], None]) -> None:
        try:
            await self._read(connection, start)
        except (ConnectionLost, StreamReset) as exc:
            if self._redial is None:
                raise
            await self._read_again(self._redial, exc, start)

    async def _read_again(self, redial: Redial, lost: StreamsError, start: Callable[[], None]) -> None:
        """Connect and read, until the run has ended or the time is over."""
        self._lost_at = trio.current_time()
        waits = delays(redial.options, random.Random(redial.options.seed))  # noqa: S311 - it spreads, and hides nothing
        while (wait := next(waits, None)) is not None:
            if trio.current_time() + wait > self._lost_at + redial.max_elapsed:
                break
            await trio.sleep(wait)
            try:
                async with redial.open() as connection:
                    return await self._read(connection, start)
            except (ConnectionLost, StreamReset) as exc:
                lost = exc
            if math.isinf(self._lost_at):  # it had come back
                self._lost_at = trio.current_time()
                waits = delays(redial.options, random.Random(redial.options.seed))  # noqa: S311
        raise lost

    async def _read(self, connection: Connection, start: Callable[[], None]) -> None:
        request = self._request
        metadata = {**request.metadata, RUN_KEY: request.run_id}
        if self._after is not None:
            metadata[LAST_ID_KEY] = self._after
        async with connection.open_stream(
            request.name, metadata=metadata, high_water_mark=request.high_water_mark, priority=request.priority
        ) as stream:
            if request.payload is not None:
                await stream.send_last(request.payload)
            stream.end()
            place = await self._find_place(stream)
            self._after = str(place)
            self._lost_at = math.inf
            start()
            await self._pass_on(stream, place)

    async def _pass_on(self, stream: WireStream[bytes, bytes], place: Place) -> None:
        with contextlib.suppress(trio.EndOfChannel):
            while True:
                items = await stream.receive_many()
                prefix = f"{place.run}@{place.position}."
                numbered = [(f"{prefix}{number}", item) for number, item in enumerate(items, place.items + 1)]
                await self._queue.send_many(numbered)
                place = place.behind(len(items))
                self._after = str(place)

    async def _find_place(self, stream: WireStream[bytes, bytes]) -> Place:
        head = await stream.header()
        if PLACE_KEY in head:
            return Place.parse(head[PLACE_KEY])
        with contextlib.suppress(trio.EndOfChannel):
            await stream.receive()  # a refusal says why
        raise not_durable(self._request.name)
