"""From flags to an answer: asks the servers what they are, calibrates, loads them, prints.

Exit status: 0; 1 a server is not there, cannot be measured, or answered nothing; 64 flags that are wrong; 130 after Ctrl-C, with what
was measured so far.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from . import report, scenarios, trace
from .arguments import USAGE_STATUS, Options, UsageError, parse
from .calibration import measure_cost
from .http_exchange import Endpoint, RequestFailed
from .load import Load, LoadLimits, Outcome, Script, Target
from .measures import Objectives, answered, summarize
from .openai_client import OpenAiClient, model_names
from .plot import Series, ttft_plot
from .progress import Progress
from .server_metrics import Samples, engine_hits, growth, read_metrics, tiercel_hits
from .words import Words

INTERRUPTED_STATUS = 130


class CannotMeasure(Exception):
    """A server that is not there or cannot be loaded, in one sentence."""


def main(words: Sequence[str] | None = None) -> int:
    try:
        options = parse(sys.argv[1:] if words is None else words)
        _check_files(options)
        return _compare(options) if options.compare else asyncio.run(_measure(options))
    except UsageError as error:
        return _complain(str(error), USAGE_STATUS)
    except (CannotMeasure, report.DocumentError, trace.TraceError) as error:
        return _complain(str(error), 1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _complain("interrupted before anything was measured", INTERRUPTED_STATUS)


def _complain(sentence: str, status: int) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return status


def _check_files(options: Options) -> None:
    """Before a run of minutes, not after."""
    for flag, path in (("--json", options.json), ("--svg", options.svg)):
        folder = os.path.dirname(path or "") or "."
        if path and path != "-" and not os.access(folder, os.W_OK):
            raise UsageError(f"{flag} {path}: {folder} is no folder that can be written to")


def _compare(options: Options) -> int:
    assert options.compare
    documents = [report.read_document(path) for path in options.compare]
    if options.svg:
        report.write(options.svg, ttft_plot("time to first token", [_series_of_rows(path, document["runs"][0]["requests"])
                                            for path, document in zip(options.compare, documents)]), sys.stdout.write)
    first, second = (report.latencies_of_document(document) for document in documents)
    ratios = report.compare(first, second)
    if options.json:
        found = {"format": report.FORMAT, "version": report.VERSION, "compared": list(options.compare),
                 "comparison": {name: vars(ratio) for name, ratio in ratios.items()}}
        report.write(options.json, json.dumps(found, indent=1) + "\n", sys.stdout.write)
    if options.json != "-":
        for path, document in zip(options.compare, documents):
            print(f"{path}: {document['title']}")
            print(report.run_text(document["runs"][0]))
        print(report.comparison_text(ratios, *options.compare), end="")
    return 0


async def _measure(options: Options) -> int:
    work = _Work(options)
    targets = [await _target(options, endpoint, model) for endpoint, model in zip(options.endpoints, options.models)]
    progress = Progress(work.count and work.count * len(targets), options.duration_s)
    limits = LoadLimits(options.concurrency, options.pace.ramp_s, options.duration_s, options.most_in_flight, options.fixed_answers)

    def ended(target: Target, outcome: Outcome) -> None:
        progress.ended(bool(outcome.error_kind), sum(each.in_flight for each in targets))

    load = Load(targets, limits, ended)
    before = await _all_metrics(options)
    started = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    offset_s = 0.5 / options.pace.qps if options.pace.qps and not options.trace else 0.0
    task = asyncio.ensure_future(load.run(work.scripts, one_turn_each=bool(options.trace), offset_s=offset_s))
    with _interrupts(task.cancel):
        try:
            await task
            interrupted = False
        except asyncio.CancelledError:
            interrupted = True
    progress.close()
    runs = [_run_of(options, target, before_and_after)
            for target, *before_and_after in zip(targets, before, await _metrics_of_each(options))]
    ratios = report.compare(*(report.latencies_by_turn(target.outcomes) for target in targets)) if len(targets) == 2 else {}
    document = {"format": report.FORMAT, "version": report.VERSION, "title": work.title, "started_at": started, "interrupted": interrupted,
                "options": work.as_json(), "runs": runs, "comparison": {name: vars(ratio) for name, ratio in ratios.items()}}
    if options.json != "-":
        print(work.title + (", interrupted" if interrupted else ""))
        print("\n".join(map(report.run_text, runs)), end="")
        if len(targets) == 2:
            print("\n" + report.comparison_text(ratios, targets[0].name, targets[1].name), end="")
        sys.stdout.flush()
    if options.json:
        report.write(options.json, json.dumps(document, indent=1) + "\n", sys.stdout.write)
    if options.svg:
        report.write(options.svg, ttft_plot(work.title, [_series_of_rows(run["endpoint"], run["requests"]) for run in runs]), sys.stdout.write)
    if interrupted:
        return INTERRUPTED_STATUS
    return 0 if all(answered(target.outcomes) for target in targets) else 1


class _Work:
    """Which turns there are: of a scenario or of a trace."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._trace: trace.Trace | None = None
        rate = f"{options.concurrency} at a time" if options.concurrency else f"{options.pace.qps:g} requests/s"
        if options.trace:
            self._trace = trace.read_trace(options.trace, limit=options.limit, seed=options.seed, window_s=options.session_window_s,
                                           block_tokens=options.block_tokens)
            if not options.concurrency:
                rate = f"at {options.speed:g} times its speed"
            self.count: int | None = len(self._trace.requests)
            self.title = f"{options.trace}: {self.count:,} requests, blocks of {self._trace.block_tokens} tokens, {rate}"
            return
        endless, shape = options.duration_s is not None, options.scenario
        self.count = None if endless else scenarios.turn_count(shape, options.seed)
        lengths = "lengths drawn" if shape.drawn else (f"{shape.system_tokens:,} + {shape.history_tokens:,} tokens, {shape.question_tokens} and "
                                                       f"{shape.answer_tokens:,} a round, {shape.rounds} rounds")
        self.title = f"{shape.name}: {shape.users} users, {lengths}, {rate}"

    def scripts(self) -> Iterable[Script]:
        options = self._options
        if self._trace:
            return _one_turn_each(trace.turns(self._trace, speed=options.speed, token_scale=options.token_scale))
        return scenarios.scripts(options.scenario, options.pace, options.seed, options.duration_s is not None)

    def as_json(self) -> dict[str, Any]:
        options = self._options
        return {"api": "chat" if options.chat else "completions", "scenario": None if options.trace else vars(options.scenario),
                "trace": options.trace, "speed": options.speed, "limit": options.limit, "token_scale": options.token_scale,
                "qps": options.pace.qps, "concurrency": options.concurrency, "ramp_up_s": options.pace.ramp_s, "duration_s": options.duration_s,
                "timeout_s": options.timeout_s, "fixed_answers": options.fixed_answers, "ignore_eos": options.ignore_eos, "seed": options.seed}


def _one_turn_each(turns: Iterable[scenarios.Turn]) -> Iterator[Script]:
    for turn in turns:
        yield iter((turn,))


async def _target(options: Options, endpoint: Endpoint, model: str | None) -> Target:
    """Asks what the server serves and what its text costs."""
    try:
        if model is None:
            names = await model_names(endpoint)
            if not names:
                raise RequestFailed("no model", "it serves no model; give --model")
            model = names[0]
        extra = {"ignore_eos": True} if options.ignore_eos else {}
        client = OpenAiClient(endpoint, model, options.chat, options.timeout_s, extra)
        cost = await measure_cost(client)
    except RequestFailed as error:
        raise CannotMeasure(f"{endpoint}: {error}") from None
    if cost.tokens_per_word != 1:
        print(f"{endpoint}: too few plain words are one token each; lengths of prompts are approximate", file=sys.stderr)
    return Target(str(endpoint), client, cost, Words(cost.words, options.seed, cost.tokens_per_word))


@contextlib.contextmanager
def _interrupts(cancel: Callable[[], object]) -> Iterator[None]:
    """The first Ctrl-C ends the load, a second one the program."""
    loop = asyncio.get_running_loop()

    def once() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        cancel()

    loop.add_signal_handler(signal.SIGINT, once)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


Metrics = tuple["Samples | None", "Samples | None"]  # of the engine | of Tiercel


async def _metrics_of_each(options: Options) -> list[Metrics]:
    async def of(endpoint: Endpoint | None) -> Samples | None:
        return await read_metrics(endpoint) if endpoint else None

    return [(await of(endpoint), await of(tiercel)) for endpoint, tiercel in zip(options.endpoints, options.tiercel)]


async def _all_metrics(options: Options) -> list[Metrics]:
    found = await _metrics_of_each(options)
    for flag, endpoint, (_, tiercel) in zip(("--tiercel", "--versus-tiercel"), options.tiercel, found):
        if endpoint and (tiercel is None or "tiercel_matched_blocks" not in tiercel):
            raise CannotMeasure(f"{flag} {endpoint}: no metrics of a Tiercel service there")
    return found


def _run_of(options: Options, target: Target, before_and_after: Sequence[Metrics]) -> report.Run:
    summary = summarize(target.outcomes, Objectives(options.ttft_slo_s, options.itl_slo_s))
    prompt_tokens = sum(outcome.prompt_tokens or 0 for outcome in answered(target.outcomes))
    engine, tiercel = (growth(before, after) for before, after in zip(*before_and_after))
    cost = target.cost
    return {"endpoint": target.name, "model": target.client.model, "given_up": target.given_up, "summary": summary,
            "engine_hits": engine_hits(engine, prompt_tokens), "tiercel_hits": tiercel_hits(tiercel),
            "calibration": {"counted_by": cost.counted_by, "words": len(cost.words), "tokens_per_word": cost.tokens_per_word,
                            "frame_tokens": cost.frame, "system_frame_tokens": cost.system_frame, "turn_frame_tokens": cost.turn_frame},
            "requests": [report.request_row(outcome) for outcome in target.outcomes]}


def _series_of_rows(name: str, rows: Sequence[dict[str, Any]]) -> Series:
    good = sorted((row["due_s"], row["first_s"] - row["sent_s"]) for row in rows if row["error"] is None)
    return Series(name, [due for due, _ in good], [ttft for _, ttft in good], [row["due_s"] for row in rows if row["error"] is not None])
