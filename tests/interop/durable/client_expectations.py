"""Whether an adapter's answer is what a case expects, strictly.

The published runner checks data only in answers that report success, so a client whose every operation fails passes
half of the cases. Here an error is wrong wherever none is expected, an expectation that an answer says nothing about is
not met, and one that nobody knows is an error of the case.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from tests.interop.durable.adapter_process import Message

Check: TypeAlias = Callable[[Message, Any], bool]

STORES: Final = frozenset({"storeOffsetAs", "storeDataAs", "storeAs"})
"""Expectations that are met by any answer, and name variables to keep of it."""


class Unmet(Exception):
    """What was expected, and what came."""


def _data(answer: Message) -> list[str]:
    return [chunk["data"] for chunk in answer["chunks"]]


def _texts(answer: Message) -> list[object]:
    """The values of all chunks, each of which is an array: how many there are is the server's affair."""
    return [value for text in _data(answer) for value in json.loads(text)]


def _has_items(field: str) -> Check:
    return lambda answer, expected: {name: answer[field].get(name) for name in expected} == expected


def _is(field: str) -> Check:
    return lambda answer, expected: bool(answer[field] == expected)


def _status(answer: Message, expected: int) -> bool:
    # A close says only where the stream ends: its answer has no status in the suite's protocol.
    return bool(answer.get("status", expected if answer["type"] == "close" else None) == expected)


def _contains_all(text: str, parts: list[str]) -> bool:
    return all(part in text for part in parts)


CHECKS: Final[dict[str, Check]] = {
    "status": _status,
    "success": lambda answer, expected: answer["success"] is expected,
    "error": lambda answer, expected: answer["success"] is not expected,
    "valid": lambda answer, expected: answer["success"] is expected,
    "errorCode": _is("errorCode"),
    "errorContains": lambda answer, expected: expected in answer["message"],
    "messageContains": lambda answer, expected: _contains_all(answer["message"].lower(), [p.lower() for p in expected]),
    "data": lambda answer, expected: "".join(_data(answer)) == expected,
    "dataContains": lambda answer, expected: expected in "".join(_data(answer)),
    "dataContainsAll": lambda answer, expected: _contains_all("".join(_data(answer)), expected),
    "dataExact": lambda answer, expected: _data(answer) == expected,
    "texts": lambda answer, expected: _texts(answer) == [json.loads(text) for text in expected],
    "chunkCount": lambda answer, expected: len(answer["chunks"]) == expected,
    "minChunks": lambda answer, expected: len(answer["chunks"]) >= expected,
    "maxChunks": lambda answer, expected: len(answer["chunks"]) <= expected,
    "upToDate": _is("upToDate"),
    "streamClosed": _is("streamClosed"),
    "finalOffset": _is("finalOffset"),
    "contentType": _is("contentType"),
    "hasOffset": lambda answer, expected: bool(answer.get("offset")) is expected,
    "headersSent": _has_items("headersSent"),
    "paramsSent": _has_items("paramsSent"),
    "duplicate": _is("duplicate"),
    "producerEpoch": _is("producerEpoch"),
    "producerSeq": _is("producerSeq"),
    "producerExpectedSeq": _is("producerExpectedSeq"),
    "producerReceivedSeq": _is("producerReceivedSeq"),
    "allSucceed": lambda answer, expected: answer["success"] is expected,
    "succeedIndices": lambda answer, expected: all(answer["succeeded"][index] for index in expected),
    "failIndices": lambda answer, expected: not any(answer["succeeded"][index] for index in expected),
}


def check_answer(answer: Message, expected: dict[str, Any]) -> None:
    """Compare an answer with everything that is expected of it.

    Raises:
      Unmet: it is something else.
    """
    if not answer["success"] and not _expects_an_error(expected):
        raise Unmet(f"an error that was not expected: {answer}")
    for name, value in expected.items():
        if name in STORES:
            continue
        try:
            is_met = CHECKS[name](answer, value)
        except (KeyError, TypeError, IndexError) as error:
            raise Unmet(f"{name} cannot be said of {answer}: {error!r}") from error
        if not is_met:
            raise Unmet(f"expected {name}={value!r}, got {answer}")


def _expects_an_error(expected: dict[str, Any]) -> bool:
    return (
        any(name in expected for name in ("errorCode", "errorContains", "messageContains", "failIndices"))
        or expected.get("error") is True
        or expected.get("valid") is False
        or expected.get("success") is False
        or expected.get("allSucceed") is False
        or expected.get("status", 0) >= 400
    )
