"""An engine and the node service that keeps its blocks, as one: started in order, ended in the other, killed together.

It has what a Server has, so that whatever runs against a server runs against the two.
"""
from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType

from chat_load.client import Endpoint
from chat_load.server import STOP_AFTER_FAILURE_TIMEOUT_S, STOP_TIMEOUT_S, Server, resident_shared_bytes

_PAGE = re.compile(r"^live page +(http://\S+)", re.MULTILINE)
METRICS = re.compile(r"^metrics +http://127\.0\.0\.1:(\d+)", re.MULTILINE)  # where `tiercel serve` says its port


class ServedEngine:
    """Owns both. The endpoint is the engine's, the metrics are of both, and the exit code is that of the first that ended badly."""

    def __init__(self, engine: Server, service: Server):
        self.engine = engine
        self.service = service
        self.name = engine.name
        self._peak_rss_bytes = 0

    def __enter__(self) -> ServedEngine:
        self.service.__enter__()
        try:
            self.engine.__enter__()
        except BaseException:
            self.service.stop(STOP_AFTER_FAILURE_TIMEOUT_S)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop(STOP_TIMEOUT_S if kind is None else STOP_AFTER_FAILURE_TIMEOUT_S)

    @property
    def command(self) -> list[str]:
        return [*self.service.command, "&&", *self.engine.command]

    @property
    def pid(self) -> int:
        return self.engine.pid

    @property
    def pids(self) -> list[int]:
        return [self.engine.pid, self.service.pid]

    @property
    def page(self) -> str:
        """Where people watch the service, while it runs."""
        found = _PAGE.search(_text(self.service.log_path))
        return found[1] if found else ""

    @property
    def endpoint(self) -> Endpoint:
        return self.engine.endpoint

    @property
    def started_at(self) -> float:
        return self.service.started_at

    @property
    def exit_code(self) -> int | None:
        codes = [self.engine.exit_code, self.service.exit_code]
        return None if None in codes else next((code for code in codes if code), 0)

    def alive(self) -> bool:
        return self.engine.alive() and self.service.alive()

    def ended_within(self, timeout_s: float) -> bool:
        return self.engine.ended_within(timeout_s)

    def metrics(self) -> dict[str, float]:
        return {**self.service.metrics(), **self.engine.metrics()}

    def peak_rss_bytes(self) -> int:
        """Of both, the arena that they share counted once."""
        if self.engine.alive():
            shared = resident_shared_bytes(self.engine.pid)
            self._peak_rss_bytes = max(self._peak_rss_bytes, self.engine.peak_rss_bytes() - shared + self.service.peak_rss_bytes())
        return self._peak_rss_bytes

    def stop(self, timeout_s: float) -> None:
        if self.engine.exit_code is None and self.engine.started:
            self.peak_rss_bytes()
        self.engine.stop(timeout_s)
        self.service.stop(timeout_s)

    def kill(self) -> None:
        """SIGKILL to both, as when the machine's power goes for them."""
        self.peak_rss_bytes()
        self.service.kill()
        self.engine.kill()

    def log_tail(self, lines: int = 15) -> str:
        return f"{self.engine.log_tail(lines)}\n({self.service.name})\n{self.service.log_tail(lines)}"


AnyServer = Server | ServedEngine


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
