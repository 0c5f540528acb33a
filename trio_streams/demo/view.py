"""What the terminal shows, as lines of text: no colours, no cursor, nothing that wraps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import attrs

from trio_streams.demo.upload import Upload
from trio_streams.demo.watch import Row, Session

__all__ = ["Shown", "align", "clean", "hints", "page", "render", "size_text", "summary", "webtransport_hint"]

_BAR: Final = 8
_NAME: Final = 16
_HEADS: Final = ("", "stream", "who", "out", "in", "window", "queue", "items", "items/s", "bytes")


@attrs.frozen(kw_only=True)
class Shown:
    """What one picture is made of.

    Attributes:
      urls: where the demo is served.
      hints: what to type into another terminal.
      source: what reads the figures.
      seconds: since it started.
      rows: the live streams.
      sessions: of the demo's own clients.
      uploads: what is, or was lately, uploaded.
      names: who chats.
      items: taken by the demo's own clients, from the start.
      events: the last things that happened.
    """

    urls: Sequence[str]
    hints: Sequence[str]
    source: str
    seconds: float
    rows: Sequence[Row]
    uploads: Sequence[Upload]
    names: Sequence[str]
    items: int
    events: Sequence[str] = ()
    sessions: Sequence[Session] = ()


def page(urls: Sequence[str]) -> str | None:
    """Where the live page is; None where nothing is served over HTTP."""
    return next((f"{url}/dashboard/" for url in urls if url.startswith("http")), None)


def hints(urls: Sequence[str]) -> list[str]:
    """What to type into another terminal."""
    by_scheme = {url.partition(":")[0]: url for url in urls}
    lines: list[str] = []
    if "tcp" in by_scheme:
        lines.append(f"trio-streams call {by_scheme['tcp']} system.cpu")
        lines.append(f"trio-streams call {by_scheme['tcp']} network.cut")
    if "ws" in by_scheme:
        lines.append(f"""trio-streams call {by_scheme["ws"]} logs.tail '{{"level": "info", "limit": 5}}'""")
    if "http" in by_scheme:
        lines.append(f"curl -N '{by_scheme['http']}/streams/system.cpu?interval=1'")
        lines.append(f"curl -N '{by_scheme['http']}/streams/jobs.run?job=mine'")
    return lines


def webtransport_hint(origin: str | None) -> str:
    """What to do about WebTransport.

    Args:
      origin: where it is served; None where its extra is missing.
    """
    if origin is None:
        return "pip install 'trio_streams[quic]' brings WebTransport to the page"
    return f"trio-streams webtransport bench {origin}/echo --insecure"


def render(shown: Shown, width: int, height: int, *, is_unicode: bool = True) -> list[str]:
    """The whole picture: at most `height` lines, each shorter than `width` characters.

    The last column stays empty, for some terminals wrap a line that fills it.

    Args:
      shown: what to show.
      width: of the terminal.
      height: of the terminal.
      is_unicode: whether it can show more than ASCII.
    """
    head = [
        f"trio_streams demo   {shown.seconds:.0f} s   {len(shown.rows)} streams   {shown.items} items   {shown.source}",
        "  ".join(shown.urls),
        *([f"in a browser: {where}"] if (where := page(shown.urls)) is not None else []),
        "",
    ]
    tail = ["", *_session_lines(shown.sessions), *_upload_lines(shown, is_unicode=is_unicode)]
    tail += [f"chat    {', '.join(shown.names)}"] if shown.names else []
    tail += [*shown.events, "", "in another terminal:", *(f"  {hint}" for hint in shown.hints)]
    tail.append("Ctrl-C ends it")
    table = _table(shown.rows, is_unicode=is_unicode)
    room = max(2, height - len(head) - len(tail))
    if len(table) > room:
        table = [*table[: room - 1], f"... and {len(table) - room + 1} more"]
    return [clean(line, width - 1) for line in [*head, *table, *tail][:height]]


def _table(rows: Sequence[Row], *, is_unicode: bool) -> list[str]:
    return align([_HEADS, *(_cells(row, is_unicode=is_unicode) for row in rows)], numbers={5, 7, 8, 9})


def align(cells: Sequence[Sequence[str]], *, numbers: Collection[int] = ()) -> list[str]:
    """Rows of cells as lines, one column below the other.

    Args:
      cells: the rows, equally long; at least one.
      numbers: the columns that stand to the right.
    """
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in numbers else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _cells(row: Row, *, is_unicode: bool) -> tuple[str, ...]:
    held = " held" if row.is_held else ""
    queue = "" if row.queue is None else f"{_bar(row.queue, row.window, is_unicode=is_unicode)} {row.queue}"
    return (
        row.transport,
        clean(row.name, _NAME),
        clean(row.who, 21),
        row.out + held,
        row.into,
        str(row.window) if row.window else "-",
        queue,
        str(row.items),
        f"{row.rate:.1f}",
        "-" if row.size is None else size_text(row.size),
    )


def clean(text: str, width: int) -> str:
    """A stranger's text without what a terminal would obey, cut to a width."""
    return _cut("".join(character if character.isprintable() else "?" for character in text), width)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width)]


def _bar(part: float, whole: float, *, is_unicode: bool) -> str:
    """A bar of eight places; anything above nothing shows at least one."""
    share = min(1.0, part / whole) if whole > 0 else 0.0
    filled = max(round(share * _BAR), 1) if share > 0 else 0
    full, empty = ("█", "░") if is_unicode else ("#", ".")
    return full * filled + empty * (_BAR - filled)


def _upload_lines(shown: Shown, *, is_unicode: bool) -> list[str]:
    lines: list[str] = []
    for upload in shown.uploads:
        how_far = size_text(upload.size)
        if upload.expected:
            how_far = f"{_bar(upload.size, upload.expected, is_unicode=is_unicode)} {how_far}"
        lines.append(f"upload  {how_far} from {clean(upload.peer, 21)}  {upload.outcome}".rstrip())
    return lines


def _session_lines(sessions: Sequence[Session]) -> list[str]:
    if not sessions:
        return []
    shown = [
        f"{it.transport} {'connected' if it.is_attached else 'AWAY'}, resumed {it.resumes}x, {size_text(it.retained_bytes)} kept"
        for it in sessions
    ]
    return [f"network {'   '.join(shown)}"]


def size_text(size: float) -> str:
    """A number of bytes for people: `999 B`, `1.5 KiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def summary(seconds: float, items: int) -> str:
    """The last line, when all is over."""
    return f"{items} items in {seconds:.1f} s"
