"""Types that several tests of the codecs send through them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import typing

import attrs


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


@attrs.frozen
class Item:
    name: str
    price: float
    tag: str | None = None


@attrs.frozen
class Order:
    id: int
    items: list[Item]
    note: object = None
    at: dt.datetime | None = None
    pair: tuple[int, str] = (0, "")
    level: Level = Level.LOW


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0
    labels: dict[str, int] = dataclasses.field(default_factory=dict)


@attrs.frozen
class Checked:
    level: int = attrs.field(validator=attrs.validators.ge(0))


@attrs.frozen
class Node:
    value: int
    children: list[Node] = attrs.field(factory=list)


@attrs.frozen
class Private:
    _hidden: int = 1


@attrs.frozen
class Cat:
    meows: int


@attrs.frozen
class Dog:
    barks: int


class Options(typing.TypedDict, total=False):
    name: typing.Required[str]
    size: int
