"""`docs/seed-map.md` is complete in its form, and true where it says done.

The map is read once. A row marked done is held to the code: its name is imported, its parameters or field are compared
with what the row states, and its tests are looked up in their files. A planned row is held to its form, and is turned
green as soon as its name and its tests exist. The notation of the column "signature/default expected" is explained at
the head of the map.
"""

from __future__ import annotations

import ast
import collections
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

ROOT: Final = Path(__file__).resolve().parent.parent
MAP: Final = ROOT / "docs" / "seed-map.md"

BLOCKS: Final = {
    "raffel-streams.md": 20,
    "webtransport-streams.md": 0,
    "durable-streams-client.md": 30,
    "signal-rpc-streaming.md": 12,
    "arrow-rpc-streaming.md": 10,
}
"""The code blocks of each seed; the map states the same numbers."""

COLUMNS: Final = (
    "seed item",
    "kind",
    "here",
    "signature/default expected",
    "test",
    "status",
    "deviation and reason",
)
KINDS: Final = frozenset(
    {"default", "error", "example", "feature", "format", "function", "limitation", "method"}
    | {"option", "practice", "property", "protocol", "state", "type"}
)
BRINGERS: Final = frozenset(
    {"procedures", "peer RPC", "durable streams", "WebTransport", "Arrow RPC", "gRPC"},
)

HERE: Final = re.compile(r"(?P<module>trio_streams(?:\.[a-z_]+)*): (?P<attribute>\w+(?:\.\w+)*)")
NODE: Final = re.compile(r"(?P<file>tests/[\w/]+\.py)::(?P<test>test_\w+)")
BLOCK: Final = re.compile(r"block (\d+): `.+`")
EXPECTED: Final = re.compile(
    r"(?P<shape>async with|async|class|)\s?(?P<parameters>\(.*\))"
    r"|(?P<word>class|property|alias|attribute|field|behaviour: .+)"
    r"|(?P<valued>field|member|constant|parameter \w+) = (?P<value>.+)"
    r"|(?P<required>parameter \w+)"
)


@attrs.frozen
class Row:
    """One row of the map, without its backticks.

    Attributes:
      seed: the document that it belongs to.
      line: its line in the map.
      cells: its columns, by name.
    """

    seed: str
    line: int
    cells: dict[str, str]

    @property
    def is_done(self) -> bool:
        """Whether the row claims that the code and the tests are there."""
        return self.cells["status"] == "done"

    @property
    def here(self) -> tuple[str, str]:
        """The module's path and the attribute's."""
        found = HERE.fullmatch(self.cells["here"])
        assert found, f"line {self.line}: {self.cells['here']!r} is no module path: attribute"
        return found["module"], found["attribute"]

    @property
    def expected(self) -> re.Match[str]:
        """What the row expects, parsed."""
        found = EXPECTED.fullmatch(self.cells["signature/default expected"])
        assert found, f"line {self.line}: {self.cells['signature/default expected']!r} is not in the notation"
        return found

    @property
    def nodes(self) -> list[tuple[Path, str]]:
        """The tests that the row names: file and function."""
        found = [NODE.fullmatch(node.strip(" `")) for node in self.cells["test"].split(";")]
        assert all(found), f"line {self.line}: {self.cells['test']!r} has something that is no node id"
        return [(ROOT / node["file"], node["test"]) for node in found if node]


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", inner)]


def _read() -> Iterator[Row]:
    seed = ""
    for number, line in enumerate(MAP.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("## "):
            seed = line.removeprefix("## ")
        elif line.startswith("|") and not line.startswith("|---"):
            cells = _cells(line)
            assert len(cells) == len(COLUMNS), f"line {number} has {len(cells)} columns"
            named = dict(zip(COLUMNS, cells, strict=True))
            for column in ("here", "signature/default expected"):
                named[column] = named[column].strip("`")
            if tuple(cells) != COLUMNS:
                yield Row(seed, number, named)


ROWS: Final = list(_read())
DONE: Final = [row for row in ROWS if row.is_done]


def _row_id(row: Row) -> str:
    return f"line {row.line}: {row.cells['seed item']}"


# What a row is compared with


def resolve(module: str, attribute: str) -> tuple[object, str, object]:
    """The owner of an attribute, the attribute's name, and the attribute: UNKNOWN for one that only instances have."""
    owner: object = importlib.import_module(module)
    *path, name = attribute.split(".")
    for part in path:
        owner = getattr(owner, part)
    return owner, name, getattr(owner, name, UNKNOWN)


UNKNOWN: Final = object()


def _value(node: ast.expr, namespace: dict[str, object]) -> object:
    """The value of a default as the map writes it: a literal or a dotted name."""
    if isinstance(node, ast.Name):
        return namespace[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, namespace), node.attr)
    return ast.literal_eval(node)


def _value_of(text: str, namespace: dict[str, object]) -> object:
    return _value(ast.parse(text, mode="eval").body, namespace)


Parameters = list[tuple[str, str, object]]


def expected_parameters(text: str, namespace: dict[str, object]) -> Parameters:
    """Names, kinds and defaults of a parameter list in the map's notation; UNKNOWN stands for no default."""
    function = ast.parse(f"def f{text}: ...").body[0]
    assert isinstance(function, ast.FunctionDef)
    spec = function.args
    plain = [*spec.posonlyargs, *spec.args]
    defaults = [UNKNOWN] * (len(plain) - len(spec.defaults)) + [_value(node, namespace) for node in spec.defaults]
    parameters: Parameters = [(arg.arg, "positional", default) for arg, default in zip(plain, defaults, strict=True)]
    if spec.vararg:
        parameters.append((spec.vararg.arg, "variadic", UNKNOWN))
    for arg, node in zip(spec.kwonlyargs, spec.kw_defaults, strict=True):
        parameters.append((arg.arg, "keyword", UNKNOWN if node is None else _value(node, namespace)))
    return parameters


def actual_parameters(target: Callable[..., object]) -> Parameters:
    """Names, kinds and defaults of a function's or constructor's parameters."""
    kinds = {
        inspect.Parameter.POSITIONAL_ONLY: "positional",
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
        inspect.Parameter.VAR_POSITIONAL: "variadic",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
        inspect.Parameter.VAR_KEYWORD: "variadic",
    }
    return [
        (name, kinds[parameter.kind], UNKNOWN if parameter.default is parameter.empty else parameter.default)
        for name, parameter in inspect.signature(target).parameters.items()
    ]


def _shapes(target: Callable[..., object]) -> set[str]:
    """How a callable may be used: `class`, `async`, `async with`, or empty for a plain call."""
    if inspect.isclass(target):
        return {"class", "async with"} if hasattr(target, "__aenter__") else {"class"}
    if inspect.iscoroutinefunction(target):
        return {"async"}
    returns = str(getattr(target, "__annotations__", {}).get("return", ""))
    return {"async with"} if "AsyncContextManager" in returns or _makes_a_manager(target) else {""}


def _makes_a_manager(target: Callable[..., object]) -> bool:
    return hasattr(target, "__wrapped__") and inspect.isasyncgenfunction(inspect.unwrap(target))


def _field_default(owner: object, name: str) -> object:
    """A declared field's default, UNKNOWN for none; raises KeyError if the class declares no such field."""
    declared: tuple[attrs.Attribute[object], ...] = getattr(owner, "__attrs_attrs__", ())
    default = {field.name: field.default for field in declared}[name]
    if default is attrs.NOTHING:
        return UNKNOWN
    return default.factory() if hasattr(default, "factory") else default


def _assigns(owner: object, name: str) -> bool:
    """Whether a constructor of a class sets an attribute of this name."""
    bases = inspect.getmro(owner) if inspect.isclass(owner) else ()
    sources = (inspect.getsource(base) for base in bases if base.__module__.startswith("trio_streams"))
    return any(re.search(rf"\bself\.{name}\b[^=\n]*=", source) for source in sources)


def _has_word(word: str, owner: object, name: str, target: object) -> bool:
    match word:
        case "class":
            return inspect.isclass(target)
        case "property":
            return isinstance(inspect.getattr_static(owner, name, None), property)
        case "field":
            return _field_default(owner, name) is UNKNOWN
        case "attribute":
            return target is not UNKNOWN or _assigns(owner, name)
        case _:
            return target is not UNKNOWN


def _has_value(word: str, value: object, owner: object, name: str, target: object) -> bool:
    if word == "field":
        return _field_default(owner, name) == value
    if word == "member":
        return getattr(target, "value", UNKNOWN) == value
    if word == "constant":
        return target == value
    assert callable(target)
    return (word.removeprefix("parameter "), value) in [
        (found, default) for found, _, default in actual_parameters(target)
    ]


def mismatch(module: str, attribute: str, expected: re.Match[str]) -> str:
    """What is wrong with a name that a row calls done; empty if nothing is."""
    owner, name, target = resolve(module, attribute)
    namespace: dict[str, object] = {
        "trio": trio,
        "object": object,
        **vars(importlib.import_module("trio_streams.codes")),
    }
    namespace.update(getattr(inspect.getmodule(target), "__dict__", {}))
    if expected["parameters"]:
        if not callable(target):
            return f"{attribute} is not there, or nothing to call"
        if expected["shape"] not in _shapes(target):
            return f"{attribute} is used as {_shapes(target)}"
        wanted, found = expected_parameters(expected["parameters"], namespace), actual_parameters(target)
        return "" if found == wanted else f"{found} is not {wanted}"
    if expected["value"]:
        value = _value_of(expected["value"], namespace)
        fits = _has_value(expected["valued"], value, owner, name, target)
    elif expected["required"]:
        fits = _has_value(expected["required"], UNKNOWN, owner, name, target)
    else:
        fits = _has_word(expected["word"].partition(":")[0], owner, name, target)
    return "" if fits else f"{attribute} is not {expected.group()!r}"


@functools.cache
def _tests_in(file: Path) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    if not file.exists():
        return {}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {function.name: function for function in functions if function.name.startswith("test_")}


def fault_of_test(file: Path, name: str) -> str:
    """What is wrong with a test that a done row names; empty if nothing is."""
    test = _tests_in(file).get(name)
    if test is None:
        return f"{file.name}::{name} is not there"
    text = ast.unparse(test)
    if re.search(r"\b(?:skip|skipif|xfail|importorskip)\b", text):
        return f"{name} may be skipped"
    asserts = any(isinstance(node, ast.Assert) for node in ast.walk(test)) or "pytest.raises(" in text
    return "" if asserts else f"{name} asserts nothing"


# The form of the whole map


def test_the_map_has_every_seed_and_states_its_blocks() -> None:
    """The five seeds are there, each with the number of its code blocks."""
    text = MAP.read_text(encoding="utf-8")
    stated = re.findall(r"^## (\S+\.md)\n\nCode blocks: (\d+)\.", text, re.MULTILINE)
    assert {seed: int(count) for seed, count in stated} == BLOCKS


@pytest.mark.parametrize(("seed", "count"), BLOCKS.items())
def test_every_code_block_has_one_row(seed: str, count: int) -> None:
    """The examples of a seed are numbered from 1 to its number of blocks, once each, each with its first line."""
    rows = [row for row in ROWS if row.seed == seed and row.cells["kind"] == "example"]
    found = [BLOCK.fullmatch(row.cells["seed item"]) for row in rows]
    assert [int(block[1]) if block else None for block in found] == list(range(1, count + 1))


def test_every_row_has_every_column() -> None:
    """No cell is empty, every kind and status is a known one, and names, expectations and tests are in the notation."""
    faults = [f"line {row.line}: {column} is empty" for row in ROWS for column in COLUMNS if not row.cells[column]]
    faults += [f"line {row.line}: {row.cells['kind']}" for row in ROWS if row.cells["kind"] not in KINDS]
    statuses = {"done", *(f"planned: {bringer}" for bringer in BRINGERS)}
    faults += [f"line {row.line}: {row.cells['status']}" for row in ROWS if row.cells["status"] not in statuses]
    assert faults == []
    assert all(all(row.here) and row.expected.group() and row.nodes for row in ROWS)


def test_every_seed_item_has_one_row() -> None:
    """No row stands twice under one heading of a seed: same item, same name here."""
    text = MAP.read_text(encoding="utf-8").splitlines()
    headings = [max(n for n in range(row.line) if text[n].startswith("#")) for row in ROWS]
    items = [(heading, row.cells["seed item"]) for heading, row in zip(headings, ROWS, strict=True)]
    assert [item for item, count in collections.Counter(items).items() if count > 1] == []


def test_rows_agree_on_signatures() -> None:
    """Rows that give the signature of one name give the same one, and its parameters' defaults agree with it."""
    signatures: dict[str, set[str]] = collections.defaultdict(set)
    for row in ROWS:
        if row.expected["parameters"]:
            signatures[row.cells["here"]].add(row.expected.group())
    assert {here: found for here, found in signatures.items() if len(found) > 1} == {}
    for row in ROWS:
        parameter = (row.expected["valued"] or row.expected["required"] or "").removeprefix("parameter ")
        for signature in signatures[row.cells["here"]] if "parameter" in row.expected.group() else ():
            default = f"={row.expected['value']}" if row.expected["value"] else ""
            assert re.search(rf"\b{parameter}{re.escape(default)}[,)]", signature), _row_id(row)


# The rows that claim to be done


@pytest.mark.parametrize("row", DONE, ids=_row_id)
def test_a_done_row_is_true(row: Row) -> None:
    """The name exists, has the parameters, defaults or kind that the row states, and its tests exist and assert."""
    faults = [mismatch(*row.here, row.expected), *(fault_of_test(*node) for node in row.nodes)]
    assert [fault for fault in faults if fault] == []


def test_a_planned_row_that_came_true_is_marked_done() -> None:
    """No row stays planned when its name and all of its tests are there."""
    assert [_row_id(row) for row in ROWS if not row.is_done and _is_true(row)] == []


def _is_true(row: Row) -> bool:
    if any(fault_of_test(*node) for node in row.nodes):
        return False
    try:
        return not mismatch(*row.here, row.expected)
    except (ImportError, AttributeError, KeyError):
        return False


def test_every_example_in_tests_is_in_the_map() -> None:
    """A test of a seed's code block is named by a row, so that none is forgotten when blocks are renamed."""
    named = {node for row in ROWS for node in row.nodes}
    files = sorted((ROOT / "tests" / "seeds").glob("test_*.py"))
    blocks = [(file, test) for file in files for test in _tests_in(file) if re.match(r"test_blocks?_\d", test)]
    assert [f"{file.name}::{test}" for file, test in blocks if (file, test) not in named] == []


# The checks themselves


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        ("trio_streams.core.states: advance", "(state, trigger)"),
        ("trio_streams.errors: StreamError", 'class (code=Code.CANCELLED, reason="")'),
        ("trio_streams.errors: StreamError", 'parameter reason = ""'),
        ("trio_streams.errors: StreamError.code", "attribute"),
        ("trio_streams.core.states: HalfState.OPEN", 'member = "open"'),
        ("trio_streams.codes: Code.projection", "property"),
        ("trio_streams.config: StreamLimits.window_items", "field = 256"),
        ("trio_streams.core.records: Ping.number", "field"),
        ("trio_streams.streams.abc: SendStream.wait_writable", "async (self)"),
    ],
)
def test_a_true_claim_passes(here: str, expected: str) -> None:
    """Each kind of claim can be met."""
    row = Row("", 0, {"here": here, "signature/default expected": expected})
    assert mismatch(*row.here, row.expected) == ""


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        ("trio_streams.core.states: advance", "(state)"),
        ("trio_streams.core.states: advance", "(state, *, trigger)"),
        ("trio_streams.core.states: advance", "(state, trigger=None)"),
        ("trio_streams.core.states: advance", "async (state, trigger)"),
        ("trio_streams.core.states: retreat", "(state)"),
        ("trio_streams.core.states: retreat", "behaviour: none"),
        ("trio_streams.core.states: advance", "class"),
        ("trio_streams.core.states: advance", "parameter state = 1"),
        ("trio_streams.errors: StreamError.colour", "attribute"),
        ("trio_streams.core.states: HalfState.OPEN", 'member = "closed"'),
        ("trio_streams.codes: Code.from_name", "property"),
        ("trio_streams.config: StreamLimits.window_items", "field = 255"),
        ("trio_streams.config: StreamLimits.window_items", "field"),
    ],
)
def test_a_false_claim_fails(here: str, expected: str) -> None:
    """Each kind of claim can fail."""
    row = Row("", 0, {"here": here, "signature/default expected": expected})
    assert mismatch(*row.here, row.expected) != ""


def test_a_done_row_needs_a_test_that_asserts(tmp_path: Path) -> None:
    """A test that is missing, skipped or empty of assertions is a fault."""
    file = tmp_path / "test_x.py"
    file.write_text("def test_a(): pass\n@pytest.mark.skip\ndef test_b(): assert f()\ndef test_c(): assert f()\n")
    assert [bool(fault_of_test(file, name)) for name in ("test_a", "test_b", "test_c", "test_d")] == [1, 1, 0, 1]
