#!/usr/bin/env python3
"""The demo behind `make demo`: one chat load, run without and then with Tiercel on fresh servers, and what came of it.

It measures the prefill speed first and sizes the load so that the whole fits the time budget. Exit code: 0 = all answers whole and restored equals
recomputed; 1 = something failed, in words on stderr; 130 = interrupted. Whatever happens, no process of it stays, except the server of --keep.
"""
from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chat_load import engines, equality, machine, metrics, report, sizing, terminal
from chat_load.client import RequestFailed, chat
from chat_load.conversation import Load, LoadShape, build_load
from chat_load.corpus import Document, read_documents
from chat_load.runner import Runner
from chat_load.server import STOP_AFTER_FAILURE_TIMEOUT_S, Server, ServerFailed, command_line

# Share of the time budget that the load is sized for. The rest is for starts and for a machine that slows down in between.
LOAD_SHARE = 0.8
# What the equality pass is given of it, in prompt tokens: 5 short turns, restored and recomputed.
EQUALITY_TOKENS = 5000
# After this many budgets the demo gives up instead of going on for ever.
GIVE_UP_BUDGETS = 3.0


class DemoFailed(Exception):
    """Said on stderr; the demo ends with 1."""


@dataclass
class Stage:
    """What the acts share."""

    options: argparse.Namespace
    documents: list[Document]
    begin: float
    kept: Server | None = None

    def settings(self, shape: LoadShape) -> engines.EngineSettings:
        return engines.EngineSettings(self.options.model, shape.slots, shape.context_tokens(), self.options.output)

    def left_s(self) -> float:
        return float(self.options.time_budget) - (time.monotonic() - self.begin)

    def give_up_at(self) -> float:
        return self.begin + GIVE_UP_BUDGETS * float(self.options.time_budget)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    stage = Stage(options, read_documents(), time.monotonic())
    try:
        _check_files(options)
        demo = first_act(stage)
        demo.wall_s = time.monotonic() - stage.begin
        return _conclude(stage, demo)
    except (DemoFailed, ServerFailed, RequestFailed, equality.EqualityFailed, ValueError) as error:
        _end(stage)
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _end(stage)
        print("\ninterrupted; no process is left running", file=sys.stderr)
        return 130
    except BaseException:
        _end(stage)
        raise


def first_act(stage: Stage) -> report.DemoResult:
    """The load without and with Tiercel, and the equality pass."""
    about = machine.describe()
    if sys.stdout.isatty():
        print(f"{stage.options.step}chat load     measuring this machine ...", end="\r", flush=True)
    speed = _measure(stage)
    shape = _size(stage, speed)
    without = _pass(stage, build_load(shape, stage.documents), "without", None, _rounds_that_fit(stage, shape, speed))
    ran = replace(shape, rounds=1 + max(turn.round for turn in without.result.turns))
    # The load is built for the full shape in both passes and only run as far: the questions stay the same.
    with_tiercel = _pass(stage, build_load(shape, stage.documents), "with", stage.options.host_capacity, range(ran.rounds))
    demo = report.DemoResult(ran, shape.context_tokens(), speed, about, stage.options.model.stem, without, with_tiercel, rounds_cut=shape.rounds - ran.rounds)
    if stage.options.equality_binary:
        print(f"      restored = recomputed?  {stage.options.equality_turns} turns in one slot ...", flush=True)
        limit = max(60.0, stage.give_up_at() - time.monotonic())
        demo.equality = equality.check(stage.options.equality_binary, stage.options.model, stage.options.equality_turns, limit)
    else:
        demo.equality_note = "not checked: no --equality-binary was given"
    return demo


def _rounds_that_fit(stage: Stage, shape: LoadShape, speed: sizing.Speed) -> Iterator[int]:
    """All rounds, or those that leave time for a run with Tiercel of as many. Two at least: without a return there is nothing to see."""
    begin = time.monotonic()
    for round_index in range(shape.rounds):
        elapsed = time.monotonic() - begin
        if round_index >= 2 and sizing.one_more_round_s(shape, speed, round_index, elapsed) + _equality_s(stage, speed) > stage.left_s():
            return
        yield round_index


def _equality_s(stage: Stage, speed: sizing.Speed) -> float:
    return EQUALITY_TOKENS / speed.prefill_tokens_per_s if stage.options.equality_binary else 0.0


def _measure(stage: Stage) -> sizing.Speed:
    """On a server of the largest shape that could be asked for, without Tiercel."""
    with engines.tiercel_server(stage.options.server_binary, stage.settings(_wanted(stage.options)), "measure", None) as server:
        return sizing.measure_speed(server.endpoint, stage.documents)


def _size(stage: Stage, speed: sizing.Speed) -> LoadShape:
    reserve = _equality_s(stage, speed)
    shape = sizing.fit(_wanted(stage.options), speed, stage.left_s() * LOAD_SHARE - reserve)
    spent = stage.options.time_budget - stage.left_s()
    whole = spent + sizing.run_seconds(shape, speed, reuse=False) + sizing.run_seconds(shape, speed, reuse=True) + reserve
    print(f"{stage.options.step}chat load     {shape.users} users x {shape.rounds} rounds, {shape.slots} slots, "
          f"KV of {shape.resident_users} of {shape.users} users fits the engine")
    print(f"      this machine computes {speed.prefill_tokens_per_s:.0f} prompt tokens/s: histories of up to {shape.history_tokens} tokens, "
          f"about {whole / 60:.1f} min in all", flush=True)
    return shape


def _pass(stage: Stage, load: Load, name: str, host_capacity: str | None, rounds: Iterable[int]) -> report.ServerRun:
    """The load on a fresh server. The server of the pass with Tiercel stays up where it is to be kept."""
    keep = stage.options.keep and host_capacity is not None
    server = engines.tiercel_server(stage.options.server_binary, stage.settings(load.shape), name, host_capacity, keep)
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        run = _run_load(stage, load, name, server, rounds)
        if keep:
            stage.kept = server
            stack.pop_all()
    if not keep and server.exit_code != 0:
        raise DemoFailed(f"{server.name} ended with exit code {server.exit_code} instead of 0 after SIGTERM; its last lines:\n{server.log_tail()}")
    return run


def _run_load(stage: Stage, load: Load, name: str, server: Server, rounds: Iterable[int]) -> report.ServerRun:
    bar = terminal.ProgressBar(f"{name} Tiercel", load.shape.users * load.shape.rounds, load.shape.users)
    before = metrics.fetch(server.endpoint)
    try:
        result = Runner(load, server.endpoint, bar.update, stage.give_up_at()).run_rounds(rounds)
    finally:
        bar.close()
    if result.failures:
        state = f"; {server.name} has ended" if server.ended_within(1.0) else ""
        raise DemoFailed(f"{name} Tiercel: {result.failures[0]}{state}\nlast lines of the server:\n{server.log_tail()}")
    moved = metrics.difference(before, metrics.fetch(server.endpoint))
    return report.ServerRun(result, command_line(server.command), server.peak_rss_bytes(), moved)


def _conclude(stage: Stage, demo: report.DemoResult) -> int:
    print("\n" + terminal.table(report.TABLE_HEADER, report.table_rows(demo)))
    print("\n".join(f"{label:<24} {remark}" for label, remark in report.remarks(demo)))
    page, _ = report.write(demo, stage.options.output)
    print(f"\nReport: {_shown(page)}   ({demo.wall_s / 60:.1f} min)", end="")
    if stage.kept:
        _hand_over(stage.kept)
        stage.kept = None
    else:
        print("   Try it yourself: make demo KEEP=1")
    if demo.equality and not demo.equality.holds:
        raise DemoFailed(f"restored and recomputed answers differ in {demo.equality.turns - demo.equality.equal} of {demo.equality.turns} turns"
                         if demo.equality.equal < demo.equality.turns else "the equality pass restored nothing, so it shows nothing")
    return 0


def _hand_over(server: Server) -> None:
    """Tells the user how to reach the server that stays, after one request like the one that is printed."""
    chat(server.endpoint, [{"role": "user", "content": "Who is Alice?"}], 8)
    url = f"http://{server.endpoint.host}:{server.endpoint.port}"
    print(f"\n\nThe server with Tiercel is up (pid {server.pid}; end it with: kill {server.pid}). Try:\n"
          f"curl -sN {url}/v1/chat/completions -H 'Content-Type: application/json' "
          """-d '{"messages":[{"role":"user","content":"Who is Alice?"}],"max_tokens":48,"stream":true}'\n"""
          f"curl -s {url}/metrics")


def _end(stage: Stage) -> None:
    if stage.kept:
        stage.kept.stop(STOP_AFTER_FAILURE_TIMEOUT_S)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _shown(path: Path) -> str:
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _wanted(options: argparse.Namespace) -> LoadShape:
    return LoadShape(users=options.users, rounds=options.rounds, slots=options.slots, history_tokens=options.history, seed=options.seed)


def _check_files(options: argparse.Namespace) -> None:
    for flag, path in (("--server-binary", options.server_binary), ("--model", options.model), ("--equality-binary", options.equality_binary)):
        if path and not path.is_file():
            raise DemoFailed(f"{flag}: {path} does not exist")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One chat load, without and with Tiercel.")
    parser.add_argument("--server-binary", type=Path, required=True, help="tiercel-llama")
    parser.add_argument("--equality-binary", type=Path, help="tiercel-llama-equality; without it the equality pass is not run, and the report says so")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="directory for report.html, report.json and the servers' logs")
    parser.add_argument("--time-budget", type=float, default=360.0, help="seconds for everything; the load is sized to fit (default %(default).0f)")
    parser.add_argument("--host-capacity", default="1GiB", help="of the run with Tiercel (default %(default)s)")
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--history", type=int, default=1200, help="longest history of a user, in tokens (default %(default)d)")
    parser.add_argument("--equality-turns", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", default="", help="printed before the first line, for example '[4/4] '")
    parser.add_argument("--keep", action="store_true", help="leave the server with Tiercel up and print a curl line")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
