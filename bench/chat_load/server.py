"""A server process under test: started on loopback, watched, and stopped for certain.

The process gets its own process group, so that Ctrl-C in a terminal reaches this program alone and the order of ending stays ours; and the kernel
kills it if this program dies without having stopped it (not with keep=True, where it must outlive us).
"""
from __future__ import annotations

import ctypes
import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from chat_load import metrics
from chat_load.client import Endpoint

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 45.0  # above the servers' own limit for finishing what streams
STOP_AFTER_FAILURE_TIMEOUT_S = 5.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)  # loaded before any fork: nothing may be loaded in the child


class ServerFailed(Exception):
    """The server did not start, or ended when it should not have."""


def free_port() -> int:
    """A port that was free a moment ago, for servers that cannot choose one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """One run of a server. Use as a context manager; leaving it ends the process. keep: the process may outlive this program."""

    def __init__(self, name: str, command: list[str], log_path: Path, port: int | None = None, port_file: Path | None = None,
                 port_in_log: re.Pattern[str] | None = None, keep: bool = False, health: str = "/health"):
        if [port, port_file, port_in_log].count(None) != 2:
            raise ValueError("give the port, or the file in which the server writes it, or what finds it in the log")
        self.name = name
        self.command = command
        self.log_path = log_path
        self._port = port
        self._port_file = port_file
        self._port_in_log = port_in_log
        self._health = health
        self._keep = keep
        self._process: subprocess.Popen[bytes] | None = None
        self._peak_rss_bytes = 0
        self.exit_code: int | None = None
        self.started_at = 0.0  # on time.monotonic()

    def __enter__(self) -> Server:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self._port_file:
            self._port_file.unlink(missing_ok=True)
        self.started_at = time.monotonic()
        try:
            with self.log_path.open("wb") as log:
                self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                                 preexec_fn=None if self._keep else _die_with_parent)
        except OSError as error:
            raise ServerFailed(f"{self.name} cannot be started: {error}") from error
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop(STOP_AFTER_FAILURE_TIMEOUT_S)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop(STOP_TIMEOUT_S if kind is None else STOP_AFTER_FAILURE_TIMEOUT_S)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def endpoint(self) -> Endpoint:
        assert self._port is not None
        return Endpoint("127.0.0.1", self._port)

    @property
    def started(self) -> bool:
        return self._process is not None

    def metrics(self) -> dict[str, float]:
        """Of its /metrics, now; empty if it has none."""
        return metrics.fetch(self.endpoint)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ended_within(self, timeout_s: float) -> bool:
        """For after a failure: a process that died is seen as gone a moment after its connections are."""
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def peak_rss_bytes(self) -> int:
        """The most resident memory so far (VmHWM); the last figure seen once the process is gone."""
        try:
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    self._peak_rss_bytes = max(self._peak_rss_bytes, int(line.split()[1]) * 1024)
        except OSError:
            pass
        return self._peak_rss_bytes

    def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL when the server has not ended in time. Keeps the exit code."""
        process = self._process
        if process is None or self.exit_code is not None:
            return
        if process.poll() is None:
            self.peak_rss_bytes()
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            except BaseException:  # a second Ctrl-C: no more patience, but no process left either
                process.kill()
                process.wait()
                raise
        self.exit_code = process.returncode

    def kill(self) -> None:
        """SIGKILL, to see what a crash leaves behind. The process is gone when this returns."""
        assert self._process is not None
        self.peak_rss_bytes()
        self._process.kill()
        self.exit_code = self._process.wait()

    def log_tail(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        self._poll(deadline, self._has_port, "wrote no port")
        self._poll(deadline, self._answers_health, "did not become healthy")

    def _poll(self, deadline: float, ready: Callable[[], bool], what: str) -> None:
        while not ready():
            if not self.alive():
                raise ServerFailed(f"{self.name} ended at its start with exit code {self._process and self._process.returncode}; its last lines:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} {what} within {START_TIMEOUT_S:.0f} s; its last lines:\n{self.log_tail()}")
            time.sleep(0.05)

    def _has_port(self) -> bool:
        try:
            if self._port_file:
                text = self._port_file.read_text().strip()
                self._port = int(text) if text.isdigit() else None
            elif self._port_in_log:
                found = self._port_in_log.search(self.log_path.read_text(errors="replace"))
                self._port = int(found[1]) if found else None
        except OSError:
            return False
        return self._port is not None

    def _answers_health(self) -> bool:
        if not self._has_port():  # read again each time: the first look may have caught the file half written
            return False
        assert self._port is not None
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", self._health)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def resident_shared_bytes(pid: int) -> int:
    """Memory of a process, in RAM, that others map too (RssShmem)."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssShmem:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def command_line(command: list[str]) -> str:
    """For reports: without the directories of this machine."""
    return " ".join(os.path.basename(word) if os.path.isabs(word) else word for word in command)
