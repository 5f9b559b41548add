"""Prometheus text, read: enough to sum the samples of one metric."""
from __future__ import annotations

import contextlib
import http.client
import re

from chat_load.client import Endpoint

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{(?:[^\"}]|\"(?:[^\"\\]|\\.)*\")*\})?)\s+(\S+)")


def parse(text: str) -> dict[str, float]:
    """Sample as written, labels included -> value."""
    samples: dict[str, float] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            with contextlib.suppress(ValueError):
                samples[match[1]] = float(match[2])
    return samples


def total(samples: dict[str, float], name: str, *labels: str) -> float | None:
    """Sum over the samples of a metric that carry all the labels, each written as key="value"; None where there is no such sample."""
    found = [value for sample, value in samples.items() if sample.partition("{")[0] == name and all(label in sample for label in labels)]
    return sum(found) if found else None


def fetch(endpoint: Endpoint) -> dict[str, float]:
    """Of a server's /metrics; empty if it has none."""
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        body = response.read()
        return parse(body.decode("utf-8", errors="replace")) if response.status == 200 else {}
    except (OSError, http.client.HTTPException):
        return {}
    finally:
        connection.close()


def difference(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Counters as their growth, everything else (gauges) as it is now."""
    return {name: value - before.get(name, 0.0) if name.partition("{")[0].endswith("_total") else value for name, value in after.items()}
