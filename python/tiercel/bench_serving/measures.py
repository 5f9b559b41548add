"""Figures of a run. Times are seconds, a quantile is the smallest value that so large a share of the values does not exceed.

Only requests that were answered whole have latencies, tokens and hits; those that failed are counted by kind.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .load import Outcome

QUANTILES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))


@dataclass(frozen=True)
class Objectives:
    """A request meets them if its first token comes within `ttft_s` of being sent and the mean time between its tokens is at most
    `itl_s`. None: not asked for."""

    ttft_s: float | None = None
    itl_s: float | None = None

    def met_by(self, outcome: Outcome) -> bool:
        between = token_time_s(outcome)
        return ((self.ttft_s is None or ttft_s(outcome) <= self.ttft_s)
                and (self.itl_s is None or between is None or between <= self.itl_s))


def ttft_s(outcome: Outcome) -> float:
    assert outcome.first_s is not None
    return outcome.first_s - outcome.sent_s


def token_time_s(outcome: Outcome) -> float | None:
    """Mean time between tokens, however many come in a piece; None of one token."""
    if outcome.output_tokens < 2 or outcome.first_s is None:
        return None
    return sum(outcome.gaps_s) / (outcome.output_tokens - 1)


LATENCIES = {
    "ttft": ttft_s,
    "ttft_from_due": lambda outcome: (outcome.first_s or 0.0) - outcome.due_s,
    "end_to_end": lambda outcome: outcome.ended_s - outcome.sent_s,
    "end_to_end_from_due": lambda outcome: outcome.ended_s - outcome.due_s,
}


def answered(outcomes: Iterable[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if not outcome.error_kind]


def quantile(values: Sequence[float], share: float) -> float:
    """Of values in ascending order."""
    return values[max(0, math.ceil(share * len(values) - 1e-9) - 1)]


def distribution(values: Iterable[float]) -> dict[str, float] | None:
    """None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return {"count": len(ordered), "mean": math.fsum(ordered) / len(ordered),
            **{name: quantile(ordered, share) for name, share in QUANTILES}, "max": ordered[-1]}


def summarize(outcomes: Sequence[Outcome], objectives: Objectives = Objectives()) -> dict[str, Any]:
    """All figures, as they stand in the JSON. Rates are over the time from the first request's due time to the last one's end."""
    good = answered(outcomes)
    span_s = max((outcome.ended_s for outcome in outcomes), default=0.0) - min((outcome.due_s for outcome in outcomes), default=0.0)
    met = sum(map(objectives.met_by, good))

    def rate(count: float) -> float:
        return count / span_s if span_s > 0 else 0.0

    return {
        "requests": len(outcomes), "answered": len(good), "failed": len(outcomes) - len(good),
        "errors": _errors(outcomes), "span_s": span_s,
        "latency_s": {name: distribution(map(of, good)) for name, of in LATENCIES.items()},
        "inter_token_s": distribution(gap for outcome in good for gap in outcome.gaps_s),
        "time_per_output_token_s": distribution(time for time in map(token_time_s, good) if time is not None),
        "requests_per_s": rate(len(good)),
        "prompt_tokens_per_s": rate(sum(outcome.prompt_tokens or 0 for outcome in good)),
        "output_tokens_per_s": rate(sum(outcome.output_tokens for outcome in good)),
        "goodput": {"ttft_slo_s": objectives.ttft_s, "itl_slo_s": objectives.itl_s, "met": met, "requests_per_s": rate(met)},
        "prompt_length": _lengths(good), "hits": _hits(good),
    }


def _errors(outcomes: Iterable[Outcome]) -> list[dict[str, Any]]:
    """By kind, the most frequent first, each with the sentence of its first."""
    failed = [outcome for outcome in outcomes if outcome.error_kind]
    first = {outcome.error_kind: outcome.error for outcome in reversed(failed)}
    counts = collections.Counter(outcome.error_kind for outcome in failed)
    return [{"kind": kind, "count": count, "first": first[kind]} for kind, count in counts.most_common()]


def _lengths(good: Iterable[Outcome]) -> dict[str, Any] | None:
    """Of prompts as the server counts them, and how far that is from what they were made for. None: it does not say."""
    known = [(outcome.prompt_tokens, outcome.asked_tokens) for outcome in good if outcome.prompt_tokens is not None]
    if not known:
        return None
    off = [abs(real - asked) / asked for real, asked in known]
    return {"tokens": distribution(real for real, _ in known), "asked": distribution(asked for _, asked in known),
            "off_mean": math.fsum(off) / len(off), "off_max": max(off)}


def _hits(good: Iterable[Outcome]) -> dict[str, Any] | None:
    known = [(outcome.cached_tokens, outcome.prompt_tokens) for outcome in good
             if outcome.cached_tokens is not None and outcome.prompt_tokens is not None]
    if not known:
        return None
    cached, tokens = sum(cached for cached, _ in known), sum(tokens for _, tokens in known)
    return {"requests": len(known), "cached_tokens": cached, "prompt_tokens": tokens, "ratio": cached / tokens if tokens else 0.0}
