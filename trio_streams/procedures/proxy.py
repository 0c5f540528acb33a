"""A client whose methods are a server's procedures, as the server itself describes them.

::

    api = await open_proxy(client)
    total = await api.math.add([1, 2])  # a call; an event likewise
    async with api.logs.tail(level="error") as lines:
        ...  # a server stream
    size = await api.files.upload(chunks)  # a client stream
    async with api.chat() as stream:
        ...  # a bidirectional one
    feed = api["users.42.feed"]  # a name with parameters, filled in

What it gives is JSON's own types; `stubs` writes a module with classes that a type checker understands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trio_streams.core.records import NO_METADATA
from trio_streams.procedures.client import Client
from trio_streams.procedures.describe import DESCRIBE, Description

__all__ = ["Proxy", "open_proxy"]


async def open_proxy(client: Client, *, metadata: Mapping[str, str] = NO_METADATA) -> Proxy:
    """Ask a server what it offers, and make a client of it.

    Args:
      client: from `connect`; whoever made it closes it.
      metadata: for the question, and for every call that brings none.

    Raises:
      RpcError: the server does not tell.
    """
    description = await client.call(DESCRIBE, returns=Description, metadata=metadata)
    return Proxy(client, description, metadata)


class Proxy:
    """Procedures as attributes, by the parts of their names; see the module.

    Args:
      client: does the work.
      description: what there is.
      metadata: for every call that brings none.
      prefix: of the names that are looked up here.
    """

    def __init__(
        self,
        client: Client,
        description: Description,
        metadata: Mapping[str, str] = NO_METADATA,
        prefix: str = "",
    ) -> None:
        self._client = client
        self._description = description
        self._metadata = metadata
        self._prefix = prefix

    def __getattr__(self, name: str) -> Proxy:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[f"{self._prefix}.{name}" if self._prefix else name]

    def __getitem__(self, name: str) -> Proxy:
        """A procedure, or what is below a part of a name.

        Raises:
          AttributeError: the server has neither.
        """
        below = f"{name}."
        if self._description.find(name) is None and not any(known.startswith(below) for known in self._names()):
            raise AttributeError(f"the server has no procedure {name!r}, and none below it")
        return Proxy(self._client, self._description, self._metadata, name)

    def _names(self) -> list[str]:
        return [one.name for one in self._description.procedures]

    def __dir__(self) -> list[str]:
        start = f"{self._prefix}." if self._prefix else ""
        return sorted({known[len(start) :].partition(".")[0] for known in self._names() if known.startswith(start)})

    def __repr__(self) -> str:
        described = self._description.find(self._prefix)
        if described is None:
            return f"<Proxy {self._prefix or '/'}: {', '.join(dir(self))}>"
        return f"<Proxy {self._prefix}: {described.kind}, {described.description}>"

    def __call__(self, input: object = None, /, *, metadata: Mapping[str, str] | None = None, **fields: object) -> Any:  # noqa: A002, ANN401 - by kind
        """Use the procedure: as its kind has it, see the module.

        Args:
          input: the input; of a client stream, its items.
          metadata: string pairs for the handler.
          fields: instead of an input that is an object.

        Raises:
          TypeError: it is no procedure, or input and fields are both given.
        """
        described = self._description.find(self._prefix)
        if described is None:
            raise TypeError(f"{self._prefix or 'a proxy'} is no procedure; below it there are {', '.join(dir(self))}")
        if fields and input is not None:
            raise TypeError(f"{self._prefix!r} takes an input or its fields, not both")
        value = fields or input
        metadata = self._metadata if metadata is None else metadata
        client, name = self._client, self._prefix
        match described.kind:
            case "call":
                return client.call(name, value, metadata=metadata)
            case "event":
                return client.event(name, value, metadata=metadata)
            case "server":
                return client.stream(name, value, metadata=metadata)
            case "client":
                return client.upload(name, value if value is not None else (), metadata=metadata)  # type: ignore[arg-type]
            case _:
                return client.bidi(name, metadata=metadata)
