"""Handles and producers for code that blocks: the same ones, run in the portal's thread."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable

import pytest

from tests.interop.durable.servers import server_url as server_url
from trio_streams.durable import (
    AppendResult,
    BlockingProducer,
    DurableStream,
    FetchError,
    StreamNotFoundError,
)
from trio_streams.errors import LocalProtocolError


@pytest.fixture
def new_url(server_url: str) -> Callable[[], str]:
    """Makes URLs of streams that are not there yet."""
    return lambda: f"{server_url}/{uuid.uuid4().hex}"


def create(url: str) -> DurableStream:
    """A JSON stream."""
    return DurableStream.create(url, content_type="application/json")


def read(handle: DurableStream) -> list[object]:
    """All values of a JSON stream."""
    with handle.stream(live=False) as res:
        return res.read_json()


def test_a_stream_is_created_written_closed_and_deleted(new_url: Callable[[], str]) -> None:
    """Each method does what its async one does."""
    url = new_url()
    with create(url) as handle:
        assert (handle.url, handle.content_type) == (url, "application/json")
        assert isinstance(handle.append({"a": 1}), AppendResult)
        handle.append([2], seq="1")
        with handle.fork(new_url(), ttl_seconds=60) as fork:
            assert read(fork) == [{"a": 1}, [2]]
        result = handle.close("bye")
        assert handle.head().offset == result.next_offset
        assert read(handle) == [{"a": 1}, [2], "bye"]
    with DurableStream.connect(url) as handle:
        assert handle.content_type == "application/json"
    with DurableStream(new_url()) as handle:
        handle.create_stream(body="text")
        handle.delete()
        with pytest.raises(StreamNotFoundError):
            handle.head()
    with pytest.raises(StreamNotFoundError):
        DurableStream.connect(new_url())


def test_threads_share_a_handle(new_url: Callable[[], str]) -> None:
    """Each thread's appends keep their order."""
    with create(new_url()) as handle:

        def write(name: int) -> None:
            for number in range(20):
                handle.append([name, number])

        threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        values = read(handle)
        for name in range(8):
            assert [value for value in values if value[0] == name] == [[name, number] for number in range(20)]  # type: ignore[index]


def test_callables_may_block(new_url: Callable[[], str]) -> None:
    """Headers, parameters and `on_error` are called in other threads, so they may use a blocking handle themselves."""
    names: list[str] = []
    with create(new_url()) as inner:

        def token() -> str:
            names.append(threading.current_thread().name)
            return str(inner.head().offset)

        with DurableStream(inner.url, headers={"X-Token": token}, params={"t": token}) as handle:
            handle.append(1)
    assert "trio-streams-blocking" not in names
    assert names


def test_a_producer(new_url: Callable[[], str]) -> None:
    """Leaving its block waits until all is stored."""
    with create(new_url()) as handle:
        producer = handle.producer("p")
        assert isinstance(producer, BlockingProducer)
        with producer:
            for number in range(20):
                producer.append(number)
            producer.flush()
            assert (producer.epoch, producer.progress.acknowledged_items) == (0, 20)
            assert producer.next_seq >= 1
            producer.restart()
            assert producer.epoch == 1
            producer.append(20)
            producer.detach()
        assert read(handle) == list(range(21))
        with handle.producer("q") as producer:
            assert producer.close("bye") == producer.close()
        assert handle.head().is_closed
        with pytest.raises(LocalProtocolError, match="once"):
            producer.__enter__()


def test_a_producer_that_is_left_by_an_exception(new_url: Callable[[], str]) -> None:
    """It gives up what is not stored, and tells."""
    with create(new_url()) as handle:
        with pytest.raises(ZeroDivisionError) as caught, handle.producer("p", linger=1_000.0) as producer:
            producer.append(1)
            raise ZeroDivisionError
        assert caught.value.__notes__ == ["producer 'p': 0 messages are stored, 0 may be, 1 are not"]
        assert read(handle) == []


def test_a_producer_without_a_stream(new_url: Callable[[], str]) -> None:
    """Entering fails."""
    with DurableStream(new_url()) as handle, pytest.raises(StreamNotFoundError), handle.producer("p"):
        raise AssertionError("not entered")


def test_nobody_is_there() -> None:
    """A FetchError, as it is raised everywhere; `on_error` is asked before, and may change nothing."""
    asked: list[Exception] = []
    with DurableStream("http://127.0.0.1:1/x", on_error=asked.append) as handle, pytest.raises(FetchError):
        handle.head()
    assert [type(error) for error in asked] == [FetchError]
