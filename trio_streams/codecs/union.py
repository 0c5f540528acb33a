"""Unions: decided by the kind of the JSON value, among members of one kind by what distinguishes them.

The order of the members never matters, since `A | B == B | A` in every cache between us and the type.
"""

# Hooks take what the parser made and return what a type asks for: cattrs types both as Any.
# ruff: noqa: ANN401
# pyright: basic

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias, get_origin

import cattrs
from cattrs.disambiguators import create_default_dis_func

from trio_streams.codecs.failure import Mismatch
from trio_streams.codecs.kinds import (
    STRING_FORMATS,
    Kind,
    is_record,
    is_union,
    kind_of,
    kinds_of,
    record_fields,
    record_types,
    union_members,
    unwrap,
)

__all__ = ["register_unions"]

Hook: TypeAlias = Callable[[Any, Any], Any]
Choice: TypeAlias = tuple[Hook, object]


def register_unions(converter: cattrs.Converter) -> None:
    """Teach a converter unions, `Optional` among them."""
    converter.register_structure_hook_factory(is_union, _structure_factory)
    converter.register_unstructure_hook_factory(is_union, _unstructure_factory)


def _rank(member: object) -> tuple[int, int, str]:
    """Special before general: a string that is a UUID is one, and text only if nothing else fits."""
    if member is object or member is Any:
        return (5, 0, "")
    if member is str:
        return (4, 0, "")
    if member is float:
        return (3, 0, "")
    if isinstance(member, type) and member in STRING_FORMATS:
        return (2, STRING_FORMATS.index(member), "")
    return (1 if kinds_of(member) <= {"null", "boolean", "integer"} else 0, 0, repr(member))


def _structure_factory(type_: Any, converter: cattrs.Converter) -> Hook:
    members = sorted(union_members(type_), key=_rank)
    if bytes in members and str in members:
        raise TypeError(f"{type_} can't be decoded: base64 is a string too, so bytes and str can't be told apart")
    choices = _choices(members, converter)
    expected = " or ".join(sorted(choices)) or "nothing"

    def structure_union(value: Any, _: Any) -> Any:
        kind = kind_of(value)
        candidates = choices.get(kind, []) if kind is not None else []
        for hook, member in candidates[:-1]:
            try:
                return hook(value, member)
            except Exception:  # noqa: BLE001, S112 - another member may fit; the last one's error is what the user sees
                continue
        if not candidates:
            raise Mismatch(expected, value)
        hook, member = candidates[-1]
        return hook(value, member)

    return structure_union


def _choices(members: list[object], converter: cattrs.Converter) -> dict[Kind, list[Choice]]:
    records = [member for member in members if is_record(member)]
    choices: dict[Kind, list[Choice]] = collections.defaultdict(list)
    if len(records) > 1:
        choices["object"].append((_record_choice(records, converter), records[0]))
    for member in members:
        if len(records) > 1 and member in records:
            continue
        hook = _lazy(member, converter)
        for kind in kinds_of(member):
            choices[kind].append((hook, member))
    return dict(choices)


def _lazy(member: object, converter: cattrs.Converter) -> Hook:
    try:
        return converter.get_structure_hook(member)
    except RecursionError:  # a recursive type: its hook is being made right now
        return lambda value, t: converter.get_structure_hook(t)(value, t)


def _record_choice(records: list[object], converter: cattrs.Converter) -> Hook:
    which: Callable[[Any], object | None]
    if _have_common_literal(records):
        which = create_default_dis_func(converter, *records, use_literals="auto")  # type: ignore[arg-type]
    else:
        which = _by_own_fields(records)
    hooks = {record: _lazy(record, converter) for record in records}

    def structure_choice(value: Any, _: Any) -> Any:
        try:
            record = which(value)
        except (ValueError, TypeError, KeyError):
            record = None
        if record is None:
            raise Mismatch(f"an object of one of {len(hooks)} types, told apart by their own fields", value)
        return hooks[record](value, record)

    return structure_choice


def _have_common_literal(records: list[object]) -> bool:
    names = [{n for n, hint in record_types(r).items() if get_origin(unwrap(hint)) is Literal} for r in records]
    return bool(set.intersection(*names))


def _by_own_fields(records: list[object]) -> Callable[[Any], object | None]:
    """Tell records apart by a field that one requires and no other has; one at most may have none.

    Not cattrs': there a field with a `default_factory` counts as required, so that which field decides is a matter of
    chance.
    """
    names = {record: {name for name, _, _ in record_fields(record)} for record in records}
    required = {record: {name for name, _, has in record_fields(record) if not has} for record in records}
    pins: dict[str, object] = {}
    left = list(records)
    while len(left) > 1:
        for record in left:
            own = required[record].difference(*(names[other] for other in left if other is not record))
            if own:
                pins[min(own)] = record
                left.remove(record)
                break
        else:
            raise TypeError(
                f"can't decode a union of {', '.join(map(str, left))}: no field of their own tells them apart"
            )
    if own := required[left[0]].difference(*(names[other] for other in records if other is not left[0])):
        pins[min(own)] = left.pop()

    def which(value: Any) -> object | None:
        if type(value) is not dict:
            return None
        return next((record for name, record in pins.items() if name in value), left[0] if left else None)

    return which


_SCALARS: Final = frozenset({type(None), bool, int, float, str})


def _unstructure_factory(type_: Any, converter: cattrs.Converter) -> Callable[[Any], Any]:
    members = union_members(type_)
    by_class: dict[type, object] = {}
    for member in members:
        cls = getattr(member, "__origin__", member)
        if isinstance(cls, type):
            by_class.setdefault(cls, member)

    def unstructure_union(value: Any) -> Any:
        cls = type(value)
        if cls in _SCALARS:
            return value
        # A subclass is encoded as the member it belongs to: fields that were not declared stay at home.
        for base in cls.__mro__:
            if base in by_class and base is not object:
                return converter.get_unstructure_hook(by_class[base])(value)
        return converter.unstructure(value, unstructure_as=object)

    return unstructure_union
