"""What a peer answers: named methods with typed parameters, and one handler for everything else.

A call of a method is the object `{"method": name, "params": …}`; `params` are an object of names or an array, and may
be left out. A method that is an async generator answers `{"streamId": id}` and sends its items in a stream of that id.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import msgspec

from trio_streams.codecs import Codec, json_codec
from trio_streams.codes import Code
from trio_streams.errors import CodecError, RpcError
from trio_streams.peer.coding import any_json

__all__ = ["Method", "Methods"]

_Parameter: Final = inspect.Parameter


class _Call(msgspec.Struct):
    method: str
    params: msgspec.Raw = msgspec.Raw(b"{}")


_calls: Final = msgspec.json.Decoder(_Call)
_FAILURES: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@attrs.frozen(kw_only=True)
class Method:
    """One handler, with what its signature declares.

    Attributes:
      handler: the user's function.
      gives_items: whether it is an async generator.
    """

    handler: Callable[..., Any]
    gives_items: bool
    _params: type
    _names: tuple[str, ...]
    _codec: Codec[Any]
    _output: Codec[Any]

    @classmethod
    def declare(cls, name: str, handler: Callable[..., Any]) -> Method:
        """Read a handler's signature.

        Raises:
          TypeError: it is no function of plain parameters, or its annotations can't be read.
        """
        function = inspect.unwrap(handler)
        gives_items = inspect.isasyncgenfunction(function)
        if not gives_items and not inspect.iscoroutinefunction(function):
            raise TypeError(f"{name!r} must be an async function or an async generator function, not {handler!r}")
        try:
            hints = typing.get_type_hints(handler, include_extras=True)
        except NameError as exc:
            raise TypeError(f"{name!r}: can't read the handler's annotations: {exc}") from exc
        parameters = inspect.signature(handler).parameters
        if any(p.kind in {_Parameter.VAR_POSITIONAL, _Parameter.VAR_KEYWORD} for p in parameters.values()):
            raise TypeError(f"{name!r}: a method's parameters have names; *args and **kwargs have none")
        params = _record_of(parameters, hints)
        output = object if gives_items else hints.get("return", object)
        return cls(
            handler=handler,
            gives_items=gives_items,
            params=params,
            names=tuple(parameters),
            codec=json_codec(params),
            output=json_codec(type(None) if output is None else output),
        )

    def arguments(self, params: bytes) -> dict[str, object]:
        """The arguments of a call.

        Raises:
          CodecError: they are not of the declared types; `path` starts at the parameters.
        """
        if params.lstrip()[:1] == b"[":
            values = json_codec(list[object]).decode(params)
            if len(values) > len(self._names):
                raise CodecError(f"$: expected at most {len(self._names)} parameters, got {len(values)}")
            params = any_json.encode(dict(zip(self._names, values, strict=False)))
        record = self._codec.decode(params)
        return {name: getattr(record, name) for name in self._names}

    def encode(self, result: object) -> bytes:
        """The payload of what the handler returned.

        Raises:
          RpcError: INTERNAL: it is not of the type that the handler declares.
        """
        try:
            return self._output.encode(result)
        except CodecError as exc:
            raise RpcError(Code.INTERNAL, f"the handler's result is not of its declared type: {exc}") from exc


def _record_of(parameters: typing.Mapping[str, inspect.Parameter], hints: dict[str, Any]) -> type:
    """A class with a field for each parameter: what its codec takes is what the handler does."""
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        default = attrs.NOTHING if parameter.default is _Parameter.empty else parameter.default
        fields[name] = attrs.field(type=hints.get(name, object), default=default, kw_only=True)
    return attrs.make_class("params", fields, frozen=True, slots=True)


class Methods:
    """What one peer answers; several peers may share it."""

    def __init__(self) -> None:
        self._methods: dict[str, Method] = {}
        self._handler: Callable[[Any], object] | None = None
        self._input: Codec[Any] = any_json

    def add(self, name: str, handler: Callable[..., Any]) -> None:
        """Answer calls of a name.

        Raises:
          TypeError: the handler's form or annotations don't fit.
          ValueError: the name is taken, or empty.
        """
        if not name or name in self._methods:
            raise ValueError(f"a method's name is new and not empty, not {name!r}")
        self._methods[name] = Method.declare(name, handler)

    def match(self, handler: Callable[[Any], Awaitable[object] | object]) -> None:
        """Answer everything that no named method does; the last handler counts.

        Args:
          handler: takes the data, of the type that its parameter is annotated with; its result or what it awaits is the
            answer.
        """
        try:
            hints = typing.get_type_hints(handler)
        except (NameError, TypeError):
            hints = {}
        names = list(inspect.signature(handler).parameters)
        if len(names) != 1:
            raise TypeError(f"a handler takes the data and nothing else, not ({', '.join(names)})")
        self._input = json_codec(hints.get(names[0], object))
        self._handler = handler

    def find(self, payload: bytes) -> tuple[Method, dict[str, object]] | None:
        """The method that a call names, and its arguments; None where the common handler is to answer.

        Raises:
          CodecError: the arguments are not of the declared types.
          RpcError: UNIMPLEMENTED: there is no such method, and no common handler.
        """
        try:
            call = _calls.decode(payload)
        except _FAILURES:
            call = None
        method = None if call is None else self._methods.get(call.method)
        if method is not None and call is not None:
            return method, method.arguments(bytes(call.params))
        if self._handler is None:
            raise _unimplemented(None if call is None else call.method)
        return None

    async def handle(self, payload: bytes) -> bytes:
        """The answer of the common handler.

        Raises:
          CodecError: the data is not of the type that it declares.
          Exception: what it raised.
        """
        assert self._handler is not None
        answer = self._handler(self._input.decode(payload))
        if inspect.isawaitable(answer):
            answer = await answer
        return any_json.encode(answer)


def _unimplemented(name: str | None) -> RpcError:
    if name is None:
        return RpcError(Code.UNIMPLEMENTED, 'the data names no method, as {"method": name} does')
    shown = name if len(name) <= 100 else f"{name[:100]}… ({len(name)} characters)"
    return RpcError(Code.UNIMPLEMENTED, f"there is no method {shown!r}")
