"""A bar on a terminal, lines now and then elsewhere; on stderr, so that stdout holds the answer alone."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 30
_EVERY_S = 10.0  # between lines
_REDRAW_S = 0.1


class Progress:
    """Of requests by number, or of a duration by time. `requests` None and `duration_s` None: only counts."""

    def __init__(self, requests: int | None, duration_s: float | None, stream: TextIO = sys.stderr) -> None:
        self._requests, self._duration_s, self._stream = requests, duration_s, stream
        self._bar = stream.isatty()
        self._start = time.monotonic()
        self._shown = 0.0 if self._bar else self._start
        self._done = self._failed = 0

    def say(self, text: str) -> None:
        """A line of its own: of a bar the line is used again."""
        self._stream.write(f"\r\x1b[K{text}" if self._bar else f"{text}\n")
        self._stream.flush()

    def ended(self, failed: bool, in_flight: int) -> None:
        """After each request."""
        self._done += 1
        self._failed += failed
        now = time.monotonic()
        if now - self._shown >= (_REDRAW_S if self._bar else _EVERY_S):
            self._shown = now
            self.say(self._line(now - self._start, in_flight))

    def close(self) -> None:
        if self._bar:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _line(self, passed_s: float, in_flight: int) -> str:
        parts = [passed_s / self._duration_s] if self._duration_s else []
        parts += [self._done / self._requests] if self._requests else []
        share = min(1.0, max(parts, default=0.0))
        full = round(share * _WIDTH)
        bar = f"{'█' * full}{'░' * (_WIDTH - full)} " if self._bar and parts else ""
        count = f"{self._done}/{self._requests}" if self._requests else f"{self._done}"
        time_text = f"{passed_s:.0f} of {self._duration_s:g} s" if self._duration_s else f"{passed_s:.0f} s"
        return f"{bar}{count} requests, {self._failed} failed, {in_flight} in flight, {time_text}"
