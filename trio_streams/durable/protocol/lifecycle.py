"""How streams begin and end: creation that may be repeated, forks, deletion, and what it sets free.

Spec: Durable Streams §4.2, §5.1, §5.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from trio_streams.durable.headers import BEGINNING
from trio_streams.durable.protocol import refusals
from trio_streams.durable.protocol.media_types import media_type
from trio_streams.durable.protocol.offsets import parse_offset
from trio_streams.durable.protocol.operations import Create
from trio_streams.durable.protocol.states import Segment, Step, StreamState
from trio_streams.durable.store.base import Change, Fork, StreamRecord

__all__ = [
    "DEFAULT_CONTENT_TYPE",
    "check_same",
    "fork_anchor",
    "fork_record",
    "inherited_segments",
    "new_record",
    "removal",
]

DEFAULT_CONTENT_TYPE: Final = "application/octet-stream"


def check_same(operation: Create, record: StreamRecord) -> None:
    """Look whether a stream is what a creation wants, so that it counts as done.

    Raises:
      Refused: 409: it is not, or is deleted while forks still read from it.
    """
    if record.is_deleted:
        raise refusals.stream_exists(f"the stream at {record.path!r} is deleted, but forks still read from it")
    is_fork = operation.fork is not None
    wanted_type = operation.content_type or (None if is_fork else DEFAULT_CONTENT_TYPE)
    if wanted_type is not None and media_type(wanted_type) != media_type(record.content_type):
        raise refusals.stream_exists(f"there is a stream with content type {record.content_type}")
    wanted_life = (operation.ttl_seconds, operation.expires_at)
    if wanted_life != (record.ttl_seconds, record.expires_at) and not (is_fork and wanted_life == (None, None)):
        raise refusals.stream_exists("there is a stream with another Stream-TTL or Stream-Expires-At")
    if operation.is_closed != record.is_closed:
        raise refusals.stream_exists(f"there is a stream that is {'closed' if record.is_closed else 'open'}")
    if not _is_same_fork(operation, record.fork):
        raise refusals.stream_exists("there is a stream that is forked from elsewhere, or from nowhere")


def _is_same_fork(operation: Create, fork: Fork | None) -> bool:
    wanted = operation.fork
    if wanted is None or fork is None:
        return wanted is None and fork is None
    return (wanted.source, wanted.offset, wanted.sub_offset) == (fork.source_path, fork.offset, fork.sub_offset)


def new_record(operation: Create, stream_id: int, now: float) -> StreamRecord:
    """An empty stream of its own."""
    return StreamRecord(
        stream_id=stream_id,
        path=operation.path,
        content_type=operation.content_type or DEFAULT_CONTENT_TYPE,
        created_at=now,
        touched_at=now,
        ttl_seconds=operation.ttl_seconds,
        expires_at=operation.expires_at,
    )


def fork_anchor(operation: Create, source: StreamRecord) -> int:
    """The position that a fork's offset names in its source.

    Raises:
      Refused: 409: the source is deleted, or has another content type; 400: the offset is behind its tail; 410: it is
        before what is kept.
    """
    fork = operation.fork
    if source.is_deleted:
        raise refusals.stream_exists(f"the source at {source.path!r} is deleted, but other forks still read from it")
    wanted_type = operation.content_type
    if wanted_type is not None and media_type(wanted_type) != media_type(source.content_type):
        raise refusals.content_type_mismatch(source.content_type, wanted_type)
    if fork is None or fork.offset is None:
        return source.tail
    position = source.start if fork.offset == BEGINNING else parse_offset(fork.offset)
    if position is None or position > source.tail:
        raise refusals.bad_request("Stream-Fork-Offset", f"{fork.offset} is behind the source's tail")
    if position < source.start:
        raise refusals.retention_gone(source.path, source.start)
    return position


def fork_record(operation: Create, stream_id: int, source: StreamRecord, position: int, now: float) -> StreamRecord:
    """A fork without anything of its own. What its request leaves open it inherits: content type and lifetime."""
    fork = operation.fork
    assert fork is not None
    inherits = operation.ttl_seconds is None and operation.expires_at is None
    return StreamRecord(
        stream_id=stream_id,
        path=operation.path,
        content_type=operation.content_type or source.content_type,
        created_at=now,
        touched_at=now,
        ttl_seconds=source.ttl_seconds if inherits else operation.ttl_seconds,
        expires_at=source.expires_at if inherits else operation.expires_at,
        start=source.start,
        tail=position,
        fork=Fork(source.stream_id, fork.source, fork.offset, fork.sub_offset, position),
    )


def inherited_segments(source: Sequence[Segment], source_id: int, fork: Fork) -> tuple[Segment, ...]:
    """Where what a fork inherits is: the source's segments up to the divergence.

    Args:
      source: the source's segments.
      source_id: the source's number.
      fork: where it diverges.
    """
    kept: list[Segment] = []
    for stream_id, first, last in source:
        if first < fork.position:
            stop = fork.position if last is None else min(last, fork.position)
            kept.append((stream_id, first, stop))
    assert source[-1][0] == source_id
    return tuple(kept)


def removal(state: StreamState, ancestors: Sequence[StreamState]) -> tuple[Change, list[Step]]:
    """Delete a stream, and what only it has kept.

    Args:
      state: a stream that is not deleted.
      ancestors: its source, that one's source, and so on.

    Returns:
      What is to be made durable, and its steps: a stream that has forks is only marked; else it goes, its source loses
      a reference, and goes as well if it was marked and this was the last one.
    """
    if state.record.references:
        marked = attrs.evolve(state.record, is_deleted=True)
        return Change(records=[marked]), [Step(state, marked)]
    steps = [Step(state, state.record, is_removal=True)]
    removals = [state.record.stream_id]
    records = []
    for ancestor in ancestors:
        record = attrs.evolve(ancestor.record, references=ancestor.record.references - 1)
        is_over = record.is_deleted and not record.references
        steps.append(Step(ancestor, record, is_removal=is_over))
        if not is_over:
            records.append(record)
            break
        removals.append(record.stream_id)
    return Change(records=records, removals=removals), steps
