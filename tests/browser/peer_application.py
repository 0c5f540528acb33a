"""What the Python side of the peers' JavaScript scenarios answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, Final, Literal

import trio

from trio_streams import RpcError
from trio_streams.peer import BatchOptions, PeerReceiveStream, RpcPeer

__all__ = ["declare"]

Form = Literal["plain", "batched", "deflated", "bytes"]

_FORMS: Final[dict[Form, dict[str, Any]]] = {
    "plain": {},
    "batched": {"batch": BatchOptions(max_items=7)},
    "deflated": {"compression": "deflate"},
    "bytes": {"content_type": "application/octet-stream"},
}


def declare(peer: RpcPeer) -> None:
    """Declare it all on one peer."""
    happened: defaultdict[str, trio.Event] = defaultdict(trio.Event)
    _declare_calls(peer, happened)
    _declare_streams(peer)
    _declare_directions(peer, happened)


def _declare_calls(peer: RpcPeer, happened: defaultdict[str, trio.Event]) -> None:
    told: list[object] = []

    @peer.method("add")
    async def add(a: int, b: int) -> int:
        return a + b

    @peer.method("refuse")
    async def refuse() -> None:
        raise RpcError("OUT_OF_STOCK", "none left", {"left": 0})

    @peer.method("hang")
    async def hang() -> None:
        try:
            happened["hanging"].set()
            await trio.sleep_forever()
        finally:
            happened["hung up"].set()

    @peer.method("wait")
    async def wait(what: str) -> None:
        await happened[what].wait()

    @peer.method("tell")
    async def tell(text: str) -> None:
        told.append(text)
        happened["told"].set()

    @peer.method("told")
    async def get_told() -> list[object]:
        await happened["told"].wait()
        return told

    @peer.match
    def echo(data: object) -> object:
        return data


def _declare_streams(peer: RpcPeer) -> None:
    @peer.method("numbers")
    async def numbers(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    @peer.method("failing")
    async def failing(count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number
        raise RpcError("OUT_OF_STOCK", "none left")

    @peer.method("send")
    async def send(form: Form, count: int, stream_id: str, after: str | None = None) -> str | None:
        """Send numbers in some form; what sending raised."""
        items = [b"%d" % n if form == "bytes" else n for n in range(count)]
        try:
            await peer.send_stream(items, stream_id, after=after, **_FORMS[form])
        except Exception as exc:  # noqa: BLE001 - the scenario judges it
            return _describe(exc)
        return None

    @peer.method("take")
    async def take(stream_id: str, most: int | None = None) -> object:
        return await _take(peer.receive_stream(stream_id)[1], most)

    @peer.method("count")
    async def count(stream_id: str) -> list[int]:
        """Receive a long stream of the numbers from 0 on: how many there were, and how many of them out of their place."""
        seen = wrong = 0
        async for item in peer.receive_stream(stream_id, int)[1]:
            wrong += item != seen
            seen += 1
        return [seen, wrong]


def _declare_directions(peer: RpcPeer, happened: defaultdict[str, trio.Event]) -> None:
    @peer.method("call.back")
    async def call_back(data: object) -> object:
        """Call the other side; its answer, or how it refused."""
        try:
            return {"data": (await peer.request(data)).data}
        except RpcError as exc:
            return {"code": str(exc.code), "message": exc.message, "details": exc.details}

    @peer.method("happen")
    async def happen(what: str) -> None:
        happened[what].set()

    @peer.method("call.until")
    async def call_until(data: object, what: str) -> str:
        """Call the other side until something has happened."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.request, data)
            await happened[what].wait()
            nursery.cancel_scope.cancel()
        return "gave up"

    @peer.method("tell.back")
    async def tell_back(data: object) -> None:
        await peer.send(data)

    @peer.method("read.back")
    async def read_back(data: object) -> list[object]:
        """Call a method of the other side that answers with a stream; its items."""
        answer = (await peer.request(data)).data
        assert isinstance(answer, dict)
        return [item async for item in peer.receive_stream(answer["streamId"])[1]]

    @peer.method("open")
    async def open_stream(name: str, stream_id: str | None = None) -> str:
        return await _open(peer, name, {} if stream_id is None else {"stream-id": stream_id})


async def _open(peer: RpcPeer, name: str, metadata: dict[str, str]) -> str:
    """Open a stream of whatever name; how the other side refuses it."""
    async with peer.connection.open_stream(name, metadata=metadata) as stream:
        try:
            await stream.receive()
        except trio.EndOfChannel:
            pass
        except Exception as exc:  # noqa: BLE001 - the scenario judges it
            return _describe(exc)
        try:
            while True:
                await stream.send(b"0")
        except Exception as exc:  # noqa: BLE001 - likewise
            return _describe(exc)


async def _take(stream: PeerReceiveStream[object], most: int | None) -> object:
    """The items of a stream, up to so many, and how it ended."""
    items: list[object] = []
    try:
        async for item in stream:
            items.append(item.decode() if isinstance(item, bytes) else item)
            if len(items) == most:
                break
    except Exception as exc:  # noqa: BLE001 - the scenario judges it
        return {"items": items, "error": _describe(exc)}
    return {"items": items, "error": None}


def _describe(error: Exception) -> str:
    if isinstance(error, RpcError):
        return f"{error.code}: {error.message}"
    return f"{type(error).__name__}: {error}"
