"""What the terminal shows."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.demo import screen, view
from trio_streams.demo.upload import Upload
from trio_streams.demo.view import Shown
from trio_streams.demo.watch import Row, Session

ROWS = [
    Row(
        transport="tcp",
        name="system.cpu",
        who="demo",
        out="closed",
        into="open",
        window=256,
        queue=0,
        items=12,
        rate=1.0,
        size=1_536,
        is_held=False,
    ),
    Row(
        transport="ws",
        name="system.cpu",
        who="demo",
        out="closed",
        into="open",
        window=16,
        queue=12,
        items=34,
        rate=2.04,
        size=999,
        is_held=False,
    ),
    Row(
        transport="sse",
        name="logs.tail",
        who="demo",
        out="-",
        into="open",
        window=256,
        queue=1,
        items=5,
        rate=0.0,
        size=None,
        is_held=False,
    ),
    Row(
        transport="tcp",
        name="numbers",
        who="127.0.0.1:50000",
        out="open",
        into="closed",
        window=0,
        queue=None,
        items=1_000_000,
        rate=320_000.0,
        size=3_221_225_472,
        is_held=True,
    ),
]
URLS = ["tcp://127.0.0.1:7100", "ws://127.0.0.1:7101", "http://127.0.0.1:7102"]
SHOWN = Shown(
    urls=URLS,
    hints=[*view.hints(URLS), view.webtransport_hint("https://127.0.0.1:7103")],
    source="/proc",
    seconds=61.4,
    rows=ROWS,
    uploads=[Upload("127.0.0.1:50000", 1_000, size=500), Upload("127.0.0.1:50000", None, 9, "failed")],
    names=["ada", "bob"],
    items=51,
    events=["ws   chat   ada: HELLO"],
    sessions=[
        Session(transport="tcp", is_attached=True, resumes=2, retained_bytes=0),
        Session(transport="ws", is_attached=False, resumes=1, retained_bytes=2_048),
    ],
)
PICTURE = """\
trio_streams demo   61 s   4 streams   51 items   /proc
tcp://127.0.0.1:7100  ws://127.0.0.1:7101  http://127.0.0.1:7102
in a browser: http://127.0.0.1:7102/dashboard/

     stream      who              out        in      window  queue          items   items/s    bytes
tcp  system.cpu  demo             closed     open       256  ░░░░░░░░ 0        12       1.0  1.5 KiB
ws   system.cpu  demo             closed     open        16  ██████░░ 12       34       2.0    999 B
sse  logs.tail   demo             -          open       256  █░░░░░░░ 1         5       0.0        -
tcp  numbers     127.0.0.1:50000  open held  closed       -               1000000  320000.0  3.0 GiB

network tcp connected, resumed 2x, 0 B kept   ws AWAY, resumed 1x, 2.0 KiB kept
upload  ████░░░░ 500 B from 127.0.0.1:50000
upload  9 B from 127.0.0.1:50000  failed
chat    ada, bob
ws   chat   ada: HELLO

in another terminal:
  trio-streams call tcp://127.0.0.1:7100 system.cpu
  trio-streams call tcp://127.0.0.1:7100 network.cut
  trio-streams call ws://127.0.0.1:7101 logs.tail '{"level": "info", "limit": 5}'
  curl -N 'http://127.0.0.1:7102/streams/system.cpu?interval=1'
  curl -N 'http://127.0.0.1:7102/streams/jobs.run?job=mine'
  trio-streams webtransport bench https://127.0.0.1:7103/echo --insecure
Ctrl-C ends it
"""


def test_the_picture() -> None:
    """Header, table, uploads, chat, what happened, and what to type: from fixed figures, always the same text."""
    assert "\n".join(view.render(SHOWN, 120, 40)) + "\n" == PICTURE


def test_a_missing_extra_is_told_in_one_line() -> None:
    """What to install, and what for."""
    assert view.webtransport_hint(None) == "pip install 'trio_streams[quic]' brings WebTransport to the page"


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """Bars are made of # and dots."""
    lines = view.render(SHOWN, 120, 40, is_unicode=False)
    assert all(line.isascii() for line in lines)
    assert "######.. 12" in lines[6]


def test_too_many_streams_are_counted() -> None:
    """The hints stay; what does not fit is a number."""
    lines = view.render(attrs.evolve(SHOWN, rows=ROWS * 25), 120, 30)
    assert len(lines) == 30
    assert lines[-1] == "Ctrl-C ends it"
    assert [line for line in lines if "more" in line] == ["... and 91 more"]


@given(st.integers(1, 200), st.integers(1, 60), st.text(max_size=300), st.integers(0, 40), st.booleans())
def test_no_picture_wraps_or_scrolls(width: int, height: int, name: str, rows: int, is_unicode: bool) -> None:
    """Whatever the terminal's size and whatever strangers call things: fewer columns than there are, and printable."""
    row = attrs.evolve(ROWS[0], name=name, who=name)
    upload = Upload(name, 0, 0, "")
    shown = attrs.evolve(SHOWN, rows=[row] * rows, uploads=[upload])
    lines = view.render(shown, width, height, is_unicode=is_unicode)
    assert len(lines) <= height
    assert all(len(line) < width for line in lines)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("name", ["\x1b[2J", "a\nb", "a\x9b1mb"])
def test_a_stranger_cannot_command_the_terminal(name: str) -> None:
    """What a terminal would obey is shown as question marks, in names and in what was said."""
    shown = attrs.evolve(SHOWN, rows=[attrs.evolve(ROWS[0], name=name, who=name)], names=[name], events=[name])
    assert all(line.isprintable() for line in view.render(shown, 120, 40))


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (2**20, "1.0 MiB"), (2**40, "1024.0 GiB")]
)
def test_sizes_are_for_people(size: int, text: str) -> None:
    """Three digits and a unit."""
    assert view.size_text(size) == text


def test_a_frame_is_drawn_over_the_one_before() -> None:
    """From the top, each line cleared behind its text, and nothing left below; no line feed that would scroll."""
    assert screen.frame(["one", "two"]) == "\x1b[Hone\x1b[K\r\ntwo\x1b[K\x1b[J"
    assert screen.frame([]) == "\x1b[H\x1b[K\x1b[J"
