"""When to ask again: which errors pass, how long to wait, and when it is enough.

Spec: RFC 9110 §10.2.3 (Retry-After), §15.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final

import attrs

from trio_streams.config import positive
from trio_streams.core.backoff import full_jitter

__all__ = ["Attempts", "Repeat", "RetryOptions", "is_passing"]

_PASSING: Final = frozenset({408, 425, 429})
"""The refusals among 4xx that are about the moment, not about the request."""
_NEVER: Final = frozenset({501, 505})
"""The faults among 5xx that no time heals."""
_UNDONE: Final = frozenset({429, 503})
"""The answers that say that nothing was done."""


class Repeat(enum.Enum):
    """What a request may be repeated after.

    Attributes:
      ALWAYS: any fault that passes: doing it twice is doing it once (reads, PUT, DELETE, appends of a producer).
      UNDONE: only what says that nothing was done: nobody was reached, or the answer is 429 or 503.
    """

    ALWAYS = "always"
    UNDONE = "undone"


def is_passing(status: int | None, repeat: Repeat, *, was_sent: bool = True) -> bool:
    """Whether a request that failed may be sent again.

    Args:
      status: of the answer; None where none came.
      repeat: what this request may be repeated after.
      was_sent: False where nobody was reached.
    """
    if status is None:
        return repeat is Repeat.ALWAYS or not was_sent
    if repeat is Repeat.UNDONE:
        return status in _UNDONE
    return status in _PASSING or (500 <= status <= 599 and status not in _NEVER)


def _not_negative(_: object, attribute: attrs.Attribute[Any], value: int | None) -> None:
    if value is not None and value < 0:
        raise ValueError(f"{attribute.name} must not be negative, not {value!r}")


@attrs.frozen(kw_only=True)
class RetryOptions:
    """How a client tries again: with exponential backoff and full jitter.

    The n-th retry comes after a random time between 0 and `initial_delay * multiplier ** (n - 1)`, but no more than
    `max_delay`; where the server asks for more time by Retry-After, it gets it, up to `max_retry_after`.

    Attributes:
      max_retries: in a row, without progress in between; 0 for none, None for any number.
      initial_delay: seconds at most before the first retry.
      max_delay: seconds at most before any.
      multiplier: how much longer the next one may take.
      max_retry_after: the longest wait, in seconds, that a server can ask for; more counts as this much.
      max_recoveries: how often in a row an `on_error` may have a request tried again.
    """

    max_retries: int | None = attrs.field(default=6, validator=_not_negative)
    initial_delay: float = attrs.field(default=0.1, validator=positive)
    max_delay: float = attrs.field(default=10.0, validator=positive)
    multiplier: float = attrs.field(default=2.0)
    max_retry_after: float = attrs.field(default=60.0, validator=positive)
    max_recoveries: int = attrs.field(default=10, validator=_not_negative)

    @max_delay.validator
    def _check_max_delay(self, _: object, value: float) -> None:
        if value < self.initial_delay:
            raise ValueError(f"max_delay must be at least initial_delay ({self.initial_delay}), not {value!r}")

    @multiplier.validator
    def _check_multiplier(self, _: object, value: float) -> None:
        if not value >= 1:
            raise ValueError(f"multiplier must be at least 1, not {value!r}")


class Attempts:
    """Counts the failures of one thing that is tried until it works.

    Attributes:
      failures: in a row.
      recoveries: how often in a row an `on_error` had it tried again.

    Args:
      options: how often, and how long to wait.
      random: a number from 0 up to 1, each time it is called.
    """

    def __init__(self, options: RetryOptions, random: Callable[[], float]) -> None:
        self.failures: int = 0
        self.recoveries: int = 0
        self._options = options
        self._random = random

    def fail(self, retry_after: float = 0.0, *, is_patient: bool = False) -> float | None:
        """It failed.

        Args:
          retry_after: seconds that the server asks for.
          is_patient: whether it is tried again however often it has failed.

        Returns:
          Seconds to wait before the next attempt; None where it was the last one.
        """
        options = self._options
        if not is_patient and options.max_retries is not None and self.failures >= options.max_retries:
            return None
        self.failures += 1
        return max(self.delay(self.failures), min(retry_after, options.max_retry_after))

    def delay(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row, of something that is counted elsewhere."""
        options = self._options
        return full_jitter(
            failures,
            initial_delay=options.initial_delay,
            factor=options.multiplier,
            max_delay=options.max_delay,
            random=self._random,
        )

    def recover(self) -> bool:
        """An `on_error` wants it tried again, with something changed.

        Returns:
          False where it has done so too often in a row.
        """
        if self.recoveries >= self._options.max_recoveries:
            return False
        self.recoveries += 1
        self.failures = 0
        return True

    def succeed(self) -> None:
        """It worked, or got on: what failed before is forgotten."""
        self.failures = 0
        self.recoveries = 0
