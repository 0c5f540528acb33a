"""Records as rows, and the questions that are asked of them. All of it runs in threads, on one connection at a time."""

from __future__ import annotations

from contextlib import closing
from typing import Final

from trio_streams.durable.store.base import Entry, Fork, ProducerState, Stored, StreamRecord
from trio_streams.durable.store.sqlite.database import Database, Row

__all__ = [
    "COLUMNS",
    "find",
    "list_expired",
    "get",
    "list_records",
    "read_entries",
    "to_record",
    "to_row",
]

COLUMNS: Final = (
    "stream_id", "path", "content_type", "created_at", "touched_at", "ttl_seconds", "expires_at", "start", "tail",
    "is_closed", "closed_by_id", "closed_by_epoch", "closed_by_seq", "stream_seq", "fork_source_id", "fork_source_path",
    "fork_offset", "fork_sub_offset", "fork_position", "reference_count", "is_deleted", "expiry",
)  # fmt: skip

_SELECT: Final = f"SELECT {', '.join(COLUMNS)} FROM streams"  # noqa: S608 - only our own names

_NONE: Final = (None, None, None)
_NO_FORK: Final = (None, None, None, None, None)


def to_row(record: StreamRecord) -> Row:
    """A record as a row of `streams`."""
    fork = record.fork
    return (
        record.stream_id,
        record.path,
        record.content_type,
        record.created_at,
        record.touched_at,
        record.ttl_seconds,
        record.expires_at,
        record.start,
        record.tail,
        record.is_closed,
        *(record.closed_by or _NONE),
        record.stream_seq,
        *(
            _NO_FORK
            if fork is None
            else (fork.source_id, fork.source_path, fork.offset, fork.sub_offset, fork.position)
        ),
        record.references,
        record.is_deleted,
        _expiry(record),
    )


def _expiry(record: StreamRecord) -> float | None:
    """When a stream expires; None for never, or where it is deleted already."""
    if record.is_deleted or (record.ttl_seconds is None and record.expires_at is None):
        return None
    ends = [] if record.ttl_seconds is None else [record.touched_at + record.ttl_seconds]
    return min(ends if record.expires_at is None else [*ends, record.expires_at])


def to_record(row: Row) -> StreamRecord:
    """A row of `streams` as a record."""
    closed_by, fork = row[10:13], row[14:19]
    return StreamRecord(
        stream_id=row[0],
        path=row[1],
        content_type=row[2],
        created_at=row[3],
        touched_at=row[4],
        ttl_seconds=row[5],
        expires_at=row[6],
        start=row[7],
        tail=row[8],
        is_closed=bool(row[9]),
        closed_by=None if closed_by[0] is None else closed_by,
        stream_seq=row[13],
        fork=None if fork[0] is None else Fork(*fork),
        references=row[19],
        is_deleted=bool(row[20]),
    )


def find(database: Database, path: str) -> Stored | None:
    """The stream at a path."""
    return _stored(database, f"{_SELECT} WHERE path = ?", path)


def get(database: Database, stream_id: int) -> Stored | None:
    """The stream with a number."""
    return _stored(database, f"{_SELECT} WHERE stream_id = ?", stream_id)


def _stored(database: Database, sql: str, key: object) -> Stored | None:
    database.execute("BEGIN")  # the producers have to be those of the same moment
    try:
        rows = database.execute(sql, (key,))
        if not rows:
            return None
        record = to_record(rows[0])
        states = database.execute(
            "SELECT producer_id, epoch, seq, at FROM producers WHERE stream_id = ?", (record.stream_id,)
        )
    finally:
        database.execute("COMMIT")
    return Stored(record, {name: ProducerState(epoch, seq, at) for name, epoch, seq, at in states})


def read_entries(database: Database, stream_id: int, start: int, end: int, max_bytes: int) -> list[Entry]:
    """A stream's entries that overlap [start, end): as many as fit, and one at least."""
    sql = """SELECT position, data, at FROM entries WHERE stream_id = ? AND position < ? AND position >= coalesce(
        (SELECT max(position) FROM entries WHERE stream_id = ? AND position <= ?), ?) ORDER BY position"""
    entries: list[Entry] = []
    room = max_bytes
    with closing(database.iterate(sql, (stream_id, end, stream_id, start, start))) as rows:
        for row in rows:
            room -= len(row[1])
            if room < 0 and entries:
                break
            entry = Entry(*row)
            if entry.end > start:  # the first one may end before it
                entries.append(entry)
            else:
                room += len(row[1])
    return entries


def list_records(database: Database, prefix: str, after: str, limit: int) -> list[StreamRecord]:
    """Streams by path, in the order of code points, which is UTF-8's, too."""
    end = _behind(prefix)
    condition = "path >= ? AND path > ?" + ("" if end is None else " AND path < ?")
    bounds = (prefix, after) if end is None else (prefix, after, end)
    return [
        to_record(row)
        for row in database.execute(f"{_SELECT} WHERE {condition} ORDER BY path LIMIT ?", (*bounds, limit))
    ]


def _behind(prefix: str) -> str | None:
    """The first string behind all that start with a prefix; None where there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters


def list_expired(database: Database, now: float, limit: int) -> list[StreamRecord]:
    """Streams whose expiry has passed."""
    return [
        to_record(row) for row in database.execute(f"{_SELECT} WHERE expiry <= ? ORDER BY expiry LIMIT ?", (now, limit))
    ]
