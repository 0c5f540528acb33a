"""An input as it is typed: JSON, or `key=value` pairs that the procedure's schema gives types to.

    21      '{"limit": 5}'      level=error limit=5      tags=a tags=b      where:='{"host": "x"}'

`=` is a value of the type that the schema has for the key, `:=` is JSON. A key that comes again adds to a list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, cast

import attrs

from trio_streams.cli.process import UsageError
from trio_streams.cli.reflection import Schema, Server
from trio_streams.codecs import Codec, json_codec
from trio_streams.errors import CodecError
from trio_streams.procedures.client import Client

__all__ = ["Input", "parse_json", "read_input"]

_PAIR: Final = re.compile(r"([A-Za-z_][\w-]*)(:?=)(.*)", re.DOTALL)
_json: Final[Codec[object]] = json_codec(object)


@attrs.frozen
class Input:
    """An input as it was typed.

    Attributes:
      words: each an argument; none for no input.
      is_typed_by_server: whether it consists of pairs, so that the procedure's schema is of use.
      value: of an input that is JSON, or none.
    """

    words: Sequence[str]
    is_typed_by_server: bool
    value: object = None

    @classmethod
    def parse(cls, words: Sequence[str]) -> Input:
        """Read what can be read without a server.

        Raises:
          UsageError: it is neither JSON nor pairs.
        """
        if _are_pairs(words):
            return cls(words, is_typed_by_server=True)
        return cls(words, is_typed_by_server=False, value=parse_json("the input", words[0]) if words else None)

    async def read(self, client: Client, name: str, metadata: Mapping[str, str]) -> object:
        """The input of a procedure, whose server is asked only where that is of use.

        Raises:
          UsageError: a value has not the type that the server names.
        """
        if not self.is_typed_by_server:
            return self.value
        server = await Server.ask(client, metadata)
        described = server.find(name)
        return read_input(self.words, server, None if described is None else described.input)


def _are_pairs(words: Sequence[str]) -> bool:
    strangers = [word for word in words if not _PAIR.fullmatch(word)]
    if strangers and len(words) > 1:
        raise UsageError(f"the input is JSON, or key=value pairs: {strangers[0]!r} is no pair")
    return bool(words) and not strangers


def parse_json(what: str, text: str | bytes) -> object:
    """Some JSON.

    Raises:
      UsageError: it is none; the message begins with `what`.
    """
    try:
        return _json.decode(text.encode(errors="surrogateescape") if isinstance(text, str) else text)
    except CodecError as exc:
        raise UsageError(f"{what} is not JSON: {exc}") from exc


def read_input(words: Sequence[str], server: Server, schema: Schema | None) -> dict[str, object]:
    """An object of `key=value` pairs.

    Args:
      words: the pairs.
      server: what it says of its schemas.
      schema: of the input, as far as it is known; without one, values are strings.

    Raises:
      UsageError: one can't be read; one line that names the key.
    """
    properties = server.resolve(schema).get("properties")
    known = cast("Schema", properties) if isinstance(properties, dict) else {}
    found: dict[str, object] = {}
    for word in words:
        match = _PAIR.fullmatch(word)
        assert match is not None
        key, sign, text = match.groups()
        if sign == ":=":
            value, is_list = parse_json(key, text), False
        else:
            value, is_list = _read_value(key, text, server.options(known.get(key)), server)
        _enter(found, key, value, is_list=is_list)
    return found


def _enter(found: dict[str, object], key: str, value: object, *, is_list: bool) -> None:
    before = found.get(key)
    if not is_list and key in found:
        raise UsageError(f"{key} is given twice, and is no list")
    if is_list:
        found[key] = [*before, value] if isinstance(before, list) else [value]
    else:
        found[key] = value


def _read_value(key: str, text: str, options: Sequence[Schema], server: Server) -> tuple[object, bool]:
    """A value by the first type that it fits, and whether it is an item of a list."""
    kinds = [option.get("type") for option in options]
    for option in options:
        for value in [one for one in _choices(option) if _text(one) == text]:
            return value, False
    if "string" in kinds or (set(kinds) <= {None} and not any(map(_choices, options))):
        return text, False
    for option in options:
        if option.get("type") == "array":
            value, _ = _read_value(key, text, server.options(option.get("items")), server)
            return value, True
    for kind in kinds:
        try:
            return _READERS[str(kind)](text), False
        except (KeyError, ValueError):
            continue
    raise UsageError(f"{key} is {_expected(options)}, not {text!r}")


def _choices(option: Schema) -> Sequence[object]:
    choices: object = option.get("enum", [option["const"]] if "const" in option else [])
    return cast("list[object]", choices) if isinstance(choices, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else _json.encode(value).decode()


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,4000}", text):
        raise ValueError(text)
    return int(text)


def _boolean(text: str) -> bool:
    return {"true": True, "false": False}[text]


def _null(text: str) -> None:
    if text not in {"", "null"}:
        raise ValueError(text)


def _number(text: str) -> int | float:
    try:
        return _integer(text)
    except ValueError:
        value = float(text)
    if value - value != 0:
        raise ValueError(text)  # JSON has no such number
    return value


_READERS: Final = {"integer": _integer, "number": _number, "boolean": _boolean, "null": _null}


def _expected(options: Sequence[Schema]) -> str:
    words: list[str] = []
    for option in options:
        choices = [_text(choice) for choice in _choices(option)]
        words += choices or [_WORDS.get(str(option.get("type")), "something else")]
    return " or ".join(dict.fromkeys(words))


_WORDS: Final = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "object": "an object, which takes :=",
}
