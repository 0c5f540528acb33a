"""Cases that are every combination of something: kinds of streams, live modes, places to begin, ways to write, faults."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import attrs

from tests.interop.durable.client_cases import Case, Operation

WAIT_MS: Final = 10_000
"""For what comes at once, unless something is wrong."""
SETTLE_MS: Final = 150
"""Until a reader in the background waits at the tail, or nearly: the case is right either way."""


@attrs.frozen
class Kind:
    """A content type, and three messages of it.

    Attributes:
      name: for the case's.
      content_type: of the stream.
      messages: as they are appended; of JSON, values on the wire.
    """

    name: str
    content_type: str
    messages: tuple[str, str, str]

    def expect(self, *messages: str) -> dict[str, Any]:
        """The expectation that these, and no others, were read."""
        if self.name == "json":
            return {"texts": list(messages)}
        return {"data": "".join(messages)}


KINDS: Final = (
    Kind("text", "text/plain; charset=utf-8", ("erste Zeile\r\n", "\u2028 ändert\n\n", "data: das Ende")),
    Kind("json", "application/json", ('{"n":1}', '[["a","b\\n"]]', '"3"')),
    Kind("bytes", "application/octet-stream", ("\u0000\u0001", "\r\n\r", "\u007f")),
)
LIVE: Final[tuple[bool | str, ...]] = (False, "long-poll", "sse", True)
FAULTS: Final[dict[str, Operation]] = {
    "500": {"status": 500, "count": 2},
    "502": {"status": 502, "count": 1},
    "503": {"status": 503, "count": 2},
    "429": {"status": 429, "count": 1},
    "dropped": {"dropConnection": True, "count": 1},
    "slow": {"delayMs": 100, "count": 1},
}


def matrix_cases() -> Iterator[Case]:
    """Those for any server."""
    yield from _reading()
    yield from _waking()
    yield from _writing()
    yield from _missing()
    yield from _closed()


def fault_cases() -> Iterator[Case]:
    """Those for the published server, which makes faults when it is told to."""
    for (name, fault), live in product(FAULTS.items(), LIVE):
        yield _case(
            f"{name} before a read with live={live}",
            [_create(KINDS[0]), _append("whole")],
            [_fault(fault), _read(live, expect={"data": "whole", "upToDate": True})],
        )
    for (name, fault), in_flight in product(FAULTS.items(), (1, 5)):
        batch: Operation = {
            "action": "idempotent-append-batch",
            "path": "${s}",
            "producerId": "p",
            "maxInFlight": in_flight,
        }
        batch |= {"items": [{"data": f"{number};"} for number in range(5)], "expect": {"allSucceed": True}}
        read = _read(False, expect={"data": "0;1;2;3;4;"})
        yield _case(f"{name} before a batch, {in_flight} at once", [_create(KINDS[0])], [_fault(fault), batch, read])
    for name in ("503", "429", "slow"):
        append = _append("once", expect={"status": 200})
        read = _read(False, expect={"data": "once"})
        yield _case(f"{name} before an append", [_create(KINDS[0])], [_fault(FAULTS[name]), append, read])
    for name, action in product(("500", "502", "503", "429", "dropped"), ("head", "connect", "delete")):
        asked = {"action": action, "path": "${s}", "expect": {"status": 200}}
        yield _case(f"{name} before {action}", [_create(KINDS[0])], [_fault(FAULTS[name]), asked])


def _case(name: str, setup: list[Operation], operations: list[Operation]) -> Case:
    has_faults = any(operation["action"] == "inject-error" for operation in operations)
    return Case(name, frozenset(), setup, operations, [{"action": "clear-errors"}] if has_faults else [])


def _create(kind: Kind, **fields: object) -> Operation:
    return {"action": "create", "as": "s", "contentType": kind.content_type} | fields


def _append(data: str, **fields: object) -> Operation:
    return {"action": "append", "path": "${s}", "data": data} | fields


def _read(live: bool | str, **fields: object) -> Operation:
    waits = {"timeoutMs": WAIT_MS, "waitForUpToDate": True}
    return {"action": "read", "path": "${s}", "live": live} | (waits if live else {}) | fields


def _fault(fault: Operation) -> Operation:
    return {"action": "inject-error", "path": "${s}"} | fault


def _reading() -> Iterator[Case]:
    """From every place, in every mode, of a stream that is open or closed."""
    for kind, live, is_closed in product(KINDS, LIVE, (False, True)):
        first, second, third = kind.messages
        setup = [_create(kind)]
        setup += [_append(text, expect={"storeOffsetAs": f"o{number}"}) for number, text in enumerate(kind.messages)]
        setup += [{"action": "close", "path": "${s}"}] if is_closed else []
        rests = {None: (first, second, third), "-1": (first, second, third), "${o0}": (second, third)}
        rests |= {"${o1}": (third,), "${o2}": (), "now": ()}
        for offset, rest in rests.items():
            expected = kind.expect(*rest) | {"upToDate": True, "streamClosed": is_closed}
            # Behind a read is the tail, wherever it began.
            read = _read(live, offset=offset, expect=expected | {"storeOffsetAs": "end"})
            same = {"action": "assert", "equals": {"left": "${end}", "right": "${o2}"}}
            state = "closed" if is_closed else "open"
            yield _case(f"read {kind.name} with live={live} from {offset}, {state}", setup, [read, same])


def _waking() -> Iterator[Case]:
    """Readers that wait at the tail are given what comes, and the end."""
    for kind, live in product(KINDS, LIVE[1:]):
        first, second, third = kind.messages
        read = _read(live, offset="now", background=True) | {"as": "reading", "waitForUpToDate": False}
        close = {"action": "server-close", "path": "${s}", "data": third, "contentType": kind.content_type}
        expected = kind.expect(second, third) | {"upToDate": True, "streamClosed": True}
        operations = [
            read,
            {"action": "wait", "ms": SETTLE_MS},
            {"action": "server-append", "path": "${s}", "data": _flattened(kind, second), "expect": {"status": 204}},
            {"action": "wait", "ms": SETTLE_MS},
            close,
            {"action": "await", "ref": "reading", "expect": expected},
        ]
        yield _case(f"wake {kind.name} with live={live}", [_create(kind), _append(first)], operations)


def _flattened(kind: Kind, text: str) -> str:
    """As a body that stands for this one message: servers take one level of arrays apart."""
    return f"[{text}]" if kind.name == "json" else text


def _writing() -> Iterator[Case]:
    """What is written in each way is what is read, by catching up and as events."""
    for kind in KINDS:
        first, second, third = kind.messages
        named = {"path": "${s}", "producerId": "p"}
        items = [{"data": text} for text in kind.messages]
        ways: dict[str, list[Operation]] = {
            "append": [_append(text, expect={"status": 200}) for text in kind.messages],
            "append with seq": [
                _append(text, seq=number, expect={"status": 200}) for number, text in enumerate(kind.messages)
            ],
            "append-batch": [
                {"action": "append-batch", "path": "${s}", "items": items, "expect": {"allSucceed": True}}
            ],
            "producer": [{"action": "idempotent-append", "data": text} | named for text in kind.messages],
        }
        for in_flight in (1, 5):
            batch = {"action": "idempotent-append-batch", "items": items, "maxInFlight": in_flight, "autoClaim": True}
            ways[f"producer's batch, {in_flight} at once"] = [batch | named | {"expect": {"allSucceed": True}}]
        last = {"action": "idempotent-close", "data": third, "expect": {"status": 200}} | named
        ways["producer's close"] = [
            {"action": "idempotent-append", "data": text} | named for text in (first, second)
        ] + [last]
        for (way, operations), live in product(ways.items(), LIVE[:3:2]):
            read = _read(live, expect=kind.expect(*kind.messages) | {"upToDate": True})
            yield _case(f"write {kind.name} by {way}, read with live={live}", [_create(kind)], [*operations, read])


def _missing() -> Iterator[Case]:
    """Whatever is asked of a stream that never was, or is no more, is answered with 404 and the stream's name."""
    expected = {"expect": {"status": 404, "errorCode": "NOT_FOUND", "messageContains": ["stream-"]}}
    deleted = [_create(KINDS[0]), {"action": "delete", "path": "${s}"}]
    never: list[Operation] = [{"action": "set", "name": "s", "value": "/stream-${randomUUID}"}]
    asked: list[Operation] = [_read(live) for live in LIVE]
    asked += [{"action": action, "path": "${s}"} for action in ("head", "connect", "delete", "close")]
    asked += [_append("x"), {"action": "idempotent-append", "path": "${s}", "producerId": "p", "data": "x"}]
    for (state, setup), operation in product((("deleted", deleted), ("never made", never)), asked):
        mode = f" with live={operation['live']}" if "live" in operation else ""
        yield _case(f"{operation['action']}{mode} of a stream {state}", setup, [operation | expected])


def _closed() -> Iterator[Case]:
    """A closed stream takes nothing more, in whatever way, and stays as it was."""
    expected = {"expect": {"status": 409, "errorCode": "STREAM_CLOSED"}}
    for kind in KINDS:
        text = kind.messages[0]
        named = {"path": "${s}", "producerId": "p", "data": text}
        refused: list[Operation] = [
            _append(text),
            _append(text, seq=7),
            {"action": "close", "path": "${s}", "data": text},
            {"action": "idempotent-append"} | named,
            {"action": "idempotent-close"} | named,
        ]
        for operation in refused:
            setup = [_create(kind), _append(text), {"action": "close", "path": "${s}"}]
            read = _read(False, expect=kind.expect(text) | {"streamClosed": True})
            again = {"action": "close", "path": "${s}", "expect": {"success": True}}
            name = f"{operation['action']}{' with seq' if 'seq' in operation else ''} of {kind.name} that is closed"
            yield _case(name, setup, [operation | expected, read, again])
