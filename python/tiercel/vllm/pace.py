"""How fast this engine computes KV, measured, so that nothing is loaded that is computed sooner.

A step of many tokens is prefill, and lasts from its order, or from the end of the step before it, to its answer. The rate is
the median of the last such steps: one that something else held up says nothing.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable

_MIN_TOKENS = 1024  # of a step that is prefill
_STEPS = 9
_IN_FLIGHT = 16  # more steps are never ordered ahead


class Pace:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ordered: dict[int, tuple[float, int]] = {}
        self._next = 1
        self._answered_at = 0.0
        self._rates: deque[float] = deque(maxlen=_STEPS)

    @property
    def tokens_per_s(self) -> float:
        """0: not known yet."""
        return statistics.median(self._rates) if self._rates else 0.0

    def begin_step(self, tokens: int, *, waits: bool) -> int:
        """A number that the worker names with the step's answer; 0: the step says nothing about the pace. waits: for loads, so
        that its time is not the computing's."""
        if tokens < _MIN_TOKENS or waits:
            return 0
        if len(self._ordered) >= _IN_FLIGHT:  # answers that never came
            self._ordered.clear()
        number, self._next = self._next, self._next + 1
        self._ordered[number] = (self._clock(), tokens)
        return number

    def answered(self, steps: Iterable[int]) -> None:
        """An answer came, of any step."""
        now = self._clock()
        for number in steps:
            begun_at, tokens = self._ordered.pop(number, (now, 0))
            seconds = now - max(begun_at, self._answered_at)
            if seconds > 0:
                self._rates.append(tokens / seconds)
            self._answered_at = now
        self._answered_at = now

    def is_slower(self, load_s: float | None, tokens: int) -> bool:
        """A load of this many tokens takes longer than computing them. Unknown: it does not, so that it gets known."""
        rate = self.tokens_per_s
        return load_s is not None and rate > 0 and load_s > tokens / rate
