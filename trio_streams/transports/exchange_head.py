"""The two heads of an HTTP exchange, and its limits: what a handler and every host have in common."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias
from urllib.parse import parse_qs

import attrs

from trio_streams.config import positive
from trio_streams.core.errors import LocalProtocolError
from trio_streams.wire.http1_fields import Fields, check_fields

__all__ = ["ExchangeConfig", "Headers", "RequestHead", "ResponseHead", "with_alternative"]

Headers: TypeAlias = Sequence[tuple[str, str]]
"""Pairs in order; names in lower case; values are ISO 8859-1, as on the wire."""


def _is_value(_: object, attribute: attrs.Attribute[Any], value: str | None) -> None:
    try:
        check_fields([(attribute.name, value or "")])
    except LocalProtocolError as exc:
        raise ValueError(f"{attribute.name} is no value of a header: {value!r}") from exc


@attrs.frozen(kw_only=True)
class ExchangeConfig:
    """Limits and timeouts of one exchange.

    Attributes:
      max_body_bytes: the largest request body that `receive_body` takes when it is not told otherwise.
      body_timeout: seconds between two pieces of a request body that is waited for; later ones are answered 408.
      min_body_bytes_per_second: of a body that `receive_body` takes, from `body_timeout` seconds on; a slower one is
        answered 408. None for any pace. What is taken piece by piece may take its time, as uploads of live items do.
      body_buffer_bytes: request body read ahead of the handler; the chunk that crosses it is still taken.
      send_buffer_bytes: answer waiting for the connection before `send` waits; also the most that one write takes.
      stall_timeout: seconds that one write may take before the connection is aborted; None for ever. With the
        defaults a client that reads less than 2 KiB a second is given up.
      close_timeout: seconds that a write under way gets when the exchange is cancelled.
      half_close_timeout: seconds that an answer gets on the lean host after its client ended its own side. A client
        that has gone looks the same until something is written to it. An event stream gets none.
      linger_timeout: seconds to go on reading a request body that nobody wants, so that the client sees the answer
        that refuses it instead of a reset connection.
      debug: whether answers carry the text of unexpected exceptions.
      alt_svc: what each answer says in `Alt-Svc` of the other places where the same is served, such as
        `h3=":443"; ma=86400`; None for nothing. A handler that says it by itself is not contradicted.
    """

    max_body_bytes: int = attrs.field(default=1_048_576, validator=positive)
    body_timeout: float = attrs.field(default=30.0, validator=positive)
    min_body_bytes_per_second: float | None = attrs.field(default=240.0, validator=positive)
    body_buffer_bytes: int = attrs.field(default=65_536, validator=positive)
    send_buffer_bytes: int = attrs.field(default=65_536, validator=positive)
    stall_timeout: float | None = attrs.field(default=30.0, validator=positive)
    close_timeout: float = attrs.field(default=1.0, validator=positive)
    half_close_timeout: float = attrs.field(default=1.0, validator=positive)
    linger_timeout: float = attrs.field(default=1.0, validator=positive)
    debug: bool = False
    alt_svc: str | None = attrs.field(default=None, validator=_is_value)


@attrs.define(frozen=True, slots=False, kw_only=True)
class RequestHead:
    """What is asked for.

    Attributes:
      method: in upper case.
      path: percent-decoded, as text.
      query_string: what follows the `?`, as it came.
      headers: names in lower case.
      peer: who asks, for people: `127.0.0.1:5123`.
      scheme: `http` or `https`.
      http_version: `1.1`, `2`, …
    """

    method: str
    path: str
    query_string: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    peer: str = ""
    scheme: str = "http"
    http_version: str = "1.1"

    def header(self, name: str) -> str | None:
        """The value of a header, several joined by commas; None where there is none."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    @cached_property
    def query(self) -> dict[str, list[str]]:
        """The query's fields, decoded, each with all its values."""
        return parse_qs(self.query_string, keep_blank_values=True, errors="replace")


@attrs.define(frozen=True, slots=False)
class ResponseHead:
    """The answer's status and headers.

    Attributes:
      fields: the headers, checked.

    Raises:
      LocalProtocolError: the status is not final, or a header could be taken for another one.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    fields: Fields = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not 200 <= self.status <= 599:
            raise LocalProtocolError(f"can't answer with status {self.status}", field="status")
        self.__dict__["fields"] = Fields(self.headers)

    @property
    def is_event_stream(self) -> bool:
        """Whether the answer is one that its client leaves by hanging up."""
        return any(name == "content-type" and value.startswith("text/event-stream") for name, value in self.headers)

    @property
    def content_length(self) -> int | None:
        """The declared length of the body; None where the body ends as it likes."""
        length = self.fields.value("content-length")
        return None if length is None else int(length)


def with_alternative(headers: Headers, alt_svc: str | None) -> tuple[tuple[str, str], ...]:
    """Headers that say where else the same is served, unless they do already.

    Args:
      headers: an answer's.
      alt_svc: what to say; None for nothing.
    """
    if alt_svc is None or any(name == "alt-svc" for name, _ in headers):
        return tuple(headers)
    return (*headers, ("alt-svc", alt_svc))
