"""The directory of a server's disk tier, made for one run of the demo and removed after it.

Only files of the disk tier are ever removed, and never from under a process that uses them: a kept server of an earlier run holds the lock.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

FILES = "tiercel.kv*"
LOCK = "tiercel.kv.lock"
_UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "B": 1}


class NoRoom(Exception):
    """Why the disk cannot be used here, as the end of a sentence."""


def parse_size(text: str) -> int:
    """As the servers read it: "4GiB", "1.5GB", "4096"."""
    unit = next((unit for unit in _UNITS if text.endswith(unit)), "")
    try:
        return int(float(text.removesuffix(unit)) * _UNITS.get(unit, 1))
    except ValueError:
        raise ValueError(f"{text!r} is not a size; write it like 2GiB") from None


class DiskDirectory:
    """Make it, give its path to a server, remove it when that server has ended."""

    def __init__(self, path: Path, capacity: str):
        self.path = path
        self.capacity = capacity

    def create(self) -> None:
        """Empty, whatever an earlier run left there. NoRoom where a process still uses it."""
        self.path.mkdir(parents=True, exist_ok=True)
        holder = self._holder()
        if holder:
            raise NoRoom(f"{self.path} is used by {holder}: a server that was kept? End it first")
        self._remove_files()

    def remove(self) -> None:
        if self.path.is_dir() and not self._holder():
            self._remove_files()
            with contextlib.suppress(OSError):  # somebody else's files stay
                self.path.rmdir()

    def _remove_files(self) -> None:
        for file in self.path.glob(FILES):
            file.unlink()

    def _holder(self) -> str:
        try:
            lock = os.open(self.path / LOCK, os.O_RDWR)
        except FileNotFoundError:
            return ""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return ""
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip()
            return f"process {pid}" if pid else "another process"
        finally:
            os.close(lock)


def check_room(output: Path, needed_bytes: int) -> None:
    """NoRoom where the filesystem of the output directory has less free."""
    output.mkdir(parents=True, exist_ok=True)
    space = os.statvfs(output)
    free = space.f_bavail * space.f_frsize
    if free < needed_bytes:
        raise NoRoom(f"{needed_bytes / 2**30:.1f} GiB of disk are needed, {free / 2**30:.1f} GiB are free")
