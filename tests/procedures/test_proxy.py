"""Clients made of what a server says of itself: at run time, and as a module."""

from __future__ import annotations

import datetime as dt
import enum
import importlib.util
import sys
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import attrs
import pytest
import trio

from trio_streams.driver import run_client, run_server
from trio_streams.procedures import ConnectionClient, Router
from trio_streams.procedures.describe import Description, ProcedureDescription, describe
from trio_streams.procedures.proxy import open_proxy
from trio_streams.procedures.server import prepare
from trio_streams.procedures.stubs import write_stubs
from trio_streams.service.context import Context
from trio_streams.transports.memory import memory_carrier_pair


class Level(enum.Enum):
    INFO = "info"
    SEVERE = "not good"


@attrs.frozen
class Query:
    level: Level = Level.INFO
    limit: int = 2
    tags: list[str] = attrs.field(factory=list)


@attrs.frozen
class Line:
    """One line of a log."""

    level: Level
    text: str
    when: dt.datetime | None = None


class Seen:
    """An application that notes what it was told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.router = Router()
        for declare in (self._calls, self._streams):
            declare()

    def _calls(self) -> None:
        @self.router.call("math.add")
        async def add(numbers: list[int]) -> int:
            """Add numbers."""
            return sum(numbers)

        @self.router.call("math")
        async def about() -> str:
            return "sums"

        @self.router.event("noted")
        async def noted(text: str) -> None:
            self.events.append(text)

        @self.router.call("metadata")
        async def metadata(ctx: Context) -> dict[str, str]:
            return dict(ctx.metadata)

    def _streams(self) -> None:
        @self.router.stream("logs.tail")
        async def tail(query: Query) -> AsyncIterator[Line]:
            for number in range(query.limit):
                yield Line(query.level, str(number))

        @self.router.stream("users.[id].feed")
        async def feed(ctx: Context) -> AsyncIterator[str]:
            yield ctx.params["id"]

        @self.router.stream("total", direction="client")
        async def total(numbers: AsyncIterable[int]) -> int:
            return sum([number async for number in numbers])

        @self.router.stream("chat", direction="bidi")
        async def chat(lines: AsyncIterable[str]) -> AsyncIterator[Line]:
            async for line in lines:
                yield Line(Level.INFO, line)


@asynccontextmanager
async def connected(app: Router) -> AsyncIterator[ConnectionClient]:
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server, right, partial(prepare, app))
        async with run_client(left) as connection:
            yield ConnectionClient(connection)


def load(text: str, path: Path) -> ModuleType:
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


async def test_a_proxy_has_every_kind() -> None:
    """Each procedure is used as its kind has it, by attributes or by its name."""
    seen = Seen()
    async with connected(seen.router) as client:
        api = await open_proxy(client, metadata={"user": "ann"})
        assert await api.math.add([1, 2]) == 3
        assert await api.math() == "sums"
        await api.noted("hello")
        assert seen.events == ["hello"]
        async with api.logs.tail(limit=1) as lines:
            assert [line async for line in lines] == [{"level": "info", "text": "0", "when": None}]
        async with api["users.42.feed"]() as feed:
            assert [item async for item in feed] == ["42"]
        assert await api.total(range(4)) == 6
        async with api.chat() as stream:
            await stream.send("hi")
            assert (await stream.receive())["text"] == "hi"
        assert await api.metadata() == {"user": "ann"}
        assert await api.metadata(metadata={"user": "bob"}) == {"user": "bob"}
        assert dir(api) == ["chat", "logs", "math", "metadata", "noted", "total", "users"]
        assert repr(api.math.add) == "<Proxy math.add: call, Add numbers.>"
        assert repr(api.logs) == "<Proxy logs: tail>"


async def test_what_there_is_not_is_told_at_once() -> None:
    """A wrong name at the attribute, a wrong use at the call; nothing is sent."""
    async with connected(Seen().router) as client:
        api = await open_proxy(client)
        with pytest.raises(AttributeError, match="no procedure 'math.subtract', and none below it"):
            _ = api.math.subtract
        with pytest.raises(AttributeError):
            _ = api._private
        with pytest.raises(TypeError, match="logs is no procedure; below it there are tail"):
            api.logs()
        with pytest.raises(TypeError, match="'logs.tail' takes an input or its fields, not both"):
            api.logs.tail({"limit": 1}, limit=2)


async def test_a_module_is_made_that_works(tmp_path: Path) -> None:
    """Its classes are the server's records, its methods the procedures; names that are both are told apart."""
    seen = Seen()
    module = load(write_stubs(describe(seen.router), source='ws://"x"'), tmp_path / "made_api.py")
    async with connected(seen.router) as client:
        api = module.Api(client)
        assert await api.math.add([1, 2]) == 3
        assert await api.math_() == "sums"
        assert await api.noted("hello") is None
        async with api.logs.tail(module.Query(level=module.Level.NOT_GOOD, limit=1)) as lines:
            assert [line async for line in lines] == [module.Line(level=module.Level.NOT_GOOD, text="0", when=None)]
        async with api.logs.tail() as lines:
            assert len([line async for line in lines]) == 2
        async with api.users.id.feed("42") as feed:
            assert [item async for item in feed] == ["42"]
        assert await api.total([1, 2]) == 3
        async with api.chat() as stream:
            await stream.send("hi")
            assert (await stream.receive()).text == "hi"
    assert module.Line.__doc__ == "One line of a log."


def test_a_stranger_cannot_write_code_into_the_module(tmp_path: Path) -> None:
    """A server's words stay words: in docstrings, defaults and names; what is no name is refused."""
    evil = '"""\nimport os\nos.abort()\n"""'
    procedure = ProcedureDescription(name="a.b-c.class", kind="call", description=evil, output={"const": evil})
    record = {"type": "object", "description": evil, "properties": {"x": {"type": "string", "default": evil}}}
    module = load(
        write_stubs(Description(procedures=[procedure], schemas={"R": record}), source=evil), tmp_path / "made_evil.py"
    )
    assert module.R().x == evil
    assert module.R.__doc__ is not None
    for schemas in ({"x y": record}, {"class": record}, {"R": {"type": "object", "properties": {"x;y": {}}}}):
        with pytest.raises(ValueError, match="which is no name"):
            write_stubs(Description(procedures=[], schemas=schemas))
    pointing = ProcedureDescription(name="a", kind="call", output={"$ref": "#/schemas/os.abort()"})
    with pytest.raises(ValueError, match="which is no name"):
        write_stubs(Description(procedures=[pointing]))
    named = ProcedureDescription(name="[id].{__import__('os')}", kind="call")
    with pytest.raises(ValueError, match="a procedure's name is"):
        write_stubs(Description(procedures=[named]))
