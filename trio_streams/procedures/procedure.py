"""One declared procedure: its kind, its handler, and the types that the handler's signature declares."""

from __future__ import annotations

import enum
import inspect
import sys
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from trio_streams.codecs import Codec, json_codec
from trio_streams.errors import CodecError, RpcError
from trio_streams.procedures.coding import JSON, codec_of
from trio_streams.procedures.durable.path import PathTemplate
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Interceptor
from trio_streams.streams.abc import ReceiveStream

__all__ = ["Example", "Kind", "Procedure", "ResumePoint", "check_name", "declare", "is_parameter"]


class Kind(enum.Enum):
    """Who sends a run of items, and who a single one; an event is a call whose caller waits for nothing."""

    CALL = "call"
    EVENT = "event"
    SERVER = "server"
    CLIENT = "client"
    BIDIRECTIONAL = "bidirectional"

    @property
    def takes_items(self) -> bool:
        """Whether the caller sends a run of items, rather than one input."""
        return self in (Kind.CLIENT, Kind.BIDIRECTIONAL)

    @property
    def gives_items(self) -> bool:
        """Whether the handler sends a run of items, rather than one result."""
        return self in (Kind.SERVER, Kind.BIDIRECTIONAL)

    @property
    def gives_result(self) -> bool:
        """Whether the handler sends a single result."""
        return self in (Kind.CALL, Kind.CLIENT)


RESUME_FROM: Final = "resume_from"

_ITERABLES: Final = (AsyncIterable, AsyncIterator, AsyncGenerator, ReceiveStream)


@attrs.frozen
class Example:
    """How a procedure may be used, for documents.

    Attributes:
      input: the input, or one item of the caller's.
      output: the result, or one item of the handler's; None where there is nothing to show.
      description: what it shows.
    """

    input: object = None
    output: object = None
    description: str = ""


@attrs.frozen
class ResumePoint:
    """How far the run of a durable stream came before its server ended: its handler goes on behind that.

    Attributes:
      items: how many are stored; 0 at a beginning.
      last: the last of them; None at a beginning.
    """

    items: int = 0
    last: Any = None


@attrs.frozen(kw_only=True)
class Procedure:
    """A declared procedure.

    Attributes:
      name: what callers ask for.
      kind: call, server, client or bidirectional.
      handler: the user's function.
      input_type: of the input, or of each item that the caller sends.
      output_type: of the result, or of each item that the handler sends.
      description: for documents.
      metadata: for documents, interceptors and applications.
      examples: for documents.
      content_type: of its items, where the application's default is not meant.
      interceptors: what stands around the handler, the outermost first; the router's own come before them.
      takes_input: whether the handler looks at its input.
      id_of: the id of an item, after which a caller may resume; see `declare`.
      durable: the path of the log that keeps its items; None for a stream that nobody keeps.
      is_resumable: whether its handler takes a `ResumePoint`, so that a run may go on in another process.
    """

    name: str
    kind: Kind
    handler: Callable[..., Any]
    input_type: object
    output_type: object
    description: str = ""
    metadata: Mapping[str, object] = attrs.field(factory=dict)
    examples: tuple[Example, ...] = ()
    content_type: str | None = None
    interceptors: tuple[Interceptor, ...] = ()
    id_of: Callable[[Any], object] | None = None
    durable: PathTemplate | None = None
    is_resumable: bool = False
    _default: object = inspect.Parameter.empty
    takes_input: bool = True
    _takes_context: bool = True
    _input: Codec[Any] = attrs.field()
    _output: Codec[Any] = attrs.field()

    @_input.default
    def _make_input(self) -> Codec[Any]:
        return json_codec(self.input_type)

    @_output.default
    def _make_output(self) -> Codec[Any]:
        return json_codec(self.output_type)

    def coded(self, received: str, sent: str) -> Procedure:
        """The same procedure for a caller whose items are of other media types than JSON.

        Args:
          received: of what the caller sends.
          sent: of what it wants to get.

        Raises:
          RpcError: INVALID_ARGUMENT: the declared types have no such form.
        """
        if received == JSON and sent == JSON:
            return self
        return attrs.evolve(self, input=codec_of(self.input_type, received), output=codec_of(self.output_type, sent))

    def decode_input(self, payload: bytes | None) -> object:
        """The input from its payload; None where the caller sent none.

        Then the parameter's default counts, else a type that knows null or has only defaults gets those.

        Raises:
          CodecError: it is not of the declared type.
        """
        if payload is not None:
            return self._input.decode(payload)
        if self._default is not inspect.Parameter.empty:
            return self._default
        in_json = json_codec(self.input_type)
        try:
            return in_json.decode(b"null")
        except CodecError:
            return in_json.decode(b"{}")

    @property
    def has_default_input(self) -> bool:
        """Whether the caller may leave the input out."""
        try:
            self.decode_input(None)
        except CodecError:
            return False
        return True

    def example_json(self, value: object, side: str) -> object:
        """An example's input or output as JSON has it; None where it has none.

        Args:
          value: of the declared type, or JSON's own types already.
          side: `input` or `output`.
        """
        if value is None:
            return None
        for codec in (self._input if side == "input" else self._output, json_codec(object)):
            try:
                return json_codec(object).decode(codec.encode(value))
            except CodecError:
                continue
        return None

    def decode_item(self, payload: bytes) -> object:
        """One item from the caller.

        Raises:
          CodecError: it is not of the declared type.
        """
        return self._input.decode(payload)

    def encode_output(self, value: object) -> bytes:
        """The payload of a result or of one item of the answer.

        Raises:
          RpcError: INTERNAL: it is not of the type that the handler itself declares.
        """
        try:
            return self._output.encode(value)
        except CodecError as exc:
            raise RpcError("INTERNAL", f"{self.name!r} made an item that is not of its declared type: {exc}") from exc

    def decode_output(self, payload: bytes) -> object:
        """An item of the answer again, from what `encode_output` made of it.

        Raises:
          CodecError: it is not of the declared type.
        """
        return self._output.decode(payload)

    def invoke(self, value: object, context: Context, point: ResumePoint | None = None) -> Any:  # noqa: ANN401 - a coroutine or a generator, by kind
        """Call the handler with what it asks for.

        Args:
          value: the input, or the caller's items.
          context: of this call.
          point: where the handler of a resumable run goes on.

        Returns:
          Its coroutine or its generator, not yet started.
        """
        arguments: list[object] = []
        if self.takes_input:
            arguments.append(value)
        if self._takes_context:
            arguments.append(context)
        if self.is_resumable:
            return self.handler(*arguments, **{RESUME_FROM: point or ResumePoint()})
        return self.handler(*arguments)


def declare(
    name: str,
    kind: Kind,
    handler: Callable[..., Any],
    *,
    input_type: object = None,
    output_type: object = None,
    description: str = "",
    metadata: Mapping[str, object] | None = None,
    examples: Sequence[Example] = (),
    content_type: str | None = None,
    interceptors: Sequence[Interceptor] = (),
    id_of: Callable[[Any], object] | None = None,
    durable: str | None = None,
    scope: Mapping[str, object] | None = None,
) -> Procedure:
    """Read a handler's signature.

    The handler takes up to two parameters: its input (for client and bidirectional streams, the caller's items), and a
    `Context`, told by its annotation or by the name `ctx`. The handler of a durable stream may take a third one,
    `resume_from`: a `ResumePoint`.

    Args:
      name: what callers ask for: letters, digits, `.`, `_`, `-`, `/`. A `[parameter]` between dots stands for anything
        but a dot, and the handler finds what it was in `Context.params`.
      kind: who sends what.
      handler: an async function, or for server and bidirectional streams an async generator function.
      input_type, output_type: instead of the annotations.
      description: for documents; the first line of the docstring by default.
      metadata: for documents, interceptors and applications.
      examples: for documents.
      content_type: of its items.
      interceptors: what stands around the handler, the outermost first.
      id_of: for server streams: what identifies an item, such as its offset; its text is the item's id over HTTP,
        None for none. A caller that comes again brings the last one: `Context.last_event_id`.
      durable: for server streams: the path of the log that keeps a run's items, such as `chats/{conversation_id}`, over
        the input's fields and the name's parameters; `{run}` stands for a fresh id, so that each call has a run of its own.
      scope: local names that annotations may use.

    Raises:
      TypeError: the handler's form does not fit the kind, or its annotations can't be read; the message says which.
      ValueError: the name is empty, too long or has other characters; or `durable` is no path over fields of the input.
    """
    check_name(name)
    _check_form(name, kind, handler)
    _check_ids(name, kind, has_ids=id_of is not None, is_durable=durable is not None)
    signature = _read(name, kind, handler, scope or {}, input_type, output_type, is_durable=durable is not None)
    return Procedure(
        name=name,
        kind=kind,
        handler=handler,
        input_type=signature.input_type,
        output_type=signature.output_type,
        description=description or (inspect.getdoc(handler) or "").split("\n", 1)[0],
        metadata=dict(metadata or {}),
        examples=tuple(examples),
        content_type=content_type,
        interceptors=tuple(interceptors),
        id_of=id_of,
        durable=None if durable is None else _template(name, durable, signature.input_type),
        is_resumable=signature.takes_point,
        default=signature.default,
        takes_input=signature.takes_input,
        takes_context=signature.takes_context,
    )


def _check_ids(name: str, kind: Kind, *, has_ids: bool, is_durable: bool) -> None:
    if has_ids and kind is not Kind.SERVER:
        raise TypeError(f"{name!r}: only the items of server streams have ids, not those of kind {kind.value}")
    if is_durable and (kind is not Kind.SERVER or has_ids):
        raise TypeError(f"{name!r}: only server streams are durable, and their items have ids already")


def _template(name: str, text: str, input_type: object) -> PathTemplate:
    template = PathTemplate.parse(text)
    template.check_fields(input_type, [part[1:-1] for part in name.split(".") if is_parameter(part)])
    return template


@attrs.frozen
class _Signature:
    input_type: object
    output_type: object
    default: object
    takes_input: bool
    takes_context: bool
    takes_point: bool


def _read(
    name: str,
    kind: Kind,
    handler: Callable[..., Any],
    scope: Mapping[str, object],
    input_type: object,
    output_type: object,
    *,
    is_durable: bool,
) -> _Signature:
    """What a handler's signature says where the types are not given."""
    hints = _hints(name, handler, scope, are_types_given=input_type is not None and output_type is not None)
    declared = dict(inspect.signature(handler).parameters)
    takes_point = is_durable and declared.pop(RESUME_FROM, None) is not None
    wants_input, wants_context, parameter = _parameters(name, declared, hints)
    if input_type is None:
        input_type = hints.get(parameter, object)
        if kind.takes_items:
            input_type = _item_type(input_type)
    if output_type is None:
        output_type = hints.get("return", object)
        if kind.gives_items:
            output_type = _item_type(output_type)
    default = declared[parameter].default if wants_input else inspect.Parameter.empty
    return _Signature(input_type, output_type, default, wants_input, wants_context, takes_point)


def check_name(name: str) -> None:
    """Refuse what can't be the name of a procedure, with `ValueError`."""
    plain = ".".join("x" if is_parameter(segment) else segment for segment in name.split("."))
    if not 0 < len(name) <= 256 or not all(c.isalnum() or c in "._-/" for c in plain):
        raise ValueError(
            f"a procedure's name is 1 to 256 letters, digits, '.', '_', '-' or '/', or a [parameter] between dots, "
            f"not {name[:64]!r}"
        )


def is_parameter(segment: str) -> bool:
    """Whether a part of a name, between dots, stands for whatever the caller puts there."""
    return len(segment) > 2 and segment[0] == "[" and segment[-1] == "]" and segment[1:-1].isidentifier()


def _check_form(name: str, kind: Kind, handler: Callable[..., Any]) -> None:
    function = inspect.unwrap(handler)
    is_generator = inspect.isasyncgenfunction(function)
    if kind.gives_items and not is_generator:
        raise TypeError(f"{name!r} is a {kind.value} stream: its handler must be an async generator function")
    if not kind.gives_items and (is_generator or not inspect.iscoroutinefunction(function)):
        what = "a client stream" if kind is Kind.CLIENT else f"an {kind.value}" if kind is Kind.EVENT else "a call"
        raise TypeError(f"{name!r} is {what}: its handler must be an async function that returns one result")


def _hints(
    name: str, handler: Callable[..., Any], scope: Mapping[str, object], *, are_types_given: bool
) -> dict[str, Any]:
    try:
        return typing.get_type_hints(handler, localns=dict(scope), include_extras=True)
    except NameError as exc:
        if are_types_given:
            return {}  # a context is found by its name
        raise TypeError(f"{name!r}: can't read the handler's annotations: {exc}; pass input= and output=") from exc


def _parameters(
    name: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any]
) -> tuple[bool, bool, str]:
    """Whether the handler takes an input and a context, and the input's name."""
    names = list(parameters)
    are_positional = all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters.values())
    context = next((n for n in names if hints.get(n) is Context or n in {"ctx", "context"}), None)
    inputs = [n for n in names if n != context]
    if not are_positional or len(inputs) > 1 or (context is not None and names[-1] != context):
        raise TypeError(f"{name!r}: a handler takes (input, ctx), either or none of them, not ({', '.join(names)})")
    return bool(inputs), context is not None, inputs[0] if inputs else ""


def _item_type(hint: object) -> object:
    """`T` of an `AsyncIterator[T]`; whatever else is declared leaves the items untyped."""
    if typing.get_origin(hint) in _ITERABLES:
        return typing.get_args(hint)[0]
    return object


def caller_scope(depth: int) -> Mapping[str, object]:
    """The local names where a decorator is used, for annotations of handlers made inside functions."""
    return sys._getframe(depth + 1).f_locals  # noqa: SLF001 - documented, if underscored
