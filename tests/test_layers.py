"""The floor plan of docs/design.md: who may import whom.

Read from the source, so that imports inside functions and under TYPE_CHECKING count like any other: a direction that
is wrong for running code is wrong for understanding it, too.
"""

from __future__ import annotations

import ast
import fnmatch
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = "trio_streams"

SYSTEMS: Final = ("procedures", "webtransport", "durable", "peer", "arrow")

LEVELS: Final[tuple[tuple[str, ...], ...]] = (
    ("codes", "config", "core"),
    ("wire", "errors", "nursery"),
    ("codecs", "streams", "carrier", "connection", "handling"),
    ("driving", "driver", "resuming"),
    ("transports",),
    ("service",),
    (*SYSTEMS, "testing"),
    ("browser", "dashboard"),
    ("urls",),
    ("__init__", "__main__", "cli", "notebook", "demo"),
)
"""From the ground up. A part imports its own level and those before it; `_allowed` adds the exceptions."""

LEVEL: Final = {part: level for level, parts in enumerate(LEVELS) for part in parts}

PURE: Final = (
    "core/*",
    "wire/*",
    "durable/protocol/*",
    "webtransport/protocol/*",
    "durable/headers.py",
    "durable/types.py",
    "durable/errors.py",
    "durable/store/base.py",
    *(f"*/{name}.py" for name in ("machine", "reader", "producer", "token", "schema", "collector")),
)
"""Files that decide and never wait: no trio, and nothing that imports it."""

HOMES: Final = {
    "websockets": ("transports/messages*.py", "transports/messages/*"),
    "trio_websocket": (
        "transports/messages*.py",
        "transports/messages/*",
        "urls/existing.py",
    ),  # a parameter's type there
    "hypercorn": ("transports/asgi*.py", "transports/asgi/*"),
    "aioquic": ("webtransport/quic*.py",),
    "pylsqpack": ("webtransport/protocol/qpack.py",),
    "cryptography": ("webtransport/certificates.py",),
    "pyarrow": ("arrow/*",),
    "sqlite3": ("durable/store/sqlite/*",),
    "prometheus_client": ("procedures/interceptors/metrics.py",),
    "opentelemetry": ("procedures/interceptors/tracing.py",),
    "watchfiles": ("cli/reload.py",),
    "psutil": ("cli*", "demo*", "dashboard*"),
    "IPython": ("notebook*",),
    "ipykernel": ("notebook*",),
    "matplotlib": ("notebook*",),
    "pytest": ("testing/*",),
    "pytest_trio": ("testing/*",),
}
"""Foreign packages that only some files may know."""


@attrs.frozen
class Module:
    """One file of the package: its path below the package, its dotted name and its part of the floor plan."""

    path: str
    name: str
    part: str

    @classmethod
    def at(cls, path: str) -> Module:
        parts = path.removesuffix(".py").split("/")
        names = parts[:-1] if parts[-1] == "__init__" else parts
        return cls(path, ".".join([PACKAGE, *names]), parts[0])

    def matches(self, patterns: tuple[str, ...]) -> bool:
        return any(fnmatch.fnmatch(self.path, pattern) for pattern in patterns)


MODULES: Final = [
    Module.at(path.relative_to(ROOT / PACKAGE).as_posix()) for path in sorted((ROOT / PACKAGE).rglob("*.py"))
]
NAMES: Final = frozenset(module.name for module in MODULES)


def _imports(source: str, names: frozenset[str] = NAMES) -> Iterator[str]:
    """Every module that a source names, wherever in it; `from package import name` may name a module or its content."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            origin = str(node.module)
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in names else origin


def _part(name: str) -> str | None:
    """The part of the floor plan that a dotted name is in, None for a foreign one."""
    first, _, rest = name.partition(".")
    return None if first != PACKAGE else rest.partition(".")[0] or "__init__"


def _faults(module: Module, source: str) -> list[str]:
    """What `source` would break, were it the content of `module`."""
    assert module.part in LEVEL, f"{module.part} has no place in the floor plan"
    faults = []
    for name in _imports(source):
        part = _part(name)
        if part is None:
            faults += _foreign_faults(module, name.partition(".")[0])
        elif part not in LEVEL:
            faults.append(f"{name} has no place in the floor plan")
        elif not _allowed(module.part, part):
            faults.append(f"{module.part} imports {name}")
    return faults


def _allowed(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if imported == "testing" or (importer == "testing" and imported in SYSTEMS):
        return False
    if importer in SYSTEMS and imported in SYSTEMS:
        return False
    return LEVEL[imported] <= LEVEL[importer]


def _foreign_faults(module: Module, top: str) -> list[str]:
    faults = []
    if top in HOMES and not module.matches(HOMES[top]):
        faults.append(f"{module.path} imports {top}, whose home is {HOMES[top]}")
    if module.matches(PURE) and top in {"trio", "outcome", "socket", "asyncio", "time", "threading", "select"}:
        faults.append(f"{module.path} is pure, but imports {top}")
    if module.part in {"core", "codes", "config"} and top not in {*sys.stdlib_module_names, "attr", "attrs"}:
        faults.append(f"{module.path} imports {top}; it may use the standard library and attrs")
    if module.part == "wire" and top not in {*sys.stdlib_module_names, "attr", "attrs", "msgspec"}:
        faults.append(f"{module.path} imports {top}; it may use the standard library, attrs and msgspec")
    return faults


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.path)
def test_imports_run_one_way(module: Module) -> None:
    """A file imports only what its place in the floor plan allows."""
    assert _faults(module, (ROOT / PACKAGE / module.path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source", "fault"),
    [
        ("core/states.py", "import trio", "pure"),
        ("core/states.py", "import msgspec", "standard library"),
        ("core/states.py", "def f():\n    import trio_streams.wire.binary", "core imports"),
        ("wire/binary.py", "from trio_streams import connection", "wire imports"),
        ("wire/binary.py", "if TYPE_CHECKING:\n    from trio.abc import Stream", "pure"),
        ("streams/abc.py", "import trio_streams", "streams imports"),
        ("transports/memory.py", "from trio_streams.procedures.router import Router", "transports imports"),
        ("transports/memory.py", "from websockets import frames", "home"),
        ("transports/bytes.py", "import hypercorn.trio", "home"),
        ("procedures/router.py", "from trio_streams.peer import peer", "procedures imports"),
        ("peer/machine.py", "import trio", "pure"),
        ("testing/pair.py", "from trio_streams.durable import store", "testing imports"),
        ("service/context.py", "from trio_streams.testing import pair", "service imports"),
        ("webtransport/session.py", "from aioquic.quic import connection", "home"),
        ("urls.py", "import trio_streams.unheard_of", "no place"),
    ],
)
def test_a_wrong_import_is_found(path: str, source: str, fault: str) -> None:
    """The check sees plain imports, `from` imports, those inside functions and those for type checkers only."""
    faults = _faults(Module.at(path), source)
    assert len(faults) >= 1
    assert fault in faults[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/flow.py", "import enum, attrs\nfrom trio_streams.codes import Code"),
        ("wire/sse.py", "import msgspec\nfrom trio_streams.core import records"),
        ("transports/messages.py", "import websockets, trio_websocket"),
        ("procedures/server.py", "from trio_streams.service import context\nimport trio"),
        ("cli.py", "import trio_streams\nimport psutil"),
        ("testing/pair.py", "import trio_streams.transports.memory"),
    ],
)
def test_a_right_import_passes(path: str, source: str) -> None:
    """Imports towards the ground, and foreign packages in their homes, are nobody's fault."""
    assert _faults(Module.at(path), source) == []


BLOCK_TRIO: Final = """
import importlib, pathlib, sys, types

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("trio", "outcome"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
root = pathlib.Path(sys.argv[1])
for init in [root / "__init__.py", *root.rglob("*/__init__.py")]:
    parts = init.parent.relative_to(root.parent).parts
    if parts[1:2] not in (("core",), ("wire",)):  # any other package's __init__ is glue, and may import trio
        package = sys.modules[".".join(parts)] = types.ModuleType(".".join(parts))
        package.__path__ = [str(init.parent)]
for name in sys.argv[2:]:
    importlib.import_module(name)
assert "trio" not in sys.modules
"""


def _import_without_trio(*names: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", BLOCK_TRIO, str(ROOT / PACKAGE), *names]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_pure_modules_import_without_trio() -> None:
    """`core`, `wire` and every machine load where trio cannot be imported."""
    names = [module.name for module in MODULES if module.matches(PURE)]
    result = _import_without_trio(*names)
    assert result.returncode == 0, result.stderr


def test_the_block_on_trio_works() -> None:
    """The check above would notice: a module that needs trio fails to load under it."""
    result = _import_without_trio(f"{PACKAGE}.errors")
    assert result.returncode != 0
    assert "trio is blocked" in result.stderr
