"""A module made of a server's description, as a type checker sees it; run by the session `typing`, which has one."""

from __future__ import annotations

from pathlib import Path

from mypy import api

from tests.procedures.test_proxy import Seen
from trio_streams.procedures.describe import describe
from trio_streams.procedures.stubs import write_stubs


def test_mypy_understands_the_module(tmp_path: Path) -> None:
    """It is strictly typed, and a wrong use is found."""
    text = write_stubs(describe(Seen().router))
    (tmp_path / "made.py").write_text(
        f"{text}\n\nasync def use(client: Client) -> int:\n    return await Api(client).math.add(['not a number'])\n",
        encoding="utf-8",
    )
    output, _, _ = api.run(["--strict", "--no-incremental", str(tmp_path / "made.py")])
    assert [line.partition("error: ")[2] for line in output.splitlines() if "error:" in line] == [
        'List item 0 has incompatible type "str"; expected "int"  [list-item]'
    ]
