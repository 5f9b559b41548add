"""What servers count themselves, before and after a load: Prometheus text, summed over labels.

vLLM counts tokens that were asked of its own prefix cache and of a cache beyond it, and those that were there; llama.cpp counts the
prompt tokens that it computed; a Tiercel service counts blocks by tier. A server without metrics costs the figure and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .http_exchange import Endpoint, RequestFailed, call

_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+-?\d+)?$")
_TIER = re.compile(r'tier="(\w+)"')
_SECONDS = 10.0

Samples = dict[str, float]  # by name without _total; with a tier as name/tier


async def read_metrics(endpoint: Endpoint) -> Samples | None:
    """None: it has none, or does not answer in time."""
    try:
        status, body = await call(endpoint, "GET", "/metrics", seconds=_SECONDS)
    except RequestFailed:
        return None
    return parse(body.decode(errors="replace")) if status == 200 else None


def parse(text: str) -> Samples:
    samples: Samples = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line.strip())
        if not match or match[1].endswith(("_created", "_bucket")):
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        name, tier = match[1].removesuffix("_total"), _TIER.search(match[2] or "")
        for key in (name, f"{name}/{tier[1]}") if tier else (name,):
            samples[key] = samples.get(key, 0.0) + value
    return samples


def growth(before: Samples | None, after: Samples | None) -> Samples:
    """Of what both have. A counter that fell belongs to a server that was started again: what it says now is its growth."""
    if before is None or after is None:
        return {}
    return {name: value - before[name] if value >= before[name] else value for name, value in after.items() if name in before}


def engine_hits(grown: Mapping[str, float], prompt_tokens: int) -> dict[str, Any] | None:
    """Tokens by an engine's own counters; None: it has none that are known here. prompt_tokens: of all requests of the load."""
    found: dict[str, Any] = {}
    for name, prefix in (("prefix_cache", "vllm:prefix_cache"), ("external_cache", "vllm:external_prefix_cache")):
        queries = grown.get(f"{prefix}_queries", 0.0)
        if queries > 0:
            hits = grown.get(f"{prefix}_hits", 0.0)
            found[name] = {"queried_tokens": queries, "hit_tokens": hits, "ratio": hits / queries}
    computed = grown.get("llamacpp:prompt_tokens")
    if computed is not None and prompt_tokens > 0:
        found["computed"] = {"prompt_tokens": prompt_tokens, "computed_tokens": computed, "ratio": max(0.0, 1 - computed / prompt_tokens)}
    return found or None


def tiercel_hits(grown: Mapping[str, float]) -> dict[str, Any] | None:
    """Blocks by the counters of a Tiercel service."""
    matched, missed = grown.get("tiercel_matched_blocks"), grown.get("tiercel_missed_blocks")
    if matched is None or missed is None:
        return None
    loads = {name.partition("/")[2]: value for name, value in grown.items() if name.startswith("tiercel_load_blocks/")}
    return {"matched_blocks": matched, "missed_blocks": missed, "ratio": matched / (matched + missed) if matched + missed else 0.0,
            "loaded_blocks": loads}
