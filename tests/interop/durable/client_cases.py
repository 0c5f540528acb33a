"""Cases of the client suite: where they come from, and how they are read.

A case is a list of operations with what is expected of each, in YAML, in the format of the protocol's own client suite.
That suite is not in a package registry, only in the protocol's repository; our own cases are beside this file, and the
published ones are run where `DURABLE_STREAMS_SUITE` names a checkout of `packages/client-conformance-tests`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import yaml

OWN: Final = Path(__file__).resolve().parent / "cases"
PUBLISHED_VARIABLE: Final = "DURABLE_STREAMS_SUITE"

Operation: TypeAlias = dict[str, Any]

FEATURES: Final = {
    "long-poll": "longPoll",
    "dynamic-headers": "dynamicHeaders",
    "retry-options": "retryOptions",
    "batch-items": "batchItems",
    "strict-zero-validation": "strictZeroValidation",
}
"""Features that cases and adapters spell differently; the others are spelled alike."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2, as the suite's own reader takes it: a time is text, and `on` and `no` are words."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if not tag.endswith((":timestamp", ":bool")) or (tag.endswith(":bool") and first in "tfTF")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@attrs.frozen
class Case:
    """Operations, and what is expected of each.

    Attributes:
      name: the suite's id and its own.
      requires: features, by the adapter's names for them.
      setup: what has to succeed first.
      operations: what is judged.
      cleanup: what is tried at the end, whatever becomes of it.
    """

    name: str
    requires: frozenset[str]
    setup: list[Operation]
    operations: list[Operation]
    cleanup: list[Operation]


def published_suite() -> Path | None:
    """Where the published client suite is; None where there is none."""
    folder = os.environ.get(PUBLISHED_VARIABLE)
    return None if folder is None else Path(folder)


def load_cases(folder: Path) -> Iterator[Case]:
    """Every case of every file below a folder, in the order of the files' names."""
    for path in sorted(folder.rglob("*.yaml")):
        suite = yaml.load(path.read_text(encoding="utf-8"), _Loader)
        for test in suite["tests"]:
            required = [*(suite.get("requires") or []), *(test.get("requires") or [])]
            yield Case(
                name=f"{suite['id']}/{test['id']}",
                requires=frozenset(FEATURES.get(feature, feature) for feature in required),
                setup=test.get("setup") or [],
                operations=test["operations"],
                cleanup=test.get("cleanup") or [],
            )
