"""Percentiles of measured times."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass


def percentile(values: Sequence[float], percent: float) -> float:
    """By linear interpolation between the two nearest ranks (rank = percent/100 x (n - 1), from 0)."""
    if not values:
        raise ValueError("percentile of no values")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be within 0..100, not {percent}")
    ordered = sorted(values)
    rank = percent / 100 * (len(ordered) - 1)
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


@dataclass(frozen=True)
class Latency:
    """Seconds. Of no values all are None."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    worst: float | None

    @staticmethod
    def of(values: Sequence[float]) -> Latency:
        if not values:
            return Latency(0, None, None, None, None)
        return Latency(len(values), percentile(values, 50), percentile(values, 95), percentile(values, 99), max(values))

    def as_json(self) -> dict[str, float | int | None]:
        return asdict(self)
