"""Prometheus text, read: enough to sum the samples of one metric name."""
from __future__ import annotations

import http.client
import re

from chat_load.client import Endpoint

_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?\s+(\S+)")


def parse(text: str) -> dict[str, float]:
    """Metric name -> sum over all label sets."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            try:
                value = float(match[3])
            except ValueError:
                continue
            sums[match[1]] = sums.get(match[1], 0.0) + value
    return sums


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
    return {name: value - before.get(name, 0.0) if name.endswith("_total") else value for name, value in after.items()}
