"""What a store of durable streams has to do, in so few words that another engine can do it as well.

A store keeps *records*, one for each stream, and *entries*, the bytes of one append each. It decides nothing: the server's
machine decides on a record that it holds in memory, and hands the store the record as it is afterwards. A position is a
number of bytes from the beginning of a stream's lineage; a fork's own entries begin at its `fork_position`.

Changes are durable in the order of their submission, each as a whole, and several at once where that is cheaper
(group commit). What fails fails all that was submitted behind it, so that nothing is built on what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import attrs

from trio_streams.core.errors import StreamsError

__all__ = ["Change", "Commit", "Entry", "Fork", "ProducerState", "Store", "StoreError", "Stored", "StreamRecord"]

_NO_PRODUCERS: Final[Mapping[str, ProducerState]] = {}


class StoreError(StreamsError):
    """The store could not do what was asked: the disk is full, the files are damaged, or another server has them."""


@attrs.frozen
class Fork:
    """Where a forked stream comes from.

    Attributes:
      source_id: the stream that holds what is before `position`.
      source_path: its path, as the creation named it.
      offset: the divergence as the creation named it; None for the tail.
      sub_offset: as the creation named it.
      position: where the fork's own entries begin.
    """

    source_id: int
    source_path: str
    offset: str | None
    sub_offset: int
    position: int


@attrs.frozen
class ProducerState:
    """How far an idempotent producer is.

    Attributes:
      epoch: its epoch.
      seq: the highest sequence number that was accepted in it.
      at: when, in Unix seconds.
    """

    epoch: int
    seq: int
    at: float


@attrs.frozen(kw_only=True)
class StreamRecord:
    """A stream, but for its bytes and producers.

    Attributes:
      stream_id: its number, never used again for another one.
      path: where it is found.
      content_type: as the creation gave it.
      ttl_seconds: seconds without a read or write after which it expires; None for never.
      expires_at: Unix seconds at which it expires; None for never.
      created_at: Unix seconds.
      touched_at: Unix seconds of the last read or write that counts for `ttl_seconds`.
      start: the first position that is kept; more than the beginning where retention has dropped something.
      tail: the position behind the last byte.
      is_closed: whether nothing more can be appended.
      closed_by: the producer's (id, epoch, seq) that closed it; None where none did.
      stream_seq: the last `Stream-Seq`; None before the first.
      fork: where it comes from; None for a stream of its own.
      references: how many forks read from it.
      is_deleted: whether only its forks may still read it.
    """

    stream_id: int
    path: str
    content_type: str
    created_at: float
    touched_at: float
    ttl_seconds: int | None = None
    expires_at: float | None = None
    start: int = 0
    tail: int = 0
    is_closed: bool = False
    closed_by: tuple[str, int, int] | None = None
    stream_seq: str | None = None
    fork: Fork | None = None
    references: int = 0
    is_deleted: bool = False


@attrs.frozen
class Entry:
    """The bytes of one append, or of one part of a large one.

    In JSON mode the messages of the append with a comma behind each, so that entries join to the inside of an array.

    Attributes:
      position: of its first byte.
      data: at least one byte.
      at: Unix seconds of the append; retention goes by it.
    """

    position: int
    data: bytes
    at: float

    @property
    def end(self) -> int:
        """The position behind its last byte."""
        return self.position + len(self.data)


@attrs.frozen
class Stored:
    """What a store knows of a stream.

    Attributes:
      record: the stream.
      producers: its idempotent producers by id.
    """

    record: StreamRecord
    producers: Mapping[str, ProducerState] = _NO_PRODUCERS


@attrs.frozen(kw_only=True)
class Change:
    """One step of one stream, or of a few that belong together (a fork and the references of its source).

    Attributes:
      records: the streams as they are afterwards. Entries before a record's `start` may be dropped.
      entries: what is new, all of `records[0]`, in order.
      producers: of `records[0]`, those that have moved.
      removals: numbers of streams that are gone, with all that is theirs.
    """

    records: Sequence[StreamRecord] = ()
    entries: Sequence[Entry] = ()
    producers: Mapping[str, ProducerState] = _NO_PRODUCERS
    removals: Sequence[int] = ()


class Commit(Protocol):
    """A change on its way to where nothing is lost."""

    async def wait(self) -> None:
        """Wait until the change is durable. Several tasks may wait, also after it is.

        Raises:
          StoreError: it will never be; nothing of it is there, nor of what was submitted after it.
        Cancellation: the change goes on.
        """
        ...


class Store(Protocol):
    """Keeps records and entries. One server uses it, from one Trio thread."""

    async def find(self, path: str) -> Stored | None:
        """The stream at a path, soft-deleted ones included; None where there is none.

        Raises:
          StoreError: it can't be read.
        Cancellation: atomic.
        """
        ...

    async def get(self, stream_id: int) -> Stored | None:
        """A stream by its number, as `find`."""
        ...

    async def new_id(self) -> int:
        """A number that no stream has had. Raises and cancellation as `find`."""
        ...

    async def read(self, stream_id: int, start: int, end: int, *, max_bytes: int) -> Sequence[Entry]:
        """A stream's own entries that overlap [start, end), whole and in order: as many as fit `max_bytes`, and one at least.

        Raises and cancellation as `find`.
        """
        ...

    def submit(self, change: Change) -> Commit | None:
        """Make a change durable; None where it is so at once. What `read` and `find` give is up to date with it then, not before.

        Raises:
          StoreError: the store takes nothing more: it failed, or was closed.
        """
        ...

    async def wait_room(self) -> None:
        """Wait until the store can hold another change; to be called before deciding on one.

        Raises:
          StoreError: the store takes nothing more.
        Cancellation: atomic.
        """
        ...

    async def list_records(self, prefix: str, *, after: str = "", limit: int) -> Sequence[StreamRecord]:
        """Streams whose path starts with `prefix` and is greater than `after`, in the order of paths. As `find`."""
        ...

    async def count_records(self) -> int:
        """How many streams there are, soft-deleted ones included. As `find`."""
        ...

    async def list_expired(self, now: float, *, limit: int) -> Sequence[StreamRecord]:
        """Streams that have expired and are not deleted yet, in any order. As `find`."""
        ...

    async def aclose(self) -> None:
        """Make durable what was submitted, and let go of the files. Idempotent.

        Cancellation: what was submitted may be lost, as by a crash; the files are let go.
        """
        ...
