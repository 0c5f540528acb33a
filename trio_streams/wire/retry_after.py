"""How long an answer asks to be left alone: its Retry-After.

Spec: RFC 9110 §10.2.3.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Mapping
from email.utils import parsedate

__all__ = ["seconds_to_wait"]


def seconds_to_wait(fields: Mapping[str, str]) -> float:
    """Seconds that the server asks for; a date counts from the server's own, so that no two clocks are compared.

    Args:
      fields: of the answer's head, names in lower case.

    Returns:
      0 where it asks for none, or in words that nobody understands; may be negative for a date that is past.
    """
    value = fields.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    then, now = parsedate(value), parsedate(fields.get("date", ""))
    if then is None or now is None:
        return 0.0
    try:
        return float(timegm(then) - timegm(now))
    except (ValueError, OverflowError):
        return 0.0
