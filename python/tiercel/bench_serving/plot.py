"""Time to first token as an SVG, drawn by hand: over the run on the left, its distribution on the right; one colour a server."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 980, 380
COLOURS = ("#1767b0", "#c2571a")
_LEFT, _TOP, _PANEL, _FLOOR, _GAP = 64, 56, 400, 330, 76
_MOST_POINTS = 4000  # of a server; more are thinned out evenly


@dataclass(frozen=True)
class Series:
    """due_s: when each request was due; ttft_s: its time to the first token; failed_s: when those that failed were due."""

    name: str
    due_s: Sequence[float]
    ttft_s: Sequence[float]
    failed_s: Sequence[float] = ()


def ttft_plot(title: str, series: Sequence[Series]) -> str:
    """The vertical axis is logarithmic in both panels, since hits and misses are often far apart."""
    times = [value for one in series for value in one.ttft_s if value > 0]
    low = 10.0 ** math.floor(math.log10(min(times, default=0.1)))
    high = max(low * 10, 10.0 ** math.ceil(math.log10(max(times, default=1.0))))
    end = max([1.0, *(at for one in series for at in (*one.due_s, *one.failed_s))])

    def height(value: float) -> float:
        return _FLOOR - (math.log10(max(low, value)) - math.log10(low)) / (math.log10(high) - math.log10(low)) * (_FLOOR - _TOP)

    second = _LEFT + _PANEL + _GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
             f'font-family="sans-serif" font-size="12">', '<rect width="100%" height="100%" fill="#fff"/>',
             _text(_LEFT, 20, title, weight="bold"), _text(_LEFT + _PANEL / 2, HEIGHT - 12, "seconds from the start", "middle"),
             _text(second + _PANEL / 2, HEIGHT - 12, "share of requests, percent", "middle")]
    for left in (_LEFT, second):
        power = low
        while power <= high * 1.001:
            parts += [_rule(left, height(power), left + _PANEL, height(power)), _text(left - 6, height(power) + 4, _seconds(power), "end")]
            power *= 10
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        for left, label in ((_LEFT, f"{share * end:.3g}"), (second, f"{share * 100:.0f}")):
            parts += [_rule(left + share * _PANEL, _TOP, left + share * _PANEL, _FLOOR), _text(left + share * _PANEL, _FLOOR + 16, label, "middle")]
    for number, one in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<circle cx="{_LEFT + 5 + number * 440}" cy="36" r="4" fill="{colour}"/>')
        parts.append(_text(_LEFT + 16 + number * 440, 40, f"{one.name}: {len(one.ttft_s)} answered, {len(one.failed_s)} failed"))
        step = math.ceil(max(1, len(one.ttft_s)) / _MOST_POINTS)
        for due, value in list(zip(one.due_s, one.ttft_s))[::step]:
            parts.append(f'<circle cx="{_LEFT + due / end * _PANEL:.1f}" cy="{height(value):.1f}" r="2.5" fill="{colour}" fill-opacity="0.6"/>')
        for due in one.failed_s[::math.ceil(max(1, len(one.failed_s)) / _MOST_POINTS)]:
            parts.append(_text(_LEFT + due / end * _PANEL, _TOP + 4, "\N{MULTIPLICATION SIGN}", "middle", colour=colour))
        parts.append(_steps(sorted(one.ttft_s), second, height, colour))
    return "\n".join([*(part for part in parts if part), "</svg>\n"])


def _steps(ordered: Sequence[float], left: float, height: Callable[[float], float], colour: str) -> str:
    """The distribution: how large a share of the requests is at most so late."""
    if not ordered:
        return ""
    step = math.ceil(len(ordered) / _MOST_POINTS)
    points = [(left + place / len(ordered) * _PANEL, height(ordered[place])) for place in range(0, len(ordered), step)]
    points.append((left + _PANEL, height(ordered[-1])))
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>'


def _seconds(value: float) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal", colour: str = "#444") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">{escape(text)}</text>'
