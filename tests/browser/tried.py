"""An application to be tried on the page of procedures: a procedure of each kind, and what its handlers have done."""

from __future__ import annotations

import datetime as dt
import enum
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final

import attrs

from trio_streams import Context, Router, RpcError

app: Final = Router()
done: Final[Counter[str]] = Counter()
"""What happened, and how often."""

app.enable_usd(title="Notes", description="Notes, numbers and a chat.")


class Level(enum.Enum):
    INFO = "info"
    ERROR = "error"


@attrs.frozen
class Span:
    """From one character to another."""

    start: int
    end: int


@attrs.frozen
class Search:
    """What to look for."""

    text: str
    level: Level = Level.INFO
    limit: int = 10
    weight: float | None = None
    is_exact: bool = False
    since: dt.datetime | None = None
    tags: list[str] = attrs.field(factory=list)
    span: Span | None = None


@attrs.frozen
class Ticks:
    limit: int = 5
    level: Level = Level.INFO


@app.call("math.add").example([1, 2], 3, "two numbers").metadata({"cost": 1, "owner": "numbers"})
async def add(numbers: list[int]) -> int:
    """Add numbers."""
    return sum(numbers)


@app.call("notes.search").example(Search(text="trio", limit=2), Search(text="trio", limit=2), "the newest two")
async def search(query: Search) -> Search:
    """Answer with what was asked."""
    return query


@app.call("notes.refuse")
async def refuse() -> None:
    """Fail with details."""
    raise RpcError("OUT_OF_STOCK", "none <b>left</b>", {"left": 0})


@app.call("notes.who")
async def who(ctx: Context) -> str:
    """Answer with the caller's authorization."""
    return ctx.metadata.get("authorization", "nobody")


@app.call("users.[id].greet")
async def greet(ctx: Context) -> str:
    """Greet a user."""
    return f"hello {ctx.params['id']}"


@app.event("notes.seen")
async def seen(note: str) -> None:
    """Note that a note was seen."""
    done[f"seen {note}"] += 1


@app.call("done")
async def count_done(what: str) -> int:
    """How often something has happened here."""
    return done[what]


@app.stream("ticks.some")
async def some(query: Ticks) -> AsyncIterator[str]:
    """Some numbers, then the end."""
    for number in range(query.limit):
        yield f"{query.level.value} {number}"


@app.stream("ticks.broken")
async def broken() -> AsyncIterator[int]:
    """Two numbers, then an error."""
    yield 1
    yield 2
    raise RpcError("DATA_LOSS", "the third is gone", [3])


@app.stream("ticks.endless")
async def endless() -> AsyncIterator[int]:
    """Numbers for as long as somebody takes them."""
    done["made"] = 0
    try:
        while True:
            done["made"] += 1
            yield done["made"] - 1
    finally:
        done["endless closed"] += 1


@app.stream("numbers.sum", direction="client")
async def total(numbers: AsyncIterable[int]) -> int:
    """Add what comes."""
    return sum([number async for number in numbers])


@app.stream("chat.double", direction="bidi")
async def double(numbers: AsyncIterable[int]) -> AsyncIterator[int]:
    """Answer each number with twice as much."""
    try:
        async for number in numbers:
            yield 2 * number
    finally:
        done["double closed"] += 1
