"""`python -m tests.interop.webtransport.peer_client LIBRARY URL`: runs the cases that standard input names, one a line.

Each is answered by a line of JSON: null, or what went wrong.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from tests.interop.webtransport.cases import run_case
from tests.interop.webtransport.face import Session, load

CASE_TIMEOUT: Final = 30
"""Seconds; a fail-safe."""


def main(library_name: str, url: str) -> None:
    """Run cases until the input ends."""
    library = load(library_name)

    async def use(path: str, visit: Callable[[Session], Awaitable[None]], **options: Any) -> None:
        await library.use(url + path, visit, **options)

    for line in sys.stdin:
        failure = None
        try:
            library.run(partial(run_case, line.strip(), use), CASE_TIMEOUT)
        except Exception:  # noqa: BLE001 - whatever it is, the parent's test fails with it
            failure = traceback.format_exc()
        sys.stdout.write(json.dumps(failure) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
