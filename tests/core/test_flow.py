"""Credit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codes import Code
from trio_streams.core.errors import FlowControlError
from trio_streams.core.flow import ReceiveCredit, SendCredit, cost


def test_an_item_costs_its_length_and_64_bytes() -> None:
    """A run's cost is that of its items; an empty item is not free."""
    assert (cost([]), cost([b""]), cost([b"abc", b"", bytes(1000)])) == (0, 64, 3 + 1000 + 3 * 64)


@pytest.mark.parametrize(
    ("items", "bytes_", "is_open"), [(0, 0, True), (3, 99, True), (4, 0, False), (0, 100, False), (4, 100, False)]
)
def test_an_item_may_start_below_both_limits(items: int, bytes_: int, *, is_open: bool) -> None:
    """Sending needs an item left, and a byte count below the limit; the item itself may cross it."""
    credit = SendCredit(4, 100)
    credit.items, credit.bytes = items, bytes_
    assert credit.is_open is is_open


@pytest.mark.parametrize(
    ("grant", "limits", "grew"),
    [
        ((5, 100), (5, 100), True),
        ((4, 101), (4, 101), True),
        ((9, 10), (9, 100), True),
        ((4, 100), (4, 100), False),
        ((3, 99), (4, 100), False),
    ],
)
def test_limits_only_grow(grant: tuple[int, int], limits: tuple[int, int], *, grew: bool) -> None:
    """A grant raises what it raises; a smaller one was overtaken and is ignored (RFC 9000 §4.1)."""
    credit = SendCredit(4, 100)
    assert credit.raise_limits(*grant) is grew
    assert (credit.item_limit, credit.byte_limit) == limits


def test_the_last_item_may_cross_the_byte_limit_and_no_other() -> None:
    """The receiver takes the item that crosses the byte limit, and nothing behind it."""
    credit = ReceiveCredit(10, 100)
    credit.receive(2, 99 + 500, 500)
    assert credit.unconsumed_bytes == 599
    with pytest.raises(FlowControlError) as caught:
        credit.receive(1, 64, 64)
    error = caught.value
    assert (error.code, error.field, error.size, error.limit) == (Code.FLOW_CONTROL_ERROR, "window_bytes", 663, 100)
    assert (credit.items, credit.bytes) == (2, 599)


def test_items_beyond_the_limit_are_refused_and_not_charged() -> None:
    """The item limit is exact, for a run as for a single item."""
    credit = ReceiveCredit(4, 10_000)
    credit.receive(3, 300, 100)
    with pytest.raises(FlowControlError) as caught:
        credit.receive(2, 200, 100)
    error = caught.value
    assert (error.code, error.field, error.size, error.limit) == (Code.FLOW_CONTROL_ERROR, "window_items", 5, 4)
    assert (credit.items, credit.bytes) == (3, 300)


def test_a_connections_credit_counts_bytes_alone() -> None:
    """A connection has no item limit, and its name is in the error's field."""
    credit = ReceiveCredit(0, 100, eager=True, name="connection")
    credit.receive_bytes(99, 64)
    credit.receive_bytes(64, 64)
    with pytest.raises(FlowControlError) as caught:
        credit.receive_bytes(64, 64)
    assert (caught.value.field, caught.value.limit) == ("connection_window_bytes", 100)


def test_a_grant_is_due_after_a_quarter_of_either_window() -> None:
    """A quarter of the items, or of the bytes, and not before; the grant then allows a whole window again."""
    credit = ReceiveCredit(8, 1_000)
    credit.receive(8, 600, 75)
    assert not credit.is_due
    assert not credit.consume(1, 75)
    assert credit.consume(1, 75)
    assert credit.grant() == (10, 1_150)
    assert not credit.is_due
    assert credit.consume(1, 250)
    assert credit.grant() == (11, 1_400)


def test_only_an_eager_credit_grants_early() -> None:
    """When less than a quarter is left, an eager credit passes on even a single byte, and no more than was taken."""
    lazy, eager = ReceiveCredit(0, 1_000), ReceiveCredit(0, 1_000, eager=True)
    for credit in (lazy, eager):
        credit.receive_bytes(751, 64)
    assert not eager.is_due
    assert not lazy.consume(0, 1)
    assert eager.consume(0, 1)
    eager.grant()
    assert not eager.is_due


@given(
    window_items=st.integers(1, 40),
    window_bytes=st.integers(1, 2_000),
    sizes=st.lists(st.integers(0, 300), max_size=60),
    take=st.lists(st.integers(0, 5), max_size=60),
)
def test_both_ends_agree_and_never_lock(
    window_items: int, window_bytes: int, sizes: list[int], take: list[int]
) -> None:
    """What the sender's credit lets through the receiver's accepts; unread items stay within the window, unread bytes
    pass it by at most one item; and when everything was taken the sender can go on."""
    sender, receiver = SendCredit(window_items, window_bytes), ReceiveCredit(window_items, window_bytes)
    unread: list[int] = []
    taking = iter(take)
    for size in sizes:
        charge = size + 64
        if not sender.is_open:
            for taken in unread[: next(taking, 0)] or unread:
                unread.remove(taken)
                if receiver.consume(1, taken):
                    sender.raise_limits(*receiver.grant())
            assert unread or sender.is_open
            continue
        sender.items += 1
        sender.bytes += charge
        receiver.receive(1, charge, charge)
        unread.append(charge)
        assert len(unread) <= window_items
        assert receiver.unconsumed_bytes == sum(unread) < window_bytes + charge
