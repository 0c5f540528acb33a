"""Following a file through all that logs do."""

from __future__ import annotations

import os
from contextlib import aclosing
from pathlib import Path

import pytest
from trio.testing import MockClock

from trio_streams.demo.follow import Follower, follow


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)


def test_what_is_there_comes_first_and_then_what_is_added(tmp_path: Path) -> None:
    """Each line comes once, complete: a line without an end waits for it."""
    path = tmp_path / "log"
    _append(path, "one\ntwo\r\nthr")
    follower = Follower(path)
    assert follower.last_lines() == ["one", "two"]
    assert follower.poll() == []
    _append(path, "ee\n\nfo")
    assert follower.poll() == ["three", ""]
    _append(path, "ur\n")
    assert follower.poll() == ["four"]
    follower.close()


def test_a_truncated_file_is_read_from_its_beginning(tmp_path: Path) -> None:
    """A file that was cut has new content; the unfinished line from before is gone with the rest."""
    path = tmp_path / "log"
    _append(path, "a long first line\nunfinished")
    follower = Follower(path)
    follower.last_lines()
    path.write_text("new\n", encoding="utf-8")
    assert [*follower.poll(), *follower.poll()] == ["new"]
    _append(path, "more\n")
    assert follower.poll() == ["more"]
    follower.close()


@pytest.mark.skipif(os.name == "nt", reason="Windows renames no file that is open")
def test_a_rotated_file_is_read_to_its_end_before_the_new_one(tmp_path: Path) -> None:
    """Nothing is lost: not the last line before the rename, not an unfinished one, not the first of the new file."""
    path = tmp_path / "log"
    _append(path, "one\n")
    follower = Follower(path)
    assert follower.last_lines() == ["one"]
    _append(path, "two\nunfinished")
    path.rename(tmp_path / "log.1")
    assert follower.poll() == ["two"]
    assert follower.poll() == []  # between the two moves of a rotation there is no file
    _append(path, "three\n")
    assert follower.poll() == ["unfinished"]
    assert follower.poll() == ["three"]
    follower.close()


def test_a_file_that_does_not_exist_yet_is_waited_for(tmp_path: Path) -> None:
    """All of its lines are added ones."""
    path = tmp_path / "log"
    follower = Follower(path)
    assert follower.last_lines() == follower.poll() == []
    _append(path, "one\n")
    assert follower.poll() == ["one"]
    follower.close()
    follower.close()


def test_broken_text_does_not_stop_it(tmp_path: Path) -> None:
    """What is not UTF-8 is replaced, character by character."""
    path = tmp_path / "log"
    path.write_bytes(b"caf\xe9\nfine\n")
    follower = Follower(path)
    assert follower.last_lines() == ["caf\N{REPLACEMENT CHARACTER}", "fine"]
    follower.close()


def test_a_line_without_an_end_costs_64_kib_at_most(tmp_path: Path) -> None:
    """A longer line is cut into pieces, and nothing of it is lost."""
    path = tmp_path / "log"
    follower = Follower(path)
    path.write_bytes(b"x" * 200_000)
    pieces: list[str] = []
    for _ in range(4):
        pieces += follower.poll()
        assert len(follower._rest) <= 65_536
    path.write_bytes(b"x" * 200_000 + b"\n")
    pieces += follower.poll()
    assert max(map(len, pieces)) <= 65_536
    assert sum(map(len, pieces)) == 200_000
    follower.close()


def test_only_the_last_mebibyte_of_a_large_file_is_looked_at(tmp_path: Path) -> None:
    """The first line found may be a piece of one, so it is left out."""
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"%09d\n" % number for number in range(150_000)))
    follower = Follower(path)
    lines = follower.last_lines()
    assert lines[-1] == f"{149_999:09}"
    assert 1_000_000 < 10 * len(lines) <= 1_048_576
    assert {len(line) for line in lines} == {9}
    follower.close()


async def test_the_iterator_polls(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What is there, even if it is nothing, comes at once; what is added comes with the next look."""
    path = tmp_path / "log"
    _append(path, "one\n")
    async with aclosing(follow(path)) as runs:
        assert await anext(runs) == ["one"]
        _append(path, "two\nthree\n")
        assert await anext(runs) == ["two", "three"]
