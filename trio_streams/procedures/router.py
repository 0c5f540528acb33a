"""The table of procedures of an application: `@router.call`, `@router.event`, `@router.stream`, `router.mount`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs

from trio_streams.core.records import NO_METADATA
from trio_streams.procedures.describe import DESCRIBE, describing
from trio_streams.procedures.documents.content import ContentTypes, DocumentInfo
from trio_streams.procedures.procedure import Example, Kind, Procedure, caller_scope, declare, is_parameter
from trio_streams.service.interceptor import Interceptor

__all__ = ["Declaration", "Router", "kind_of"]

F = TypeVar("F", bound=Callable[..., Any])

_DIRECTIONS: Final = {
    "server": Kind.SERVER,
    "client": Kind.CLIENT,
    "bidirectional": Kind.BIDIRECTIONAL,
    "bidi": Kind.BIDIRECTIONAL,
}


class Declaration:
    """A procedure being declared: a decorator, and a builder for those who prefer one.

    `router.stream("logs.tail").input(Query).output(Line).description("…").direction("server").handler(tail)`
    """

    def __init__(self, router: Router, name: str, kind: Kind) -> None:
        self._router = router
        self._name = name
        self._kind = kind
        self._input: object = None
        self._output: object = None
        self._description = ""
        self._metadata: Mapping[str, object] = {}
        self._examples: list[Example] = []
        self._content_type: str | None = None
        self._interceptors: list[Interceptor] = []
        self._id_of: Callable[[Any], object] | None = None
        self._durable: str | None = None

    def input(self, type_: object) -> Declaration:
        """Declare the input's type, or that of each item the caller sends, instead of the handler's annotation."""
        self._input = type_
        return self

    def output(self, type_: object) -> Declaration:
        """Declare the result's type, or that of each item the handler sends, instead of the handler's annotation."""
        self._output = type_
        return self

    def description(self, text: str) -> Declaration:
        """Describe the procedure, instead of the first line of the handler's docstring."""
        self._description = text
        return self

    def metadata(self, values: Mapping[str, object]) -> Declaration:
        """Attach values for documents, interceptors and applications."""
        self._metadata = values
        return self

    def example(self, input: object = None, output: object = None, description: str = "") -> Declaration:  # noqa: A002
        """Show how the procedure may be used, for documents; once for each example."""
        self._examples.append(Example(input, output, description))
        return self

    def content_type(self, media_type: str) -> Declaration:
        """Say what the items are where the application's default is not meant, such as `application/x-ndjson`."""
        self._content_type = media_type
        return self

    def use(self, *interceptors: Interceptor) -> Declaration:
        """Put interceptors around the handler: the first one outermost, and all inside those of the routers."""
        self._interceptors += interceptors
        return self

    def id_of(self, fn: Callable[[Any], object] | None) -> Declaration:
        """Say what identifies an item of a server stream, so that callers over HTTP can resume after it."""
        self._id_of = fn
        return self

    def durable(self, path: str | None) -> Declaration:
        """Keep the items of a server stream in a log, so that a run outlives its callers; see `Router.stream`."""
        self._durable = path
        return self

    def direction(self, direction: str) -> Declaration:
        """Set who sends items: `server`, `client`, or `bidirectional` (`bidi` for short)."""
        self._kind = kind_of(direction)
        return self

    def handler(self, fn: F) -> F:
        """Set the handler and enter the procedure into the router.

        Raises:
          TypeError: the handler does not fit; the message says why.
          ValueError: the name is taken or malformed.
        """
        return self._enter(fn, caller_scope(1))

    def __call__(self, fn: F) -> F:  # noqa: D102 - as `handler`
        return self._enter(fn, caller_scope(1))

    def _enter(self, fn: F, scope: Mapping[str, object]) -> F:
        self._router.add(
            declare(
                self._name,
                self._kind,
                fn,
                input_type=self._input,
                output_type=self._output,
                description=self._description,
                metadata=self._metadata,
                examples=self._examples,
                content_type=self._content_type,
                interceptors=self._interceptors,
                id_of=self._id_of,
                durable=self._durable,
                scope=scope,
            )
        )
        return fn


def kind_of(direction: str) -> Kind:
    """The kind of stream that a direction names.

    Raises:
      ValueError: it names none.
    """
    try:
        return _DIRECTIONS[direction]
    except KeyError:
        raise ValueError(f"direction is one of {', '.join(_DIRECTIONS)}, not {direction[:64]!r}") from None


def _match(segments: Sequence[str], given: Sequence[str]) -> dict[str, str] | None:
    params: dict[str, str] = {}
    for segment, value in zip(segments, given, strict=True):
        if is_parameter(segment) and value:
            params[segment[1:-1]] = value
        elif segment != value:
            return None
    return params


class Router:
    """The procedures of an application, by name."""

    def __init__(self) -> None:
        self._procedures: dict[str, Procedure] = {}
        self._patterns: dict[int, list[tuple[list[str], Procedure]]] = {}  # by their number of segments
        self._interceptors: tuple[Interceptor, ...] = ()
        self._describing = describing(self)
        self.documents: DocumentInfo | None = None

    def enable_usd(
        self,
        *,
        title: str = "API",
        version: str = "1.0.0",
        description: str = "",
        streams: ContentTypes | None = None,
    ) -> None:
        """Serve documents of the procedures over HTTP: `/docs/usd.json`, `usd.yaml`, `openapi.json`, `asyncapi.json`.

        Args:
          title: of the application.
          version: of its interface.
          description: in words; CommonMark.
          streams: content types of streams.
        """
        self.documents = DocumentInfo(
            title=title, version=version, description=description, streams=streams or ContentTypes()
        )

    def use(self, *interceptors: Interceptor) -> None:
        """Put interceptors around every procedure of this router, those included that are declared later.

        From the outermost on: those of the router that is served, those given to `mount`, those of the mounted router,
        those of the declaration.
        """
        self._interceptors += interceptors

    @property
    def interceptors(self) -> tuple[Interceptor, ...]:
        """What stands around every procedure, the outermost first."""
        return self._interceptors

    def call(self, name: str, *, input: object = None, output: object = None) -> Declaration:  # noqa: A002
        """Declare a plain call: one input, one result.

        Args:
          name: what callers ask for.
          input, output: types, instead of the handler's annotations.

        Returns:
          A decorator for an async function.
        """
        return self._declare(name, Kind.CALL, input, output)

    def event(self, name: str, *, input: object = None) -> Declaration:  # noqa: A002
        """Declare an event: one input, and a caller who waits for nothing.

        The handler runs as long as its server; what it raises is logged there.

        Args:
          name: what callers ask for.
          input: its type, instead of the handler's annotation.

        Returns:
          A decorator for an async function.
        """
        return self._declare(name, Kind.EVENT, input, None)

    def stream(
        self,
        name: str,
        *,
        direction: str = "server",
        input: object = None,  # noqa: A002
        output: object = None,
        id_of: Callable[[Any], object] | None = None,
        durable: str | None = None,
    ) -> Declaration:
        """Declare a stream.

        Args:
          name: what callers ask for.
          direction: who sends items: `server` (the default), `client`, or `bidirectional` (`bidi` for short).
          input, output: types, instead of the handler's annotations.
          id_of: for server streams: what identifies an item, so that callers over HTTP can resume after it.
          durable: for server streams: the path of the log that keeps a run's items, such as `chats/{conversation_id}`:
            letters, digits, `-_.~/`, and in braces fields of the input or parameters of the name. The handler runs on
            when its callers are gone, and they come back to where they were. Callers with the same path share a run;
            `{run}` stands for a fresh id, so that each call has a run of its own.

        Returns:
          A decorator: for an async generator function, or for client streams an async function.

        Raises:
          ValueError: no such direction.
        """
        return self._declare(name, kind_of(direction), input, output).id_of(id_of).durable(durable)

    def _declare(self, name: str, kind: Kind, input_type: object, output_type: object) -> Declaration:
        return Declaration(self, name, kind).input(input_type).output(output_type)

    def add(self, procedure: Procedure) -> None:
        """Enter a procedure.

        Raises:
          ValueError: its name is taken.
        """
        if procedure.name in self._procedures:
            raise ValueError(f"there is a procedure {procedure.name!r} already")
        self._procedures[procedure.name] = procedure
        segments = procedure.name.split(".")
        if any(is_parameter(segment) for segment in segments):
            self._patterns.setdefault(len(segments), []).append((segments, procedure))

    def mount(self, prefix: str, router: Router, *, use: Sequence[Interceptor] = ()) -> None:
        """Enter the procedures and interceptors that another router has now, as `prefix.name`.

        Args:
          prefix: before each name, with a dot between.
          router: the other one.
          use: interceptors to put around all of them.

        Raises:
          ValueError: a name is taken.
        """
        for procedure in router:
            interceptors = (*use, *router.interceptors, *procedure.interceptors)
            self.add(attrs.evolve(procedure, name=f"{prefix}.{procedure.name}", interceptors=interceptors))

    def get(self, name: str) -> Procedure | None:
        """The procedure that is declared by exactly this name, if there is one."""
        return self._procedures.get(name)

    def find(self, name: str) -> tuple[Procedure, Mapping[str, str]] | None:
        """What a caller's name stands for: a procedure, and what is in the place of its parameters.

        An exact name comes first, then patterns in the order of their declaration. `describe` is answered by every router:
        what it offers, unless it has a procedure of that name.
        """
        procedure = self._procedures.get(name)
        if procedure is not None and "[" not in name:
            return procedure, NO_METADATA
        if name == DESCRIBE:
            return self._describing, NO_METADATA
        if not self._patterns:
            return None
        given = name.split(".")
        for segments, candidate in self._patterns.get(len(given), ()):
            params = _match(segments, given)
            if params is not None:
                return candidate, params
        return None

    def __iter__(self) -> Iterator[Procedure]:
        return iter(self._procedures.values())

    def __len__(self) -> int:
        return len(self._procedures)
