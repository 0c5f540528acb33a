"""Statistics as an HTML table: escaped, without scripts, and with nothing to load.

Statistics are frozen attrs classes, so that this knows their fields, and not the classes.
"""

from __future__ import annotations

import enum
import html
from typing import Final, Protocol, TypeGuard, cast

import attrs

__all__ = ["HasStatistics", "is_finished", "render"]

# A field that fills up, and the limit that it is drawn against.
LIMITS: Final = {"buffered_items": "window_items", "buffered_bytes": "window_bytes"}
# A connection may have thousands of streams; a page that is drawn some times a second may not.
MAX_PARTS: Final = 20
FINAL_STATES: Final = frozenset({"closed", "errored"})
BAR: Final = "display:inline-block;width:12em;height:0.8em;border:1px solid #888;margin-right:0.5em"
FILL: Final = {False: "#4a90d9", True: "#e0a030"}


class HasStatistics(Protocol):
    """A stream, a connection, or whatever else has statistics."""

    def statistics(self) -> attrs.AttrsInstance:
        """A snapshot."""
        ...


def render(source: HasStatistics) -> str | None:
    """Draw what `source.statistics()` says now.

    Args:
      source: a stream or connection.

    Returns:
      A table with a bar for each buffer that has a limit; None where there are no statistics to show.
    """
    values = _values(source.statistics())
    if values is None:
        return None
    title = html.escape(type(source).__name__)
    rows = "".join(_row(name, value, values) for name, value in values.items() if value is not None)
    return f'<table class="trio-streams"><caption><b>{title}</b></caption><tbody>{rows}</tbody></table>'


def is_finished(source: HasStatistics) -> bool:
    """Whether the connection, or every half of the stream, has reached its end."""
    values = _values(source.statistics()) or {}
    if "is_open" in values:
        return not values["is_open"]
    states = [_text(value) for name, value in values.items() if _is_state(name) and value is not None]
    return bool(states) and all(state in FINAL_STATES for state in states)


def _values(statistics: object) -> dict[str, object] | None:
    if not _is_attrs(statistics):
        return None
    return {field.name: getattr(statistics, field.name) for field in attrs.fields(type(statistics))}


def _is_attrs(value: object) -> TypeGuard[attrs.AttrsInstance]:
    return attrs.has(type(value))


def _row(name: str, value: object, values: dict[str, object]) -> str:
    label = html.escape(name.replace("_", " "))
    cell = _parts(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else _cell(name, value, values)
    return f'<tr><th style="text-align:left">{label}</th><td style="text-align:left">{cell}</td></tr>'


def _parts(parts: tuple[object, ...]) -> str:
    """One line for each part, such as a connection's streams: its name, its states, and its bar."""
    lines = [f"{len(parts):,}"]
    for values in filter(None, map(_values, parts[:MAX_PARTS])):
        words = [_text(value) for name, value in values.items() if _says_what(name) and value is not None]
        bars = [_cell(name, values[name], values) for name in LIMITS if values.get(name) is not None]
        lines.append(" ".join([html.escape(" ".join(words)), *bars]))
    if len(parts) > MAX_PARTS:
        lines.append(f"and {len(parts) - MAX_PARTS:,} more")
    return "<br>".join(lines)


def _says_what(name: str) -> bool:
    return name == "id" or _is_state(name)


def _is_state(name: str) -> bool:
    return name == "state" or name.endswith("_state")


def _cell(name: str, value: object, values: dict[str, object]) -> str:
    limit = values.get(LIMITS.get(name, ""))
    if not isinstance(limit, int | float) or not isinstance(value, int | float):
        return html.escape(_text(value))
    # A rendezvous has room for nothing: whatever waits there fills it.
    share = min(1.0, max(0.0, value / limit)) if limit > 0 else float(value > 0)
    fill = f"display:block;height:100%;width:{share:.0%};background:{FILL[share >= 1]}"
    return f'<span style="{BAR}"><span style="{fill}"></span></span>{_text(value)} / {_text(limit)}'


def _text(value: object) -> str:
    if isinstance(value, enum.Enum):
        return value.name.lower()
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
