"""What the terminal shows: a bar that grows while a run goes on, and the table at the end."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TextIO

from chat_load.runner import RunResult

BAR_CELLS = 20


def seconds(value: float | None) -> str:
    if value is None:
        return "-"
    if value < 0.9995:
        return f"{value:.3f} s" if value < 0.1 else f"{value:.2f} s"
    return f"{value:.1f} s"


def size(value: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.2f} GiB"


class ProgressBar:
    """One line a run. On a terminal it is redrawn at each answer; into a file or a pipe it is printed whenever a round is complete."""

    def __init__(self, label: str, total: int, users: int, out: TextIO | None = None):
        self._label = label
        self._total = total
        self._users = users
        self._out = out or sys.stdout
        self._live = self._out.isatty()
        self._draw(0, "")

    def update(self, result: RunResult) -> None:
        done = len(result.turns)
        ttft = result.ttft
        if self._live or done % self._users == 0:
            self._draw(done, f"p50 {seconds(ttft.p50)}   p95 {seconds(ttft.p95)}")

    def close(self) -> None:
        if self._live:
            self._out.write("\n")
            self._out.flush()

    def _draw(self, done: int, figures: str) -> None:
        if not self._live and done == 0:
            return
        filled = BAR_CELLS * done // self._total
        line = f"      {self._label:<16} {'█' * filled}{'░' * (BAR_CELLS - filled)}  {done}/{self._total}   {figures}"
        self._out.write(f"\r\033[K{line}" if self._live else line + "\n")
        self._out.flush()


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their content: the first to the left, the rest to the right, the last (a remark) to the left."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1])]
        cells.append(row[-1])
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
