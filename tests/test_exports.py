"""What the package offers: each public name exists, is documented, and is said to be public."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from typing import Final

import pytest

import trio_streams

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "trio_streams"

PROMISED: Final = (
    "Code",
    "CodecError",
    "Connection",
    "ConnectionConfig",
    "ConnectionLost",
    "Context",
    "ReceiveStream",
    "Router",
    "RpcError",
    "SendStream",
    "Stream",
    "StreamReset",
    "StreamStopped",
    "connect",
    "open_stream",
    "serve",
)
"""Names that programs are written with; taking one away breaks somebody."""

MODULES: Final = sorted(
    path.relative_to(ROOT).as_posix().removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py"
)
EXTRAS: Final = {
    "IPython", "aioquic", "cryptography", "ipykernel", "matplotlib", "opentelemetry", "prometheus_client", "psutil", "pytest",
    "pytest_trio", "watchfiles",
}  # fmt: skip
"""What may be missing where the extras were not installed."""


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_name_is_exported(name: str) -> None:
    """The names that programs are written with are in the package's `__all__`."""
    assert name in trio_streams.__all__


@pytest.mark.parametrize("name", sorted(trio_streams.__all__))
def test_an_exported_name_exists_and_is_documented(name: str) -> None:
    """What `__all__` lists can be had, and says what it is for."""
    value = getattr(trio_streams, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value)


def test_the_reference_lists_every_exported_name() -> None:
    """The reference pages mention each public name."""
    pages = [*(ROOT / "docs" / "reference").glob("*.md"), *(ROOT / "docs").glob("reference*.md")]
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    assert [name for name in trio_streams.__all__ if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", MODULES)
def test_a_modules_public_names_exist(name: str) -> None:
    """A module with public names has an `__all__`, without a duplicate, and each name in it exists.

    What it defines for its neighbours in the package may be left out.
    """
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRAS:
            raise
        pytest.skip(f"needs {error.name}")
    listed = list(getattr(module, "__all__", ()))
    assert len(listed) == len(set(listed))
    assert [missing for missing in listed if not hasattr(module, missing)] == []
    assert hasattr(module, "__all__") or not _public_definitions(module.__file__ or "")


def _public_definitions(path: str) -> set[str]:
    body = ast.parse(Path(path).read_text(encoding="utf-8")).body
    definitions = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    return {node.name for node in definitions if not node.name.startswith("_")}


def test_the_package_says_that_it_is_typed() -> None:
    """`py.typed` is there for type checkers (PEP 561)."""
    assert (PACKAGE / "py.typed").exists()
