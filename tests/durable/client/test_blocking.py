"""Reading in code that blocks, against a real server: what is read, what is raised, and what an interruption leaves."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from tests.durable.client.sites import Site, serve_in_thread
from trio_streams.durable import (
    AsyncStreamRequest,
    Endpoint,
    FetchError,
    LiveMode,
    RetryOptions,
    StreamConsumedError,
    StreamNotFoundError,
    StreamResponse,
    stream,
)
from trio_streams.durable.client.blocking import open_response
from trio_streams.durable.client.portal import portal


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A server for all tests of the module, each with streams of its own."""
    with serve_in_thread() as found:
        yield found


@pytest.mark.parametrize("live", [False, "auto", "long-poll", "sse", True])
def test_all_of_a_closed_stream(site: Site, live: LiveMode) -> None:
    """Each mode reads a closed stream to its end, and then knows that it is closed."""
    path = f"all-{live}"
    url = site.put(path, body=b'[1,"two",[3]]')
    site.post(path, b'{"four":4}')
    site.close(path)
    with stream(url, live=live) as res:
        assert list(res.iter_json()) == [1, "two", [3], {"four": 4}]
        assert res.closed
        assert res.up_to_date
        assert res.content_type == "application/json"
        assert res.status in {200, 204}


@pytest.mark.parametrize("live", ["auto", "long-poll", "sse", True])
def test_what_is_appended_later(site: Site, live: LiveMode) -> None:
    """Iteration goes on with what is appended while it waits."""
    path = f"later-{live}"
    url = site.put(path, "text/plain", b"one ")
    with stream(url, live=live) as res:
        texts = res.iter_text()
        assert next(texts) == "one "
        timer = threading.Timer(0.05, lambda: site.post(path, "zwei é".encode(), "text/plain"))
        timer.start()
        assert next(texts) == "zwei é"
        timer.join()
        site.close(path)
        assert list(texts) == []


def test_bytes_by_events(site: Site) -> None:
    """A stream of bytes can be read by events: they are decoded from base64."""
    url = site.put("binary", "application/octet-stream", bytes(range(256)))
    with stream(url, live="sse") as res:
        chunks = iter(res)
        assert next(chunks) == bytes(range(256))
        site.post("binary", b"\0\n\r\xff", "application/octet-stream")
        site.close("binary")
        assert b"".join(chunks) == b"\0\n\r\xff"


def test_events_and_the_read_methods(site: Site) -> None:
    """Each way to consume a response gives the same stream."""
    url = site.put("ways", body=b"[1,2]")

    def read() -> StreamResponse:
        return stream(url, live=False)

    with read() as res:
        (event,) = res.iter_events()
        assert (event.data, event.up_to_date) == ([1, 2], True)
        assert event.next_offset == res.offset
    assert read().read_json() == [1, 2]
    assert read().read_json(decode=str) == ["1", "2"]
    assert read().read_json_batches() == [[1, 2]]
    assert read().read_text() == "[1,2]"
    assert read().read_bytes() == b"[1,2]"
    with read() as res:
        assert list(res.iter_json_batches(decode=str)) == [["1", "2"]]
        with pytest.raises(StreamConsumedError):
            res.read_json()


def test_errors_come_where_it_is_called() -> None:
    """A stream that is not there, or a server that is not, fails in `stream`."""
    with serve_in_thread() as site, pytest.raises(StreamNotFoundError):
        stream(site.root + "nothing")
    endpoint = Endpoint(site.root + "nothing", retry=RetryOptions(max_retries=0))
    with pytest.raises(FetchError):
        open_response(AsyncStreamRequest(endpoint, owns_endpoint=True))


def test_callables_may_block(site: Site) -> None:
    """Headers, parameters and `on_error` run in threads of their own, where even a blocking client works."""
    url = site.put("callables", body=b"[1]")
    threads: list[threading.Thread] = []

    def token() -> str:
        threads.append(threading.current_thread())
        return stream(url, live=False).read_text()

    def recover(error: Exception) -> dict[str, Any] | None:
        threads.append(threading.current_thread())
        return None

    with stream(url, live=False, headers={"x-token": token}, params={"p": lambda: "1"}) as res:
        assert res.read_json() == [1]
    with pytest.raises(StreamNotFoundError):
        stream(site.root + "nothing", on_error=recover)
    with pytest.raises(StreamNotFoundError):
        stream(site.root + "nothing", on_error=lambda error: {"headers": {"a": lambda: "b"}} if not threads else None)
    assert all("trio-streams-blocking" not in thread.name for thread in threads)
    assert len(threads) == 2


def interrupt_soon() -> threading.Timer:
    """Ctrl-C in a moment."""
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    return timer


@pytest.mark.parametrize("live", ["long-poll", "sse"])
def test_an_interrupted_iteration_loses_nothing(site: Site, live: LiveMode) -> None:
    """Ctrl-C cancels the call in the portal; the iterator goes on behind it, each item once."""
    path = f"interrupted-{live}"
    url = site.put(path, body=b"[1]")
    with stream(url, live=live) as res:
        items = res.iter_json()
        assert next(items) == 1
        for number in range(2, 5):
            timer = interrupt_soon()
            with pytest.raises(KeyboardInterrupt):
                next(items)
            timer.join()
            site.post(path, str(number).encode())
            assert next(items) == number


def test_a_call_that_ended_all_the_same(site: Site) -> None:
    """What an interrupted call brought before it could be cancelled is given out by the next one."""
    url = site.put("raced", body=b"[1]")
    with stream(url) as res:
        call = res._call = portal.start(res._reader.next_piece)
        portal.wait(call)
        assert next(res.iter_json()) == 1


def test_cancel_from_another_thread(site: Site) -> None:
    """`cancel` ends an iteration that waits."""
    url = site.put("cancelled", body=b"[1]")
    with stream(url, live="sse") as res:
        timer = threading.Timer(0.1, res.cancel)
        timer.start()
        assert list(res.iter_json()) == [1]
        timer.join()


def test_inside_of_running_loops(site: Site) -> None:
    """It works in a thread that runs a loop of Trio's or asyncio's, which it blocks."""
    url = site.put("loops", body=b"[1]")

    async def read() -> list[Any]:
        return stream(url, live=False).read_json()

    assert trio.run(read) == [1]
    assert asyncio.run(read()) == [1]


def test_who_never_closes_is_warned(site: Site) -> None:
    """A response that is dropped while something is open says so; one that was read to its end has closed itself."""
    url = site.put("dropped", body=b"[1]")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert stream(url).read_json() == [1]
        gc.collect()
        assert [each for each in caught if "never closed" in str(each.message)] == []
        res = stream(url + "?token=secret")
        del res
        gc.collect()
        texts = [str(each.message) for each in caught if "never closed" in str(each.message)]
        caught.clear()
        gc.collect()
    assert len(texts) == 1
    assert "secret" not in texts[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_a_portal_of_its_own(site: Site) -> None:
    """After a fork, in which the parent's thread does not run, the child reads all the same, and so does the parent."""
    url = site.put("forked", body=b"[1]")
    assert stream(url).read_json() == [1]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if stream(url).read_json() == [1] else 2
        finally:
            os._exit(code)
    deadline = time.monotonic() + 60
    while (status := os.waitpid(pid, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status == (pid, 0)
    assert stream(url).read_json() == [1]
