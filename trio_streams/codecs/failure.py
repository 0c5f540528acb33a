"""What is wrong with a payload, and where: kinds and sizes, never the payload itself.

cattrs reports the place of a failure as notes on nested exception groups. Our own hooks add the same notes, so that
one walk from the outermost group to the first leaf yields the path.
"""

# Types as values are `object` here, which strict pyright narrows to Unknown; mypy stays strict.
# pyright: basic

from __future__ import annotations

from typing import Final

from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError, IterableValidationNote

from trio_streams.errors import CodecError

__all__ = ["Mismatch", "OutOfRange", "at_index", "describe", "field_step", "index_step", "short", "to_codec_error"]

_MAX_NAME_CHARACTERS: Final = 64
"""A name comes from the peer and ends up in logs: enough to recognise it, too little to flood them."""


class OutOfRange:
    """Stands in a parsed document for a number that no float holds, or an integer of more than 4,300 digits."""


class Mismatch(Exception):
    """A value is of the wrong kind.

    Attributes:
      expected: what the type asks for, in words.
      got: what the value is, in words without its content.
    """

    def __init__(self, expected: str, value: object, *, got: str | None = None) -> None:
        self.expected = expected
        self.got: str = describe(value) if got is None else got
        super().__init__(f"expected {expected}, got {self.got}")


def describe(value: object) -> str:
    """The kind and size of a parsed value, without its content."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return f"a string of {len(value)} characters"
        case list() | tuple() | set() | frozenset():
            return f"an array of {len(value)} items"
        case dict():
            return f"an object of {len(value)} fields"
        case OutOfRange():
            return "a number out of range; numbers must be finite, integers of at most 4,300 digits"
    return f"a {type(value).__name__}"


def short(name: object) -> str:
    """A peer's name for a message: escaped and cut."""
    text = str(name)
    cut = text if len(text) <= _MAX_NAME_CHARACTERS else text[:_MAX_NAME_CHARACTERS] + "…"
    return cut.encode("ascii", "backslashreplace").decode("ascii") if not cut.isprintable() else cut


def field_step(name: object) -> str:
    """One step of a path into an object."""
    text = short(name)
    return f".{text}" if text.isidentifier() else f"[{text!r}]"


def index_step(index: object) -> str:
    """One step of a path into an array, or to a key of a mapping."""
    return f"[{index}]" if isinstance(index, int) else field_step(index)


def at_index(exc: Exception, index: int | str) -> None:
    """Note on an exception in which item of an array, or under which key, it arose."""
    exc.add_note(IterableValidationNote("at an item", index, None))


def to_codec_error(exc: BaseException) -> CodecError:
    """The first failure inside what structuring raised, as the error that users see."""
    path = ["$"]
    missing: str | None = None
    while True:
        missing = None
        for note in reversed(getattr(exc, "__notes__", [])):
            if isinstance(note, AttributeValidationNote):
                path.append(field_step(note.name))
                missing = note.name
            elif isinstance(note, IterableValidationNote):
                path.append(index_step(note.index))
        if not isinstance(exc, BaseExceptionGroup):
            break
        exc = exc.exceptions[0]
    where = "".join(path)
    return CodecError(f"{where}: {_reason(exc, missing)}", path=where)


def _reason(exc: BaseException, attribute: str | None) -> str:
    match exc:
        case Mismatch():
            return str(exc)
        case KeyError() if attribute is not None and exc.args == (attribute,):
            return f"required field `{attribute}` is missing"
        case ForbiddenExtraKeysError():
            return "unknown field " + ", ".join(f"`{name}`" for name in sorted(map(short, exc.extra_fields))[:5])
        case RecursionError():
            return "nested too deeply"
    # A validator's own text often quotes the value, so only its type is passed on; the cause holds the rest.
    return f"refused by the type's own checks ({type(exc).__name__})"
