"""Declaring procedures: what a signature says, and what is wrong with it."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any

import attrs
import pytest
import trio

from trio_streams.errors import CodecError, RpcError
from trio_streams.procedures import Kind, Procedure, Router
from trio_streams.procedures.procedure import declare
from trio_streams.service.context import Context
from trio_streams.streams.abc import ReceiveStream


@attrs.frozen
class Query:
    level: str = "info"
    limit: int = 10


@attrs.frozen
class Needy:
    level: str


async def no_parameters() -> int:
    return 1


async def only_input(input: Query) -> int:  # noqa: A002
    return input.limit


async def only_context(call: Context) -> str:
    return call.procedure


async def by_name(input, ctx) -> str:  # type: ignore[no-untyped-def]  # noqa: A002, ANN001
    return f"{input} {ctx.procedure}"


async def wrapped(input: Query, context: Context) -> int:  # noqa: A002
    return input.limit


def make_context() -> Context:
    return Context(procedure="p", peer="", metadata={}, deadline=0, cancel_scope=trio.CancelScope(), request_id="1")


@pytest.mark.parametrize(
    ("handler", "input_type", "output_type", "answer"),
    [
        (no_parameters, object, int, 1),
        (only_input, Query, int, 10),
        (only_context, object, str, "p"),
        (by_name, object, str, "Query(level='info', limit=10) p"),
        (wrapped, Query, int, 10),
    ],
)
async def test_parameters(handler: Callable[..., Any], input_type: object, output_type: object, answer: object) -> None:
    """Input and context are both optional; a context is found by its annotation or its name."""
    procedure = declare("p", Kind.CALL, handler)
    assert (procedure.input_type, procedure.output_type) == (input_type, output_type)
    assert await procedure.invoke(Query(), make_context()) == answer


async def test_a_decorated_handler() -> None:
    """A handler behind `functools.wraps` is read like the function that it wraps."""

    @functools.wraps(only_input)
    async def decorated(*args: Query) -> int:
        return 2 * await only_input(*args)

    assert declare("p", Kind.CALL, decorated).input_type is Query


@pytest.mark.parametrize("annotation", [AsyncIterator[int], AsyncGenerator[int, None], AsyncIterable[int]])
def test_types_of_items(annotation: object) -> None:
    """The type of a stream's items is the argument of whatever iterable the handler declares."""

    async def handler(items, ctx):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        yield 1

    handler.__annotations__ = {"items": ReceiveStream[str], "return": annotation}
    procedure = declare("p", Kind.BIDIRECTIONAL, handler)
    assert (procedure.input_type, procedure.output_type) == (str, int)
    handler.__annotations__ = {}
    procedure = declare("p", Kind.BIDIRECTIONAL, handler)
    assert (procedure.input_type, procedure.output_type) == (object, object)


def test_annotations_of_local_classes() -> None:
    """A handler made inside a function may use the classes made there."""
    router = Router()

    @attrs.frozen
    class Local:
        x: int

    @router.call("decorated")
    async def decorated(input: Local) -> Local:  # noqa: A002
        return input

    @router.call("built").handler
    async def built(input: Local) -> Local:  # noqa: A002
        return input

    for name in ("decorated", "built"):
        procedure = router.get(name)
        assert procedure is not None and procedure.input_type is Local and procedure.output_type is Local


async def _generator() -> AsyncIterator[int]:
    yield 1


async def _three(a: int, b: int, ctx: Context) -> int:
    return 1


async def _context_first(ctx: Context, a: int) -> int:
    return 1


async def _keyword(*, input: int) -> int:  # noqa: A002
    return 1


async def _open_ended(**options: int) -> int:
    return 1


def _plain() -> int:
    return 1


@pytest.mark.parametrize(
    ("name", "kind", "handler", "error", "message"),
    [
        ("p", Kind.SERVER, no_parameters, TypeError, "'p' is a server stream: its handler must be an async generator"),
        ("p", Kind.BIDIRECTIONAL, no_parameters, TypeError, "'p' is a bidirectional stream: its handler must be an"),
        ("p", Kind.CALL, _generator, TypeError, "'p' is a call: its handler must be an async function that returns"),
        ("p", Kind.CALL, _plain, TypeError, "'p' is a call: its handler must be an async function"),
        ("p", Kind.CLIENT, _generator, TypeError, "'p' is a client stream: its handler must be an async function"),
        ("p", Kind.CALL, _three, TypeError, r"'p': a handler takes \(input, ctx\), .* not \(a, b, ctx\)"),
        ("p", Kind.CALL, _context_first, TypeError, r"not \(ctx, a\)"),
        ("p", Kind.CALL, _keyword, TypeError, r"not \(input\)"),
        ("p", Kind.CALL, _open_ended, TypeError, r"not \(options\)"),
        ("", Kind.CALL, no_parameters, ValueError, "a procedure's name is 1 to 256 letters, digits"),
        ("x" * 257, Kind.CALL, no_parameters, ValueError, "a procedure's name is 1 to 256"),
        ("a b", Kind.CALL, no_parameters, ValueError, "not 'a b'"),
    ],
)
def test_what_is_wrong_with_a_declaration(
    name: str, kind: Kind, handler: Callable[..., Any], error: type[Exception], message: str
) -> None:
    """Each mistake fails where it is made, with a message that says what would be right."""
    with pytest.raises(error, match=message):
        declare(name, kind, handler)


def test_annotations_that_cannot_be_read() -> None:
    """An annotation that names nothing is a TypeError; passing both types helps, as its message says."""

    async def handler(input: int, ctx: int) -> int:  # noqa: A002
        return 1

    handler.__annotations__["input"] = "Nowhere"
    with pytest.raises(TypeError, match="can't read the handler's annotations: .*Nowhere.*; pass input= and output="):
        declare("p", Kind.CALL, handler)
    procedure = declare("p", Kind.CALL, handler, input_type=int, output_type=str)
    assert (procedure.input_type, procedure.output_type) == (int, str)


def test_the_description_is_the_docstrings_first_line() -> None:
    """Without a description the handler's docstring gives it."""

    async def handler() -> int:
        """First line.

        More.
        """
        return 1

    assert declare("p", Kind.CALL, handler).description == "First line."
    assert declare("p", Kind.CALL, handler, description="Other", metadata={"a": 1}).metadata == {"a": 1}


@pytest.mark.parametrize(
    ("input_type", "default"), [(Query, Query()), (object, None), (int | None, None), (dict[str, int], {})]
)
def test_no_input(input_type: object, default: object) -> None:
    """Where the caller sends no input, a type that knows null gets None, and one with defaults only those."""
    procedure = declare("p", Kind.CALL, only_input, input_type=input_type)
    assert procedure.decode_input(None) == default


def test_no_input_where_one_is_needed() -> None:
    """A type without defaults refuses a missing input, and the error names the field."""
    procedure = declare("p", Kind.CALL, only_input, input_type=Needy)
    with pytest.raises(CodecError, match="level"):
        procedure.decode_input(None)
    with pytest.raises(CodecError) as caught:
        procedure.decode_item(b'{"level": 4}')
    assert caught.value.path == "$.level"


def test_output_of_the_wrong_type() -> None:
    """A result that is not what the handler declares is INTERNAL, with the text that says so."""
    procedure = declare("p", Kind.CALL, only_input, output_type=Query)
    assert procedure.encode_output(Query()) == b'{"level":"info","limit":10}'
    with pytest.raises(RpcError, match="INTERNAL: 'p' made an item that is not of its declared type"):
        procedure.encode_output(3)


async def test_a_default_of_the_handlers_own() -> None:
    """Where the handler's parameter has a default, that is the input of a caller who sends none."""

    async def handler(input: Query = Query("own")) -> int:  # noqa: A002
        return 1

    procedure = declare("p", Kind.CALL, handler)
    assert procedure.decode_input(None) == Query("own")
    assert procedure.decode_input(b"{}") == Query()


# -- the router ------------------------------------------------------------------------------------------------


def test_directions() -> None:
    """`server` is the default, `bidi` short for `bidirectional`; anything else is refused by name."""
    router = Router()
    assert router.stream("a")(_generator) is _generator
    router.stream("b", direction="bidi")(_generator)
    router.stream("c", direction="bidirectional")(_generator)
    router.stream("d", direction="client")(no_parameters)
    assert [procedure.kind.value for procedure in router] == ["server", "bidirectional", "bidirectional", "client"]
    assert len(router) == 4
    with pytest.raises(ValueError, match="direction is one of server, client, bidirectional, bidi, not 'both'"):
        router.stream("e", direction="both")


def test_the_builder() -> None:
    """Everything can be said step by step; the handler comes last."""
    router = Router()
    declaration = router.stream("logs").input(int).output(str).description("Logs").metadata({"a": 1})
    assert declaration.direction("client").handler(no_parameters) is no_parameters
    procedure = router.get("logs")
    assert isinstance(procedure, Procedure)
    assert (procedure.kind, procedure.input_type, procedure.output_type) == (Kind.CLIENT, int, str)
    assert (procedure.description, procedure.metadata) == ("Logs", {"a": 1})


def test_a_name_is_given_once() -> None:
    """A second procedure of the same name is refused."""
    router = Router()
    router.call("p")(no_parameters)
    with pytest.raises(ValueError, match="there is a procedure 'p' already"):
        router.call("p")(no_parameters)
    assert router.get("q") is None


def test_mount() -> None:
    """A mounted router's procedures are there under a prefix; a clash is refused."""
    inner, outer = Router(), Router()
    inner.call("p", input=int, output=str)(no_parameters)
    outer.mount("admin", inner)
    procedure = outer.get("admin.p")
    assert procedure is not None and procedure.name == "admin.p" and procedure.input_type is int
    with pytest.raises(ValueError, match="admin.p"):
        outer.mount("admin", inner)
