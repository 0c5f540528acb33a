"""The events."""

from __future__ import annotations

import typing

import attrs
import pytest

from trio_streams.core import events, records

KINDS = typing.get_args(events.Event)


def test_every_event_is_in_the_union() -> None:
    """`Event` lists every class of the module, so that a `match` over it is complete."""
    assert {kind.__name__ for kind in KINDS} == set(events.__all__) - {"Event"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not events.Received])
def test_rare_events_are_frozen(kind: type) -> None:
    """What is reported doesn't change; only a run grows, while nobody has taken it."""
    event = kind(*(None for _ in attrs.fields(kind)))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.stream_id = 1
    assert event == kind(*(None for _ in attrs.fields(kind)))


def test_an_event_carries_its_record() -> None:
    """An event for a record holds the record's content."""
    assert events.Opened(1, records.Open("x")).open.name == "x"
