"""JSON's values as YAML 1.2 in block style; scalars are written as JSON, which YAML contains."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, cast

import msgspec

__all__ = ["to_yaml"]

_PLAIN: Final = re.compile(r"[A-Za-z$/_][\w$/{}.-]*", re.ASCII)
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
"""What readers of YAML 1.1 take for something else."""


def to_yaml(value: object) -> str:
    """Write a value as YAML.

    Args:
      value: what JSON can say; no deeper than a document is.
    """
    return "\n".join([*_lines(value, ""), ""])


def _lines(value: object, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in cast("dict[str, object]", value).items():
            yield from _entry(f"{indent}{_key(key)}:", item, f"{indent}  ")
    elif isinstance(value, list) and value:
        for item in cast("list[object]", value):
            first, *rest = _lines(item, f"{indent}  ")
            yield f"{indent}- {first.lstrip(' ')}"
            yield from rest
    else:
        yield f"{indent}{_scalar(value)}"


def _entry(head: str, item: object, indent: str) -> Iterator[str]:
    if isinstance(item, (dict, list)) and item:
        yield head
        yield from _lines(cast("object", item), indent)
    else:
        yield f"{head} {_scalar(item)}"


def _key(key: str) -> str:
    return key if _PLAIN.fullmatch(key) and key.lower() not in _WORDS else _scalar(key)


def _scalar(value: object) -> str:
    return msgspec.json.encode(value).decode()
