"""`trio-streams webtransport bench`: how fast an echo server, and all that is in between, is."""

from __future__ import annotations

import argparse
import base64
import binascii
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from trio_streams.cli.output import Output
from trio_streams.cli.process import UsageError, run
from trio_streams.cli.upload import show_progress
from trio_streams.codes import Code
from trio_streams.demo.view import align, size_text
from trio_streams.errors import RpcError
from trio_streams.webtransport import SessionRefused, WebTransportSession, connect

__all__ = ["run_bench"]

_CHUNK: Final = bytes(65_536)
_PING: Final = bytes(64)
_STREAMS_AT_ONCE: Final = 16
_DATAGRAMS_AT_ONCE: Final = 32
_DATAGRAM_TIMEOUT: Final = 1.0
"""Seconds after which datagrams that have not come back are lost."""

_HASH_BYTES: Final = 32


def run_bench(arguments: argparse.Namespace) -> int:
    """Run the command; returns its exit code."""
    return run(partial(_bench, arguments))


async def _bench(arguments: argparse.Namespace) -> None:
    trust = read_trust(arguments)
    progress = _Progress()
    rows: list[Sequence[str]] = []
    try:
        async with show_progress(progress), connect(arguments.url, **trust) as session:
            for name, measure in _MEASURES.items():
                progress.what = name
                rows += await measure(session, arguments.seconds)
    except SessionRefused as exc:
        raise RpcError(Code.UNAVAILABLE, str(exc)) from exc
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    await Output().write("".join(f"{line}\n" for line in align(rows, numbers={1})))


def read_trust(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """What makes a server's certificate good: keywords for `connect`.

    Raises:
      UsageError: a file or a hash can't be used.
    """
    if arguments.insecure:
        return {"verify": False}
    if arguments.hash:
        return {"certificate_hashes": [_read_hash(text) for text in arguments.hash]}
    if arguments.ca is None:
        return {}
    try:
        return {"authorities_pem": Path(arguments.ca).read_bytes()}
    except OSError as exc:
        raise UsageError(f"can't read {arguments.ca}: {exc.strerror}") from exc


def _read_hash(text: str) -> bytes:
    for read in (bytes.fromhex, partial(base64.b64decode, validate=True)):
        try:
            value = read(text.replace(":", ""))
        except (ValueError, binascii.Error):
            continue
        if len(value) == _HASH_BYTES:
            return value
    raise UsageError(f"--hash is the SHA-256 of a certificate in hex or base64, not {text!r}")


@attrs.define
class _Progress:
    what: str = "connecting"

    def line(self, now: float) -> str:
        return f"{self.what} …"


async def measure_bulk(session: WebTransportSession, seconds: float) -> list[Sequence[str]]:
    """Bytes a second, both ways at once on one stream."""
    began = trio.current_time()
    async with await session.create_bidirectional_stream() as stream, trio.open_nursery() as nursery:

        async def upload() -> None:
            while trio.current_time() - began < seconds:
                await stream.write(_CHUNK)
            stream.end()

        nursery.start_soon(upload)
        while await stream.receive_some():
            pass
    rate = f"{size_text(stream.bytes_received / (trio.current_time() - began))}/s"
    return [("bulk", rate, "each way, both at once, one stream")]


async def measure_streams(session: WebTransportSession, seconds: float) -> list[Sequence[str]]:
    """Streams a second: opened, used and ended on both sides."""
    began = trio.current_time()
    count = 0

    async def use_some() -> None:
        nonlocal count
        while trio.current_time() - began < seconds:
            async with await session.create_bidirectional_stream() as stream:
                await stream.write(_PING, end_stream=True)
                await stream.read_all(max_size=len(_PING))
            count += 1

    async with trio.open_nursery() as nursery:
        for _ in range(_STREAMS_AT_ONCE):
            nursery.start_soon(use_some)
    return [
        ("streams", f"{count / (trio.current_time() - began):,.0f}/s", f"{_STREAMS_AT_ONCE} at once, 64 B each way")
    ]


async def measure_datagrams(session: WebTransportSession, seconds: float) -> list[Sequence[str]]:
    """Datagrams a second that come back."""
    ping = _PING[: session.max_datagram_size or 0]
    if not ping:
        return [("datagrams", "none", "the server takes none")]
    began = trio.current_time()
    sent = received = lost = 0
    while trio.current_time() - began < seconds:
        while sent - received - lost < _DATAGRAMS_AT_ONCE:
            session.send_datagram(ping)
            sent += 1
        with trio.move_on_after(_DATAGRAM_TIMEOUT) as waiting:
            await session.receive_datagram()
            received += 1
        if waiting.cancelled_caught:
            lost = sent - received  # all that are under way
    rate = f"{received / (trio.current_time() - began):,.0f}/s"
    return [("datagrams", rate, f"{len(ping)} B each way, {_DATAGRAMS_AT_ONCE} at once, {lost} of {sent:,} lost")]


async def measure_round_trips(session: WebTransportSession, seconds: float) -> list[Sequence[str]]:
    """Milliseconds until 64 bytes on a stream are back."""
    times: list[float] = []
    async with await session.create_bidirectional_stream() as stream:
        ended = trio.current_time() + seconds
        while (began := trio.current_time()) < ended:
            await stream.write(_PING)
            left = len(_PING)
            while left:
                data = await stream.receive_some(left)
                if not data:
                    raise RpcError(Code.UNIMPLEMENTED, "the server does not echo")
                left -= len(data)
            times.append(trio.current_time() - began)
    times.sort()
    about = f"{len(_PING)} B there and back, {len(times):,} times"
    return [(f"round trip p{share}", f"{_percentile(times, share) * 1e3:.2f} ms", about) for share in (50, 99)]


def _percentile(ordered: Sequence[float], share: int) -> float:
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share / 100) - 1)]


_MEASURES: Final[Mapping[str, Callable[[WebTransportSession, float], Awaitable[list[Sequence[str]]]]]] = {
    "bulk": measure_bulk,
    "streams": measure_streams,
    "datagrams": measure_datagrams,
    "round trips": measure_round_trips,
}
