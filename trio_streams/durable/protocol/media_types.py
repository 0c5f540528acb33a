"""What a stream holds, by its content type.

Spec: Durable Streams §5.8, §9; RFC 9110 §8.3.1.
"""

from __future__ import annotations

from typing import Final

__all__ = ["is_json", "is_text", "media_type"]

_JSON: Final = "application/json"


def media_type(content_type: str | None) -> str:
    """A content type without its parameters, in lower case; empty for none."""
    return (content_type or "").partition(";")[0].strip().lower()


def is_json(content_type: str | None) -> bool:
    """Whether a stream of this content type holds JSON messages. Spec: Durable Streams §9.1."""
    return media_type(content_type) == _JSON


def is_text(content_type: str | None) -> bool:
    """Whether it holds text, which server-sent events carry as it is. Spec: Durable Streams §5.8."""
    return media_type(content_type).startswith("text/")
