"""Entity tags, and the lists of them that conditional requests carry. RFC 9110 §8.8.3, §13.1.1, §13.1.2."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["ANY", "ETAG", "matches_weakly", "parse_etags"]

ANY: Final = "*"

ETAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def parse_etags(value: str) -> list[str]:
    """The tags of `If-Match` or `If-None-Match`; what is none is left out, and `*` names no tag."""
    return ETAG.findall(value)


def matches_weakly(value: str, etag: str) -> bool:
    """Whether `If-None-Match` names a tag, or any; `W/` counts for nothing on either side."""
    opaque = etag.removeprefix("W/")
    return value.strip() == ANY or any(tag.removeprefix("W/") == opaque for tag in parse_etags(value))
