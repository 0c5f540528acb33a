"""The parts of the Jupyter extension that need no kernel: the nursery and the HTML."""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing

from trio_streams.notebook import KernelNursery, html, live, unload_ipython_extension
from trio_streams.streams import StreamStatistics


async def _open(nursery: trio.Nursery) -> KernelNursery:
    opened = KernelNursery()
    nursery.start_soon(opened.run)
    await trio.testing.wait_all_tasks_blocked()
    return opened


async def _crash(error: BaseException) -> None:
    await trio.lowlevel.checkpoint()
    raise error


async def _crash_after_start(error: BaseException, *, task_status: trio.TaskStatus[str]) -> None:
    task_status.started("up")
    await _crash(error)


async def _crash_before_start(error: BaseException, *, task_status: trio.TaskStatus[str]) -> None:
    await _crash(error)
    task_status.started("never")


@pytest.mark.parametrize("error", [ValueError("oh"), SystemExit("oh"), ExceptionGroup("two", [ValueError("oh")])])
async def test_a_crash_is_reported(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    """Whatever a task raises is written to stderr with the task's name, and the nursery goes on."""
    opened = await _open(nursery)
    opened.start_soon(trio.sleep_forever)
    opened.start_soon(_crash, error, name="victim")
    assert await opened.start(_crash_after_start, KeyError("oh"), name="second") == "up"
    await trio.testing.wait_all_tasks_blocked()
    report = capsys.readouterr().err
    assert "background task victim crashed" in report
    assert "background task second crashed" in report
    assert f"{type(error).__name__}: " in report
    assert "nursery.py" not in report
    assert len(opened.child_tasks) == 1
    nursery.cancel_scope.cancel()


async def test_a_crash_before_started_is_the_callers(nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]) -> None:
    """`start` raises what the task raised before it called `started`, bare, and nothing is reported."""
    opened = await _open(nursery)
    with pytest.raises(ValueError, match="oh"):
        await opened.start(_crash_before_start, ValueError("oh"))
    assert not capsys.readouterr().err
    assert "0 running" in repr(opened)
    nursery.cancel_scope.cancel()


async def test_a_cancelled_task_that_fails_reports_only_the_failure(
    nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error raised beside a cancellation is reported; the cancellation goes where it belongs."""

    async def both() -> None:
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("on the way out")

    opened = await _open(nursery)
    opened.start_soon(both)
    await trio.testing.wait_all_tasks_blocked()
    opened.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    report = capsys.readouterr().err
    assert "ValueError: on the way out" in report
    assert "Traceback (most recent call last)" in report
    nursery.cancel_scope.cancel()


async def test_the_nursery_opens_anew_after_a_cancellation(nursery: trio.Nursery) -> None:
    """What is started after `cancel()` waits until the cancelled tasks have unwound, and is not cancelled."""
    opened = await _open(nursery)
    order: list[str] = []

    async def old() -> None:
        try:
            await trio.sleep_forever()
        finally:
            order.append("old unwound")

    async def new(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        order.append("new started")
        task_status.started()
        await trio.sleep_forever()

    opened.start_soon(old)
    await trio.testing.wait_all_tasks_blocked()
    first = opened.cancel_scope
    first.cancel()
    opened.start_soon(new)
    await opened.start(new)
    assert order == ["old unwound", "new started", "new started"]
    assert opened.cancel_scope is not first
    assert len(opened.child_tasks) == 2
    nursery.cancel_scope.cancel()


async def test_a_closed_nursery_starts_nothing(nursery: trio.Nursery) -> None:
    """After its owner closed it, the nursery refuses tasks and says what to do."""
    opened = await _open(nursery)
    opened.close()
    with pytest.raises(RuntimeError, match="%load_ext"):
        opened.start_soon(trio.sleep_forever)
    with pytest.raises(RuntimeError, match="%load_ext"):
        await opened.start(_crash_before_start)
    assert "closed" in repr(opened)
    nursery.cancel_scope.cancel()


async def test_who_waits_for_a_nursery_that_closes_is_told(nursery: trio.Nursery) -> None:
    """`start` on a nursery that closes before it opens anew raises instead of waiting for ever."""
    opened = KernelNursery()
    with pytest.raises(RuntimeError, match="not open"):
        _ = opened.cancel_scope
    told = trio.Event()

    async def wait() -> None:
        with pytest.raises(RuntimeError, match="closed"):
            await opened.start(_crash_before_start)
        told.set()

    nursery.start_soon(wait)
    await trio.testing.wait_all_tasks_blocked()
    opened.close()
    with trio.CancelScope() as scope:
        scope.cancel()
        await opened.run()
    await told.wait()


class _State(enum.Enum):
    OPEN = 1
    CLOSED = 2


@attrs.frozen
class _Statistics:
    state: _State
    peer: str


@attrs.frozen
class _ConnectionStatistics:
    is_open: bool
    streams: tuple[StreamStatistics, ...] = ()


@attrs.frozen
class _Source:
    now: attrs.AttrsInstance

    def statistics(self) -> attrs.AttrsInstance:
        return self.now


def _stream(**values: object) -> _Source:
    make: Callable[..., StreamStatistics] = StreamStatistics
    return _Source(make(id="s", **values))


@pytest.mark.parametrize(
    ("buffered", "window", "width"),
    [(0, 16, "0%"), (4, 16, "25%"), (16, 16, "100%"), (17, 16, "100%"), (0, 0, "0%"), (1, 0, "100%")],
)
def test_a_bar_shows_how_full_a_buffer_is(buffered: int, window: int, width: str) -> None:
    """The bar's width is the buffer's share of its limit, and never more than the whole."""
    table = html.render(_stream(buffered_items=buffered, window_items=window)) or ""
    assert f"width:{width};" in table
    assert f"{buffered} / {window}" in table


def test_html_is_escaped_and_loads_nothing() -> None:
    """Text from a peer cannot become markup, and the table needs neither scripts nor files."""
    table = html.render(_Source(_Statistics(_State.OPEN, "<script src='http://x'>&"))) or ""
    assert "&lt;script src=&#x27;http://x&#x27;&gt;&amp;" in table
    assert "<script" not in table
    assert "url(" not in table
    assert ">open<" in table


def test_a_connection_lists_its_streams() -> None:
    """Each stream of a connection has a line with its name, states and bar; many are counted instead."""
    one = StreamStatistics(id="<s>", send_state="open", buffered_items=3, window_items=4)
    table = html.render(_Source(_ConnectionStatistics(True, (one,) * 25))) or ""
    assert table.count("&lt;s&gt; open") == 20
    assert table.count("width:75%;") == 20
    assert "and 5 more" in table
    assert "more" not in (html.render(_Source(_ConnectionStatistics(True, (one,)))) or "")


def test_what_is_unknown_is_left_out() -> None:
    """Figures that a stream does not have take no row."""
    table = html.render(_stream(bytes_sent=None, items_sent=12_345)) or ""
    assert "bytes sent" not in table
    assert "12,345" in table


def test_statistics_of_another_kind_are_not_drawn() -> None:
    """Where the statistics are no attrs class there is no table, and the plain text stays."""

    class Odd:
        def statistics(self) -> attrs.AttrsInstance:
            return object()  # type: ignore[return-value]

    assert html.render(Odd()) is None
    assert not html.is_finished(Odd())


@pytest.mark.parametrize(
    ("source", "is_finished"),
    [
        (_stream(send_state="open", receive_state="closed"), False),
        (_stream(send_state="errored", receive_state="closed"), True),
        (_stream(receive_state="closed"), True),
        (_stream(), False),
        (_Source(_Statistics(_State.CLOSED, "")), True),
        (_Source(_Statistics(_State.OPEN, "")), False),
        (_Source(_ConnectionStatistics(True)), False),
        (_Source(_ConnectionStatistics(False)), True),
    ],
)
def test_finished_means_every_half(source: _Source, is_finished: bool) -> None:
    """A source is finished when each half that it has is closed or errored."""
    assert html.is_finished(source) == is_finished


def test_live_needs_the_extension() -> None:
    """Without the extension `live` says what to do; unloading what is not loaded does nothing."""
    with pytest.raises(RuntimeError, match="%load_ext"):
        live(_stream())
    make_nothing: Callable[[object], None] = unload_ipython_extension  # type: ignore[assignment]
    make_nothing(None)
