"""Which log a run of a durable procedure is in: a template, filled with fields of the input."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import secrets
import string
import typing
import uuid
from collections.abc import Collection, Mapping
from typing import Final, cast
from urllib.parse import quote

import attrs

from trio_streams.codes import Code
from trio_streams.errors import RpcError

__all__ = ["MAX_PATH_CHARACTERS", "RUN", "PathTemplate", "check_run_id", "new_run_id"]

RUN: Final = "run"
"""The field that stands for a fresh id."""

MAX_PATH_CHARACTERS: Final = 1_024

_RUN_ID: Final = re.compile(r"[A-Za-z0-9_-]{22,64}")
_LITERAL: Final = re.compile(r"[A-Za-z0-9_.~/-]*")


def new_run_id() -> str:
    """An id that nobody can guess: 128 bits."""
    return secrets.token_urlsafe(16)


def check_run_id(run_id: str) -> str:
    """Refuse what can't be the id of a run.

    Raises:
      RpcError: INVALID_ARGUMENT.
    """
    if _RUN_ID.fullmatch(run_id) is None:
        raise RpcError(
            Code.INVALID_ARGUMENT,
            f"the id of a run is 22 to 64 letters, digits, '-' and '_', not these {len(run_id)} characters",
        )
    return run_id


@attrs.frozen
class PathTemplate:
    """Such as `chats/{conversation_id}` or `jobs/{kind}/{run}`.

    Attributes:
      text: as it was declared.
      parts: literal text and the field behind it, which is None at the end.
    """

    text: str
    parts: tuple[tuple[str, str | None], ...]

    @classmethod
    def parse(cls, text: str) -> PathTemplate:
        """Read a template.

        Raises:
          ValueError: it is empty, has other characters, or its braces hold more than a name.
        """
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as exc:
            raise ValueError(f"durable={text!r} is no template: {exc}") from None
        parts: list[tuple[str, str | None]] = []
        for literal, field, spec, conversion in parsed:
            if spec or conversion or (field is not None and not field.isidentifier()):
                raise ValueError(f"durable={text!r}: braces hold the name of a field, and nothing else")
            if _LITERAL.fullmatch(literal) is None:
                raise ValueError(
                    f"durable={text!r}: a path has letters, digits, '-', '_', '.', '~' and '/', not {literal!r}"
                )
            parts.append((literal, field))
        if not text or any(segment in {"", ".", ".."} for segment in text.split("/")):
            raise ValueError(
                f"durable={text!r}: a path has segments with one '/' between, none of them empty, '.' or '..'"
            )
        return cls(text, tuple(parts))

    @property
    def fields(self) -> frozenset[str]:
        """The names of its fields, `run` included."""
        return frozenset(field for _, field in self.parts if field is not None)

    @property
    def has_run(self) -> bool:
        """Whether each call has a run of its own."""
        return RUN in self.fields

    def check_fields(self, input_type: object, params: Collection[str]) -> None:
        """Refuse a template whose fields no input of a type can have.

        Args:
          input_type: as it was declared.
          params: names of the procedure's parameters.

        Raises:
          ValueError: the type is known to have no such field.
        """
        known = _field_names(input_type)
        unknown = sorted(self.fields - {RUN, *params, *(self.fields if known is None else known)})
        if unknown:
            raise ValueError(f"durable={self.text!r}: the input has no field {unknown[0]!r}")

    def fill(self, value: object, params: Mapping[str, str], run_id: str) -> str:
        """The path for an input.

        Args:
          value: the input.
          params: what stood in the place of the procedure's parameters.
          run_id: for `{run}`.

        Raises:
          RpcError: INVALID_ARGUMENT: a field is missing, empty, or of a type that has no place in a path; or the path is
            too long.
        """
        pieces: list[str] = []
        for literal, field in self.parts:
            pieces.append(literal)
            if field == RUN:
                pieces.append(run_id)
            elif field is not None:
                pieces.append(_segment(field, params[field] if field in params else _get(value, field)))
        path = "".join(pieces)
        if len(path) > MAX_PATH_CHARACTERS:
            raise RpcError(
                Code.INVALID_ARGUMENT,
                f"the path of {self.text!r} would have {len(path)} characters, and {MAX_PATH_CHARACTERS} are allowed",
            )
        if any(segment in {".", ".."} for segment in path.split("/")):
            raise RpcError(Code.INVALID_ARGUMENT, f"a segment of {self.text!r} can't be '.' or '..'")
        return path


def _field_names(type_: object) -> Collection[str] | None:
    """The fields of a type; None where anything goes."""
    if not inspect.isclass(type_):
        return None
    if attrs.has(type_):
        return [field.name for field in attrs.fields(type_)]
    if dataclasses.is_dataclass(type_):
        return [field.name for field in dataclasses.fields(type_)]
    if typing.is_typeddict(type_):
        return list(typing.get_type_hints(type_))
    if type_ in {str, int, float, bool, bytes, list, tuple}:
        return []
    return None


def _get(value: object, field: str) -> object:
    if isinstance(value, Mapping):
        return cast("Mapping[str, object]", value).get(field)
    return getattr(value, field, None)


def _segment(field: str, value: object) -> str:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool) or not isinstance(value, str | int | uuid.UUID):
        raise RpcError(
            Code.INVALID_ARGUMENT,
            f"{field!r} names a log: it is text, an integer or a UUID, not of type {type(value).__name__}",
            {"field": field},
        )
    text = str(value)
    if not text:
        raise RpcError(Code.INVALID_ARGUMENT, f"{field!r} names a log: it can't be empty", {"field": field})
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise RpcError(Code.INVALID_ARGUMENT, f"{field!r} has characters that are no text", {"field": field}) from None
