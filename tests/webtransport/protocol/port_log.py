"""A session that writes down what it is asked, and takes as much as it is told to."""

from __future__ import annotations

__all__ = ["PortLog"]


class PortLog:
    """See the module.

    Attributes:
      calls: what was asked, in order, but for `can_open` and `send`.
      sent: what each stream took.
      room: bytes that each stream still takes; those that are not in it take all.
      allowed: whether streams of either kind can be opened, bidirectional ones first.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.sent: dict[int, bytes] = {}
        self.room: dict[int, int] = {}
        self.allowed = [True, True]
        self._next = [4, 2]

    def take_calls(self) -> list[tuple[object, ...]]:
        """What was asked since."""
        taken, self.calls = self.calls, []
        return taken

    def can_open(self, *, is_unidirectional: bool) -> bool:
        return self.allowed[is_unidirectional]

    def open_stream(self, *, is_unidirectional: bool, priority: int = 0) -> int:
        stream_id = self._next[is_unidirectional]
        self._next[is_unidirectional] += 4
        self.calls.append(("open", stream_id, priority))
        return stream_id

    def set_priority(self, stream_id: int, priority: int) -> None:
        self.calls.append(("priority", stream_id, priority))

    def send(self, stream_id: int, data: bytes | memoryview) -> int:
        room = self.room.get(stream_id, len(data))
        taken = bytes(data[:room])
        if stream_id in self.room:
            self.room[stream_id] = room - len(taken)
        self.sent[stream_id] = self.sent.get(stream_id, b"") + taken
        return len(taken)

    def end(self, stream_id: int) -> None:
        self.calls.append(("end", stream_id))

    def reset(self, stream_id: int, code: int) -> None:
        self.calls.append(("reset", stream_id, code))

    def stop(self, stream_id: int, code: int) -> None:
        self.calls.append(("stop", stream_id, code))

    def consumed(self, stream_id: int, size: int) -> None:
        self.calls.append(("consumed", stream_id, size))

    def release(self, stream_id: int) -> None:
        self.calls.append(("release", stream_id))

    def drain(self) -> None:
        self.calls.append(("drain",))
