"""A text stream at `a`, and what is done with it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.durable.protocol.driving import Rig
from trio_streams.durable.protocol.decisions import Appended
from trio_streams.durable.protocol.machine import Chunk, MachineLimits
from trio_streams.durable.protocol.operations import Append, Create, Live, Read, Start
from trio_streams.durable.protocol.refusals import Refused


def make(limits: MachineLimits | None = None, *, body: bytes = b"", **changes: object) -> Rig:
    """A rig with a text stream at `a`."""
    rig = Rig(limits)
    rig.run(rig.machine.create(Create("a", "text/plain", **changes), body))  # type: ignore[arg-type]
    return rig


def append(rig: Rig, data: bytes = b"x", path: str = "a", **rest: object) -> Appended:
    return rig.run(rig.machine.append(Append(path, "text/plain", **rest), data))  # type: ignore[arg-type]


def read(rig: Rig, start: int | Start = Start.BEGINNING, live: Live | None = None, path: str = "a") -> Chunk:
    return rig.run(rig.machine.read(Read(path, start, live)))


def refusal(rig: Rig, operation: Any) -> Refused:  # noqa: ANN401 - of any operation
    with pytest.raises(Refused) as caught:
        rig.run(operation)
    return caught.value
