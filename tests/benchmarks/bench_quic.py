"""How fast does one QUIC stream carry bytes through our endpoint, beside aioquic's own asyncio driver?

Server and client are two processes; the bytes go one way, up to the server, in datagrams of equal size. Both drivers have
the same protocol machine below them; what differs is how it is driven.

    python -m tests.benchmarks.bench_quic [--quick]

Ratios are medians of each round's own, by the wall and by the CPU of both processes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from time import perf_counter, process_time
from typing import Final

import trio
from aioquic.asyncio import client as stock_client
from aioquic.asyncio import server as stock_server
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived

from tests.benchmarks.child import cpu_seconds, running
from tests.benchmarks.table import median, options, print_head, print_table
from tests.webtransport.quic_driven import EchoingServer, QuicDriven, client
from tests.webtransport.quic_pair import certificate
from trio_streams.webtransport.dial import dial
from trio_streams.webtransport.endpoint import open_endpoint
from trio_streams.webtransport.quic import Quic
from trio_streams.webtransport.quic_config import QuicLimits, client_configuration, server_configuration
from trio_streams.webtransport.udp import bind_udp

SIZES: Final = (1_200, 1_452)
OURS: Final = "ours"
STOCK: Final = "aioquic's asyncio driver"
_DONE: Final = b"!"
_HOST: Final = "127.0.0.1"


def _limits(size: int) -> QuicLimits:
    return QuicLimits(max_packet_bytes=size)


# Ours


class _Sink(QuicDriven):
    """Says when a stream is here as a whole."""

    def __init__(self, quic: Quic) -> None:
        super().__init__(quic, echoes=False)

    def take_data(self, stream_id: int, data: bytes, is_ended: bool) -> None:
        self.quic.consumed(stream_id, len(data))
        if is_ended:
            self.write(stream_id, _DONE)


async def _serve_ours(size: int) -> None:
    server = EchoingServer(_limits(size), _Sink)
    async with open_endpoint(bind_udp(_HOST, 0), accept=server.accept) as endpoint:
        print(json.dumps({"pid": str(os.getpid()), "port": str(endpoint.address[1])}), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)


async def _ask_ours(port: int, size: int, data: bytes) -> float:
    async with dial(_HOST, port, lambda addr: client(addr, _limits(size)), QuicDriven.wait_ready) as driven:
        await driven.ask(b"warm up")
        started = perf_counter()
        assert await driven.ask(data) == _DONE
        return perf_counter() - started


# aioquic's


class _StockSink(QuicConnectionProtocol):
    """The same on asyncio."""

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream:
            self._quic.send_stream_data(event.stream_id, _DONE, end_stream=True)


def _configuration(size: int, *, is_client: bool) -> QuicConfiguration:
    limits = _limits(size)
    chain, key, _ = certificate()
    configuration = (
        client_configuration(limits, verify=False)
        if is_client
        else server_configuration(limits, certificate_file=chain, key_file=key)
    )
    configuration.max_datagram_size = size
    return configuration


async def _serve_stock(size: int) -> None:
    server = await stock_server.serve(
        _HOST, 0, configuration=_configuration(size, is_client=False), create_protocol=_StockSink
    )
    assert server._transport is not None
    port = server._transport.get_extra_info("sockname")[1]
    print(json.dumps({"pid": str(os.getpid()), "port": str(port)}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


async def _ask_stock(port: int, size: int, data: bytes) -> float:
    async with stock_client.connect(_HOST, port, configuration=_configuration(size, is_client=True)) as protocol:
        await _ask_stock_stream(protocol, b"warm up")
        started = perf_counter()
        await _ask_stock_stream(protocol, data)
        return perf_counter() - started


async def _ask_stock_stream(protocol: QuicConnectionProtocol, data: bytes) -> None:
    reader, writer = await protocol.create_stream()
    writer.write(data)
    writer.write_eof()
    assert await reader.read() == _DONE


def _measure(name: str, port: int, size: int, data: bytes) -> float:
    if name == OURS:
        return trio.run(_ask_ours, port, size, data)
    return asyncio.run(_ask_stock(port, size, data))


def _serve(name: str, size: int) -> None:
    if name == OURS:
        trio.run(_serve_ours, size)
    else:
        asyncio.run(_serve_stock(size))


def main() -> int:
    """Measure and print."""
    if "--serve" in sys.argv:
        name, text = sys.argv[sys.argv.index("--serve") + 1 :]
        _serve(name, int(text))
        return 0
    chosen = options(__doc__)
    count, rounds = (2_000_000, 1) if chosen.quick else (40_000_000, chosen.rounds)
    data = bytes(range(250)) * (count // 250)
    print_head("QUIC", f"{count / 1e6:,.0f} MB up one stream, medians of {rounds} interleaved rounds")
    names = [name for name in (STOCK, OURS) if chosen.only in name or name == STOCK]
    for size in SIZES:
        rates = _rates(names, size, data, rounds)
        rows = []
        for name, found in rates.items():
            shares = [median([one[i] / base[i] for one, base in zip(found, rates[STOCK], strict=True)]) for i in (0, 1)]
            wall, busy = (median([one[i] for one in found]) for i in (0, 1))
            rows.append([name, f"{wall:,.1f}", f"{shares[0]:.2f}", f"{busy:,.1f}", f"{shares[1]:.2f}"])
        print_table([f"{size:,}-byte datagrams, MB/s", "by the wall", "of stock", "by both CPUs", "of stock"], rows)
        print()
    return 0


def _rates(names: Sequence[str], size: int, data: bytes, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """MB a second by the wall and by the CPU, for each contestant and round."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with ExitStack() as stack:
        run = partial(running, "tests.benchmarks.bench_quic", "--serve")
        abouts = {name: stack.enter_context(run(name, str(size))) for name in names}
        for _ in range(rounds):
            for name, about in abouts.items():
                pid = int(about["pid"])
                busy = cpu_seconds(pid) + process_time()
                elapsed = _measure(name, int(about["port"]), size, data)
                busy = cpu_seconds(pid) + process_time() - busy
                rates[name].append((len(data) / 1e6 / elapsed, len(data) / 1e6 / max(busy, 0.01)))
    return rates


if __name__ == "__main__":
    sys.exit(main())
