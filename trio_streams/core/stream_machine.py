"""One stream: two halves, their credit, what waits to be sent. It knows no id and no carrier, so that it can stand
on our own multiplexer and on QUIC's or HTTP/2's streams alike.

Sending: `send` takes payloads while there is credit, `pull` gives them out again in runs that fit into a frame, the
head before them and the END behind them. An item larger than a frame is cut into pieces as long as a turn allows, which
the wire puts into frames: the first one announces the total, which is charged at once, and nothing of this stream comes
between them. RESET and STOP overtake data and are
returned by the command that makes them.

Receiving: items are counted against the credit and handed on as runs; consumption makes grants due. After our STOP
arriving data is discarded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from trio_streams.codes import Code
from trio_streams.config import ITEM_OVERHEAD_BYTES
from trio_streams.core import records
from trio_streams.core.assembly import Assembly, Piece
from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.core.flow import ReceiveCredit, SendCredit, cost
from trio_streams.core.states import FINISHED, HalfState, Trigger, advance

__all__ = ["Pulled", "StreamMachine"]

_RUN_LIMIT: Final = 4_096  # items in one frame: bounds the length table a peer has to walk
_LENGTH_BYTES: Final = 2  # what an item's length costs in a run


Pulled: TypeAlias = "list[bytes] | Piece | records.Header | records.End"


class StreamMachine:
    """One stream's state.

    Args:
      send_credit: what the peer granted for our half.
      receive_credit: what we granted for the peer's half.
      priority: higher goes first.
      max_frame_bytes: the most payload one frame carries.
    """

    __slots__ = (
        "_assembly",
        "_cut",
        "_end",
        "_head",
        "_max_frame_bytes",
        "_queue",
        "head_queued",
        "head_received",
        "is_blocked",
        "is_released",
        "priority",
        "queued_bytes",
        "receive_credit",
        "receive_state",
        "send_credit",
        "send_state",
        "weight",
    )

    def __init__(
        self, send_credit: SendCredit, receive_credit: ReceiveCredit, *, priority: int, max_frame_bytes: int
    ) -> None:
        self.send_state: HalfState = HalfState.OPEN
        self.receive_state: HalfState = HalfState.OPEN
        self.send_credit: SendCredit = send_credit
        self.receive_credit: ReceiveCredit = receive_credit
        self.priority: int = priority
        self.weight: int = 1  # turns in a round of its priority
        self.queued_bytes: int = 0
        self.is_blocked: bool = False
        self.is_released: bool = False
        self.head_queued: bool = False
        self.head_received: bool = False
        self._max_frame_bytes = max_frame_bytes
        self._queue: deque[bytes] = deque()
        self._head: records.Header | None = None
        self._end: records.End | None = None
        self._cut: memoryview | None = None
        self._assembly: Assembly | None = None

    # -- our half ---------------------------------------------------------------------------------------------

    def _require_open(self, action: str) -> None:
        if self.send_state is not HalfState.OPEN:
            raise LocalProtocolError(f"can't {action} in state {self.send_state.value}")

    def send(self, payloads: Sequence[bytes], room: int) -> int:
        """Queue as many payloads as credit and room allow, from the first on.

        Args:
          payloads: the items.
          room: bytes that the connection's send buffer still takes. A stream with nothing queued may always queue
            one item.

        Returns:
          How many were taken; fewer than offered marks the stream as blocked.

        Raises:
          LocalProtocolError: the half is not open; nothing was queued.
        """
        self._require_open("send")
        credit = self.send_credit
        count = len(payloads)
        size = cost(payloads)
        if credit.items + count <= credit.item_limit and credit.bytes + size <= credit.byte_limit and size <= room:
            self._queue.extend(payloads)
            credit.items += count
            credit.bytes += size
            self.queued_bytes += size
            return count
        taken = 0
        for payload in payloads:
            if not credit.is_open or (room <= 0 and self._queue):
                break
            charge = len(payload) + ITEM_OVERHEAD_BYTES
            self._queue.append(payload)
            credit.items += 1
            credit.bytes += charge
            self.queued_bytes += charge
            room -= charge
            taken += 1
        if taken < count:
            self.is_blocked = True
        return taken

    def send_one(self, payload: bytes, room: int) -> int:
        """Queue one payload where nothing stands in its way; `send` decides about all else.

        Args:
          payload: the item.
          room: bytes that the connection's send buffer still takes.

        Returns:
          What it was charged, or 0 where it was not taken.
        """
        credit = self.send_credit
        charge = len(payload) + ITEM_OVERHEAD_BYTES
        if (
            self.send_state is not HalfState.OPEN
            or charge > room
            or credit.items >= credit.item_limit
            or credit.bytes >= credit.byte_limit
        ):
            return 0
        self._queue.append(payload)
        credit.items += 1
        credit.bytes += charge
        self.queued_bytes += charge
        return charge

    def head(self, metadata: Mapping[str, str]) -> None:
        """Queue the head, which goes before the first item.

        Raises:
          LocalProtocolError: items were queued before, or the half is not open.
        """
        self._require_open("send a header")
        if self.send_credit.items or self.head_queued:
            raise LocalProtocolError("can't send a header after the first item or twice")
        self.head_queued = True
        self._head = records.Header(metadata)

    def end(self, status: records.Status, trailers: Mapping[str, str]) -> None:
        """Queue the end, behind the items.

        Raises:
          LocalProtocolError: the half is not open.
        """
        self._require_open("end")
        self.send_state = HalfState.CLOSING
        self._end = records.End(status, trailers)
        self.is_blocked = False

    def reset(self, code: Code, reason: str) -> records.Reset | None:
        """Abandon our half and what is queued.

        Returns:
          The record to send, or None where the half had finished before.
        """
        state = advance(self.send_state, Trigger.RESET)
        if state is None:
            return None
        self._abandon(state)
        return records.Reset(code, reason)

    def stopped(self) -> bool:
        """The peer refuses more: drop what is queued.

        Returns:
          Whether that was news. The peer is owed a RESET then, which tells it that nothing follows.
        """
        state = advance(self.send_state, Trigger.STOP)
        if state is None:
            return False
        self._abandon(state)
        return True

    def _abandon(self, state: HalfState) -> None:
        self.send_state = state
        self.is_blocked, self.queued_bytes = False, 0
        self._queue.clear()
        self._head = self._end = self._cut = None

    @property
    def queued_items(self) -> int:
        """How many whole items wait to be sent."""
        return len(self._queue)

    @property
    def has_output(self) -> bool:
        """Whether `pull` has something to give."""
        return bool(self._queue) or self._cut is not None or self._head is not None or self._end is not None

    @property
    def needs_connection_credit(self) -> bool:
        """Whether the next thing to send is a new item."""
        return bool(self._queue) and self._cut is None and self._head is None

    def pull(self, max_bytes: int, connection_room: int) -> Pulled | None:
        """The next frame's content, in order.

        Args:
          max_bytes: what this turn may still send.
          connection_room: bytes that the connection's credit still allows; an item may start while it is above 0.

        Returns:
          A head, a run of whole items, a piece of a large one, the end, or None where nothing fits.
        """
        if self._head is not None:
            head, self._head = self._head, None
            return head
        if self._cut is not None:
            return self._pull_piece(max_bytes)
        if self._queue:
            return self._pull_run(max_bytes, connection_room) if connection_room > 0 else None
        if self._end is not None:
            end, self._end = self._end, None
            self.send_state = HalfState.CLOSED
            return end
        return None

    def _pull_piece(self, max_bytes: int) -> Piece | None:
        rest = self._cut
        assert rest is not None
        if max_bytes <= 0:
            return None
        if max_bytes >= len(rest):
            self._cut = None
            return Piece(rest)
        self._cut = rest[max_bytes:]
        return Piece(rest[:max_bytes])

    def _begin_item(self, max_bytes: int) -> Piece:
        item = self._queue.popleft()
        self.queued_bytes -= len(item) + ITEM_OVERHEAD_BYTES
        # The total takes four bytes of the first frame; a piece that filled it would end in a frame of four.
        size = max(1, max_bytes if max_bytes <= self._max_frame_bytes - 4 else max_bytes - 4)
        view = memoryview(item)
        self._cut = view[size:] if size < len(item) else None
        return Piece(view[:size], len(item))

    def _pull_run(self, max_bytes: int, connection_room: int) -> list[bytes] | Piece | None:
        queue = self._queue
        frame = self._max_frame_bytes - _LENGTH_BYTES
        if len(queue[0]) > frame:
            return self._begin_item(max_bytes)
        room = min(max_bytes, frame)
        count = len(queue)
        whole = self.queued_bytes - (ITEM_OVERHEAD_BYTES - _LENGTH_BYTES) * count
        if whole <= room and count <= _RUN_LIMIT and self.queued_bytes <= connection_room:
            # All of it fits, as it does for a fast reader: no need to look at each item.
            everything = list(queue)
            queue.clear()
            self.queued_bytes = 0
            return everything
        run: list[bytes] = []
        take = queue.popleft
        charged = 0
        while queue and charged < connection_room and len(run) < _RUN_LIMIT:
            size = len(queue[0]) + _LENGTH_BYTES
            if size > room and (run or size > max_bytes):
                break
            room -= size
            run.append(take())
            charged += size + ITEM_OVERHEAD_BYTES - _LENGTH_BYTES
        self.queued_bytes -= charged
        return run or None

    # -- the peer's half --------------------------------------------------------------------------------------

    def receive_run(self, items: list[bytes], size: int) -> bool:
        """Charge whole items that arrived.

        Args:
          items: the run.
          size: what it costs.

        Returns:
          Whether the items are wanted; after our STOP they are not.

        Raises:
          RemoteProtocolError: items after the end, between the pieces of another one, or without credit.
        """
        if self._assembly is not None:
            raise RemoteProtocolError("the peer sent an item between the pieces of another one", field="piece")
        return self._charge(len(items), size, len(items[-1]) + ITEM_OVERHEAD_BYTES)

    def receive_first(self, piece: Piece, total: int) -> bool:
        """Charge a large item by its first piece, which may be the whole; the same rules hold as for a run."""
        if self._assembly is not None:
            raise RemoteProtocolError("the peer began an item between the pieces of another one", field="piece")
        assembly = None if piece.is_whole else Assembly(piece.data, total)
        charge = total + ITEM_OVERHEAD_BYTES
        if not self._charge(1, charge, charge):
            return False
        self._assembly = assembly
        return True

    def receive_piece(self, piece: Piece) -> bytes | None:
        """Take a further piece.

        Returns:
          The item when this piece completes it and it is wanted.

        Raises:
          RemoteProtocolError: no item is under way, or the piece is longer than what was announced.
        """
        if self.receive_state is HalfState.ERRORED:
            return None
        if self._assembly is None:
            raise RemoteProtocolError("the peer sent a piece of an item that it never began", field="piece")
        item = self._assembly.add(piece.data)
        if item is not None:
            self._assembly = None
        return item

    def _charge(self, count: int, size: int, last: int) -> bool:
        if self.receive_state is HalfState.OPEN:
            self.receive_credit.receive(count, size, last)
            return True
        if self.receive_state is HalfState.ERRORED:
            # RESET or STOP crossed the data on the wire: discard it.
            return False
        raise RemoteProtocolError("the peer sent an item after the end of its half")

    def receive_header(self) -> bool:
        """Note the head of the answer.

        Returns:
          Whether it is wanted.

        Raises:
          RemoteProtocolError: it comes after items or for the second time.
        """
        if self.receive_state is HalfState.ERRORED:
            return False
        if self.head_received or self.receive_credit.items or self.receive_state is not HalfState.OPEN:
            raise RemoteProtocolError("the peer sent a header after its first item or twice", field="header")
        self.head_received = True
        return True

    def receive_end(self) -> bool:
        """Note the end.

        Returns:
          Whether that is news; it is not after our STOP.

        Raises:
          RemoteProtocolError: the peer ended twice, or inside an item.
        """
        if self.receive_state in (HalfState.CLOSING, HalfState.CLOSED):
            raise RemoteProtocolError("the peer ended its half twice")
        if self._assembly is not None and self.receive_state is HalfState.OPEN:
            raise RemoteProtocolError(f"the peer ended its half {self._assembly.left} bytes before the end of an item")
        state = advance(self.receive_state, Trigger.END)
        if state is None:
            return False
        self.receive_state = state
        self._close_if_drained()
        return True

    def receive_reset(self) -> bool:
        """The peer abandons its half.

        Returns:
          Whether that is news.
        """
        state = advance(self.receive_state, Trigger.RESET)
        if state is None:
            return False
        self.receive_state = state
        self._assembly = None
        return True

    def stop(self, code: Code, reason: str) -> records.Stop | None:
        """Refuse more of the peer's half.

        Returns:
          The record to send, or None where the half had finished before or its end is already here.
        """
        before = self.receive_state
        state = advance(before, Trigger.STOP)
        if state is None:
            return None
        self.receive_state = state
        self._assembly = None
        return records.Stop(code, reason) if before is HalfState.OPEN else None

    def consume(self, items: int, size: int) -> bool:
        """Count what the application took.

        Args:
          items: how many.
          size: what they cost.

        Returns:
          Whether the peer should be granted more on this stream.
        """
        due = self.receive_credit.consume(items, size)
        self._close_if_drained()
        return due and self.receive_state is HalfState.OPEN

    def _close_if_drained(self) -> None:
        credit = self.receive_credit
        if self.receive_state is HalfState.CLOSING and credit.consumed_items >= credit.items:
            self.receive_state = HalfState.CLOSED

    def settle(self) -> int:
        """Count everything that arrived as consumed, because nobody will take it.

        Returns:
          What that gives back to the connection, in bytes.
        """
        credit = self.receive_credit
        freed = credit.unconsumed_bytes
        credit.consumed_items, credit.consumed_bytes = credit.items, credit.bytes
        self._close_if_drained()
        return freed

    @property
    def is_finished(self) -> bool:
        """Whether both halves are over."""
        return self.send_state in FINISHED and self.receive_state in FINISHED
