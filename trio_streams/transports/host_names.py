"""What is no name of a host is a fault of whoever has named it, wherever it is looked up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from trio_streams.core.errors import LocalProtocolError

__all__ = ["resolving"]

_MAX_NAME_CHARACTERS: Final = 253
_SHOWN_CHARACTERS: Final = 64


@contextmanager
def resolving(host: str | None) -> Iterator[None]:
    """Tell what is no name from one that nobody has; around whatever asks the resolver.

    Python says so with a `UnicodeError`, since that is where it encodes names. Of ASCII names it is the resolver that judges
    the length of all of it, which is an error of its own.

    Args:
      host: what is looked up; None for every interface.

    Raises:
      LocalProtocolError: a part of the name is empty or longer than 63 characters, or takes what no name may hold.

    Spec: RFC 1035 §2.3.4; RFC 5890 §2.3.1.
    """
    try:
        yield
    except UnicodeError as exc:
        name = host or ""
        shown = name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}…"
        raise LocalProtocolError(
            f"can't look up {shown!r}: {exc.__cause__ or exc}; a name is parts of 1 to 63 characters, with the dots 253 in all",
            field="host",
            size=len(name),
            limit=_MAX_NAME_CHARACTERS,
        ) from exc
