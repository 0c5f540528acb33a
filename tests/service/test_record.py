"""The access log's record of a stream says how the stream ended."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from trio_streams.driver import Handler, run_client, run_server
from trio_streams.errors import RpcError, StreamsError
from trio_streams.service.access import AccessRecord, StreamRecord
from trio_streams.service.record import record_stream
from trio_streams.streams.wire import WireStream
from trio_streams.transports.memory import memory_carrier_pair

Bytes = WireStream[bytes, bytes]


async def echo(stream: Bytes) -> None:
    async for item in stream:
        await stream.send(item)


async def refuse(stream: Bytes) -> None:
    raise RpcError("PERMISSION_DENIED", "no")


async def crash(stream: Bytes) -> None:
    raise ValueError("a secret")


async def wait(stream: Bytes) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("handler", "code", "items"),
    [
        (echo, "OK", 2),
        (refuse, "PERMISSION_DENIED", 0),
        (crash, "INTERNAL", 0),
        (wait, "CANCELLED", 0),
        (partial(wait), "DEADLINE_EXCEEDED", 0),
    ],
    ids=["OK", "refused", "crashed", "cancelled", "late"],
)
async def test_how_it_ended(handler: Handler, code: str, items: int, autojump_clock: MockClock) -> None:
    """OK, an error's code, or who gave up; with what went each way and how long it took."""
    records: list[AccessRecord | StreamRecord] = []
    told = trio.Event()

    def on_access(record: AccessRecord | StreamRecord) -> None:
        records.append(record)
        told.set()

    def prepare(stream: Bytes) -> Handler:
        return partial(record_stream, handler, "memory", on_access)

    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server, right, prepare)
        async with run_client(left) as connection:
            deadline = trio.current_time() + 2 if code == "DEADLINE_EXCEEDED" else None
            try:
                async with connection.open_stream("name", deadline=deadline) as stream:
                    if code == "CANCELLED":
                        await trio.sleep(2)
                        stream.cancel()
                    elif code == "OK":
                        await stream.send(b"a")
                        await stream.send(b"bcd")
                        stream.end()
                    async for _ in stream:
                        pass
            except (StreamsError, trio.ClosedResourceError):
                pass
            await told.wait()
    (record,) = records
    assert isinstance(record, StreamRecord)
    assert (record.procedure, record.transport, record.code) == ("name", "memory", code)
    assert (record.items_received, record.items_sent) == (items, items)
    assert (record.received_bytes, record.sent_bytes) == (2 * items, 2 * items)
    assert record.duration == pytest.approx(2 if code in {"CANCELLED", "DEADLINE_EXCEEDED"} else 0, abs=0.01)
