"""How urgent a request is: the `priority` field and PRIORITY_UPDATE frames, and whose turn it is by that.

Spec: RFC 9218 §4, §5, §7, §10.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import attrs

from trio_streams.webtransport.protocol.structured_fields import parse_dictionary

__all__ = ["Priority", "encode_priority", "parse_priority"]

_INTEGER: Final = re.compile(r"-?[0-9]++", re.ASCII)
_RANKS: Final = 1 << 62
"""Of one urgency: there are no more stream ids than that."""


@attrs.frozen
class Priority:
    """What a client wants of an answer.

    Attributes:
      urgency: 0 to 7, the smaller the sooner.
      is_incremental: whether parts of it are of use, so that answers of the same urgency share the way.
    """

    urgency: int = attrs.field(default=3, validator=attrs.validators.in_(range(8)))
    is_incremental: bool = False

    def rank(self, stream_id: int) -> int:
        """The priority of an answer's stream: higher goes first, and equals take turns.

        Of one urgency, answers that are of use only as a whole go first, one after the other in the order of their requests; then
        those share the way whose parts are of use.
        """
        shared = -self.urgency * _RANKS
        return shared if self.is_incremental else shared + _RANKS - 1 - stream_id


def parse_priority(lines: Sequence[bytes]) -> Priority:
    """The priority that the values of all `priority` fields give.

    What is malformed, of a wrong type or out of range is as if it were not there.
    """
    members = parse_dictionary([line.decode("latin-1") for line in lines]) or {}
    urgency = members.get("u", "")
    is_sound = _INTEGER.fullmatch(urgency) is not None and 0 <= int(urgency) <= 7
    return Priority(int(urgency) if is_sound else 3, members.get("i") == "?1")


def encode_priority(priority: Priority) -> str:
    """The value of a `priority` field; empty where all is as it is without one."""
    urgency = "" if priority.urgency == 3 else f"u={priority.urgency}"
    return ", ".join(filter(None, (urgency, "i" if priority.is_incremental else "")))
