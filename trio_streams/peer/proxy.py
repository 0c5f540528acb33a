"""A peer's methods as an object, from the `Protocol` class that declares them."""

from __future__ import annotations

import inspect
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, Final, Generic, Protocol, TypeVar

import attrs
import trio

from trio_streams.codecs import Codec, json_codec
from trio_streams.errors import CodecError, RemoteProtocolError
from trio_streams.peer.coding import any_json
from trio_streams.peer.manager import StreamManager
from trio_streams.peer.receive_stream import PeerReceiveStream
from trio_streams.streams.abc import ReceiveStream

__all__ = ["CalledStream", "make_proxy"]

T = TypeVar("T")

_ITERABLES: Final = (AsyncIterable, AsyncIterator, AsyncGenerator, PeerReceiveStream, ReceiveStream)


class Caller(Protocol):
    """What a proxy asks of its peer."""

    @property
    def streams(self) -> StreamManager:
        """The peer's streams."""
        ...

    async def exchange(self, payload: bytes) -> bytes:
        """A call, in JSON text."""
        ...


@attrs.frozen
class _StreamId:
    streamId: str  # noqa: N815 - as it is called on the wire


_stream_ids: Final = json_codec(_StreamId)


class CalledStream(PeerReceiveStream[T], Generic[T]):
    """A stream that a method answers with. The call is made when the first item is asked for."""

    __slots__ = ("_call", "_caller", "_turn")

    def __init__(self, caller: Caller, call: bytes, type_: object) -> None:
        super().__init__(None, type_, caller.streams.on_received)
        self._caller = caller
        self._call = call
        self._turn = trio.Lock()

    async def _begin_waiting(self) -> None:
        async with self._turn:
            if self.source is None and not self.is_over:
                answer = await self._caller.exchange(self._call)
                try:
                    stream_id = _stream_ids.decode(answer).streamId
                except CodecError as exc:
                    raise RemoteProtocolError(f"the peer answered with no stream: {exc}", field="streamId") from exc
                if not self.is_over:
                    self._caller.streams.claim(stream_id, self)
        await self.wait_begun()


@attrs.frozen
class _Bound:
    """One method of a proxy."""

    caller: Caller
    name: str
    signature: inspect.Signature
    output: Codec[Any] | None
    item_type: object

    def __call__(self, *args: object, **kwargs: object) -> object:
        arguments = self.signature.bind(*args, **kwargs).arguments
        payload = any_json.encode({"method": self.name, "params": arguments})
        if self.output is None:
            return CalledStream[Any](self.caller, payload, self.item_type)
        return self._call(self.output, payload)

    async def _call(self, output: Codec[Any], payload: bytes) -> object:
        return output.decode(await self.caller.exchange(payload))


class _Proxy:
    def __init__(self, name: str, methods: dict[str, _Bound]) -> None:
        self.__dict__.update(methods)
        self._name = name

    def __repr__(self) -> str:
        return f"<proxy of {self._name}>"


def make_proxy(caller: Caller, protocol: Callable[..., object], prefix: str) -> object:
    """See `RpcPeer.proxy`."""
    if not inspect.isclass(protocol):
        raise TypeError(f"a proxy is made from a Protocol class, not from {protocol!r}")
    functions = [
        (name, function)
        for name, function in inspect.getmembers(protocol, inspect.isfunction)
        if not name.startswith("_")
    ]
    methods = {name: _bind(caller, name, prefix + name, function) for name, function in functions}
    return _Proxy(protocol.__name__, methods)


def _bind(caller: Caller, name: str, wire_name: str, function: Callable[..., object]) -> _Bound:
    hints = typing.get_type_hints(function, include_extras=True)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())[1:]
    if any(p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD} for p in parameters):
        raise TypeError(f"{name!r}: parameters travel by their names; *args and **kwargs have none")
    signature = signature.replace(parameters=parameters)
    result = hints.get("return", object)
    if inspect.iscoroutinefunction(function):
        return _Bound(caller, wire_name, signature, json_codec(type(None) if result is None else result), None)
    if typing.get_origin(result) in _ITERABLES:
        return _Bound(caller, wire_name, signature, None, typing.get_args(result)[0])
    raise TypeError(f"{name!r} must be async, or return an AsyncIterator: nothing comes from another machine at once")
