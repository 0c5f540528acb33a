"""Where a fork diverges: the position that an offset and a sub-offset name in its source.

Spec: Durable Streams §4.2.
"""

from __future__ import annotations

from collections.abc import Callable

from trio_streams.durable.protocol import refusals
from trio_streams.durable.protocol.entries import MAX_ENTRY_BYTES
from trio_streams.durable.protocol.json_messages import message_ends
from trio_streams.durable.protocol.lifecycle import fork_anchor, fork_record, inherited_segments
from trio_streams.durable.protocol.needs import ReadEntries, Running, Settle
from trio_streams.durable.protocol.operations import Create
from trio_streams.durable.protocol.registry import Registry
from trio_streams.durable.protocol.states import Segment, StreamState
from trio_streams.durable.store.base import Entry, StreamRecord

__all__ = ["Forking", "Prepared"]

Prepared = tuple[StreamRecord, tuple[Segment, ...], StreamState]


class Forking:
    """Prepares forks.

    Args:
      registry: of the streams.
      max_read_bytes: of one look at a source's entries.
    """

    def __init__(self, registry: Registry, max_read_bytes: int) -> None:
        self._registry = registry
        self._max_read_bytes = max_read_bytes

    def prepare(
        self,
        operation: Create,
        stream_id: int,
        find: Callable[[str], Running[StreamState]],
        clock: Callable[[], float],
    ) -> Running[Prepared]:
        """A fork's record, where its bytes are, and its source.

        Raises:
          Refused: 404: there is no source; 409: it is deleted or of another content type; 400: the place is none.
        """
        fork = operation.fork
        assert fork is not None
        while True:
            try:
                source = yield from find(fork.source)
            except refusals.Refused as refused:
                if refused.status == 410:
                    raise refusals.stream_exists(f"the source at {fork.source!r} is deleted") from None
                raise
            position = fork_anchor(operation, source.record)
            if fork.offset is not None or fork.sub_offset:
                if source.pending is not None:
                    yield Settle(source.pending)
                position = yield from self._divergence(source, position, fork.sub_offset)
            if source.is_current and not source.is_removed:
                break
        record = fork_record(operation, stream_id, source.record, position, clock())
        assert record.fork is not None
        inherited = inherited_segments(source.segments, source.record.stream_id, record.fork)
        return record, (*inherited, (stream_id, position, None)), source

    def _divergence(self, source: StreamState, anchor: int, sub_offset: int) -> Running[int]:
        tail = source.durable.tail
        if anchor == tail:
            if sub_offset:
                raise _overshoot(sub_offset)
            return anchor
        entry, begin, stop = yield from self._entry_at(source, anchor)
        if source.is_json:
            if begin != anchor:
                raise refusals.bad_request("Stream-Fork-Offset", "the offset is none that this server gave")
            return anchor + _json_bytes(entry, begin, stop, sub_offset)
        while sub_offset > stop - anchor:
            # A long append lies in several entries, all but the last of them full.
            if len(entry.data) < MAX_ENTRY_BYTES - 3 or stop >= tail:
                raise _overshoot(sub_offset)
            entry, _, stop = yield from self._entry_at(source, stop)
        return anchor + sub_offset

    def _entry_at(self, source: StreamState, position: int) -> Running[tuple[Entry, int, int]]:
        for stream_id, first, last in source.segments:
            stop = source.durable.tail if last is None else last
            if first <= position < stop:
                entries = yield ReadEntries(stream_id, position, stop, 1)
                if entries:
                    entry: Entry = entries[0]
                    return entry, max(entry.position, first), min(entry.end, stop)
        raise refusals.bad_request("Stream-Fork-Offset", "there is nothing at the offset")


def _json_bytes(entry: Entry, begin: int, stop: int, messages: int) -> int:
    if not messages:
        return 0
    ends = message_ends(entry.data[begin - entry.position : stop - entry.position])
    if messages > len(ends):
        raise _overshoot(messages)
    return ends[messages - 1]


def _overshoot(sub_offset: int) -> refusals.Refused:
    return refusals.bad_request(
        "Stream-Fork-Sub-Offset", f"{sub_offset} is behind the end of the append at Stream-Fork-Offset"
    )
