"""A model of durable streams that the machine agrees with."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.durable.protocol.driving import Rig
from trio_streams.durable.protocol.decisions import Appended
from trio_streams.durable.protocol.json_messages import to_array
from trio_streams.durable.protocol.machine import MachineLimits
from trio_streams.durable.protocol.operations import Append, Create, Fork, Read, Start
from trio_streams.durable.protocol.refusals import Refused

PATHS = st.sampled_from("abc")


class Model(RuleBasedStateMachine):
    """The machine beside the plainest thing that could be right: a dictionary of lists of messages."""

    @initialize(is_json=st.booleans(), limit=st.sampled_from([1, 7, 1000]), loaded=st.sampled_from([1, 2, 100]))
    def begin(self, is_json: bool, limit: int, loaded: int) -> None:
        self.rig = Rig(MachineLimits(max_read_bytes=limit, max_loaded_streams=loaded))
        self.rig.store.is_late = True
        self.is_json = is_json
        self.content_type = "application/json" if is_json else "text/plain"
        self.data: dict[str, list[bytes]] = {}
        self.closed: dict[str, tuple[str, int, int] | None] = {}
        self.producers: dict[str, dict[str, tuple[int, int]]] = {}
        self.forks: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.count = 0

    def do(self, operation: Any) -> Any:  # noqa: ANN401 - of any operation
        """The status of a refusal, or the result."""
        try:
            return self.rig.run(operation)
        except Refused as refused:
            return refused.status

    def batch(self, size: int) -> tuple[bytes, list[bytes]]:
        messages = []
        for _ in range(size):
            self.count += 1
            messages.append(b'{"n": %d}' % self.count if self.is_json else b"<%d>" % self.count)
        return (b"[" + b" , ".join(messages) + b"]" if self.is_json else b"".join(messages)), messages

    @rule(path=PATHS, size=st.integers(0, 3), is_closed=st.booleans())
    def create(self, path: str, size: int, is_closed: bool) -> None:
        body, messages = self.batch(size)
        result = self.do(self.rig.machine.create(Create(path, self.content_type, is_closed=is_closed), body))
        if path in self.deleted:
            assert result == 409
        elif path not in self.data:
            assert result.is_new
            self.made(path, messages, is_closed)
        elif path in self.forks or (path in self.closed) is not is_closed:
            assert result == 409
        else:
            assert not result.is_new

    def made(self, path: str, messages: list[bytes], is_closed: bool = False) -> None:
        self.data[path] = messages
        self.producers[path] = {}
        if is_closed:
            self.closed[path] = None

    @rule(path=PATHS, source=PATHS, size=st.integers(0, 2))
    def fork(self, path: str, source: str, size: int) -> None:
        body, messages = self.batch(size)
        if path in self.data or path in self.deleted:
            return
        result = self.do(self.rig.machine.create(Create(path, fork=Fork(source)), body))
        if source in self.deleted:
            assert result == 409
        elif source not in self.data:
            assert result == 404
        else:
            assert result.is_new
            self.forks[path] = source
            self.made(path, [*self.data[source], *messages])

    @rule(
        path=PATHS,
        size=st.integers(0, 3),
        name=st.sampled_from("pq"),
        epoch=st.integers(0, 2),
        seq=st.integers(0, 3),
        is_producer=st.booleans(),
        is_closing=st.sampled_from([False, False, False, True]),
    )
    def append(
        self, path: str, size: int, name: str, epoch: int, seq: int, is_producer: bool, is_closing: bool
    ) -> None:
        body, messages = self.batch(size) if size else (b"", [])
        producer = (name, epoch, seq) if is_producer else None
        result = self.do(self.rig.machine.append(Append(path, self.content_type, is_closing, producer=producer), body))
        expected = self.expected(path, bool(size), producer, is_closing)
        if isinstance(expected, int):
            assert result == expected
            return
        assert isinstance(result, Appended)
        assert result.is_duplicate is (expected == "duplicate")
        if expected == "new":
            self.data[path] = [*self.data[path], *messages]
            if producer is not None:
                self.producers[path][name] = (epoch, seq)
            if is_closing:
                self.closed[path] = producer

    def expected(self, path: str, has_body: bool, producer: tuple[str, int, int] | None, is_closing: bool) -> int | str:
        if path in self.deleted:
            return 410
        if path not in self.data:
            return 404
        if path in self.closed:
            is_same = producer is not None and self.closed[path] == producer
            return "duplicate" if is_same or (producer is None and is_closing and not has_body) else 409
        if not has_body and not is_closing:
            return 400
        if producer is None:
            return "new"
        name, epoch, seq = producer
        known = self.producers[path].get(name)
        if known is None:
            return "new" if seq == 0 else 409
        if epoch < known[0]:
            return 403
        if epoch > known[0]:
            return "new" if seq == 0 else 400
        return "duplicate" if seq <= known[1] else "new" if seq == known[1] + 1 else 409

    @rule(path=PATHS)
    def delete(self, path: str) -> None:
        result = self.do(self.rig.machine.delete(path))
        if path in self.deleted:
            assert result == 410
        elif path not in self.data:
            assert result == 404
        else:
            assert result is None
            self.remove(path)

    def remove(self, path: str) -> None:
        if path in self.data:
            del self.data[path]
            self.closed.pop(path, None)
        if path in self.forks.values():
            self.deleted.add(path)
            return
        self.deleted.discard(path)
        source = self.forks.pop(path, None)
        if source in self.deleted:
            self.remove(source)

    @invariant()
    def reads_agree(self) -> None:
        if not hasattr(self, "data"):
            return
        for path in "abc":
            if path in self.data:
                self.check_read(path)
            else:
                assert self.do(self.rig.machine.read(Read(path))) == (410 if path in self.deleted else 404)
        assert self.rig.machine.stream_count == len(self.data) + len(self.deleted)

    def check_read(self, path: str) -> None:
        start: int | Start = Start.BEGINNING
        whole: list[bytes] = []
        for _ in range(1000):
            chunk = self.rig.run(self.rig.machine.read(Read(path, start)))
            whole += chunk.pieces
            if chunk.is_up_to_date:
                assert chunk.is_closed is (path in self.closed)
                break
            assert chunk.pieces
            assert not chunk.is_closed
            start = chunk.end
        if self.is_json:
            assert json.loads(to_array(whole)) == [json.loads(message) for message in self.data[path]]
        else:
            assert b"".join(whole) == b"".join(self.data[path])


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestModel.__doc__ = "Whatever is done in whatever order, the machine answers as the model does."
