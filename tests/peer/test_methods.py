"""Handlers: what their signatures declare, and which one answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import pytest

from trio_streams.errors import CodecError, RpcError
from trio_streams.peer.methods import Method, Methods


@attrs.frozen
class Point:
    x: int
    y: int = 0


async def move(point: Point, by: int = 1, *, label: str | None = None) -> Point:
    return Point(point.x + by, point.y)


async def nothing() -> None:
    """Takes nothing and gives nothing."""


async def ticks(count: int) -> AsyncIterator[int]:
    yield count


@pytest.mark.parametrize(
    ("params", "arguments"),
    [
        (b'{"point": {"x": 1}}', {"point": Point(1), "by": 1, "label": None}),
        (b'{"point": {"x": 1, "y": 2}, "by": 5, "label": "a"}', {"point": Point(1, 2), "by": 5, "label": "a"}),
        (b' [{"x": 1}, 3]', {"point": Point(1), "by": 3, "label": None}),
    ],
)
def test_parameters_are_typed(params: bytes, arguments: dict[str, object]) -> None:
    """By name or by place, with defaults, as the annotations say."""
    assert Method.declare("move", move).arguments(params) == arguments


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (b'{"point": {"x": "1"}}', r"\$\.point\.x"),
        (b"{}", "point"),
        (b"[1, 2, 3, 4]", "at most 3 parameters, got 4"),
        (b"7", r"\$"),
    ],
)
def test_parameters_that_do_not_fit(params: bytes, message: str) -> None:
    """A wrong type, a missing one, too many, no parameters at all: the error names the place."""
    with pytest.raises(CodecError, match=message):
        Method.declare("move", move).arguments(params)


def test_results_are_typed() -> None:
    """A result is encoded as declared; one of another type is the handler's fault."""
    assert Method.declare("move", move).encode(Point(1, 2)) == b'{"x":1,"y":2}'
    assert Method.declare("nothing", nothing).encode(None) == b"null"
    with pytest.raises(RpcError, match="INTERNAL: the handler's result"):
        Method.declare("move", move).encode("a point")


def _plain() -> None: ...


async def _variadic(*names: str) -> None: ...


@pytest.mark.parametrize(("handler", "message"), [(_plain, "async function"), (_variadic, "have names")])
def test_a_handler_that_can_be_none(handler: object, message: str) -> None:
    """A plain function, and parameters without names, are refused when they are declared."""
    with pytest.raises(TypeError, match=message):
        Method.declare("bad", handler)  # type: ignore[arg-type]


def test_annotations_that_can_not_be_read() -> None:
    """A name that nobody knows is told at once."""

    async def handler(x: Unknown) -> None: ...  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(TypeError, match="Unknown"):
        Method.declare("bad", handler)


def test_a_generator_gives_items() -> None:
    """An async generator function answers with a stream."""
    assert Method.declare("ticks", ticks).gives_items
    assert not Method.declare("move", move).gives_items


def test_which_one_answers() -> None:
    """The named one; for everything else the common one, and without it UNIMPLEMENTED."""
    methods = Methods()
    methods.add("move", move)
    found = methods.find(b'{"method": "move", "params": [{"x": 1}]}')
    assert found is not None
    assert found[0].handler is move
    for payload, message in [
        (b'{"method": "fly"}', "there is no method 'fly'"),
        (b'{"method": "%s"}' % (b"y" * 200), r"yyy… \(200 characters\)"),
        (b"7", "names no method"),
        (b'{"method": 7}', "names no method"),
    ]:
        with pytest.raises(RpcError, match=message) as caught:
            methods.find(payload)
        assert caught.value.code == "UNIMPLEMENTED"
    methods.match(lambda data: data)
    assert methods.find(b'{"method": "fly"}') is None


@pytest.mark.parametrize("name", ["move", ""])
def test_a_name_is_new(name: str) -> None:
    """A taken name and an empty one are refused."""
    methods = Methods()
    methods.add("move", move)
    with pytest.raises(ValueError, match="new and not empty"):
        methods.add(name, move)


async def test_the_common_handler() -> None:
    """It may be plain or async; its data is of the annotated type."""
    methods = Methods()
    methods.match(lambda data: [data])
    assert await methods.handle(b"1") == b"[1]"

    async def handler(point: Point) -> int:
        return point.x

    methods.match(handler)
    assert await methods.handle(b'{"x": 3}') == b"3"
    with pytest.raises(CodecError, match=r"\$\.x"):
        await methods.handle(b'{"x": "3"}')
    with pytest.raises(TypeError, match="takes the data and nothing else"):
        methods.match(lambda: None)  # type: ignore[arg-type, misc]
