#!/usr/bin/env python3
"""tiercel-llama beside llama.cpp's own server of the same sources with --cache-ram: the same chat load, slots, context and unified KV cache.

Both servers are up at once and take turns round by round (who goes first alternates), so that a machine that slows down slows both. Two scenarios:
every user with a document of their own, and groups of users who share one. Prints all percentiles side by side and writes JSON.
"""
from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chat_load import engines, machine, sizing
from chat_load.client import RequestFailed
from chat_load.conversation import LoadShape, build_load
from chat_load.corpus import Document, read_documents
from chat_load.latency import Latency
from chat_load.runner import Runner, RunResult, Turn
from chat_load.server import Server, ServerFailed, command_line
from chat_load.terminal import seconds, size, table

NAMES = ("tiercel-llama", "llama-server")


@dataclass
class Side:
    """One server's figures of a scenario, over all repeats."""

    command: str = ""
    peak_rss_bytes: int = 0
    runs: list[RunResult] = field(default_factory=list)

    def turns(self) -> list[Turn]:
        return [turn for run in self.runs for turn in run.turns]

    def latency(self, kind: str) -> Latency:
        turns = self.turns()
        if kind == "total":
            return Latency.of([turn.answer.total_s for turn in turns])
        return Latency.of([turn.answer.ttft_s for turn in turns
                           if kind == "all" or (turn.round == 0) == (kind == "first")])

    def wall_s(self) -> float:
        return sum(run.wall_s for run in self.runs)

    def as_json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "peak_rss_bytes": self.peak_rss_bytes,
            "ttft_s": self.latency("all").as_json(),
            "ttft_first_round_s": self.latency("first").as_json(),
            "ttft_returning_rounds_s": self.latency("returning").as_json(),
            "total_s": self.latency("total").as_json(),
            "wall_s": self.wall_s(),
            "prompt_tokens": sum(run.prompt_tokens for run in self.runs),
            "prompt_tokens_computed": sum(run.computed_tokens for run in self.runs),
            "runs": [run.as_json() for run in self.runs],
        }


@dataclass
class Scenario:
    name: str
    shape: LoadShape
    sides: dict[str, Side] = field(default_factory=lambda: {name: Side() for name in NAMES})


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        documents = read_documents()
        about = machine.describe()
        speed = _measure(options, documents)
        base = LoadShape(users=options.users, rounds=options.rounds, slots=options.slots, history_tokens=options.history, seed=options.seed,
                         chars_per_token=speed.chars_per_token)
        scenarios = [Scenario("private: every user has a document of their own", base),
                     Scenario(f"shared: {options.users_per_document} users on each document, with notes of their own",
                              replace(base, users_per_document=options.users_per_document))]
        for scenario in scenarios:
            for repeat in range(options.repeats):
                _run(options, scenario, repeat, documents)
            _print(scenario)
        _write(options, scenarios, speed, about)
        return 0
    except (ServerFailed, RequestFailed, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; no process is left running", file=sys.stderr)
        return 130


def _servers(options: argparse.Namespace, settings: engines.EngineSettings) -> dict[str, Server]:
    return {
        "tiercel-llama": engines.tiercel_server(options.tiercel_binary, settings, "tiercel-llama", f"{options.cache_mib}MiB"),
        "llama-server": engines.llama_server(options.llama_server_binary, settings, "llama-server", options.cache_mib),
    }


def _measure(options: argparse.Namespace, documents: list[Document]) -> sizing.Speed:
    """On llama.cpp's own server: here it only gives the measure of characters a token, and the reader an idea of the machine."""
    settings = engines.EngineSettings(options.model, options.slots, 2048, options.output)
    with engines.llama_server(options.llama_server_binary, settings, "measure", 0) as server:
        return sizing.measure_speed(server.endpoint, documents)


def _run(options: argparse.Namespace, scenario: Scenario, repeat: int, documents: list[Document]) -> None:
    """One repeat on two fresh servers."""
    shape = scenario.shape
    load = build_load(shape, documents)
    settings = engines.EngineSettings(options.model, shape.slots, shape.context_tokens(), options.output)
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(server) for name, server in _servers(options, settings).items()}
        runners = {name: Runner(load, server.endpoint) for name, server in servers.items()}
        for round_index in range(shape.rounds):
            order = NAMES if (round_index + repeat) % 2 == 0 else NAMES[::-1]
            for name in order:
                result = runners[name].run_rounds([round_index])
                if result.failures:
                    raise RequestFailed(f"{name}: {result.failures[0]}\nlast lines of the server:\n{servers[name].log_tail()}")
            print(f"  {scenario.name.partition(':')[0]}  repeat {repeat + 1}/{options.repeats}  round {round_index + 1}/{shape.rounds}", file=sys.stderr, flush=True)
        for name, server in servers.items():
            side = scenario.sides[name]
            side.command = command_line(server.command)
            side.peak_rss_bytes = max(side.peak_rss_bytes, server.peak_rss_bytes())
            side.runs.append(runners[name].result)


def _print(scenario: Scenario) -> None:
    ours, theirs = (scenario.sides[name] for name in NAMES)
    rows = []
    for label, kind in (("first token, all rounds", "all"), ("first token, first round", "first"),
                        ("first token, users returning", "returning"), ("whole answer", "total")):
        for name in ("p50", "p95", "p99", "worst"):
            a, b = getattr(ours.latency(kind), name), getattr(theirs.latency(kind), name)
            rows.append((f"{label} {name}", seconds(a), seconds(b), _quotient(a, b)))
    a_tokens, b_tokens = (sum(run.computed_tokens for run in side.runs) for side in (ours, theirs))
    rows.append(("prompt tokens computed", f"{a_tokens:,}", f"{b_tokens:,}", _quotient(a_tokens, b_tokens)))
    rows.append(("wall time", seconds(ours.wall_s()), seconds(theirs.wall_s()), _quotient(ours.wall_s(), theirs.wall_s())))
    rows.append(("memory, peak", size(ours.peak_rss_bytes), size(theirs.peak_rss_bytes), _quotient(ours.peak_rss_bytes, theirs.peak_rss_bytes)))
    shape = scenario.shape
    print(f"\n{scenario.name}\n{shape.users} users x {shape.rounds} rounds, {shape.slots} slots, context {shape.context_tokens():,}, "
          f"history up to {shape.history_tokens} tokens, {len(ours.turns())} answers each")
    print(table(("", *NAMES, "theirs / ours"), rows), flush=True)


def _quotient(ours: float | None, theirs: float | None) -> str:
    return f"{theirs / ours:.2f}" if ours and theirs else ""


def _write(options: argparse.Namespace, scenarios: list[Scenario], speed: sizing.Speed, about: dict[str, str | int]) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "llama_server.json"
    data = {
        "model": options.model.stem,
        "machine": about,
        "speed": asdict(speed),
        "cache_mib": options.cache_mib,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "scenarios": [{"name": one.name, "load": {**asdict(one.shape), "context_tokens": one.shape.context_tokens()},
                       **{name: side.as_json() for name, side in one.sides.items()}} for one in scenarios],
    }
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    print(f"\nJSON: {path}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="tiercel-llama beside llama.cpp's own server with --cache-ram, under the same chat load.")
    parser.add_argument("--tiercel-binary", type=Path, required=True, help="tiercel-llama")
    parser.add_argument("--llama-server-binary", type=Path, required=True, help="llama-server, built from the same sources")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--output", type=Path, default=Path("build/bench"), help="directory for llama_server.json and the servers' logs")
    parser.add_argument("--cache-mib", type=int, default=1024, help="host memory for the cache of either (default %(default)d)")
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--users-per-document", type=int, default=3, help="in the shared scenario (default %(default)d)")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--history", type=int, default=1200, help="longest history of a user, in tokens (default %(default)d)")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
