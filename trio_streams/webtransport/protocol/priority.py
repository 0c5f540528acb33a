"""How urgent a request is: the `priority` field and PRIORITY_UPDATE frames.

Spec: RFC 9218 §4, §5, §7.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

__all__ = ["Priority", "encode_priority", "parse_priority"]


@attrs.frozen
class Priority:
    """What a client wants of an answer.

    Attributes:
      urgency: 0 to 7, the smaller the sooner.
      is_incremental: whether parts of it are of use, so that answers of the same urgency share the way.
    """

    urgency: int = 3
    is_incremental: bool = False


def parse_priority(lines: Sequence[bytes]) -> Priority:
    """The priority that the values of all `priority` fields give.

    What is malformed, of a wrong type or out of range is as if it were not there.
    """
    raise NotImplementedError


def encode_priority(priority: Priority) -> str:
    """The value of a `priority` field; empty where all is as it is without one."""
    raise NotImplementedError
