"""Tokens by which a client proves that it receives what is sent to its address (RFC 9000 §8.1.2).

The server keeps nothing of a client that it sent away with one: what it needs to go on is in the token, under a secret that no
other endpoint has.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from trio_streams.webtransport.driven import Address

__all__ = ["RetryTokens"]

_MARK: Final = b"\x01trio-retry"
_TIME_BYTES: Final = 8
_TAG_BYTES: Final = 16
_MILLISECONDS: Final = 1_000


class RetryTokens:
    """The tokens of one endpoint.

    Args:
      lifetime: seconds for which one is good. Clients come back with it at once.
    """

    def __init__(self, lifetime: float) -> None:
        self._lifetime = lifetime
        self._secret = secrets.token_bytes(32)

    def issue(self, original_id: bytes, source_id: bytes, addr: Address, now: float) -> bytes:
        """Make one.

        Args:
          original_id: where the client's first packet was sent to.
          source_id: the id that its next one has to be sent to.
          addr: where the client is.
          now: seconds, on a clock that does not go back.
        """
        content = int(now * _MILLISECONDS).to_bytes(_TIME_BYTES, "big", signed=True) + original_id
        return _MARK + content + self._tag(content, source_id, addr)

    @staticmethod
    def is_one(token: bytes) -> bool:
        """Whether this is meant to be a Retry's token, of whichever endpoint; others that a client may bring say nothing."""
        return token.startswith(_MARK) and len(token) >= len(_MARK) + _TIME_BYTES + _TAG_BYTES

    def original_id(self, token: bytes, source_id: bytes, addr: Address, now: float) -> bytes | None:
        """Where the first packet of a client was sent to that brings a token.

        Returns:
          None where the token is not ours, is too old, or was issued to another address or for another id.
        """
        content, tag = token[len(_MARK) : -_TAG_BYTES], token[-_TAG_BYTES:]
        if not self.is_one(token) or not hmac.compare_digest(tag, self._tag(content, source_id, addr)):
            return None
        age = now - int.from_bytes(content[:_TIME_BYTES], "big", signed=True) / _MILLISECONDS
        return content[_TIME_BYTES:] if age <= self._lifetime else None

    def _tag(self, content: bytes, source_id: bytes, addr: Address) -> bytes:
        # Host and port: a client behind an address translator may come back from another port, but then it is another path.
        text = f"{len(content)} {len(source_id)} {addr[0]} {addr[1]}".encode()
        return hmac.digest(self._secret, text + b"\0" + content + source_id, hashlib.sha256)[:_TAG_BYTES]
