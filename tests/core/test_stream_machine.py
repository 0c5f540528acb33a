"""One stream: two halves and their credit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_streams.codes import Code
from trio_streams.core import records
from trio_streams.core.assembly import Piece
from trio_streams.core.errors import FlowControlError, LocalProtocolError, RemoteProtocolError
from trio_streams.core.flow import ReceiveCredit, SendCredit, cost
from trio_streams.core.states import HalfState
from trio_streams.core.stream_machine import Pulled, StreamMachine

FRAME = 100
ROOM = 1_000_000


def make(items: int = 100, bytes_: int = 1_000_000, frame: int = FRAME) -> StreamMachine:
    return StreamMachine(SendCredit(items, bytes_), ReceiveCredit(items, bytes_), priority=0, max_frame_bytes=frame)


def pull_all(machine: StreamMachine, max_bytes: int = FRAME) -> list[Pulled]:
    pulled: list[Pulled] = []
    while (content := machine.pull(max_bytes, ROOM)) is not None:
        pulled.append(content)
    return pulled


def end(machine: StreamMachine) -> None:
    machine.end(records.OK, records.NO_METADATA)


# -- our half -------------------------------------------------------------------------------------------------


def test_head_items_and_end_come_out_in_order() -> None:
    """The head goes before the items, the end behind them, and the half is then closed."""
    machine = make()
    assert not machine.has_output
    machine.head({"a": "b"})
    machine.send([b"1", b"2"], ROOM)
    machine.send([b"3"], ROOM)
    assert machine.queued_items == 3
    end(machine)
    assert machine.send_state is HalfState.CLOSING
    assert machine.has_output
    assert pull_all(machine) == [records.Header({"a": "b"}), [b"1", b"2", b"3"], records.End()]
    assert (machine.send_state, machine.has_output, machine.queued_bytes) == (HalfState.CLOSED, False, 0)


@pytest.mark.parametrize(
    ("limits", "room", "sizes", "taken"),
    [
        ((3, 10_000), ROOM, [1] * 5, 3),
        ((9, 130), ROOM, [1] * 5, 2),
        ((9, 1), ROOM, [500, 1], 1),
        ((9, 1), ROOM, [500], 1),
        ((0, 100), ROOM, [1], 0),
        ((9, 10_000), 0, [1, 1], 1),
        ((9, 10_000), 66, [1, 1, 1], 2),
        ((9, 10_000), -5, [500, 1], 1),
        ((9, 10_000), ROOM, [], 0),
    ],
)
def test_items_are_taken_from_the_first_on(limits: tuple[int, int], room: int, sizes: list[int], taken: int) -> None:
    """Credit in items and bytes and the room of the send buffer decide how many; an empty queue takes one anyway."""
    machine = make(*limits)
    payloads = [bytes(size) for size in sizes]
    assert machine.send(payloads, room) == taken
    assert machine.is_blocked is (taken < len(sizes))
    assert machine.queued_bytes == machine.send_credit.bytes == cost(payloads[:taken])
    assert machine.send_credit.items == taken


def test_no_room_and_a_queue_take_nothing() -> None:
    """A stream that already has something queued waits for room."""
    machine = make()
    machine.send([b"x"], ROOM)
    assert machine.send([b"y"], 0) == 0
    assert machine.is_blocked


@pytest.mark.parametrize("command", [lambda m: m.send([b"x"], 1), lambda m: m.head({}), end])
@pytest.mark.parametrize("finish", [end, lambda m: m.reset(Code.CANCELLED, ""), lambda m: m.stopped()])
def test_only_an_open_half_takes_commands(
    command: Callable[[StreamMachine], object], finish: Callable[[StreamMachine], object]
) -> None:
    """After END, RESET or STOP every command is refused by name and state, and changes nothing."""
    machine = make()
    finish(machine)
    state = machine.send_state
    with pytest.raises(LocalProtocolError, match=f"in state {state.value}"):
        command(machine)
    assert (machine.send_state, machine.queued_bytes) == (state, 0)


def test_a_head_goes_once_and_first() -> None:
    """A second head is refused even when the first has left, and so is one behind an item."""
    machine = make()
    machine.head({})
    with pytest.raises(LocalProtocolError, match="twice"):
        machine.head({})
    pull_all(machine)
    with pytest.raises(LocalProtocolError, match="twice"):
        machine.head({})
    late = make()
    late.send([b"x"], ROOM)
    with pytest.raises(LocalProtocolError, match="after the first item"):
        late.head({})


def test_a_reset_abandons_what_is_queued_once() -> None:
    """A reset drops queue, head, end and the rest of a cut item; the second one is no news."""
    machine = make()
    machine.head({})
    machine.send([bytes(500), b"x"], ROOM)
    machine.pull(FRAME, ROOM)
    machine.pull(FRAME, ROOM)
    end(machine)
    assert machine.reset(Code.INTERNAL, "why") == records.Reset(Code.INTERNAL, "why")
    assert (machine.has_output, machine.queued_bytes, machine.send_state) == (False, 0, HalfState.ERRORED)
    assert machine.reset(Code.CANCELLED, "") is None
    assert machine.stopped() is False
    assert machine.pull(FRAME, ROOM) is None


def test_a_peers_stop_abandons_what_is_queued_once() -> None:
    """STOP is news once, and not after the end has left."""
    machine = make()
    machine.send([b"x"], ROOM)
    assert machine.stopped() is True
    assert (machine.has_output, machine.stopped()) == (False, False)
    closed = make()
    end(closed)
    pull_all(closed)
    assert closed.stopped() is False


def test_an_item_larger_than_a_frame_is_cut() -> None:
    """The first piece announces the total, nothing comes between the pieces, and together they are the item."""
    machine = make()
    item = bytes(range(256))
    machine.send([item, b"after"], ROOM)
    first, *rest = pull_all(machine)
    assert isinstance(first, Piece)
    assert (first.total, len(first.data)) == (256, FRAME - 4)
    pieces = [content for content in rest if isinstance(content, Piece)]
    assert [piece.total for piece in pieces] == [None, None]
    assert b"".join([first.data, *(piece.data for piece in pieces)]) == item
    assert rest[len(pieces) :] == [[b"after"]]


@pytest.mark.parametrize(("size", "is_cut"), [(97, False), (98, False), (99, True), (100, True)])
def test_what_fits_into_a_frame_is_not_cut(size: int, *, is_cut: bool) -> None:
    """Up to a frame less two bytes an item travels whole; its frame never passes the limit."""
    machine = make()
    machine.send([bytes(size)], ROOM)
    assert isinstance(pull_all(machine)[0], Piece) is is_cut


def test_a_turn_gives_only_what_it_may() -> None:
    """`max_bytes` bounds runs and pieces; an item that does not fit into the rest of a turn waits for the next."""
    machine = make()
    machine.send([bytes(40)] * 3, ROOM)
    assert machine.pull(90, ROOM) == [bytes(40)] * 2
    assert machine.pull(20, ROOM) is None
    assert machine.pull(90, ROOM) == [bytes(40)]
    machine.send([bytes(300)], ROOM)
    first, second = machine.pull(50, ROOM), machine.pull(30, ROOM)
    assert isinstance(first, Piece)
    assert isinstance(second, Piece)
    assert (len(first.data), len(second.data)) == (50, 30)
    assert machine.pull(0, ROOM) is None


def test_the_connections_credit_is_asked_for_each_new_item() -> None:
    """Without it no item starts; a cut item goes on, and the end needs none."""
    machine = make()
    machine.send([bytes(150)], ROOM)
    assert machine.needs_connection_credit
    assert machine.pull(FRAME, 0) is None
    assert isinstance(machine.pull(FRAME, 1), Piece)
    assert not machine.needs_connection_credit
    assert isinstance(machine.pull(FRAME, 0), Piece)
    end(machine)
    assert machine.pull(FRAME, 0) == records.End()
    run = make()
    run.send([b"x"] * 3, ROOM)
    assert run.pull(FRAME, 66) == [b"x"] * 2
    assert run.queued_bytes == 65


def test_a_run_is_bounded_in_items() -> None:
    """A frame has at most 4,096 items, however small they are."""
    machine = make(items=10_000, bytes_=10**9, frame=16_384)
    machine.send([b""] * 5_000, ROOM)
    runs = pull_all(machine, 16_384)
    assert [len(run) for run in runs if isinstance(run, list)] == [4_096, 904]


@given(st.lists(st.integers(0, 350), max_size=30), st.lists(st.integers(FRAME, 200), min_size=1, max_size=9))
def test_what_is_pulled_is_what_was_sent(sizes: list[int], turns: list[int]) -> None:
    """For any items and any turns: runs within a frame, pieces within a turn, and the receiving half gets the items."""
    sender, receiver = make(), make()
    payloads = [bytes([n]) * size for n, size in enumerate(sizes)]
    assert sender.send(payloads, ROOM) == len(payloads)
    got: list[bytes] = []
    turn = 0
    while sender.has_output:
        limit = turns[turn % len(turns)]
        content = sender.pull(limit, ROOM)
        turn += 1
        if isinstance(content, list):
            lengths = 0 if len(content) == 1 else 2 + 2 * len(content)
            assert lengths + sum(map(len, content)) <= FRAME
            assert receiver.receive_run(content, cost(content))
            got += content
        else:
            assert isinstance(content, Piece)
            assert len(content.data) + (0 if content.total is None else 4) <= limit
            if content.total == len(content.data):
                whole = Piece(bytes(content.data), content.total, frames=2)  # so the wire cuts and joins it
                assert receiver.receive_first(whole, content.total)
                got.append(bytes(content.data))
            elif content.total is not None:
                assert receiver.receive_first(content, content.total)
            elif (item := receiver.receive_piece(content)) is not None:
                got.append(item)
    assert got == payloads
    assert sender.send_credit.bytes == receiver.receive_credit.bytes == cost(payloads)


# -- the peer's half ------------------------------------------------------------------------------------------


def test_the_end_waits_for_the_reader() -> None:
    """After the end the half is closing until the last item was taken; an empty one closes at once."""
    machine = make()
    machine.receive_run([b"a", b"b"], 130)
    assert machine.receive_end()
    assert machine.receive_state is HalfState.CLOSING
    states = []
    for _ in range(2):
        machine.consume(1, 65)
        states.append(machine.receive_state)
    assert states == [HalfState.CLOSING, HalfState.CLOSED]
    empty = make()
    empty.receive_end()
    assert empty.receive_state is HalfState.CLOSED


def test_a_grant_is_due_only_while_the_half_is_open() -> None:
    """Nobody needs credit for a half that has ended."""
    machine = make(items=4)
    machine.receive_run([b"a"] * 3, 195)
    assert machine.consume(1, 65) is True
    machine.receive_end()
    assert machine.consume(1, 65) is False


def test_what_crosses_a_reset_or_stop_is_discarded() -> None:
    """After RESET or our STOP nothing that arrives is wanted, and none of it is a fault."""
    stopped, reset = make(), make()
    assert stopped.stop(Code.OK, "enough") == records.Stop(Code.OK, "enough")
    assert reset.receive_reset()
    for machine in (stopped, reset):
        assert machine.receive_state is HalfState.ERRORED
        assert machine.receive_run([b"x"], 65) is False
        assert machine.receive_first(Piece(b"x", 200), 200) is False
        assert machine.receive_piece(Piece(b"y")) is None
        assert machine.receive_header() is False
        assert machine.receive_end() is False
        assert machine.receive_reset() is False
        assert machine.stop(Code.OK, "") is None


def test_a_stop_after_the_end_needs_no_record() -> None:
    """Who has the end already needs to tell nobody that the rest is not wanted."""
    machine = make()
    machine.receive_run([b"x"], 65)
    machine.receive_end()
    assert machine.stop(Code.OK, "") is None
    assert machine.receive_state is HalfState.ERRORED
    assert machine.settle() == 65


def test_settling_gives_back_what_nobody_will_take() -> None:
    """What arrived counts as taken, a large item with all that it announced; twice gives nothing more."""
    machine = make()
    machine.receive_run([b"x"], 65)
    machine.receive_first(Piece(b"x", 300), 300)
    machine.stop(Code.OK, "")
    assert (machine.settle(), machine.settle()) == (65 + 364, 0)
    closing = make()
    closing.receive_run([b"x"], 65)
    closing.receive_end()
    assert closing.settle() == 65
    assert closing.receive_state is HalfState.CLOSED


def test_one_item_is_taken_where_nothing_stands_in_its_way() -> None:
    """`send_one` charges an item like `send`; without credit, room or an open half it takes nothing and leaves no mark."""
    machine = make()
    assert (machine.send_one(b"abc", 67), machine.queued_items, machine.queued_bytes) == (67, 1, 67)
    assert (machine.send_credit.items, machine.send_credit.bytes) == (1, 67)
    assert machine.send_one(b"abc", 66) == 0
    machine.send_credit.items = machine.send_credit.item_limit
    assert machine.send_one(b"abc", 67) == 0
    ended = make()
    ended.end(records.OK, {})
    assert ended.send_one(b"", 1_000) == 0
    assert (machine.queued_items, ended.queued_items, machine.is_blocked) == (1, 0, False)


def _after_end(machine: StreamMachine) -> None:
    machine.receive_end()


def _in_item(machine: StreamMachine) -> None:
    machine.receive_first(Piece(b"abc", 10), 10)


def _nothing(machine: StreamMachine) -> None:
    assert machine.receive_state is HalfState.OPEN


@pytest.mark.parametrize(
    ("before", "fault", "field", "size", "limit"),
    [
        (_after_end, lambda m: m.receive_run([b"x"], 65), "", None, None),
        (_after_end, lambda m: m.receive_first(Piece(b"x", 9), 9), "", None, None),
        (_after_end, lambda m: m.receive_end(), "", None, None),
        (_after_end, lambda m: m.receive_header(), "header", None, None),
        (_after_end, lambda m: m.receive_piece(Piece(b"x")), "piece", None, None),
        (_in_item, lambda m: m.receive_run([b"x"], 65), "piece", None, None),
        (_in_item, lambda m: m.receive_first(Piece(b"x", 9), 9), "piece", None, None),
        (_in_item, lambda m: m.receive_piece(Piece(b"x" * 8)), "piece", 8, 7),
        (_in_item, lambda m: m.receive_end(), "", None, None),
        (_in_item, lambda m: m.receive_header(), "header", None, None),
        (_nothing, lambda m: m.receive_piece(Piece(b"x")), "piece", None, None),
        (_nothing, lambda m: m.receive_first(Piece(b"abc", 3), 3), "piece", 3, 3),
        (lambda m: m.receive_header(), lambda m: m.receive_header(), "header", None, None),
    ],
)
def test_a_peer_that_breaks_the_order_is_named(
    before: Callable[[StreamMachine], object],
    fault: Callable[[StreamMachine], object],
    field: str,
    size: int | None,
    limit: int | None,
) -> None:
    """Items after the end, inside another one, longer than announced, never begun; heads and ends twice."""
    machine = make()
    before(machine)
    with pytest.raises(RemoteProtocolError) as caught:
        fault(machine)
    assert (caught.value.code, caught.value.field) == (Code.PROTOCOL_ERROR, field)
    assert (caught.value.size, caught.value.limit) == (size, limit)


def test_a_peer_without_credit_is_refused() -> None:
    """A large item is charged by its announcement, like any other."""
    machine = make(items=1)
    machine.receive_run([b"x"], 65)
    with pytest.raises(FlowControlError):
        machine.receive_first(Piece(b"x", 300), 300)


def test_a_stream_is_finished_when_both_halves_are() -> None:
    """One half alone does not finish it."""
    machine = make()
    machine.receive_end()
    assert not machine.is_finished
    end(machine)
    assert not machine.is_finished
    pull_all(machine)
    assert machine.is_finished
