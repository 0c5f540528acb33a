"""A disk that keeps apart what was written and what was synced, until the power goes.

At a seeded moment it fails, and nothing works after that. What a crash leaves is made by `restart`: each write since the last
sync of its file is lost, kept or torn, each for itself, and so are truncations and names.
"""

from __future__ import annotations

import random
from typing import Final

import attrs

__all__ = ["Disk", "File", "PowerCut", "Refusal"]

SECTOR_BYTES: Final = 512
"""What a disk writes as a whole; a page of SQLite is eight of them."""


WAL_HEADER_BYTES: Final = 32


class PowerCut(Exception):
    """The power is off."""


class Refusal(Exception):
    """The disk has refused one thing, and takes the next."""


@attrs.define
class File:
    """One file.

    Attributes:
      live: what a program sees.
      durable: what was synced.
      unsynced: what came since: (offset, data), or (size, None) for a truncation.
      has_name: whether its name is durable.
    """

    live: bytearray = attrs.Factory(bytearray)
    durable: bytearray = attrs.Factory(bytearray)
    unsynced: list[tuple[int, bytes | None]] = attrs.Factory(list)
    has_name: bool = False

    def change(self, offset: int, data: bytes | None) -> None:
        """Write, or truncate."""
        _apply(self.live, offset, data)
        self.unsynced.append((offset, data))

    def sync(self) -> None:
        for offset, data in self.unsynced:
            _apply(self.durable, offset, data)
        self.unsynced.clear()

    def lose(self, rng: random.Random) -> None:
        """Be what a crash leaves."""
        kept = rng.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        torn = kept + (1 - kept) * rng.choice([0.0, 0.5, 1.0])
        for offset, data in self.unsynced:
            fate = rng.random()
            if fate < kept:
                _apply(self.durable, offset, data)
            elif fate < torn and data is not None:
                _tear(self.durable, offset, data, rng)
        self.live = bytearray(self.durable)
        self.unsynced.clear()


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        return
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _tear(content: bytearray, offset: int, data: bytes, rng: random.Random) -> None:
    """Write some of the sectors that a write touches: a run from the front, or any."""
    ends = [*range(offset - offset % SECTOR_BYTES + SECTOR_BYTES, offset + len(data), SECTOR_BYTES), offset + len(data)]
    whole = rng.randrange(len(ends)) if rng.random() < 0.5 else None
    start = offset
    for n, end in enumerate(ends):
        if (rng.random() < 0.5) if whole is None else (n < whole):
            _apply(content, start, data[start - offset : end - offset])
        start = end


class Disk:
    """Files by name, and when the power goes.

    Args:
      rng: decides what a crash leaves.
      is_honest: whether a sync is one. A disk that lies is to show that a test can fail.

    Attributes:
      files: by name.
      is_on: whether there is power.
      is_void: whether nobody listens any more.
      steps: what was written, truncated, synced and deleted.
      frame_syncs: how many syncs made something of a write-ahead log durable.
    """

    def __init__(self, rng: random.Random, *, is_honest: bool = True) -> None:
        self.files: dict[str, File] = {}
        self.is_on = True
        self.is_void = False
        self.steps = 0
        self.frame_syncs = 0
        self._rng = rng
        self._is_honest = is_honest
        self._deleted: dict[str, File] = {}
        self._steps_left: int | None = None
        self._is_power = True

    def fail_after(self, steps: int, *, is_power: bool = True) -> None:
        """Let the power go at that many writes, truncations, syncs and deletions from now, or one of them be refused."""
        self._steps_left = steps
        self._is_power = is_power

    def step(self) -> None:
        """One thing that a crash may come before.

        Raises:
          PowerCut: here it comes.
          Refusal: this one is not done, or not wholly.
        """
        self.check()
        if self.is_void:
            return
        self.steps += 1
        if self._steps_left is not None:
            self._steps_left -= 1
            if self._steps_left < 0:
                self._steps_left = None
                if not self._is_power:
                    raise Refusal
                self.is_on = False
                raise PowerCut

    def check(self) -> None:
        if not self.is_on and not self.is_void:
            raise PowerCut

    def open(self, name: str) -> File:
        self.check()
        if name not in self.files:
            self.files[name] = File()
        return self.files[name]

    def sync(self, name: str, file: File) -> None:
        """Make a file durable, and its name, as SQLite does for its logs. A crash may come before it, or behind it."""
        try:
            self.step()
        except PowerCut:
            if self._is_honest and self._rng.random() < 0.5:
                file.sync()
            raise
        if self._is_honest and not self.is_void:
            self.frame_syncs += any(offset >= WAL_HEADER_BYTES for offset, _ in file.unsynced) and name.endswith("-wal")
            file.sync()
            file.has_name = True
            self._deleted.pop(name, None)

    def sync_names(self) -> None:
        """Make all names durable, and nothing else."""
        self.step()
        if self._is_honest:
            self._deleted.clear()
            for file in self.files.values():
                file.has_name = True

    def delete(self, name: str, *, is_durable: bool) -> None:
        self.step()
        if self.is_void:
            return
        file = self.files.pop(name)
        if not is_durable and file.has_name:
            self._deleted[name] = file

    def spare(self) -> None:
        """Let nothing fail."""
        self._steps_left = None

    def cut(self) -> None:
        """No power. What a process that is dead already still says is not heard, and raises nothing in its destructors."""
        self.is_on, self.is_void = False, True

    def change(self, file: File, offset: int, data: bytes | None) -> None:
        """Write, or truncate. A crash may come into it: then it is one of those that may be torn."""
        self.check()
        if not self.is_void:
            file.change(offset, data)
        self.step()

    def restart(self) -> None:
        """Lose what a crash loses, and have power again."""
        for name, file in self._deleted.items():
            if name not in self.files and self._rng.random() < 0.5:
                self.files[name] = file  # its name was not durably gone
        self._deleted.clear()
        for name, file in list(self.files.items()):
            file.lose(self._rng)
            if not file.has_name and self._rng.random() < 0.5:
                del self.files[name]
        self.is_on, self.is_void = True, False
        self._steps_left = None
