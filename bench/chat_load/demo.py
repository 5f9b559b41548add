#!/usr/bin/env python3
"""The demo behind `make demo`: one chat load, run without and then with Tiercel on fresh servers; then the server with Tiercel is killed and started again.

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

from chat_load import engines, equality, machine, metrics, report, second_act, sizing, terminal
from chat_load.client import RequestFailed, chat
from chat_load.conversation import Load, LoadShape, build_load
from chat_load.corpus import Document, read_documents
from chat_load.disk_directory import DiskDirectory, NoRoom, check_room, parse_size
from chat_load.runner import Runner
from chat_load.served import AnyServer, ServedEngine
from chat_load.server import STOP_AFTER_FAILURE_TIMEOUT_S, ServerFailed, command_line

# Share of the time budget that the load is sized for. The rest is for starts and for a machine that slows down in between.
LOAD_SHARE = 0.8
# What the equality pass is given of it, in prompt tokens: 5 short turns, restored and recomputed.
EQUALITY_TOKENS = 5000
# Users for whom a cold start is sized; where there is time, all of them.
COLD_USERS = 3
# One round that the kill cuts short, one in which the users are back.
SECOND_ACT_ROUNDS = 2
ROOM_TO_SPARE = 1 << 30
DEFAULT_BUDGET_S = {True: 540.0, False: 360.0}  # with and without the second act
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
    kept: AnyServer | None = None  # runs until told otherwise
    disk: DiskDirectory | None = None  # of the pass with Tiercel, where there is a second act
    cold_disk: DiskDirectory | None = None
    why_no_second_act: str = ""

    def settings(self, shape: LoadShape) -> engines.EngineSettings:
        return engines.EngineSettings(self.options.model, shape.slots, shape.context_tokens(), self.options.output)

    def left_s(self) -> float:
        return self.budget_s() - (time.monotonic() - self.begin)

    def budget_s(self) -> float:
        return float(self.options.time_budget or DEFAULT_BUDGET_S[self.options.second_act])

    def give_up_at(self) -> float:
        return self.begin + GIVE_UP_BUDGETS * self.budget_s()


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    stage = Stage(options, read_documents(), time.monotonic())
    try:
        _check_files(options)
        _find_room(stage)
        demo, runner = first_act(stage)
        if stage.disk:
            demo.restart = restart(stage, demo, runner)
        else:
            demo.restart_note = stage.why_no_second_act
        check_equality(stage, demo)
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
    finally:
        if stage.kept is None:
            _remove(options.output, stage.cold_disk, stage.disk)


def first_act(stage: Stage) -> tuple[report.DemoResult, Runner]:
    """The load without and with Tiercel. The runner has the conversations of the pass with Tiercel, whose server goes on where there is a second act."""
    about = machine.describe()
    if sys.stdout.isatty():
        print(f"{stage.options.step}chat load     measuring this machine ...", end="\r", flush=True)
    speed = _measure(stage)
    shape = _size(stage, speed)
    without, _ = _pass(stage, build_load(shape, stage.documents), "without", None, _rounds_that_fit(stage, shape, speed))
    ran = replace(shape, rounds=1 + max(turn.round for turn in without.result.turns))
    # The load is built for the full shape in both passes and only run as far: the questions stay the same.
    with_tiercel, runner = _pass(stage, build_load(shape, stage.documents), "with", stage.options.host_capacity, range(ran.rounds))
    demo = report.DemoResult(ran, shape.context_tokens(), speed, about, stage.options.model.stem, without, with_tiercel, rounds_cut=shape.rounds - ran.rounds)
    return demo, runner


def restart(stage: Stage, demo: report.DemoResult, runner: Runner) -> second_act.Restart:
    """The second act. The warm start comes last, so that it is its server that is kept."""
    assert stage.disk and stage.cold_disk and stage.kept
    killed, conversations = second_act.kill_in_mid_load(runner, stage.kept, demo.shape.rounds, demo.shape.users)
    whom = "the server and of the service" if isinstance(stage.kept, ServedEngine) else "the server"
    print(f"      kill -9 of {whom} in mid-load: {killed.under_way} answer{'s' * (killed.under_way != 1)} under way, {killed.disk_blocks:,} blocks on disk", flush=True)
    stage.kept = None
    shape = replace(demo.shape, rounds=demo.shape.rounds + demo.rounds_cut)  # as asked for: the servers are the same as before
    cold = _come_back(stage, shape, "cold", stage.cold_disk, conversations, _cold_users(stage, demo))
    stage.cold_disk.remove()
    warm = _come_back(stage, shape, "warm", stage.disk, conversations, demo.shape.users)
    return second_act.Restart(killed, cold, warm)


def _come_back(stage: Stage, shape: LoadShape, name: str, disk: DiskDirectory, conversations: Runner, users: int) -> second_act.Return:
    keep = stage.options.keep and disk is stage.disk
    server = engines.tiercel_server(stage.options.server_binary, stage.settings(shape), name, stage.options.host_capacity, keep, disk, stage.options.service_binary)
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        bar = terminal.ProgressBar(f"{name} start", users, users)
        try:
            found = second_act.come_back(conversations, server, range(users), bar.update)
        finally:
            bar.close()
        if keep:
            stage.kept = server
            stack.pop_all()
    _check_end(server)
    return found


def _cold_users(stage: Stage, demo: report.DemoResult) -> int:
    """As many as the time allows, by how fast the machine was in the run without Tiercel."""
    slower = demo.without.result.wall_s / sizing.run_seconds(demo.shape, demo.speed, reuse=False)
    others = sizing.second_act_seconds(demo.shape, demo.speed, 0) + _equality_s(stage, demo.speed)
    affordable = (stage.left_s() - slower * others) / (slower * sizing.cold_turn_seconds(demo.shape, demo.speed))
    return max(1, min(demo.shape.users, int(affordable)))


def check_equality(stage: Stage, demo: report.DemoResult) -> None:
    if stage.options.equality_binary:
        print(f"      restored = recomputed?  {stage.options.equality_turns} turns in one slot ...", flush=True)
        limit = max(60.0, stage.give_up_at() - time.monotonic())
        demo.equality = equality.check(stage.options.equality_binary, stage.options.model, stage.options.equality_turns, limit)
    else:
        demo.equality_note = "not checked: no --equality-binary was given"


def _rounds_that_fit(stage: Stage, shape: LoadShape, speed: sizing.Speed) -> Iterator[int]:
    """All rounds, or those that leave time for a run with Tiercel of as many. Two at least: without a return there is nothing to see."""
    begin = time.monotonic()
    for round_index in range(shape.rounds):
        elapsed = time.monotonic() - begin
        if round_index >= 2 and sizing.one_more_round_s(shape, speed, round_index, elapsed) + _after_s(stage, speed, shape) > stage.left_s():
            return
        yield round_index


def _equality_s(stage: Stage, speed: sizing.Speed) -> float:
    return EQUALITY_TOKENS / speed.prefill_tokens_per_s if stage.options.equality_binary else 0.0


def _after_s(stage: Stage, speed: sizing.Speed, shape: LoadShape) -> float:
    """What comes after the two passes."""
    second = sizing.second_act_seconds(shape, speed, min(COLD_USERS, shape.users)) if stage.disk else 0.0
    return second + _equality_s(stage, speed)


def _measure(stage: Stage) -> sizing.Speed:
    """On a server of the largest shape that could be asked for, without Tiercel."""
    with engines.tiercel_server(stage.options.server_binary, stage.settings(_wanted(stage.options)), "measure", None) as server:
        return sizing.measure_speed(server.endpoint, stage.documents)


def _size(stage: Stage, speed: sizing.Speed) -> LoadShape:
    wanted = replace(_wanted(stage.options), extra_rounds=SECOND_ACT_ROUNDS if stage.disk else 0)
    shape = sizing.fit(wanted, speed, stage.left_s() * LOAD_SHARE, lambda candidate: _after_s(stage, speed, candidate))
    spent = stage.budget_s() - stage.left_s()
    whole = spent + sizing.run_seconds(shape, speed, reuse=False) + sizing.run_seconds(shape, speed, reuse=True) + _after_s(stage, speed, shape)
    print(f"{stage.options.step}chat load     {shape.users} users x {shape.rounds} rounds, {shape.slots} slots, "
          f"KV of {shape.resident_users} of {shape.users} users fits the engine")
    print(f"      this machine computes {speed.prefill_tokens_per_s:.0f} prompt tokens/s: histories of up to {shape.history_tokens} tokens, "
          f"about {whole / 60:.1f} min in all", flush=True)
    return shape


def _pass(stage: Stage, load: Load, name: str, host_capacity: str | None, rounds: Iterable[int]) -> tuple[report.ServerRun, Runner]:
    """The load on a fresh server. The server of the pass with Tiercel stays up where it is to be killed or to be kept."""
    stays = host_capacity is not None and (stage.options.keep or stage.disk is not None)
    disk = stage.disk if host_capacity is not None else None
    server = engines.tiercel_server(stage.options.server_binary, stage.settings(load.shape), name, host_capacity, stays and disk is None, disk,
                                    stage.options.service_binary)
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        if isinstance(server, ServedEngine) and server.page:
            print(f"      live page of the service while it runs: {server.page}", flush=True)
        run, runner = _run_load(stage, load, name, server, rounds)
        if stays:
            stage.kept = server
            stack.pop_all()
    _check_end(server)
    return run, runner


def _check_end(server: AnyServer) -> None:
    if server.exit_code not in (None, 0):
        raise DemoFailed(f"{server.name} ended with exit code {server.exit_code} instead of 0 after SIGTERM; its last lines:\n{server.log_tail()}")


def _run_load(stage: Stage, load: Load, name: str, server: AnyServer, rounds: Iterable[int]) -> tuple[report.ServerRun, Runner]:
    bar = terminal.ProgressBar(f"{name} Tiercel", load.shape.users * load.shape.rounds, load.shape.users)
    before = server.metrics()
    runner = Runner(load, server.endpoint, bar.update, stage.give_up_at())
    try:
        result = runner.run_rounds(rounds)
    finally:
        bar.close()
    if result.failures:
        state = f"; {server.name} has ended" if server.ended_within(1.0) else ""
        raise DemoFailed(f"{name} Tiercel: {result.failures[0]}{state}\nlast lines of the server:\n{server.log_tail()}")
    moved = metrics.difference(before, server.metrics())
    return report.ServerRun(result, command_line(server.command), server.peak_rss_bytes(), moved), runner


def _conclude(stage: Stage, demo: report.DemoResult) -> int:
    print("\n" + terminal.table(report.TABLE_HEADER, report.table_rows(demo)))
    print("\n".join(f"{label:<24} {remark}" for label, remark in report.remarks(demo)))
    if demo.restart:
        print("\n" + terminal.table(report.RESTART_HEADER, report.restart_rows(demo.restart)))
        print("\n" + report.restart_sentence(demo.restart))
    page, _ = report.write(demo, stage.options.output)
    print(f"\nReport: {_shown(page)}   ({demo.wall_s / 60:.1f} min)", end="")
    if stage.kept:
        _hand_over(stage.kept, stage.disk)
        stage.kept = stage.disk = None
    else:
        print("   Try it yourself: make demo KEEP=1")
    if demo.restart and not demo.restart.holds:
        raise DemoFailed(f"the second act failed: {report.restart_sentence(demo.restart)} ({demo.restart.read_blocks:,} read from disk)")
    if demo.equality and not demo.equality.holds:
        raise DemoFailed(f"restored and recomputed answers differ in {demo.equality.turns - demo.equality.equal} of {demo.equality.turns} turns"
                         if demo.equality.equal < demo.equality.turns else "the equality pass restored nothing, so it shows nothing")
    return 0


def _hand_over(server: AnyServer, disk: DiskDirectory | None) -> None:
    """Tells the user how to reach the server that stays, after one request like the one that is printed."""
    chat(server.endpoint, [{"role": "user", "content": "Who is Alice?"}], 8)
    url = f"http://{server.endpoint.host}:{server.endpoint.port}"
    served = isinstance(server, ServedEngine)
    pids = " ".join(str(pid) for pid in (server.pids if isinstance(server, ServedEngine) else [server.pid]))
    print(f"\n\nThe server with Tiercel is up{' beside its service' * served} (end with: kill {pids}). Try:\n"
          f"curl -sN {url}/v1/chat/completions -H 'Content-Type: application/json' "
          """-d '{"messages":[{"role":"user","content":"Who is Alice?"}],"max_tokens":48,"stream":true}'\n"""
          f"curl -s {url}/metrics")
    if isinstance(server, ServedEngine):
        print(f"Live page of the service: {server.page}")
    if disk:
        print(f"Its disk files stay with it, {disk.capacity} in {_shown(disk.path)}: remove them when it has ended (the next demo does).")


def _end(stage: Stage) -> None:
    if stage.kept:
        stage.kept.stop(STOP_AFTER_FAILURE_TIMEOUT_S)
        stage.kept = None


def _find_room(stage: Stage) -> None:
    """Decides whether there is a second act: it needs the disk of the run and, for the cold start, an empty one of the same size."""
    options = stage.options
    if not options.second_act:
        stage.why_no_second_act = "left out, as asked for"
        return
    needed_bytes = 2 * parse_size(options.disk_capacity) + ROOM_TO_SPARE
    warm, cold = (DiskDirectory(options.output / "disk" / name, options.disk_capacity) for name in ("warm", "cold"))
    try:
        for disk in (warm, cold):
            disk.create()
        check_room(options.output, needed_bytes)
    except (NoRoom, OSError) as error:
        stage.why_no_second_act = f"left out: {error}"
        _remove(options.output, warm, cold)
        print(f"{options.step}chat load     the second act is {stage.why_no_second_act}", flush=True)
        return
    stage.disk, stage.cold_disk = warm, cold


def _remove(output: Path, *disks: DiskDirectory | None) -> None:
    for disk in disks:
        if disk:
            disk.remove()
    with contextlib.suppress(OSError):  # not empty, or never made
        (output / "disk").rmdir()


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
    for flag, path in (("--server-binary", options.server_binary), ("--service-binary", options.service_binary), ("--model", options.model),
                       ("--equality-binary", options.equality_binary)):
        if path and not path.is_file():
            raise DemoFailed(f"{flag}: {path} does not exist")


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One chat load, without and with Tiercel.")
    parser.add_argument("--server-binary", type=Path, required=True, help="tiercel-llama")
    parser.add_argument("--service-binary", type=Path, help="tiercel; the server is then a client of a service (tiercel serve), instead of having a cache of its own")
    parser.add_argument("--equality-binary", type=Path, help="tiercel-llama-equality; without it the equality pass is not run, and the report says so")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--output", type=Path, default=Path("build/demo"), help="directory for report.html, report.json and the servers' logs")
    parser.add_argument("--time-budget", type=float, help="seconds for everything; the load is sized to fit (default 540, without the second act 360)")
    parser.add_argument("--no-second-act", dest="second_act", action="store_false", help="do not kill the server and start it again")
    parser.add_argument("--disk-capacity", default="2GiB", help="of the run with Tiercel, for the second act; as much again for its cold start (default %(default)s)")
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
