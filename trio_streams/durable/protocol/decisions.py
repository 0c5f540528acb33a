"""What an append does to a stream, or why it does nothing.

All of it happens at once, on the state in memory: nothing waits between the look and the deed, which is what serializes
producers. Spec: Durable Streams §5.2, §5.2.1, §5.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from trio_streams.durable.protocol import refusals
from trio_streams.durable.protocol.entries import make_entries
from trio_streams.durable.protocol.media_types import media_type
from trio_streams.durable.protocol.offsets import format_offset
from trio_streams.durable.protocol.operations import Append
from trio_streams.durable.protocol.states import Step, StreamState
from trio_streams.durable.store.base import Entry, ProducerState, StreamRecord
from trio_streams.wire.entity_tags import ANY, parse_etags

__all__ = ["Appended", "Decision", "advance", "decide_append"]

_NO_PRODUCERS: Final[dict[str, ProducerState]] = {}


class Appended(NamedTuple):
    """What an append has done.

    Attributes:
      tail: the position behind it.
      is_closed: whether the stream is closed now.
      is_duplicate: whether it had been done before.
      producer: the epoch and the highest sequence number, where a producer appends.
    """

    tail: int
    is_closed: bool = False
    is_duplicate: bool = False
    producer: tuple[int, int] | None = None


class Decision(NamedTuple):
    """What is to be answered, and to be made durable before.

    Attributes:
      result: the answer.
      step: the stream afterwards; None where nothing changes.
      entries: what is new.
    """

    result: Appended
    step: Step | None = None
    entries: Sequence[Entry] = ()


def decide_append(operation: Append, body: bytes, state: StreamState, now: float, *, max_producers: int) -> Decision:
    """Decide on an append, a close, or both.

    The order is: closed, content type, producer, `If-Match`, `Stream-Seq`.

    Args:
      operation: what is asked.
      body: empty to close only.
      state: of the stream.
      now: Unix seconds.
      max_producers: how many producers the stream may know.

    Raises:
      Refused: with the status that the protocol has for it.
    """
    record = state.record
    if record.is_closed:
        return _closed_already(operation, body, state)
    entries = _entries(operation, body, state, now) if body or not operation.is_closing else []
    producers = _NO_PRODUCERS
    if operation.producer is not None:
        name, epoch, seq = operation.producer
        if _is_duplicate(state.producers.get(name), epoch, seq):
            return Decision(Appended(record.tail, producer=(epoch, state.producers[name].seq), is_duplicate=True))
        if name not in state.producers and len(state.producers) >= max_producers:
            message = f"the stream knows {max_producers} producers, and takes no other one"
            raise refusals.too_many("Producer-Id", max_producers, message, retry_after=60)
        producers = {name: ProducerState(epoch, seq, now)}
    if operation.if_match is not None and not _matches(operation.if_match, record):
        raise refusals.precondition_failed(record.tail)
    last = record.stream_seq
    if operation.stream_seq is not None and last is not None and operation.stream_seq <= last:
        raise refusals.seq_conflict(last, operation.stream_seq)
    after = advance(record, operation, entries[-1].end if entries else record.tail, now)
    result = Appended(
        after.tail, after.is_closed, producer=None if operation.producer is None else operation.producer[1:]
    )
    return Decision(result, Step(state, after, producers), entries)


def _entries(operation: Append, body: bytes, state: StreamState, now: float) -> Sequence[Entry]:
    if not body:
        raise refusals.bad_request("body", "there is nothing to append: the body is empty")
    if not operation.content_type:
        raise refusals.bad_request("Content-Type", "Content-Type is missing")
    record = state.record
    ours = record.content_type
    if operation.content_type != ours and media_type(operation.content_type) != media_type(ours):
        raise refusals.content_type_mismatch(ours, operation.content_type)
    entries = make_entries(body, ours, record.tail, now)
    if not entries:
        raise refusals.bad_request("body", "there is nothing to append: the array is empty")
    return entries


def _closed_already(operation: Append, body: bytes, state: StreamState) -> Decision:
    record, producer = state.record, operation.producer
    if producer is not None and record.closed_by == producer:
        return Decision(Appended(record.tail, is_closed=True, is_duplicate=True, producer=producer[1:]))
    if producer is None and operation.is_closing and not body:
        return Decision(Appended(record.tail, is_closed=True, is_duplicate=True))
    raise refusals.closed(record.tail)


def _is_duplicate(known: ProducerState | None, epoch: int, seq: int) -> bool:
    if known is None or epoch > known.epoch:
        if seq == 0:
            return False
        if known is None:
            raise refusals.sequence_gap(0, seq)
        raise refusals.bad_request("Producer-Seq", f"a new epoch starts with sequence number 0, not {seq}")
    if epoch < known.epoch:
        raise refusals.stale_epoch(known.epoch)
    if seq > known.seq + 1:
        raise refusals.sequence_gap(known.seq + 1, seq)
    return seq <= known.seq


def _matches(value: str, record: StreamRecord) -> bool:
    # Compared strongly, with the ETag of any read that ended at the tail, or the bare offset in quotes.
    if value.strip() == ANY:
        return True
    offset = format_offset(record.tail)
    begin, end = f'"{record.stream_id}:', f':{offset}"'
    return any(tag == f'"{offset}"' or (tag.startswith(begin) and tag.endswith(end)) for tag in parse_etags(value))


def advance(record: StreamRecord, operation: Append, tail: int, now: float) -> StreamRecord:
    """The record behind an append. Written out: to copy by name costs as much as the rest of an append."""
    is_closing = operation.is_closing
    return StreamRecord(
        stream_id=record.stream_id,
        path=record.path,
        content_type=record.content_type,
        created_at=record.created_at,
        touched_at=now,
        ttl_seconds=record.ttl_seconds,
        expires_at=record.expires_at,
        start=record.start,
        tail=tail,
        is_closed=is_closing,
        closed_by=operation.producer if is_closing else None,
        stream_seq=record.stream_seq if operation.stream_seq is None else operation.stream_seq,
        fork=record.fork,
        references=record.references,
        is_deleted=record.is_deleted,
    )
