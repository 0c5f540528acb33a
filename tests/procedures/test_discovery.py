"""Procedures from files: names from paths, what modules declare, and what is wrong with some."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from textwrap import dedent

import pytest
import trio

from trio_streams.driver import run_client, run_server
from trio_streams.errors import RpcError
from trio_streams.procedures import ConnectionClient, Kind, Router
from trio_streams.procedures.discovery import DiscoveryError, load_directory
from trio_streams.procedures.server import prepare
from trio_streams.transports.memory import memory_carrier_pair

LIVE = '''
    """Stream live metrics"""
    from collections.abc import AsyncIterator
    import attrs

    meta = {"direction": "server", "metadata": {"team": "ops"}, "content_type": "application/x-ndjson"}

    @attrs.frozen
    class Input:
        interval: int = 1000

    input_schema = Input

    async def handler(input):
        yield {"interval": input.interval}
'''
FEED = '''
    from trio_streams import Context

    async def handler(ctx: Context):
        """What a user sees"""
        yield {"id": ctx.params["id"], "who": ctx.principal}
'''
AUTH = """
    async def authenticate(context):
        return context.metadata.get("user")
"""
MIDDLEWARE = """
    async def mark(invocation, proceed):
        invocation.map_sent(lambda item: {**item, "marked": True} if isinstance(item, dict) else item)
        return await proceed()

    interceptors = [mark]
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return root


@asynccontextmanager
async def connected(router: Router) -> AsyncGenerator[ConnectionClient, None]:
    left, right = memory_carrier_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_server, right, partial(prepare, router))
        async with run_client(left) as connection:
            yield ConnectionClient(connection)


async def test_paths_are_names_and_modules_declare(tmp_path: Path) -> None:
    """Kinds from the suffix, types and metadata from the module, the description from its docstring."""
    write(
        tmp_path,
        {
            "metrics/live.stream.py": LIVE,
            "add.call.py": "async def handler(input: list[int]) -> int:\n    return sum(input)",
            "seen.event.py": "async def handler(input: str) -> None:\n    pass",
            "up.stream.py": "meta = {'direction': 'client'}\nasync def handler(items):\n    return 1",
            "readme.txt": "no procedure",
            "support.py": "raise RuntimeError('not to be imported')",
            ".hidden/x.call.py": "raise RuntimeError('not to be imported')",
            "__pycache__/y.call.py": "raise RuntimeError('not to be imported')",
        },
    )
    router = load_directory(tmp_path)
    kinds = {procedure.name: procedure.kind for procedure in router}
    assert kinds == {"add": Kind.CALL, "metrics.live": Kind.SERVER, "seen": Kind.EVENT, "up": Kind.CLIENT}
    live = router.get("metrics.live")
    assert live is not None
    assert (live.description, live.metadata, live.content_type) == (
        "Stream live metrics",
        {"team": "ops"},
        "application/x-ndjson",
    )
    async with connected(router) as client:
        assert await client.call("add", [1, 2]) == 3
        async with client.stream("metrics.live", {}) as items:
            assert [item async for item in items] == [{"interval": 1000}]


async def test_parameters_middleware_and_who_may(tmp_path: Path) -> None:
    """`[id]` takes what the caller says; `_auth.py` and `_middleware.py` hold for their directory and below."""
    write(
        tmp_path,
        {
            "users/_auth.py": AUTH,
            "users/[id]/feed.stream.py": FEED,
            "users/[id]/_middleware.py": MIDDLEWARE,
            "open.call.py": "async def handler() -> int:\n    return 1",
        },
    )
    async with connected(load_directory(tmp_path)) as client:
        async with client.stream("users.42.feed", metadata={"user": "ann"}) as items:
            assert [item async for item in items] == [{"id": "42", "who": "ann", "marked": True}]
        async with client.stream("users.42.feed") as items:
            with pytest.raises(RpcError, match="'users.\\[id\\].feed' is not for everybody"):
                await items.receive()
        assert await client.call("open") == 1
        with pytest.raises(RpcError, match="there is no procedure 'users..feed'"):
            await client.call("users..feed")


def test_a_directory_can_be_loaded_again(tmp_path: Path) -> None:
    """A changed module is imported anew; a router that is given is filled."""
    write(tmp_path, {"a.call.py": "async def handler() -> int:\n    'before'\n    return 1"})
    assert [procedure.description for procedure in load_directory(tmp_path)] == ["before"]
    write(tmp_path, {"a.call.py": "async def handler() -> int:\n    'afters'\n    return 1"})
    router = Router()
    assert load_directory(tmp_path, router=router) is router
    assert [procedure.description for procedure in router] == ["afters"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.call.py", "x = 1", "has no function handler"),
        ("a.call.py", "1 / 0", "ZeroDivisionError"),
        ("a.call.py", "raise SystemExit(3)", "SystemExit"),
        ("a.call.py", "async def handler(", "SyntaxError"),
        ("a.call.py", "def handler(): pass", "must be an async function"),
        ("a.call.py", "meta = 5\nasync def handler(): pass", "meta is a Meta or a mapping, not a int"),
        ("a.call.py", "meta = {'colour': 1}\nasync def handler(): pass", "meta has description, direction"),
        ("a.stream.py", "meta = {'direction': 'up'}\nasync def handler(): yield 1", "direction is one of"),
        ("not allowed!.call.py", "async def handler(): pass", "a procedure's name"),
        ("_auth.py", "def authenticate(context): pass", "no async function authenticate"),
        ("_middleware.py", "interceptors = 5", "no list of interceptors"),
        ("_middleware.py", "interceptors = [5]", "no list of interceptors"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    """The line names the file."""
    write(tmp_path, {name: text})
    with pytest.raises(DiscoveryError, match=message) as caught:
        load_directory(tmp_path)
    assert name in str(caught.value)


def test_a_missing_directory_and_a_name_twice(tmp_path: Path) -> None:
    """Neither is passed over."""
    with pytest.raises(DiscoveryError, match="there is no such directory"):
        load_directory(tmp_path / "none")
    write(tmp_path, {"a.call.py": "async def handler(): pass", "a.stream.py": "async def handler(): yield 1"})
    with pytest.raises(DiscoveryError, match="there is a procedure 'a' already"):
        load_directory(tmp_path)


def test_patterns_come_after_exact_names() -> None:
    """In the order of their declaration, and never for a name of another length or an empty part."""
    router = Router()
    for name in ("users.[id]", "users.me", "users.[other]", "[a].[b].c"):

        async def handler() -> None:
            pass

        router.call(name).handler(handler)
    found = {name: router.find(name) for name in ("users.me", "users.42", "x.y.c", "users.", "users", "x.y.d")}
    names = {asked: None if answer is None else (answer[0].name, dict(answer[1])) for asked, answer in found.items()}
    assert names == {
        "users.me": ("users.me", {}),
        "users.42": ("users.[id]", {"id": "42"}),
        "x.y.c": ("[a].[b].c", {"a": "x", "b": "y"}),
        "users.": None,
        "users": None,
        "x.y.d": None,
    }
