"""The machine of an event source: when it asks, with which id, what answers mean, and when it gives up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trio_streams.core.errors import LocalProtocolError, RemoteProtocolError
from trio_streams.wire.event_source import EventSourceConfig, EventSourceMachine, State
from trio_streams.wire.sse import END_ID, Event

URL = "http://h:1/a/events?x=1"
EVENTS = [("content-type", "text/event-stream; charset=utf-8")]
LOST = OSError("lost")


def machine(
    *,
    url: str = URL,
    random: Callable[[], float] = lambda: 0.0,
    headers: list[tuple[str, str]] | None = None,
    last_event_id: str = "",
    **limits: object,
) -> EventSourceMachine:
    config = EventSourceConfig(**limits)  # type: ignore[arg-type]
    return EventSourceMachine(url, config, now=0.0, random=random, headers=headers or [], last_event_id=last_event_id)


def opened(**limits: object) -> EventSourceMachine:
    source = machine(**limits)  # type: ignore[arg-type]
    source.receive_head(200, EVENTS, 0.0)
    assert source.state is State.OPEN
    return source


def wait(source: EventSourceMachine, now: float) -> float:
    """The seconds of a wait, which is then over."""
    states = [source.state]
    deadline = source.next_deadline()
    assert deadline is not None
    for moment in (deadline - 0.001, deadline):
        source.handle_deadline(moment)
        states.append(source.state)
    assert states == [State.WAITING, State.WAITING, State.CONNECTING]
    return round(deadline - now, 6)


def test_events_arrive_and_their_id_is_asked_for_again() -> None:
    """After a loss the next request names the last whole event; what was cut is not delivered."""
    source = machine()
    assert source.headers() == [("accept", "text/event-stream"), ("cache-control", "no-store")]
    source.receive_head(200, EVENTS, 0.0)
    assert source.receive(b"id: 1\ndata: a\n\nid: \xc3\xa9\ndata: b\n\nid: 3\ndata: c", 1.0) == [
        Event(b"a", id="1"),
        Event(b"b", id="é"),
    ]
    source.lose(LOST, 2.0)
    assert wait(source, 2.0) == 1.0
    assert ("last-event-id", "Ã©") in source.headers()  # UTF-8 in what is written as ISO 8859-1
    source.receive_head(200, EVENTS, 3.0)
    assert source.receive(b"data: d\n\n", 3.0) == [Event(b"d", id="é")]
    assert source.last_event_id == "é"


def test_it_can_begin_behind_an_event() -> None:
    """An id that the user kept is asked for at once; one that would forge a header is refused."""
    assert ("last-event-id", "7") in machine(last_event_id="7").headers()
    with pytest.raises(LocalProtocolError, match="holds a line end or NUL"):
        machine(last_event_id="7\r\nx: y")


def test_204_ends_it_without_a_fault() -> None:
    """No Content closes the source, and nothing went wrong."""
    source = machine()
    source.receive_head(204, [], 0.0)
    assert (source.state, source.failure, source.next_deadline()) == (State.CLOSED, None, None)


def test_the_end_of_our_streams_needs_no_204() -> None:
    """The id that ends a stream closes the source as soon as its event is here."""
    source = opened()
    (event,) = source.receive(f"event: end\nid: {END_ID}\ndata: {{}}\n\n".encode(), 0.0)
    assert (event.event, source.state, source.failure) == ("end", State.CLOSED, None)


@pytest.mark.parametrize(
    ("status", "headers", "field"),
    [
        (200, [("content-type", "text/html")], "content-type"),
        (200, [], "content-type"),
        (201, EVENTS, "status"),
        (302, [], "status"),
        (304, [("location", "/x")], "status"),
        (400, EVENTS, "status"),
        (401, [], "status"),
        (404, [], "status"),
        (410, [], "status"),
    ],
)
def test_what_ends_it_for_good(status: int, headers: list[tuple[str, str]], field: str) -> None:
    """Wrong content, and refusals that no second request would change."""
    source = machine()
    source.receive_head(status, headers, 0.0)
    assert source.state is State.CLOSED
    assert isinstance(source.failure, RemoteProtocolError)
    assert source.failure.field == field


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_what_is_about_the_moment_is_waited_out(status: int) -> None:
    """An overloaded or broken server is asked again."""
    source = machine()
    source.receive_head(status, EVENTS, 0.0)
    assert wait(source, 0.0) == 1.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([("retry-after", "7")], 7.0),
        ([("retry-after", "0")], 1.0),
        ([("retry-after", "99999")], 120.0),
        ([("retry-after", "Sat, 21 Nov 2026 10:00:09 GMT"), ("date", "Sat, 21 Nov 2026 10:00:00 GMT")], 9.0),
        ([("retry-after", "Sat, 21 Nov 2026 10:00:09 GMT")], 1.0),
        ([("retry-after", "Sat, 21 Nov 99999999999 10:00:09 GMT"), ("date", "Sat, 21 Nov 2026 10:00:00 GMT")], 1.0),
        ([("retry-after", "soon"), ("date", "Sat, 21 Nov 2026 10:00:00 GMT")], 1.0),
    ],
)
def test_retry_after_is_obeyed_within_bounds(headers: list[tuple[str, str]], seconds: float) -> None:
    """Seconds, or a date counted from the server's own clock; never less than the usual wait, and never for ever."""
    source = machine(max_elapsed=None)
    source.receive_head(503, headers, 0.0)
    assert wait(source, 0.0) == seconds


def test_waits_grow_until_a_stream_has_brought_something() -> None:
    """Each failure doubles the wait up to its limit; an answer alone proves nothing, its first byte does."""
    source = machine(max_retry_delay=5.0)
    waits = []
    for _ in range(4):
        source.lose(LOST, 0.0)
        waits.append(wait(source, 0.0))
    assert waits == [1.0, 2.0, 4.0, 5.0]
    source.receive_head(200, EVENTS, 0.0)
    source.lose(LOST, 0.0)
    assert wait(source, 0.0) == 5.0
    source.receive_head(200, EVENTS, 0.0)
    assert source.receive(b":\n\n", 0.0) == []
    assert source.attempts == 0
    assert source.receive(b":\n\n", 0.0) == []
    source.lose(LOST, 0.0)
    assert wait(source, 0.0) == 1.0


def test_the_server_sets_the_time() -> None:
    """`retry:` replaces the first wait, within bounds; a server that says 0 is not asked in a loop when it fails."""
    source = opened(max_elapsed=None)
    source.receive(b"retry: 2500\n\n", 0.0)
    source.lose(LOST, 0.0)
    assert wait(source, 0.0) == 2.5
    source.receive_head(200, EVENTS, 0.0)
    source.receive(b"retry: 999999999\n\n", 0.0)
    source.lose(LOST, 0.0)
    assert wait(source, 0.0) == 120.0
    source.receive_head(200, EVENTS, 0.0)
    source.receive(b"retry: 0\n\n", 0.0)
    source.lose(LOST, 0.0)
    assert wait(source, 0.0) == 0.0
    source.lose(LOST, 0.0)
    assert wait(source, 0.0) == 0.2


def test_chance_spreads_waits() -> None:
    """Chance adds up to half of the wait, and never shortens it."""
    source = machine(random=lambda: 0.5)
    source.lose(LOST, 10.0)
    assert wait(source, 10.0) == 1.25


def test_attempts_have_a_limit() -> None:
    """The attempt that reaches the limit closes the source with its own fault."""
    source = machine(max_attempts=2)
    source.lose(OSError("first"), 0.0)
    wait(source, 0.0)
    source.lose(LOST, 0.0)
    assert (source.state, source.failure, source.attempts) == (State.CLOSED, LOST, 2)


def test_time_without_a_stream_has_a_limit() -> None:
    """It counts from the beginning, or from the loss of a stream that brought something."""
    source = machine(max_elapsed=10.0)
    source.lose(LOST, 9.5)
    assert source.state is State.CLOSED
    source = opened(max_elapsed=10.0)
    source.receive(b":\n\n", 100.0)
    source.lose(LOST, 100.0)
    assert source.state is State.WAITING


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(status: int) -> None:
    """The next request goes where the server says, at once; only a permanent redirect is kept for later attempts."""
    source = machine()
    source.receive_head(status, [("location", "../other")], 0.0)
    assert (source.state, source.url) == (State.CONNECTING, "http://h:1/other")
    source.receive_head(302, [("location", "https://elsewhere/x")], 0.0)
    assert source.url == "https://elsewhere/x"
    source.lose(LOST, 0.0)
    wait(source, 0.0)
    assert source.url == ("http://h:1/other" if status in {301, 308} else URL)


def test_another_origin_sees_no_secrets() -> None:
    """What proves who we are stays at home; the rest, and the id, travel. Headers of the source's own can't be replaced."""
    source = machine(
        headers=[("Authorization", "s"), ("cookie", "c"), ("x-a", "1"), ("Accept", "x")], last_event_id="7"
    )
    assert source.headers()[3:] == [("Authorization", "s"), ("cookie", "c"), ("x-a", "1")]
    source.receive_head(307, [("location", "http://h:2/")], 0.0)
    assert source.headers()[2:] == [("last-event-id", "7"), ("x-a", "1")]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://h/", "https://é/", "https://[x/"])
def test_redirects_that_lead_astray(location: str) -> None:
    """Neither out of HTTP, nor out of TLS, nor to what is no URL."""
    source = machine(url="https://h/")
    source.receive_head(302, [("location", location)], 0.0)
    assert source.state is State.CLOSED
    assert "can't be followed" in str(source.failure)


def test_redirects_in_a_circle() -> None:
    """An attempt follows so many redirects and no more; the next one counts anew."""
    source = machine(max_redirects=2)
    for _ in range(2):
        source.receive_head(302, [("location", URL)], 0.0)
    source.lose(LOST, 0.0)
    wait(source, 0.0)
    for _ in range(2):
        source.receive_head(302, [("location", URL)], 0.0)
    assert source.state is State.CONNECTING
    source.receive_head(302, [("location", URL)], 0.0)
    assert "too many redirects" in str(source.failure)


def test_silence_has_a_deadline() -> None:
    """An answer that does not come and a stream without a byte have one; each byte, and each listening, moves it."""
    source = machine(idle_timeout=10.0)
    assert source.next_deadline() == 10.0
    source.receive_head(200, EVENTS, 5.0)
    assert source.next_deadline() == 15.0
    source.receive(b":\n\n", 8.0)
    assert source.next_deadline() == 18.0
    source.listen(20.0)
    assert source.next_deadline() == 30.0
    source.handle_deadline(30.0)  # says nothing about a stream: whoever drives it says that it is lost, and how
    assert source.state is State.OPEN
    assert machine(idle_timeout=None).next_deadline() is None


def test_an_event_past_the_limit_ends_it() -> None:
    """It would come again after every attempt."""
    source = opened(max_event_bytes=10)
    assert source.receive(b"data: 12345678901\n\n", 0.0) == []
    assert source.state is State.CLOSED
    assert isinstance(source.failure, RemoteProtocolError)
    assert source.failure.limit == 10


def test_closing() -> None:
    """Closing is idempotent, and may say later what went wrong."""
    source = opened()
    source.close()
    assert (source.state, source.failure) == (State.CLOSED, None)
    source.close(LOST)
    source.close()
    assert source.failure is LOST


def test_what_does_not_fit_the_state_is_refused() -> None:
    """Heads only while connecting, bytes only while open, losses only of what there is."""
    source = machine()
    with pytest.raises(LocalProtocolError, match="connecting"):
        source.receive(b"", 0.0)
    source.lose(LOST, 0.0)
    with pytest.raises(LocalProtocolError, match="waiting"):
        source.receive_head(200, EVENTS, 0.0)
    with pytest.raises(LocalProtocolError, match="waiting"):
        source.lose(LOST, 0.0)


@pytest.mark.parametrize(
    "limits",
    [{"retry_delay": 0}, {"backoff_factor": 0.5}, {"jitter": 2}, {"max_attempts": 0}, {"max_redirects": -1}],
)
def test_a_config_is_validated_where_it_is_made(limits: dict[str, float]) -> None:
    """A value out of range is refused with its field's name."""
    with pytest.raises(ValueError, match=next(iter(limits))):
        EventSourceConfig(**limits)  # type: ignore[arg-type]
