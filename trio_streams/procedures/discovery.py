"""Procedures from files: each its module, and the path its name.

::

    streams/
      _middleware.py              interceptors for everything here and below
      metrics/live.stream.py      the stream `metrics.live`
      users/_auth.py              who may use what is here and below
      users/[id]/feed.stream.py   the stream `users.[id].feed`, asked for as `users.42.feed`
      users/rename.call.py        the call `users.rename`
      users/seen.event.py         the event `users.seen`

A module has a function `handler`, and may have `meta`, `input_schema` and `output_schema`. `_middleware.py` has a list
`interceptors`; `_auth.py` an async function `authenticate(context)`, which returns the principal or raises.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final, cast

import attrs

from trio_streams.codes import Code
from trio_streams.errors import RpcError
from trio_streams.procedures.procedure import Example, Kind, declare
from trio_streams.procedures.router import Router, kind_of
from trio_streams.service.context import Context
from trio_streams.service.interceptor import Interceptor, Invocation, Proceed

__all__ = ["DiscoveryError", "FileModule", "Meta", "authenticating", "load_directory"]

_KINDS: Final = {".stream": None, ".call": Kind.CALL, ".event": Kind.EVENT}
_MIDDLEWARE: Final = "_middleware.py"
_AUTH: Final = "_auth.py"


class DiscoveryError(Exception):
    """A file can't be served; one line that names it."""


@attrs.frozen(kw_only=True)
class Meta:
    """What a module says of its procedure, as `meta = Meta(…)` or a mapping with the same keys.

    Attributes:
      description: for documents; empty takes the first line of the module's docstring, or of the handler's.
      direction: of a stream: `server`, `client`, or `bidirectional` (`bidi` for short).
      content_type: of its items, where the application's default is not meant.
      metadata: for documents, interceptors and applications.
      examples: for documents.
    """

    description: str = ""
    direction: str = "server"
    content_type: str | None = None
    metadata: Mapping[str, object] = attrs.field(factory=dict)
    examples: Sequence[Example] = ()


@attrs.frozen(kw_only=True)
class FileModule:
    """What was found in a module.

    Attributes:
      path: of its file.
      name: of the procedure, from the path.
      handler: its function of that name.
      meta: what it says of itself.
      input_schema: the input's type; None takes the handler's annotation.
      output_schema: the result's; likewise.
    """

    path: Path
    name: str
    handler: Callable[..., Any]
    meta: Meta = attrs.field(factory=Meta)
    input_schema: object = None
    output_schema: object = None


def load_directory(path: str | Path, *, router: Router | None = None) -> Router:
    """Enter a directory's procedures into a router.

    Files are taken in the order of their names. Modules are imported anew at each call, so that a changed directory
    can be loaded again.

    Args:
      path: the directory.
      router: where to enter them; None makes one.

    Returns:
      The router.

    Raises:
      DiscoveryError: there is no such directory, a file can't be imported or declares nothing that can be served, or two
        have one name.
    """
    root = Path(path)
    if not root.is_dir():
        raise DiscoveryError(f"can't load {path}: there is no such directory")
    router = Router() if router is None else router
    _load_below(root, root, (), router)
    return router


def authenticating(authenticate: Callable[[Context], Awaitable[object]]) -> Interceptor:
    """The interceptor of an `_auth.py`: finds out who asks before anything else is looked at.

    Args:
      authenticate: returns the principal; raises, or returns None, for those who may not.
    """

    async def authenticated(invocation: Invocation, proceed: Proceed) -> object:
        principal = await authenticate(invocation.context)
        if principal is None:
            raise RpcError(Code.UNAUTHENTICATED, f"{invocation.name!r} is not for everybody")
        invocation.context = attrs.evolve(invocation.context, principal=principal)
        return await proceed()

    return authenticated


def _load_below(root: Path, folder: Path, around: tuple[Interceptor, ...], router: Router) -> None:
    around = (*around, *_interceptors(root, folder))
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith((".", "_")):
            _load_below(root, path, around, router)
        elif path.suffix == ".py" and Path(path.stem).suffix in _KINDS and not path.name.startswith((".", "_")):
            _enter(_read(root, path), around, router)


def _interceptors(root: Path, folder: Path) -> list[Interceptor]:
    found: list[Interceptor] = []
    if (folder / _AUTH).is_file():
        authenticate = getattr(_import(root, folder / _AUTH), "authenticate", None)
        if not inspect.iscoroutinefunction(authenticate):
            raise DiscoveryError(f"{folder / _AUTH} has no async function authenticate(context)")
        found.append(authenticating(authenticate))
    if (folder / _MIDDLEWARE).is_file():
        interceptors = getattr(_import(root, folder / _MIDDLEWARE), "interceptors", None)
        if not isinstance(interceptors, Sequence) or not all(map(callable, cast("Sequence[object]", interceptors))):
            raise DiscoveryError(f"{folder / _MIDDLEWARE} has no list of interceptors named interceptors")
        found += cast("Sequence[Interceptor]", interceptors)
    return found


class _Anew(SourceFileLoader):
    """Compiles a file each time: caches tell by the second whether one has changed."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def _import(root: Path, path: Path) -> ModuleType:
    # Not on sys.path, and under a name that no import statement can say: two directories may have the same files.
    name = "trio_streams_file:" + path.relative_to(root).as_posix()
    loader = _Anew(name, str(path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations and dataclasses look there
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as exc:  # a module's import may end in anything
        del sys.modules[name]
        raise DiscoveryError(f"can't load {path}: {type(exc).__name__}: {exc}") from exc
    return module


def _read(root: Path, path: Path) -> FileModule:
    module = _import(root, path)
    handler = getattr(module, "handler", None)
    if not callable(handler):
        raise DiscoveryError(f"{path} has no function handler")
    relative = path.relative_to(root)
    name = ".".join([*relative.parent.parts, Path(relative.stem).stem])
    return FileModule(
        path=path,
        name=name,
        handler=handler,
        meta=_meta(path, module),
        input_schema=getattr(module, "input_schema", None),
        output_schema=getattr(module, "output_schema", None),
    )


def _meta(path: Path, module: ModuleType) -> Meta:
    value: object = getattr(module, "meta", None)
    if isinstance(value, Mapping):
        try:
            value = Meta(**cast("dict[str, Any]", dict(cast("Mapping[str, object]", value))))
        except TypeError as exc:
            known = ", ".join(field.name for field in attrs.fields(Meta))
            raise DiscoveryError(f"{path}: meta has {known}: {str(exc).partition(') ')[2] or exc}") from exc
    if value is None:
        value = Meta()
    if not isinstance(value, Meta):
        raise DiscoveryError(f"{path}: meta is a Meta or a mapping, not a {type(value).__name__}")
    if not value.description and module.__doc__:
        value = attrs.evolve(value, description=inspect.cleandoc(module.__doc__).split("\n", 1)[0])
    return value


def _enter(found: FileModule, around: tuple[Interceptor, ...], router: Router) -> None:
    meta = found.meta
    try:
        kind = _KINDS[Path(found.path.stem).suffix] or kind_of(meta.direction)
        router.add(
            declare(
                found.name,
                kind,
                found.handler,
                input_type=found.input_schema,
                output_type=found.output_schema,
                description=meta.description,
                metadata=meta.metadata,
                examples=meta.examples,
                content_type=meta.content_type,
                interceptors=around,
            )
        )
    except (TypeError, ValueError) as exc:
        raise DiscoveryError(f"{found.path}: {exc}") from exc
