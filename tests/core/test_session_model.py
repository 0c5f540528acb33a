"""The model of a connection, whose line is cut now and then: all that is true of it stays true."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.core.sessions import make_session
from tests.core.test_model import Model
from trio_streams.config import ConnectionConfig
from trio_streams.core import events
from trio_streams.core.mux import Mux
from trio_streams.core.session import Session
from trio_streams.testing import Link, Pair


class SessionModel(Model):
    """Two sessions over lines that are lost with all that is on them, and what is done meanwhile."""

    def make(self, is_client: bool, config: ConnectionConfig) -> Mux:
        return make_session(is_client=is_client, config=config, max_retained_bytes=131_072)

    @property
    def sessions(self) -> list[Session]:
        return [mux for mux in self.muxes if isinstance(mux, Session)]

    @rule(seed=st.integers(0, 1_000), max_chunk=st.sampled_from([None, 20, 500, 20_000]), flushes=st.booleans())
    def cut(self, seed: int, max_chunk: int | None, flushes: bool) -> None:
        if flushes:
            self.pair.flush()
        if all(session.can_outlive for session in self.sessions):
            for session in self.sessions:
                session.detach()
            self.look()
            link = Link(seed, latency=(0.0, 0.01), max_chunk=max_chunk)
            max_bytes = self.pair._max_bytes
            self.pair: Pair[events.Event] = Pair(*self.muxes, link, now=self.pair.now, max_bytes=max_bytes)

    @rule()
    def mend(self) -> None:
        for session in self.sessions:
            if not session.is_attached:
                session.attach(self.pair.now)

    @rule(never_read=st.integers(0, 99))
    def everything_is_read_but_one_stream(self, never_read: int) -> None:
        self.mend()
        super().everything_is_read_but_one_stream(never_read)


TestSessionModel = SessionModel.TestCase
TestSessionModel.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
