"""What is remembered of streams that are over."""

from __future__ import annotations

from trio_streams.peer.recent_ids import RecentIds


def test_the_newest_are_remembered() -> None:
    """1,024 of them; one that is said again is new again, and what is taken is forgotten."""
    ids: RecentIds[int] = RecentIds()
    for number in range(1_024):
        ids.add(str(number), number)
    ids.add("0", 7)
    ids.add("more", 1)
    assert ("0" in ids, "1" in ids, "2" in ids) == (True, False, True)
    assert (ids.get("0"), ids.get("1"), ids.take("0"), ids.take("0")) == (7, None, 7, None)
