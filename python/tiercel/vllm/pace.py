"""How fast this engine computes KV, measured, so that nothing is loaded that is computed sooner.

A step of many tokens is prefill, and lasts from its order, or from the end of the step before it, to its answer. The rate is
the median of the last such steps: one that something else held up says nothing. Steps that are almost all of one prompt say
how long so many tokens take behind so many others: the cache plans its loads by that.
"""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_MIN_TOKENS = 1024  # of a step that is prefill
_STEPS = 9
_IN_FLIGHT = 16  # more steps are never ordered ahead
_ALONE = 0.9  # of a step's tokens, for it to be one prompt's


@dataclass(frozen=True)
class Prefill:
    """Of one prompt, in one step."""

    context_tokens: int
    tokens: int


class Pace:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ordered: dict[int, tuple[float, int, Prefill | None]] = {}
        self._next = 1
        self._answered_at = 0.0
        self._rates: deque[float] = deque(maxlen=_STEPS)

    @property
    def tokens_per_s(self) -> float:
        """0: not known yet."""
        return statistics.median(self._rates) if self._rates else 0.0

    def begin_step(self, tokens: int, *, waits: bool, largest: Prefill | None = None) -> int:
        """A number that the worker names with the step's answer; 0: the step says nothing about the pace. waits: for loads, so
        that its time is not the computing's. largest: the prompt with the most tokens in it."""
        if tokens < _MIN_TOKENS or waits:
            return 0
        if len(self._ordered) >= _IN_FLIGHT:  # answers that never came
            self._ordered.clear()
        number, self._next = self._next, self._next + 1
        alone = largest if largest is not None and largest.tokens >= _ALONE * tokens else None
        self._ordered[number] = (self._clock(), tokens, alone)
        return number

    def answered(self, steps: Iterable[int]) -> list[tuple[Prefill, float]]:
        """An answer came, of any step. The prefills that it ends, with their seconds."""
        now = self._clock()
        prefills = []
        for number in steps:
            begun_at, tokens, alone = self._ordered.pop(number, (now, 0, None))
            seconds = now - max(begun_at, self._answered_at)
            if seconds > 0:
                self._rates.append(tokens / seconds)
                if alone is not None:
                    prefills.append((alone, seconds))
            self._answered_at = now
        self._answered_at = now
        return prefills
