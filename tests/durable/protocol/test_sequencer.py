"""How an idempotent producer numbers its batches, case by case; `test_sequencer_model.py` has the storms."""

from __future__ import annotations

import pytest

from trio_streams.core.errors import LocalProtocolError
from trio_streams.durable.errors import FetchError, SequenceGapError, StaleEpochError, StreamClosedError
from trio_streams.durable.protocol.sequencer import MAX_NUMBER, BatchState, NumberedBatch, Sequencer
from trio_streams.durable.types import AppendResult

LOST = FetchError("lost")


def make(
    *,
    epoch: int = 0,
    auto_claim: bool = False,
    max_in_flight: int = 3,
    max_batch_bytes: int = 10,
    max_batch_items: int = 4,
    max_pending_bytes: int = 10_000,
    linger: float = 0.0,
) -> Sequencer:
    """A sequencer with small limits, whose messages wait for nobody."""
    return Sequencer(
        epoch=epoch,
        auto_claim=auto_claim,
        max_in_flight=max_in_flight,
        max_batch_bytes=max_batch_bytes,
        max_batch_items=max_batch_items,
        max_pending_bytes=max_pending_bytes,
        linger=linger,
    )


def put(sequencer: Sequencer, *payloads: bytes, now: float = 0.0) -> list[NumberedBatch]:
    """Put messages in, and take what leaves then."""
    for payload in payloads:
        sequencer.put(payload, now)
    return list(sequencer.take(now))


def accept(sequencer: Sequencer, *batches: NumberedBatch, duplicate: bool = False) -> None:
    """The server stores batches."""
    for batch in batches:
        sequencer.accept(batch, AppendResult(f"{batch.epoch}-{batch.seq}", duplicate))


def pipelined(sequencer: Sequencer, count: int) -> list[NumberedBatch]:
    """As many batches of one large message under way, in an epoch whose beginning is acknowledged."""
    accept(sequencer, *put(sequencer, b"begin"))
    return [put(sequencer, b"x" * 10 + b"%d" % number)[0] for number in range(count)]


def gap(expected: int) -> SequenceGapError:
    """The server misses a batch."""
    error = SequenceGapError("gap")
    error.expected_seq = expected
    return error


def stale(epoch: int) -> StaleEpochError:
    """The server knows a higher epoch."""
    error = StaleEpochError("stale")
    error.current_epoch = epoch
    return error


def numbers(sequencer: Sequencer, now: float = 0.0) -> list[tuple[int, int]]:
    """Epoch and number of what leaves."""
    return [(batch.epoch, batch.seq) for batch in sequencer.take(now)]


def test_messages_wait_for_company() -> None:
    """A message leaves when it has lingered, together with what came meanwhile."""
    sequencer = make(linger=2.0)
    assert sequencer.next_deadline() is None
    assert put(sequencer, b"a", now=1.0) == []
    assert put(sequencer, b"b", now=2.0) == []
    assert sequencer.next_deadline() == 3.0
    (batch,) = sequencer.take(3.0)
    assert (batch.payloads, batch.seq, sequencer.next_seq) == ([b"a", b"b"], 0, 1)
    assert sequencer.next_deadline() is None


@pytest.mark.parametrize("payloads", [[b"x" * 10], [b"a", b"b", b"c", b"d"]], ids=["bytes", "items"])
def test_a_full_batch_waits_for_nobody(payloads: list[bytes]) -> None:
    """A batch that is full, by bytes or by messages, leaves at once."""
    (batch,) = put(make(linger=60.0), *payloads)
    assert batch.payloads == payloads


def test_a_flush_waits_for_nobody() -> None:
    """`hurry` lets what is here leave, and nothing that comes later."""
    sequencer = make(linger=60.0)
    put(sequencer, b"a")
    sequencer.hurry(1.0)
    (batch,) = sequencer.take(1.0)
    accept(sequencer, batch)
    assert put(sequencer, b"b", now=2.0) == []


def test_batches_are_cut_at_their_limits() -> None:
    """What does not fit waits; one message that is larger than a batch goes alone."""
    sequencer = make()
    (first,) = put(sequencer, b"12345", b"123456", b"x" * 11)
    assert first.payloads == [b"12345"]
    accept(sequencer, first)
    assert [batch.payloads for batch in sequencer.take(0.0)] == [[b"123456"], [b"x" * 11]]


def test_the_first_number_of_an_epoch_goes_alone() -> None:
    """Nothing follows number 0 before it is acknowledged; then as many are under way as may be."""
    sequencer = make()
    (first,) = put(sequencer, *[b"x" * 10] * 6)
    accept(sequencer, first)
    assert numbers(sequencer) == [(0, 1), (0, 2), (0, 3)]
    assert sequencer.next_deadline() is None
    assert sequencer.is_under_way


def test_what_is_pending_is_bounded() -> None:
    """There is room below the limit, whatever size comes; an acknowledgement makes some."""
    sequencer = make(max_pending_bytes=100)
    assert sequencer.has_room
    (first,) = put(sequencer, b"x" * 36)
    assert not sequencer.has_room
    accept(sequencer, first)
    assert sequencer.has_room
    assert sequencer.is_idle


def test_an_answer_speaks_for_all_before() -> None:
    """A stored batch means that those before it are; their late answers change nothing."""
    sequencer = make()
    first, second, third = pipelined(sequencer, 3)
    accept(sequencer, second)
    assert [batch.state for batch in (first, second, third)] == [
        BatchState.ACKNOWLEDGED,
        BatchState.ACKNOWLEDGED,
        BatchState.SENT,
    ]
    accept(sequencer, first)
    sequencer.hold(first, gap(0))
    sequencer.rest(first, 9.0, is_doubtful=True)
    sequencer.stall(first, LOST, is_doubtful=True)
    sequencer.fence(first, stale(9))
    sequencer.refuse(first, LOST)
    assert (sequencer.error, sequencer.settled_items, sequencer.progress.last_offset) == (None, 3, "0-2")


def test_a_batch_behind_a_gap_is_held() -> None:
    """It leaves again, under its number, when another one was acknowledged; then in company."""
    sequencer = make()
    first, second, third = pipelined(sequencer, 3)
    sequencer.hold(third, gap(1))
    sequencer.hold(second, gap(1))
    assert numbers(sequencer) == []
    accept(sequencer, first)
    assert numbers(sequencer) == [(0, 2), (0, 3)]


def test_a_gap_before_the_very_first_is_a_failure() -> None:
    """The server misses what it has acknowledged: nothing can be made good by sending it again."""
    sequencer = make()
    (first,) = pipelined(sequencer, 1)
    error = gap(0)
    sequencer.hold(first, error)
    assert sequencer.error is error
    assert sequencer.has_failed
    assert numbers(sequencer) == []


def test_a_gap_that_was_closed_meanwhile_is_none() -> None:
    """A batch that was not the first when it left, and is when its gap is told, is sent again."""
    sequencer = make()
    first, second = pipelined(sequencer, 2)
    accept(sequencer, first)
    sequencer.hold(second, gap(1))
    assert numbers(sequencer) == [(0, 2)]


def test_a_lost_batch_is_sent_again_under_its_number() -> None:
    """It rests until its time, and lets nothing behind it leave."""
    sequencer = make()
    first, second = pipelined(sequencer, 2)
    sequencer.rest(first, 5.0, is_doubtful=True)
    sequencer.hold(second, gap(1))
    assert put(sequencer, b"c") == []
    assert sequencer.next_deadline() == 5.0
    assert numbers(sequencer, 4.9) == []
    assert numbers(sequencer, 5.0) == [(0, 1)]
    accept(sequencer, first, duplicate=True)
    assert numbers(sequencer, 5.0) == [(0, 2), (0, 3)]
    assert sequencer.progress.duplicate_items == 0


def test_a_stall_is_resumed_with_the_same_batches() -> None:
    """Nothing leaves meanwhile, messages are still taken, and nothing is given up."""
    sequencer = make()
    first, second = pipelined(sequencer, 2)
    sequencer.stall(first, LOST, is_doubtful=True)
    sequencer.stall(second, FetchError("later"), is_doubtful=True)
    assert (sequencer.error, sequencer.is_stalled, sequencer.has_failed) == (LOST, True, False)
    assert put(sequencer, b"c") == []
    assert sequencer.next_deadline() is None
    sequencer.resume()
    sequencer.resume()
    assert sequencer.error is None
    assert numbers(sequencer) == [(0, 1), (0, 2), (0, 3)]


def test_an_answer_ends_a_stall() -> None:
    """When a later batch turns out to be stored, the one that stalled is."""
    sequencer = make()
    first, second = pipelined(sequencer, 2)
    sequencer.stall(first, LOST, is_doubtful=True)
    accept(sequencer, second)
    assert (sequencer.error, sequencer.is_stalled, sequencer.is_idle) == (None, False, True)


def test_a_refusal_stops_the_producer() -> None:
    """What is behind a refused batch must not overtake it; the first cause is kept."""
    sequencer = make()
    first, second = pipelined(sequencer, 2)
    error = StreamClosedError("closed")
    sequencer.refuse(first, error)
    sequencer.refuse(second, LOST)
    assert sequencer.error is error
    assert sequencer.take(0.0) == []
    with pytest.raises(LocalProtocolError):
        sequencer.put(b"c", 0.0)
    with pytest.raises(LocalProtocolError):
        sequencer.close(None, 0.0)
    sequencer.resume()
    assert sequencer.has_failed


def test_a_restart_begins_the_next_epoch() -> None:
    """What is not acknowledged is given up, and counted."""
    sequencer = make()
    first, second = pipelined(sequencer, 2)
    sequencer.put(b"c", 0.0)
    sequencer.refuse(first, LOST)
    with pytest.raises(LocalProtocolError, match="under way"):
        sequencer.restart()
    sequencer.hold(second, gap(1))
    sequencer.restart()
    assert (sequencer.error, sequencer.epoch, sequencer.next_seq) == (None, 1, 0)
    assert (sequencer.progress.abandoned_items, sequencer.settled_items, sequencer.put_items) == (3, 4, 4)
    (batch,) = put(sequencer, b"d")
    assert (batch.epoch, batch.seq) == (1, 0)


def test_a_stale_epoch_is_an_error() -> None:
    """Without `auto_claim` the producer fails; a restart goes past the server's epoch."""
    sequencer = make()
    (first,) = put(sequencer, b"a")
    error = stale(5)
    sequencer.fence(first, error)
    assert sequencer.error is error
    assert sequencer.has_failed
    sequencer.restart()
    assert sequencer.epoch == 6


def test_an_epoch_is_claimed_with_all_that_is_not_stored() -> None:
    """Batches get new numbers from 0, once all of them have their answers; those that were stored stay so."""
    sequencer = make(auto_claim=True)
    first, second, third = pipelined(sequencer, 3)
    sequencer.fence(second, stale(3))
    sequencer.fence(third, stale(4))
    assert sequencer.next_deadline() is None
    assert numbers(sequencer) == []
    accept(sequencer, first)
    assert sequencer.epoch == 5
    assert numbers(sequencer) == [(5, 0)]
    accept(sequencer, second)
    assert numbers(sequencer) == [(5, 1)]
    assert [batch.payloads for batch in (second, third)] == [[b"x" * 10 + b"1"], [b"x" * 10 + b"2"]]


def test_a_batch_in_doubt_is_not_claimed_for() -> None:
    """One that once went without an answer may be stored: neither sent again nor left out would be right."""
    sequencer = make(auto_claim=True)
    (first,) = pipelined(sequencer, 1)
    sequencer.rest(first, 0.0, is_doubtful=True)
    assert numbers(sequencer) == [(0, 1)]
    error = stale(1)
    sequencer.fence(first, error)
    assert sequencer.error is error
    assert sequencer.progress.doubtful_items == 1


def test_a_batch_that_was_never_sent_is_not_in_doubt() -> None:
    """A rest without doubt does not stand against a claim."""
    sequencer = make(auto_claim=True)
    (first,) = put(sequencer, b"a")
    sequencer.rest(first, 0.0, is_doubtful=False)
    assert numbers(sequencer) == [(0, 0)]
    sequencer.fence(first, stale(1))
    assert numbers(sequencer) == [(2, 0)]


def test_epochs_end() -> None:
    """The greatest epoch can't be claimed past."""
    sequencer = make(auto_claim=True)
    (first,) = put(sequencer, b"a")
    sequencer.fence(first, stale(MAX_NUMBER))
    assert isinstance(sequencer.error, StaleEpochError)


def test_a_duplicate_of_another_run_counts_as_stored() -> None:
    """Without `auto_claim` a producer may be run again with the same batches; it is told how many there were."""
    sequencer = make()
    (first,) = put(sequencer, b"a", b"b")
    accept(sequencer, first, duplicate=True)
    assert (sequencer.progress.acknowledged_items, sequencer.progress.duplicate_items) == (2, 2)


def test_a_duplicate_of_another_run_is_claimed_past() -> None:
    """With `auto_claim` a number means nothing beyond this run: the message is not lost, the epoch is claimed."""
    sequencer = make(auto_claim=True)
    (first,) = put(sequencer, b"a")
    accept(sequencer, first, duplicate=True)
    assert numbers(sequencer) == [(1, 0)]
    assert sequencer.settled_items == 0


def test_an_epoch_that_somebody_has_begun_is_in_doubt() -> None:
    """With `auto_claim` a duplicate of a lost number 0 is anybody's; one of a later number is our own."""
    sequencer = make(auto_claim=True)
    (first,) = put(sequencer, b"a")
    sequencer.rest(first, 0.0, is_doubtful=True)
    sequencer.take(0.0)
    accept(sequencer, first, duplicate=True)
    assert isinstance(sequencer.error, StaleEpochError)
    sequencer = make(auto_claim=True)
    (second,) = pipelined(sequencer, 1)
    sequencer.rest(second, 0.0, is_doubtful=True)
    sequencer.take(0.0)
    accept(sequencer, second, duplicate=True)
    assert sequencer.is_idle


def test_closing_comes_last_and_alone() -> None:
    """The closing batch leaves when all is acknowledged, with its message; the result is kept."""
    sequencer = make(linger=60.0)
    put(sequencer, b"a")
    sequencer.close(b"end", 0.0)
    assert sequencer.is_closing
    (first,) = sequencer.take(0.0)
    assert not first.is_closing
    accept(sequencer, first)
    (last,) = sequencer.take(0.0)
    assert (last.payloads, last.is_closing, last.seq) == ([b"end"], True, 1)
    accept(sequencer, last, duplicate=True)
    assert sequencer.result == AppendResult("0-1", True)
    assert numbers(sequencer) == []
    with pytest.raises(LocalProtocolError):
        sequencer.put(b"x", 0.0)
    with pytest.raises(LocalProtocolError):
        sequencer.close(None, 0.0)
    with pytest.raises(LocalProtocolError):
        sequencer.restart()


def test_closing_without_a_message_is_a_batch_without_any() -> None:
    """A close-only request has a number, too, and a 204 means nothing there."""
    sequencer = make(auto_claim=True)
    sequencer.close(None, 0.0)
    (last,) = sequencer.take(0.0)
    accept(sequencer, last, duplicate=True)
    assert sequencer.result is not None
    assert sequencer.put_items == 0


def test_a_closing_that_was_taken_for_another_is_not_done() -> None:
    """Disowned, it is an error, or sent again in the next epoch."""
    for auto_claim in (False, True):
        sequencer = make(auto_claim=auto_claim)
        sequencer.close(None, 0.0)
        (last,) = sequencer.take(0.0)
        sequencer.disown(last)
        assert isinstance(sequencer.error, StaleEpochError) is not auto_claim
        assert numbers(sequencer) == ([(1, 0)] if auto_claim else [])


def test_progress_tells_the_doubtful_from_the_unsent() -> None:
    """What is under way or in doubt puts all before it in doubt; what waits behind was never sent."""
    sequencer = make()
    first, second, _ = pipelined(sequencer, 3)
    sequencer.put(b"c", 0.0)
    sequencer.rest(first, 5.0, is_doubtful=False)
    sequencer.hold(second, gap(1))
    progress = sequencer.progress
    assert (progress.acknowledged_items, progress.doubtful_items, progress.unsent_items) == (1, 3, 1)


def test_an_offset_that_the_server_does_not_say_is_the_last_known() -> None:
    """A duplicate's answer may have none."""
    sequencer = make()
    first, second = pipelined(sequencer, 2)
    accept(sequencer, first)
    sequencer.accept(second, AppendResult(""))
    assert sequencer.progress.last_offset == "0-1"
