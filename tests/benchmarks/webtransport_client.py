"""`python -m tests.benchmarks.webtransport_client LIBRARY URL VISIT SIZE`: measures one thing, and prints a line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from tests.benchmarks.webtransport_visits import VISITS
from tests.interop.webtransport.face import Session, load


def main(library_name: str, url: str, visit_name: str, size: str) -> None:
    """Measure."""
    library = load(library_name)
    found: dict[str, Any] = {}

    async def use(path: str, visit: Callable[[Session], Awaitable[None]]) -> None:
        await library.use(url + path, visit)

    async def measure() -> None:
        found.update(await VISITS[visit_name](use, float(size)))

    library.run(measure)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
