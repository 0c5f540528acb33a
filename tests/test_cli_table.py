"""The last items of a stream as a table: the picture, and the terminal that it is drawn on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli_site import PATIENCE, finish, needs_pty, on_a_terminal, read_rest, read_until, router, served
from trio_streams.cli.table import Table


def table_of(*items: object) -> Table:
    table = Table("name")
    table.add(items)
    return table


def test_fields_are_columns() -> None:
    """In the order in which they came; numbers stand to the right; what an item lacks stays empty."""
    table = table_of({"a": 1, "b": "x"}, {"b": "longer", "c": None}, {"a": 1000, "b": [1, {"z": 2}], "c": 1.5})
    assert table.render(80, 24, "foot") == [
        "   a  b               c",
        "   1  x",
        "      longer       null",
        '1000  [1,{"z":2}]   1.5',
        "foot",
    ]


def test_items_without_fields_are_one_column() -> None:
    """Whatever they are."""
    assert table_of("x", [1], None).render(80, 24, "foot") == ["item", "x", "[1]", "null", "foot"]
    assert table_of().render(80, 24, "foot") == ["foot"]
    assert table_of({}).render(80, 24, "foot")[-1] == "foot"


def test_the_last_rows_are_shown() -> None:
    """As many as fit, and no more are kept than a screen may have."""
    table = Table("name")
    for number in range(10_000):
        table.add([number])
    assert table.render(80, 5, "foot") == ["item", "9997", "9998", "9999", "foot"]
    assert len(table.render(80, 100_000, "foot")) == 502
    assert table.count == 10_000


def test_columns_that_do_not_fit_give_way() -> None:
    """The widest ones first; then the last ones are left out, and the foot says how many."""
    table = table_of({"short": "abc", "long": "x" * 100, "more": "y" * 100})
    assert table.render(40, 24, "foot")[1] == "abc    " + "x" * 15 + "  " + "y" * 15
    many = table_of({f"field{number}": number for number in range(30)})
    *_, foot = many.render(40, 24, "foot")
    assert foot == "foot   25 more fields"


values = st.recursive(
    st.none() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(st.lists(values, max_size=8), st.integers(1, 100), st.integers(2, 12))
def test_a_picture_never_exceeds_its_screen(items: list[object], width: int, height: int) -> None:
    """Whatever strangers send: no line that wraps, none too many, and nothing that a terminal would obey."""
    lines = table_of(*items).render(width, height, "foot\x1b")
    assert len(lines) <= height
    assert all(len(line) < width or width == 1 for line in lines)
    assert all(line.isprintable() for line in lines)


def test_thousands_of_fields_cost_nothing() -> None:
    """Items with ever new fields do not make the table grow."""
    table = Table("name")
    for number in range(1_000):
        table.add([{f"{number}.{field}": 1 for field in range(10)}])
    head, *_, foot = table.render(10_000, 1_000, "foot")
    assert len(head.split()) == 64
    assert foot == "foot   4936 more fields"


@pytest.fixture
def url() -> Iterator[str]:
    with served(router, "tcp") as urls:
        yield urls["tcp"]


@needs_pty
def test_a_table_is_redrawn_and_left_behind(url: str) -> None:
    """On a terminal a stream is a live table; Ctrl-C restores the screen, and leaves the last table on it."""
    process, terminal = on_a_terminal("stream", url, "figures")
    guard = threading.Timer(PATIENCE, process.kill)
    guard.start()
    drawn = read_until(terminal, 4, b"\x1b[H")
    process.send_signal(signal.SIGINT)
    drawn += read_rest(terminal)
    guard.cancel()
    code, _, errors = finish(process)
    assert (code, errors) == (130, "")
    assert drawn.startswith(b"\x1b[?1049h\x1b[?25l")
    live, _, left = drawn.partition(b"\x1b[?25h\x1b[?1049l")
    assert b" items/s" in live
    assert b"Ctrl-C ends it" in live
    assert left.startswith(b"\x1b[?7h")
    head, *rows, foot, end = left.removeprefix(b"\x1b[?7h").decode().split("\r\n")
    assert (head.split(), end) == (["number", "name"], "")
    assert 1 <= len(rows) <= 9
    assert all(row.split()[0] == row.split()[2] for row in rows)
    assert foot.startswith("figures   ")


@needs_pty
def test_lines_on_a_terminal_are_lines(url: str) -> None:
    """Where they are asked for, no escape sequence is written."""
    process, terminal = on_a_terminal("stream", url, "figures", "--limit", "2", "--output", "lines")
    drawn = read_rest(terminal)
    assert finish(process)[0] == 0
    assert drawn == b'{"number":0,"name":"figure 0"}\r\n{"number":1,"name":"figure 1"}\r\n'
