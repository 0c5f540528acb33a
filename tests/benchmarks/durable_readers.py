"""What readers of durable streams see, and what they cost the server: catch-up, stalls, fan-out, wake-ups, waiting."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import Final

from tests.benchmarks.child import cpu_seconds, resident_bytes
from tests.benchmarks.durable_driver import MARK, MESSAGE, Connection, Server
from tests.benchmarks.table import percentile

__all__ = ["catch_up", "fan_out", "idle_kib", "live_delays", "poll_delays", "stalled_mib"]

MIB: Final = 1 << 20

_TIMEOUT: Final = 60.0
_OPENED_AT_ONCE: Final = 50


def catch_up(server: Server, stream: str, expected_bytes: int, readers: int = 1) -> Mapping[str, float]:
    """Read a stream from its beginning to its end, some readers at once.

    Returns:
      `rate`, MB/s of all together; `first`, the longest that one waited for its first byte, in seconds; `grown`, MiB by
      which the server grew at most for each; and `cost`, seconds of the server's CPU for each MB.
    """
    firsts: list[float] = []

    def read() -> None:
        with Connection(server.port) as reader:
            began, total, offset = perf_counter(), 0, "-1"
            while True:
                answer = reader.ask(server.request("GET", stream, f"?offset={offset}"))
                if not total:
                    firsts.append(answer.first_byte_at - began)
                total, offset = total + answer.body_bytes, answer.next_offset
                if "stream-up-to-date" in answer.headers:
                    break
            assert total == expected_bytes, f"{server.name} gave {total} of {expected_bytes} bytes"

    threads = [threading.Thread(target=read) for _ in range(readers)]
    with peak(server.pid) as grown:
        busy, began = cpu_seconds(server.pid), perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, busy = perf_counter() - began, cpu_seconds(server.pid) - busy
    megabytes = expected_bytes * readers / 1e6
    return {
        "rate": megabytes / seconds,
        "first": max(firsts),
        "grown": grown[0] / MIB / readers,
        "cost": busy / megabytes,
    }


@contextmanager
def peak(pid: int) -> Iterator[list[float]]:
    """By how many bytes a process grows at most within the block."""
    before, grown = resident_bytes(pid), [0.0]
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")  # the peak is what it holds now
    yield grown
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (most,) = (int(line.split()[1]) * 1_024 for line in lines if line.startswith("VmHWM"))
    grown[0] = max(0.0, float(most - before))


def stalled_mib(server: Server, stream: str, query: str, readers: int) -> float:
    """MiB by which the server grows for each reader that asks and reads nothing."""
    with ExitStack() as stack, peak(server.pid) as grown:
        for _ in range(readers):
            reader = stack.enter_context(Connection(server.port, receive_buffer_bytes=4_096))
            reader.socket.sendall(server.request("GET", stream, query))
        settled = -1
        while settled != (settled := resident_bytes(server.pid)):
            sleep(0.25)
    return grown[0] / MIB / readers


# -- live readers ---------------------------------------------------------------------------------------------


def live_query(server: Server, stream: str, mode: str) -> str:
    return f"?offset={server.tail(stream)}&live={mode}"


@contextmanager
def event_readers(server: Server, stream: str, count: int) -> Iterator[dict[int, socket.socket]]:
    """Sockets on which events come from now on; opened a few at a time, for the sake of backlogs."""
    request = server.request("GET", stream, live_query(server, stream, "sse"), headers={"Accept": "text/event-stream"})
    with ExitStack() as stack:
        sockets: dict[int, socket.socket] = {}
        while len(sockets) < count:
            some = [
                stack.enter_context(Connection(server.port)).socket
                for _ in range(min(_OPENED_AT_ONCE, count - len(sockets)))
            ]
            for opened in some:
                opened.sendall(request)
            for opened in some:
                _read_until(opened, b"streamNextOffset")  # the control event that says that it is at the tail
                sockets[opened.fileno()] = opened
        yield sockets


def _read_until(opened: socket.socket, part: bytes) -> bytes:
    opened.settimeout(_TIMEOUT)
    heard = b""
    while part not in heard:
        some = opened.recv(65_536)
        assert some, f"the server left before {part!r}: {heard!r}"
        heard += some
    return heard


def fan_out(server: Server, stream: str, count: int, seconds: float) -> Mapping[str, float]:
    """Append messages for a while, each when all readers have the last one.

    Returns:
      `rate`, deliveries a second, and `cost`, seconds of the server's CPU for each.
    """
    request = server.append(stream, MESSAGE)
    with event_readers(server, stream, count) as sockets, Connection(server.port) as publisher, select.epoll() as poll:
        for fd in sockets:
            poll.register(fd, select.EPOLLIN)
        _deliver(publisher, poll, request, count)  # the first one meets cold code
        busy, began, delivered = cpu_seconds(server.pid), perf_counter(), 0
        while (passed := perf_counter() - began) < seconds:
            _deliver(publisher, poll, request, count)
            delivered += count
        busy = cpu_seconds(server.pid) - busy
    return {"rate": delivered / passed, "cost": busy / delivered}


def _deliver(publisher: Connection, poll: select.epoll, request: bytes, count: int) -> None:
    publisher.socket.sendall(request)
    seen = 0
    while seen < count:
        found = poll.poll(_TIMEOUT)
        assert found, f"{seen} of {count} readers got a message"
        for fd, _ in found:
            seen += os.read(fd, 65_536).count(MARK)
    _read_until(publisher.socket, b"\r\n\r\n")


def live_delays(server: Server, stream: str, count: int) -> list[float]:
    """The seconds from each of some appends, one at a time, until one reader of events has it."""
    request = server.append(stream, MESSAGE)
    with event_readers(server, stream, 1) as sockets, Connection(server.port) as publisher:
        (reader,) = sockets.values()
        return [_time_wake_up(publisher, request, reader, MARK) for _ in range(count)]


def _time_wake_up(publisher: Connection, request: bytes, reader: socket.socket, until: bytes) -> float:
    began = perf_counter()
    publisher.socket.sendall(request)
    _read_until(reader, until)
    delay = perf_counter() - began
    _read_until(publisher.socket, b"\r\n\r\n")
    return delay


def poll_delays(server: Server, stream: str, count: int) -> list[float]:
    """The seconds from each of some appends until a long-poll that waited for it is answered."""
    request, delays = server.append(stream, MESSAGE), []
    with Connection(server.port) as reader, Connection(server.port) as publisher:
        for _ in range(count):
            reader.socket.sendall(server.request("GET", stream, live_query(server, stream, "long-poll")))
            sleep(0.002)  # until it waits
            delays.append(_time_wake_up(publisher, request, reader.socket, MARK))
    return delays


def half_and_late(delays: list[float]) -> Mapping[str, float]:
    """`half` and `late`, the delays that half of all do not pass and 99 %, without the first ones, which meet cold code."""
    delays = delays[len(delays) // 10 :]
    return {"half": percentile(delays, 0.5), "late": percentile(delays, 0.99)}


def idle_kib(server: Server, stream: str, mode: str, count: int) -> float:
    """KiB that the server holds for each reader that waits."""
    request = server.request("GET", stream, live_query(server, stream, mode))
    with ExitStack() as stack:
        _open_waiting(stack, server, request, count // 10)  # so that what all share is there
        before = resident_bytes(server.pid)
        _open_waiting(stack, server, request, count)
        return (resident_bytes(server.pid) - before) / 1_024 / count


def _open_waiting(stack: ExitStack, server: Server, request: bytes, count: int) -> None:
    for start in range(0, count, _OPENED_AT_ONCE):
        for _ in range(min(_OPENED_AT_ONCE, count - start)):
            stack.enter_context(_Waiting(server.port, request))
        sleep(0.02)
    sleep(0.3)


class _Waiting:
    """A bare socket: a thousand `Connection`s would have a room for answers each."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(request)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.socket.close()
