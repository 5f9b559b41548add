"""Two runs beside each other: ratios of medians, with a 95 % interval by bootstrap.

Requests that both runs have under one name are pairs: the median of their ratios, which cancels what made one request longer than
another. Without pairs it is the ratio of the two medians. A ratio below 1 means that the second is sooner.

The interval needs no resampling of the values: the median of a resample of n values is the value at a place that follows a Beta
distribution, so each of the RESAMPLES costs one draw (two without pairs).
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .measures import quantile

RESAMPLES = 10_000
LEAST_SHARE_OF_PAIRS = 0.5  # of the smaller run; below, names tell different loads apart and pair nothing

Named = Mapping[str, float]  # a latency by the turn's name


@dataclass(frozen=True)
class MedianRatio:
    """Second over first. `low` and `high` are the 95 % interval; `pairs` is 0 where there were none."""

    ratio: float
    low: float
    high: float
    pairs: int
    first_median: float
    second_median: float


def median_ratio(first: Named, second: Named, seed: int = 1) -> MedianRatio | None:
    """None: one of them has no values, or its median is not above 0."""
    first = {name: value for name, value in first.items() if value > 0}
    second = {name: value for name, value in second.items() if value > 0}
    if not first or not second:
        return None
    medians = statistics.median(first.values()), statistics.median(second.values())
    common = first.keys() & second.keys()
    draws = random.Random(seed)
    if len(common) >= LEAST_SHARE_OF_PAIRS * min(len(first), len(second)):
        ratios = sorted(second[name] / first[name] for name in common)
        ratio = statistics.median(ratios)
        resampled = sorted(_median_of_resample(ratios, draws) for _ in range(RESAMPLES))
    else:
        common = set()
        ordered = sorted(first.values()), sorted(second.values())
        ratio = medians[1] / medians[0]
        resampled = sorted(_median_of_resample(ordered[1], draws) / _median_of_resample(ordered[0], draws) for _ in range(RESAMPLES))
    return MedianRatio(ratio, quantile(resampled, 0.025), quantile(resampled, 0.975), len(common), *medians)


def _median_of_resample(ordered: Sequence[float], draws: random.Random) -> float:
    """The median of as many values drawn with replacement. The k-th smallest of n uniform numbers is Beta(k, n - k + 1)."""
    n = len(ordered)
    if n % 2:
        return ordered[min(n - 1, int(draws.betavariate((n + 1) / 2, (n + 1) / 2) * n))]
    # The two in the middle are not independent: the upper one lies above the lower one by a share of what is left.
    lower = draws.betavariate(n / 2, n / 2 + 1)
    upper = lower + (1 - lower) * (1 - draws.random() ** (2 / n))
    return (ordered[min(n - 1, int(lower * n))] + ordered[min(n - 1, int(upper * n))]) / 2


def is_difference(found: MedianRatio) -> bool:
    return not (found.low <= 1 <= found.high) and math.isfinite(found.ratio)
