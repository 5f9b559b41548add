"""The table at the end, and the JSON document that --json writes and --compare reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .comparison import MedianRatio, is_difference, median_ratio
from .load import Outcome
from .measures import LATENCIES, answered, token_time_s

FORMAT, VERSION = "tiercel bench serving", 1
COMPARED = {**{name: of for name, of in LATENCIES.items() if not name.endswith("_from_due")}, "time_per_output_token": token_time_s}
_TITLES = {"ttft": "time to first token", "ttft_from_due": "  from when it was due", "end_to_end": "whole answer",
           "end_to_end_from_due": "  from when it was due", "time_per_output_token": "time per output token"}

Run = dict[str, Any]  # one server's part of the document


class DocumentError(Exception):
    """A file that is no result of this program, in one sentence."""


def request_row(outcome: Outcome) -> dict[str, Any]:
    """A request in the document; without the single gaps, of which there is one a token."""
    return {"turn": outcome.turn, "due_s": outcome.due_s, "sent_s": outcome.sent_s, "first_s": outcome.first_s, "ended_s": outcome.ended_s,
            "token_time_s": token_time_s(outcome), "longest_gap_s": max(outcome.gaps_s, default=None), "asked_tokens": outcome.asked_tokens,
            "prompt_tokens": outcome.prompt_tokens, "cached_tokens": outcome.cached_tokens, "output_tokens": outcome.output_tokens,
            "error": outcome.error_kind or None}


def latencies_by_turn(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """What is compared, by name of the turn."""
    found: dict[str, dict[str, float]] = {name: {} for name in COMPARED}
    for outcome in answered(outcomes):
        for name, of in COMPARED.items():
            value = of(outcome)
            if value is not None:
                found[name][outcome.turn] = value
    return found


def read_document(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise DocumentError(f"{path}: not JSON") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DocumentError(f"{path}: not what `tiercel bench serving --json` writes")
    if document.get("version") != VERSION or not document.get("runs"):
        raise DocumentError(f"{path}: of version {document.get('version')}, or without runs; this program reads version {VERSION}")
    return document


def latencies_of_document(document: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of its first server."""
    found: dict[str, dict[str, float]] = {name: {} for name in COMPARED}
    for row in document["runs"][0]["requests"]:
        if row["error"] is None and row["first_s"] is not None:
            found["ttft"][row["turn"]] = row["first_s"] - row["sent_s"]
            found["end_to_end"][row["turn"]] = row["ended_s"] - row["sent_s"]
            if row["token_time_s"] is not None:
                found["time_per_output_token"][row["turn"]] = row["token_time_s"]
    return found


def compare(first: Mapping[str, Mapping[str, float]], second: Mapping[str, Mapping[str, float]]) -> dict[str, MedianRatio]:
    ratios = {name: median_ratio(first[name], second[name]) for name in COMPARED}
    return {name: ratio for name, ratio in ratios.items() if ratio is not None}


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 1:
        return f"{value * 1000:.3g} ms" if value < 0.1 else f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def run_text(run: Run) -> str:
    """One server's table."""
    summary = run["summary"]
    lines = [f"{run['endpoint']}  {run['model']}",
             f"{'requests':<24} {summary['answered']:,} of {summary['requests']:,} answered in {summary['span_s']:.1f} s, "
             f"{summary['failed']:,} failed"]
    lines += [f"{'':<24} {error['count']:,} x {error['kind']}; the first: {error['first']}" for error in summary["errors"]]
    if run.get("given_up"):
        lines.append(f"{'':<24} {run['given_up']:,} in flight were given up")
    lines += _length_lines(summary)
    lines.append(f"{'':<24} {'p50':>10} {'p95':>10} {'p99':>10} {'mean':>10}")
    latencies = summary["latency_s"]
    late = latencies["ttft_from_due"] != latencies["ttft"]  # in a closed loop a request is due when it is sent
    rows = [(_TITLES[name], values) for name, values in latencies.items() if late or not name.endswith("_from_due")]
    rows += [("between pieces of text", summary["inter_token_s"]), ("time per output token", summary["time_per_output_token_s"])]
    for title, values in rows:
        cells = [seconds(values[name] if values else None) for name in ("p50", "p95", "p99", "mean")]
        lines.append(f"{title:<24} " + " ".join(f"{cell:>10}" for cell in cells))
    lines.append(f"{'throughput':<24} {summary['requests_per_s']:.2f} requests/s, {summary['prompt_tokens_per_s']:,.0f} prompt tokens/s, "
                 f"{summary['output_tokens_per_s']:,.1f} output tokens/s")
    return "\n".join(lines + _goodput_lines(summary) + _hit_lines(run)) + "\n"


def _length_lines(summary: Mapping[str, Any]) -> list[str]:
    length = summary["prompt_length"]
    if not length:
        return [f"{'prompt tokens':<24} the server does not say"] if summary["answered"] else []
    return [f"{'prompt tokens':<24} p50 {length['tokens']['p50']:,} (asked for {length['asked']['p50']:,}), at most {length['tokens']['max']:,}; "
            f"off by {length['off_mean']:.2%} on average, {length['off_max']:.2%} at most"]


def _goodput_lines(summary: Mapping[str, Any]) -> list[str]:
    goodput = summary["goodput"]
    limits = [f"{title} <= {seconds(goodput[name])}" for name, title in (("ttft_slo_s", "first token"), ("itl_slo_s", "between tokens"))
              if goodput[name] is not None]
    if not limits:
        return []
    return [f"{'goodput':<24} {goodput['requests_per_s']:.2f} requests/s: {goodput['met']:,} of {summary['requests']:,} with {', '.join(limits)}"]


def _hit_lines(run: Run) -> list[str]:
    lines = []
    hits, engine, tiercel = run["summary"]["hits"], run.get("engine_hits") or {}, run.get("tiercel_hits")
    if hits:
        lines.append(f"{hits['ratio']:.1%} of prompt tokens by usage ({hits['cached_tokens']:,} of {hits['prompt_tokens']:,})")
    for name, title in (("prefix_cache", "the engine's own cache"), ("external_cache", "the cache beyond it")):
        if name in engine:
            lines.append(f"{engine[name]['ratio']:.1%} of what was asked of {title}, by its metrics")
    if "computed" in engine:
        lines.append(f"{engine['computed']['ratio']:.1%} of prompt tokens were not computed, by its metrics")
    if tiercel:
        by_tier = ", ".join(f"{name} {count:,.0f}" for name, count in sorted(tiercel["loaded_blocks"].items()) if count)
        lines.append(f"{tiercel['ratio']:.1%} of blocks matched in Tiercel" + (f"; loaded from {by_tier}" if by_tier else ""))
    lines = lines or ["the server does not say"]
    return [f"{'hits' if place == 0 else '':<24} {line}" for place, line in enumerate(lines)]


def comparison_text(ratios: Mapping[str, MedianRatio], first: str, second: str) -> str:
    """The second against the first."""
    lines = [f"{second} against {first}:"]
    for name, found in ratios.items():
        change = "no difference shown"
        if is_difference(found):
            change = f"{1 / found.ratio:.2f} times sooner" if found.ratio < 1 else f"{found.ratio:.2f} times later"
        pairs = f"median of {found.pairs:,} pairs" if found.pairs else "ratio of medians"
        lines.append(f"{_TITLES[name]:<24} {seconds(found.first_median):>10} -> {seconds(found.second_median):<10} "
                     f"x {found.ratio:.3f} (95 % {found.low:.3f} to {found.high:.3f}, {pairs}): {change}")
    return "\n".join(lines) + "\n" if ratios else f"{second} against {first}: nothing in common to compare\n"


def write(path: str, text: str, say: Callable[[str], object]) -> None:
    """To a file, or to stdout where it is `-`. DocumentError."""
    if path == "-":
        say(text)
        return
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror}") from None
