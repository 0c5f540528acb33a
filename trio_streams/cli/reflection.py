"""What a server says of its procedures, for commands that look before they ask, and in short for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import attrs
import msgspec

from trio_streams.errors import CodecError, RpcError
from trio_streams.procedures.client import Client
from trio_streams.procedures.describe import DESCRIBE, Description, ProcedureDescription

__all__ = ["Schema", "Server", "notation"]

Schema = dict[str, Any]

_MAX_DEPTH: Final = 8
"""References to references; a stranger may send a circle of them."""

_NOTHING: Final[Schema] = {}


@attrs.frozen
class Server:
    """A server's description, or none where it does not tell.

    Attributes:
      description: what it says.
    """

    description: Description = attrs.field(factory=lambda: Description(procedures=[]))

    @classmethod
    async def ask(cls, client: Client, metadata: Mapping[str, str]) -> Server:
        """Ask a server what it offers; one that does not tell has nothing to say.

        Raises:
          ConnectionLost: the connection broke.
        """
        try:
            return cls(await client.call(DESCRIBE, returns=Description, metadata=metadata))
        except (RpcError, CodecError):
            return cls()

    def find(self, name: str) -> ProcedureDescription | None:
        """A procedure by the name that callers use: `users.42.feed` is `users.[id].feed`."""
        return self.description.find(name)

    def resolve(self, schema: object) -> Schema:
        """A schema, or what it refers to; an empty one where there is none."""
        for _ in range(_MAX_DEPTH):
            if not isinstance(schema, dict):
                return _NOTHING
            known = cast("Schema", schema)
            if "$ref" not in known:
                return known
            schema = self.description.schemas.get(_name_of(known["$ref"]))
        return _NOTHING

    def options(self, schema: object) -> list[Schema]:
        """What a schema may be: the options of a union, or itself."""
        resolved = self.resolve(schema)
        choices = resolved.get("anyOf")
        return [self.resolve(one) for one in cast("list[object]", choices)] if isinstance(choices, list) else [resolved]

    def is_bytes(self, schema: object) -> bool:
        """Whether a schema is that of bytes."""
        return self.resolve(schema).get("contentEncoding") == "base64"

    def only(self, name: str) -> Server | None:
        """This server as if it had but one procedure, with the schemas that this one needs."""
        found = self.find(name)
        if found is None:
            return None
        needed: dict[str, Schema] = {}
        waiting: list[Schema | None] = [found.input, found.output]
        while waiting:
            for reference in _references(waiting.pop()):
                if reference not in needed and reference in self.description.schemas:
                    needed[reference] = self.description.schemas[reference]
                    waiting.append(needed[reference])
        return Server(Description(procedures=[found], schemas=dict(sorted(needed.items()))))


def _name_of(reference: object) -> str:
    return str(reference).rpartition("/")[2]


def _references(schema: object) -> Iterator[str]:
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            known = cast("Schema", part)
            if isinstance(known.get("$ref"), str):
                yield _name_of(known["$ref"])
            waiting += known.values()
        elif isinstance(part, list):
            waiting += cast("list[object]", part)


def notation(schema: object, depth: int = _MAX_DEPTH) -> str:
    """A schema in short: `integer`, `[string]`, `{string: Point}`, `date-time?`, `"a" | "b"`; `any` for what says nothing.

    Args:
      schema: any JSON Schema; what is not understood is `any`.
      depth: of what is inside it.
    """
    if not isinstance(schema, dict) or not schema or not depth:
        return "any"
    known = cast("Schema", schema)
    if "$ref" in known:
        return _name_of(known["$ref"])
    if isinstance(options := known.get("anyOf"), list):
        texts = [notation(option, depth - 1) for option in cast("list[object]", options)]
        others = [text for text in dict.fromkeys(texts) if text != "null"]
        return " | ".join(others) + ("?" if "null" in texts else "")
    if "const" in known or isinstance(known.get("enum"), list):
        values = [known["const"]] if "const" in known else known["enum"]
        return " | ".join(msgspec.json.encode(value).decode() for value in values)
    match known.get("type"):
        case "array" if isinstance(parts := known.get("prefixItems"), list):
            return f"[{', '.join(notation(part, depth - 1) for part in cast('list[object]', parts))}]"
        case "array":
            return f"[{notation(known.get('items'), depth - 1)}]"
        case "object":
            return f"{{string: {notation(known.get('additionalProperties'), depth - 1)}}}"
        case "string" if known.get("contentEncoding") == "base64":
            return "bytes"
        case "string":
            return str(known.get("format", "string"))
        case str() as other:
            return other
        case _:
            return "any"
