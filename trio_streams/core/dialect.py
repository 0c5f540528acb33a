"""What a dialect can say beside items, for those who use streams and do not care which dialect carries them."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["DialectFeatures"]


class DialectFeatures:
    """The base of every machine: our own dialect has all but addresses.

    Attributes:
      carries_metadata: whether a stream opens with metadata of the application's. Without, items are JSON, each by
        itself: nothing could tell the receiver that they are anything else.
    """

    __slots__ = ()

    carries_metadata: ClassVar[bool] = True

    @property
    def has_addresses(self) -> bool:
        """Whether several are on the other side, behind a relay, so that a stream may be for one of them."""
        return False

    @property
    def client_id(self) -> str | None:
        """What the other side calls us; None where it calls us nothing, or has not said it yet."""
        return None
