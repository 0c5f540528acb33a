"""The last items of a stream as a table: fields as columns, redrawn in a terminal while they come."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Final, cast

import attrs
import msgspec
import trio

from trio_streams.cli.output import Output
from trio_streams.dashboard.meter import Meter
from trio_streams.demo import screen
from trio_streams.demo.view import align, clean, summary

__all__ = ["Table", "follow"]

_MAX_ROWS: Final = 500
_MAX_COLUMNS: Final = 64
_MAX_CELL: Final = 40
_MIN_CELL: Final = 6
_GAP: Final = 2
_REDRAW: Final = 0.1
_GOODBYE_TIMEOUT: Final = 1.0
_ITEM: Final = "item"
"""The column of items that have no fields."""

# A character that is twice as wide would else wrap its line, and push the picture up.
_NO_WRAP: Final = "\x1b[?7l"
_WRAP: Final = "\x1b[?7h"


@attrs.frozen
class _Cell:
    """What a field shows: its text, and on which side of its column; a column of numbers alone has them on the right."""

    text: str
    is_to_the_right: bool


_EMPTY: Final = _Cell("", is_to_the_right=True)


class Table:
    """The last items, as rows.

    Args:
      name: of the stream, for the foot.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._rows: deque[dict[str, _Cell]] = deque(maxlen=_MAX_ROWS)
        self._meter = Meter()
        self.count: int = 0

    def add(self, items: Sequence[object]) -> None:
        """Take items; the oldest rows make room."""
        self.count += len(items)
        for item in items[-_MAX_ROWS:]:
            fields = cast("dict[str, object]", item) if isinstance(item, dict) else {_ITEM: item}
            few = itertools.islice(fields.items(), _MAX_COLUMNS)
            self._rows.append({clean(key, _MAX_CELL): _cell(value) for key, value in few})

    def rate(self, now: float) -> float:
        """Items a second, over the last few; to be asked for regularly."""
        return self._meter.rate(self._name, self.count, now)

    def render(self, width: int, height: int, foot: str) -> list[str]:
        """The picture: heads, the last rows that fit, and the foot.

        Args:
          width: of the terminal; its last column stays empty.
          height: of the terminal.
          foot: the last line.
        """
        rows = list(self._rows)[-max(1, height - 2) :]
        names = list(dict.fromkeys(name for row in rows for name in row))
        cells = [names, *([row.get(name, _EMPTY).text for name in names] for row in rows)]
        widths = _fit([max(len(row[index]) for row in cells) for index in range(len(names))][:_MAX_COLUMNS], width - 1)
        cut = [[cell[:size] for cell, size in zip(row, widths, strict=False)] for row in cells]
        numbers = {i for i, name in enumerate(names) if all(row.get(name, _EMPTY).is_to_the_right for row in rows)}
        if len(widths) < len(names):
            foot = f"{foot}   {len(names) - len(widths)} more fields"
        lines = align(cut, numbers=numbers) if widths else []
        return [clean(line, width - 1) for line in [*lines, foot]][-height:]

    def foot(self, rate: float, what: str) -> str:
        """How fast items come, beside what else there is to say."""
        return f"{self._name}   {what}   {rate:.1f} items/s"


def _cell(value: object) -> _Cell:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return _Cell(clean(text[:_MAX_CELL], _MAX_CELL), is_number or value is None)


def _fit(widths: Sequence[int], room: int) -> list[int]:
    """Widths of columns that fit into a line: the widest ones give way first; then the last ones are left out."""
    fitting = [min(max(size, 1), _MAX_CELL) for size in widths]
    while fitting and sum(fitting) + _GAP * (len(fitting) - 1) > room:
        widest = max(fitting)
        if widest > _MIN_CELL:
            fitting[fitting.index(widest)] -= 1
        else:
            fitting.pop()
    return fitting or [max(1, room)][: len(widths)]


async def follow(batches: AsyncIterator[list[object]], table: Table, output: Output, *, is_live: bool) -> None:
    """Show items as they come.

    Args:
      batches: the items.
      table: takes them.
      output: where to.
      is_live: whether that is a terminal, on which a picture is redrawn; else there is only the last one.

    Raises:
      OutputClosedError: nobody looks any more.

    Cancellation: as at the end, the table stays as it is then, on the terminal's usual screen.
    """
    began = trio.current_time()
    try:
        if is_live:
            await _follow_live(batches, table, output)
        else:
            async for batch in batches:
                table.add(batch)
    finally:
        seconds = trio.current_time() - began
        width, height = screen.terminal_size()
        foot = table.foot(table.count / seconds if seconds > 0 else 0.0, summary(seconds, table.count))
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _GOODBYE_TIMEOUT):
            lines = "".join(f"{line}\n" for line in table.render(width, height - 1, foot))
            await output.write(_WRAP + lines if is_live else lines)


async def _follow_live(batches: AsyncIterator[list[object]], table: Table, output: Output) -> None:
    async def draw() -> None:
        while True:
            width, height = screen.terminal_size()
            foot = table.foot(table.rate(trio.current_time()), f"{table.count} items   Ctrl-C ends it")
            await output.write(_NO_WRAP + screen.frame(table.render(width, height, foot)))
            await trio.sleep(_REDRAW)

    async with screen.full_screen(output.write), trio.open_nursery() as nursery:
        nursery.start_soon(draw)
        async for batch in batches:
            table.add(batch)
        nursery.cancel_scope.cancel()
