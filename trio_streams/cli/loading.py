"""Finds the application that `serve` is asked for: `module:attribute`, `path/to/app.py[:attribute]` or a directory."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Final

from trio_streams.cli.process import UsageError
from trio_streams.procedures.discovery import DiscoveryError, load_directory
from trio_streams.procedures.router import Router

__all__ = ["load_app", "watched_folder"]

_DEFAULTS: Final = ("app", "router")


def load_app(name: str) -> Router:
    """Import an application.

    Modules are looked for in the working directory first, and what a file imports beside the file.

    Args:
      name: `module:attribute`, `path/to/app.py` or `path/to/app.py:attribute`; the attribute may have dots, and is
        `app` or else `router` if it is left out. Or a directory of procedures, each in its file; a directory that is a
        package counts as one only with a separator, as in `streams/`.

    Raises:
      UsageError: there is no such thing, it can't be imported, or it is no `Router`.
    """
    if is_directory(name):
        return _load_directory(name)
    where, attribute = _split(name)
    try:
        module = _load_file(Path(where)) if where.endswith(".py") else _load_module(where)
    except UsageError:
        raise
    except (Exception, SystemExit) as exc:  # a program's import may end in anything
        raise UsageError(f"can't load {where}: {_describe(exc)}") from exc
    return _find(module, where, attribute)


def is_directory(name: str) -> bool:
    """Whether an application's name is that of a directory of procedures."""
    path = Path(name)
    has_separator = "/" in name or os.sep in name
    return path.is_dir() and (has_separator or not (path / "__init__.py").exists())


def watched_folder(name: str) -> Path:
    """Where the files of an application are: its directory, its file's, or the working directory for a module.

    Raises:
      UsageError: there is no such directory.
    """
    where, _ = _split(name)
    folder = Path(name) if is_directory(name) else Path(where).parent if where.endswith(".py") else Path()
    if not folder.is_dir():
        raise UsageError(f"can't watch {folder}: there is no such directory")
    return folder


def _load_directory(name: str) -> Router:
    sys.path.insert(0, str(Path.cwd()))
    try:
        router = load_directory(name)
    except DiscoveryError as exc:
        raise UsageError(str(exc)) from exc
    if not len(router):
        raise UsageError(f"can't serve {name}: there are no procedures in it, such as hello.call.py or logs.stream.py")
    return router


def _split(name: str) -> tuple[str, str]:
    """A drive letter's colon is no separator."""
    if name.endswith(".py"):
        return name, ""
    where, colon, attribute = name.rpartition(":")
    return (where, attribute) if colon else (name, "")


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"can't load {path}: there is no such file")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"can't load {path}: it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"can't load {name!r}: an application is module:attribute or path/to/app.py[:attribute]")
    return importlib.import_module(name)


def _describe(exc: BaseException) -> str:
    """An exception in one line, with the line of the program that raised it."""
    if isinstance(exc, SyntaxError):
        return f"SyntaxError: {exc.msg} (line {exc.lineno})"
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if _is_foreign(frame.filename)]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(exc).__name__}: {exc}{where}"


def _is_foreign(filename: str) -> bool:
    """Whether a frame is neither ours nor the import system's."""
    return filename != __file__ and "importlib" not in filename


def _find(module: ModuleType, where: str, attribute: str) -> Router:
    for name in [attribute] if attribute else _DEFAULTS:
        value: object = module
        try:
            for part in name.split("."):
                value = getattr(value, part)
        except AttributeError:
            continue
        if isinstance(value, Router):
            return value
        raise UsageError(f"can't serve {where}:{name}: it is a {type(value).__name__}, not a trio_streams.Router")
    wanted = f"no {attribute!r}" if attribute else "neither 'app' nor 'router'"
    raise UsageError(f"can't serve {where}: there is {wanted} in it")
