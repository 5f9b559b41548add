"""An SVG of the time to first token of every turn, one colour a run, drawn by hand so that a report needs nothing but itself."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from chat_load.latency import percentile
from chat_load.runner import RunResult

WIDTH, HEIGHT = 920, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 52, 62
COLOURS = ("#c2571a", "#1767b0", "#3b8a4a", "#7a4fa3")
_ROUND_GAP = 0.9  # of a turn's width, between two rounds


@dataclass(frozen=True)
class Series:
    name: str
    result: RunResult


def nice_ceiling(value: float) -> tuple[float, float]:
    """(upper end of an axis from 0, distance of its ticks): four to seven ticks on round numbers."""
    if value <= 0:
        return 1.0, 0.25
    raw = value / 5
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw)
    return math.ceil(value / step - 1e-9) * step, step


def ttft_plot(series: Sequence[Series], users: int, rounds: int, labels: Sequence[tuple[str, str]] | None = None) -> str:
    """Bars by user within each round; a line and a figure mark each run's median of the round. labels: two lines under each round."""
    times = [turn.answer.ttft_s for one in series for turn in one.result.turns]
    top, step = nice_ceiling(max(times, default=1.0) * 1.05)
    plot = _Plot(top, users, rounds, len(series))
    parts = [_open(), _legend(series), *plot.axis(step)]
    for round_index in range(rounds):
        label = labels[round_index] if labels else (f"round {round_index + 1}", "first visit" if round_index == 0 else "users return")
        parts += plot.round_label(round_index, *label)
        for number, one in enumerate(series):
            parts += plot.bars(round_index, number, one.result)
        parts += plot.medians(round_index, [one.result for one in series])
    return "\n".join([*parts, "</svg>"])


class _Plot:
    def __init__(self, top: float, users: int, rounds: int, runs: int):
        self._top = top
        self._users = users
        self._runs = runs
        self._slot = (WIDTH - LEFT - RIGHT) / (users * rounds + _ROUND_GAP * rounds)
        self._bar = self._slot * 0.84 / runs

    def _y(self, seconds: float) -> float:
        return HEIGHT - BOTTOM - seconds / self._top * (HEIGHT - TOP - BOTTOM)

    def _round_x(self, round_index: int) -> float:
        return LEFT + self._slot * (round_index * (self._users + _ROUND_GAP) + _ROUND_GAP / 2)

    def axis(self, step: float) -> list[str]:
        parts = []
        digits = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if f"{step:.0e}"[0] == "2" and f"{step:.1e}"[2] == "5" else 0)
        for tick in range(round(self._top / step) + 1):
            y = self._y(tick * step)
            parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="{"base" if tick == 0 else "grid"}"/>')
            parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick * step:.{digits}f} s</text>')
        return parts

    def round_label(self, round_index: int, label: str, remark: str) -> list[str]:
        x0 = self._round_x(round_index)
        middle = x0 + self._slot * self._users / 2
        parts = [f'<text x="{x0 + self._slot * (user + 0.5):.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle" class="small">{user + 1}</text>'
                 for user in range(self._users)]
        return parts + [f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 34}" text-anchor="middle" class="strong">{escape(label)}</text>',
                        f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 50}" text-anchor="middle" class="small">{escape(remark)}</text>']

    def bars(self, round_index: int, number: int, result: RunResult) -> list[str]:
        parts = []
        for turn in result.turns:
            if turn.round != round_index:
                continue
            x = self._round_x(round_index) + self._slot * (turn.user + 0.08) + self._bar * number
            y = self._y(turn.answer.ttft_s)
            hint = f"user {turn.user + 1}, round {round_index + 1}: {turn.answer.ttft_s:.2f} s, {turn.answer.cached_tokens} of {turn.answer.prompt_tokens} tokens reused"
            parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{self._bar * 0.92:.1f}" height="{HEIGHT - BOTTOM - y:.1f}" fill="{COLOURS[number]}">'
                         f"<title>{escape(hint)}</title></rect>")
        return parts

    def medians(self, round_index: int, results: Sequence[RunResult]) -> list[str]:
        """Figures above the bars of the round, highest median first, so that they never lie on a bar or on each other."""
        x0 = self._round_x(round_index)
        x1 = x0 + self._slot * self._users
        parts: list[str] = []
        for number, result in enumerate(results):
            times = [turn.answer.ttft_s for turn in result.turns if turn.round == round_index]
            if not times:
                continue
            median = percentile(times, 50)
            y = self._y(median)
            x = x0 + (x1 - x0) * (number + 0.5) / self._runs
            parts.append(f'<line x1="{x0:.1f}" y1="{y:.1f}" x2="{x1:.1f}" y2="{y:.1f}" stroke="{COLOURS[number]}" stroke-width="1.5" stroke-dasharray="5 3"/>')
            parts.append(f'<text x="{x:.1f}" y="{TOP - 8}" text-anchor="middle" class="median" style="fill:{COLOURS[number]}">{_figure(median)}</text>')
        return parts


def _figure(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds:.2f} s"


def _open() -> str:
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Time to first token of every turn" '
            'font-family="system-ui, Segoe UI, Roboto, DejaVu Sans, sans-serif" font-size="12">\n'
            "<style>text{fill:#333}.small{font-size:10.5px;fill:#666}.strong{font-weight:600}.grid{stroke:#e4e4e4}.base{stroke:#888}"
            ".median{font-weight:600;font-size:12.5px}</style>\n"
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>')


def _legend(series: Sequence[Series]) -> str:
    parts = []
    x = LEFT
    for number, one in enumerate(series):
        parts.append(f'<rect x="{x}" y="8" width="12" height="12" fill="{COLOURS[number]}"/><text x="{x + 18}" y="18">{escape(one.name)}</text>')
        x += 40 + 7 * len(one.name)
    parts.append(f'<text x="{WIDTH - RIGHT}" y="18" text-anchor="end" class="small">figures and dashed lines: median of the round</text>')
    return "".join(parts)
