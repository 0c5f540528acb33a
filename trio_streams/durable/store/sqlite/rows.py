"""Records as rows, and the questions that are asked of them. All of it runs in threads, on one connection at a time.

A record is one JSON text, beside the columns that are looked for: four values to bind where there would be twenty-two, which
is what an append costs most, and a field that comes with a newer version is no new table.
"""

from __future__ import annotations

from contextlib import closing
from typing import Final

import msgspec

from trio_streams.durable.store.base import Entry, ProducerState, Stored, StoreError, StreamRecord
from trio_streams.durable.store.sqlite.database import Database, Row

__all__ = ["count_records", "find", "get", "list_expired", "list_records", "read_entries", "to_record", "to_row"]

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(StreamRecord)


def to_row(record: StreamRecord) -> Row:
    """A record as a row of `streams`."""
    return (record.stream_id, record.path, _expiry(record), _ENCODER.encode(record))


def _expiry(record: StreamRecord) -> float | None:
    """When a stream expires; None for never, or where it is deleted already."""
    if record.is_deleted or (record.ttl_seconds is None and record.expires_at is None):
        return None
    ends = [] if record.ttl_seconds is None else [record.touched_at + record.ttl_seconds]
    return min(ends if record.expires_at is None else [*ends, record.expires_at])


def to_record(data: bytes) -> StreamRecord:
    """The last column of a row of `streams` as a record.

    Raises:
      StoreError: it is none.
    """
    try:
        return _DECODER.decode(data)
    except msgspec.DecodeError as exc:
        raise StoreError(f"a record of {len(data)} bytes is damaged: {exc}") from exc


def find(database: Database, path: str) -> Stored | None:
    """The stream at a path."""
    return _stored(database, "SELECT record FROM streams WHERE path = ?", path)


def get(database: Database, stream_id: int) -> Stored | None:
    """The stream with a number."""
    return _stored(database, "SELECT record FROM streams WHERE stream_id = ?", stream_id)


def _stored(database: Database, sql: str, key: object) -> Stored | None:
    database.execute("BEGIN")  # the producers have to be those of the same moment
    try:
        rows = database.execute(sql, (key,))
        if not rows:
            return None
        record = to_record(*rows[0])
        states = database.execute(
            "SELECT producer_id, epoch, seq, at FROM producers WHERE stream_id = ?", (record.stream_id,)
        )
    finally:
        database.execute("COMMIT")
    return Stored(record, {name: ProducerState(epoch, seq, at) for name, epoch, seq, at in states})


def read_entries(database: Database, stream_id: int, start: int, end: int, max_bytes: int) -> list[Entry]:
    """A stream's entries that overlap [start, end): as many as fit, and one at least."""
    # A removed stream's entries may still be waiting for their deletion.
    sql = """SELECT position, data, at FROM entries WHERE stream_id = ? AND position < ? AND position >= coalesce(
        (SELECT max(position) FROM entries WHERE stream_id = ? AND position <= ?), ?)
        AND EXISTS (SELECT 1 FROM streams WHERE stream_id = ?) ORDER BY position"""
    bounds = (stream_id, end, stream_id, start, start, stream_id)
    entries: list[Entry] = []
    with closing(database.iterate(sql, bounds)) as rows:
        for row in rows:
            entry = Entry(*row)
            if entry.end <= start:
                continue  # the one before, where there is a gap
            max_bytes -= len(entry.data)
            if max_bytes < 0 and entries:
                break
            entries.append(entry)
    return entries


def list_records(database: Database, prefix: str, after: str, limit: int) -> list[StreamRecord]:
    """Streams by path, in the order of code points, which is UTF-8's, too."""
    end = _behind(prefix)
    condition = "path >= ? AND path > ?" + ("" if end is None else " AND path < ?")
    bounds = [prefix, after] if end is None else [prefix, after, end]
    sql = f"SELECT record FROM streams WHERE {condition} ORDER BY path LIMIT ?"  # noqa: S608 - our own words
    return [to_record(*row) for row in database.execute(sql, (*bounds, limit))]


def _behind(prefix: str) -> str | None:
    """The first string behind all that start with a prefix; None where there is none."""
    kept = prefix.rstrip("\U0010ffff")
    if not kept:
        return None
    following = ord(kept[-1]) + 1
    return kept[:-1] + chr(0xE000 if following == 0xD800 else following)  # surrogates are no characters


def count_records(database: Database) -> int:
    """How many streams there are."""
    ((count,),) = database.execute("SELECT count(*) FROM streams")
    return int(count)


def list_expired(database: Database, now: float, limit: int) -> list[StreamRecord]:
    """Streams whose expiry has come, the oldest first."""
    sql = "SELECT record FROM streams WHERE expiry <= ? ORDER BY expiry LIMIT ?"
    return [to_record(*row) for row in database.execute(sql, (now, limit))]
