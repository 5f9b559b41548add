"""The second act: the server is killed in mid-load and started again on the same disk; what do the users who come back wait?

Three columns. Before: each user's last answer from the server that was killed. Cold: the next question of the same conversations, asked of a server
with an empty disk. Warm: the same of a server on the disk that the kill left behind. All three have the same flags but for the directory.
"""
from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from chat_load import metrics
from chat_load.runner import Progress, Runner, RunResult
from chat_load.served import AnyServer
from chat_load.server import ServerFailed, command_line

READY_TIMEOUT_S = 60.0


@dataclass
class Killed:
    """The end of the first server, and what it had acknowledged."""

    before: RunResult  # one turn a user
    under_way: int  # requests that the kill broke off
    disk_blocks: int  # ready on disk at the last look, milliseconds before the kill


@dataclass
class Return:
    """The users' turns on a server that was started anew."""

    result: RunResult
    ready_s: float  # from its start until it answered with reuse on and its disk indexed
    command: str
    peak_rss_bytes: int
    metrics: dict[str, float]

    def count(self, name: str, *labels: str) -> int:
        return int(metrics.total(self.metrics, name, *labels) or 0)

    def as_json(self) -> dict[str, Any]:
        return {**self.result.as_json(), "ready_s": self.ready_s, "command": self.command, "peak_rss_bytes": self.peak_rss_bytes, "metrics": self.metrics}


@dataclass
class Restart:
    """What came of it."""

    killed: Killed
    cold: Return
    warm: Return

    @property
    def found_blocks(self) -> int:
        return self.warm.count("tiercel_disk_recovered_blocks_total")

    @property
    def failed_verification(self) -> int:
        return self.warm.count("tiercel_disk_checksum_failures_total")

    @property
    def read_blocks(self) -> int:
        return self.warm.count("tiercel_promoted_blocks_total")

    @property
    def holds(self) -> bool:
        """Blocks were there before the kill, were found after it, and came back from the disk into conversations."""
        return self.killed.disk_blocks > 0 and self.found_blocks > 0 and self.read_blocks > 0 and self.failed_verification == 0

    def as_json(self) -> dict[str, Any]:
        return {"before": {**self.killed.before.as_json(), "requests_broken_off": self.killed.under_way, "disk_blocks": self.killed.disk_blocks},
                "cold": self.cold.as_json(), "warm": self.warm.as_json(), "found_blocks": self.found_blocks,
                "failed_verification": self.failed_verification, "blocks_read_from_disk": self.read_blocks, "holds": self.holds}


def kill_in_mid_load(runner: Runner, server: AnyServer, round_index: int, users: int) -> tuple[Killed, Runner]:
    """Runs one more round and kills the server when about half of it is answered and something is under way.

    The second value holds the conversations as the kill left them: who got no answer will ask again.
    """
    blocks = under_way = 0

    def kill() -> None:
        nonlocal blocks, under_way
        blocks = int(metrics.total(server.metrics(), "tiercel_tier_blocks", 'tier="disk"') or 0)
        under_way = last.under_way
        server.kill()

    def progress(result: RunResult) -> None:
        if server.exit_code is None and len(result.turns) >= max(1, users // 2) and last.under_way:
            kill()

    last = runner.branch(server.endpoint, progress)
    result = last.run_rounds([round_index])
    if server.exit_code is None:  # never two requests at once, or all of them failed
        if result.failures:
            raise ServerFailed(f"before it was to be killed: {result.failures[0]}")
        kill()
    unexpected = [failure for failure in result.failures if "internal error" in failure or "time limit" in failure]
    if unexpected:
        raise ServerFailed(unexpected[0])
    return Killed(_last_turns(runner.result, result), under_way, blocks), last


def come_back(runner: Runner, server: AnyServer, users: Iterable[int], progress: Progress | None = None) -> Return:
    """One turn for each of these users on a server that has just been started."""
    ready_s = _wait_until_ready(server)
    result = runner.branch(server.endpoint, progress).run_one_turn_each(users)
    if result.failures:
        raise ServerFailed(f"{server.name}: {result.failures[0]}; its last lines:\n{server.log_tail()}")
    return Return(result, ready_s, command_line(server.command), server.peak_rss_bytes(), server.metrics())


def in_one_round(result: RunResult) -> RunResult:
    """For a plot: the turns as one round, whatever round of its conversation each was."""
    return RunResult([replace(turn, round=0) for turn in result.turns])


def _last_turns(*results: RunResult) -> RunResult:
    last = {}
    for turn in (turn for result in results for turn in result.turns):
        if turn.user not in last or turn.round > last[turn.user].round:
            last[turn.user] = turn
    return RunResult([last[user] for user in sorted(last)])


def _wait_until_ready(server: AnyServer) -> float:
    """Both servers are asked only then: neither a file that is still being hashed nor a disk that is still being read is what is compared."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _ready(server):
        if not server.alive() or time.monotonic() > deadline:
            raise ServerFailed(f"{server.name} was not ready within {READY_TIMEOUT_S:.0f} s; its last lines:\n{server.log_tail()}")
        time.sleep(0.02)
    return time.monotonic() - server.started_at


def _ready(server: AnyServer) -> bool:
    endpoint = server.endpoint
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=10)
    try:
        connection.request("GET", "/health")
        if json.loads(connection.getresponse().read()).get("reuse") == "pending":
            return False
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    return not metrics.total(server.metrics(), "tiercel_disk_directories", 'state="starting"')
