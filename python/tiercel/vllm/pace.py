"""How fast this engine computes KV, measured, so that nothing is loaded that is computed sooner.

A step of many tokens is prefill, and lasts from its order, or from the end of the step before it, to its answer. The rate is
the median of the last such steps: one that something else held up says nothing.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable

_MIN_TOKENS = 1024  # of a step that is prefill
_STEPS = 9
_IN_FLIGHT = 16  # more steps are never ordered ahead


class Pace:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ordered: deque[tuple[float, int]] = deque(maxlen=_IN_FLIGHT)
        self._answered_at = 0.0
        self._rates: deque[float] = deque(maxlen=_STEPS)

    @property
    def tokens_per_s(self) -> float:
        """0: not known yet."""
        return statistics.median(self._rates) if self._rates else 0.0

    def begin_step(self, tokens: int, *, waits: bool) -> None:
        """waits: for loads, so that its time is not the computing's."""
        self._ordered.append((self._clock(), 0 if waits else tokens))

    def end_step(self) -> None:
        if not self._ordered:
            return
        now = self._clock()
        begun_at, tokens = self._ordered.popleft()
        seconds = now - max(begun_at, self._answered_at)
        self._answered_at = now
        if tokens >= _MIN_TOKENS and seconds > 0:
            self._rates.append(tokens / seconds)

    def is_slower(self, load_s: float | None, tokens: int) -> bool:
        """A load of this many tokens takes longer than computing them. Unknown: it does not, so that it gets known."""
        rate = self.tokens_per_s
        return load_s is not None and rate > 0 and load_s > tokens / rate
