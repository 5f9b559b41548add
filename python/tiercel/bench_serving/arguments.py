"""The flags of `tiercel bench serving`. What is wrong is a UsageError: one sentence with the flag, its value and what would be right."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import os
import re
from collections.abc import Callable, Sequence
from typing import NoReturn

from .http_exchange import Endpoint
from .scenarios import SCENARIOS, Pace, Scenario

USAGE_STATUS = 64  # sysexits.h, as every command of `tiercel`
LENGTHS = ("users", "rounds", "system_tokens", "history_tokens", "question_tokens", "answer_tokens")
_TRACE_ONLY = ("speed", "limit", "token_scale", "block_tokens", "session_window")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


class UsageError(Exception):
    """A sentence that names the flag."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sentence = re.sub(r"^argument (--[\w-]+): ", r"\1 ", message)
        raise UsageError(re.sub(r" expected (one argument|\d+ arguments)$", r": its value is missing", sentence))


@dataclasses.dataclass(frozen=True)
class Options:
    """What was asked for, checked. Times are seconds, lengths tokens."""

    compare: tuple[str, str] | None
    endpoints: tuple[Endpoint, ...]
    models: tuple[str | None, ...]
    tiercel: tuple[Endpoint | None, ...]
    chat: bool
    ignore_eos: bool
    scenario: Scenario
    trace: str | None
    speed: float
    limit: int | None
    token_scale: float
    block_tokens: int | None
    session_window_s: float
    pace: Pace
    concurrency: int | None
    duration_s: float | None
    timeout_s: float
    most_in_flight: int
    fixed_answers: bool
    seed: int
    ttft_slo_s: float | None
    itl_slo_s: float | None
    json: str | None
    svg: str | None


def parse(words: Sequence[str]) -> Options:
    """UsageError; SystemExit(0) after --help."""
    parser = _parser()
    found, unknown = parser.parse_known_args(list(words))
    for word in unknown:
        known = [flag for action in parser._actions for flag in action.option_strings]
        near = difflib.get_close_matches(word.partition("=")[0], known, 1)
        raise UsageError(f"unknown option {word}" + (f"; did you mean {near[0]}?" if near else ""))
    _check(found)
    endpoints = tuple(_endpoint(flag, text, found.api_key_env) for flag, text in (("--endpoint", found.endpoint), ("--versus", found.versus)) if text)
    tiercel = tuple(_endpoint(flag, text, "") if text else None
                    for flag, text in (("--tiercel", found.tiercel), ("--versus-tiercel", found.versus_tiercel)))
    scenario = SCENARIOS[found.scenario or "long-short"]
    scenario = dataclasses.replace(scenario, **{name: getattr(found, name) for name in LENGTHS if getattr(found, name) is not None})
    qps = None if found.concurrency else found.qps or scenario.qps
    ramp_s = found.ramp_up if found.ramp_up is not None else scenario.users / qps if qps else 0.0
    return Options(
        compare=tuple(found.compare) if found.compare else None, endpoints=endpoints, models=(found.model, found.versus_model or found.model),
        tiercel=tiercel, chat=found.api == "chat", ignore_eos=not found.no_ignore_eos, scenario=scenario, trace=found.trace,
        speed=found.speed or 1.0, limit=found.limit, token_scale=found.token_scale or 1.0, block_tokens=found.block_tokens,
        session_window_s=8 * 3600.0 if found.session_window is None else found.session_window, pace=Pace(qps, ramp_s),
        concurrency=found.concurrency, duration_s=found.duration, timeout_s=found.timeout, most_in_flight=found.most_in_flight,
        fixed_answers=found.fixed_answers, seed=found.seed, ttft_slo_s=found.ttft_slo, itl_slo_s=found.itl_slo, json=found.json, svg=found.svg)


def _check(found: argparse.Namespace) -> None:
    """What flags mean together."""
    given = [name for name, value in vars(found).items() if value is not None]
    if found.compare:
        if found.endpoint:
            raise UsageError("--compare is of two runs that are over; leave --endpoint out")
        return
    if not found.endpoint:
        raise UsageError("--endpoint is missing; give the server's address, such as --endpoint http://127.0.0.1:8000")
    for name in ("versus_model", "versus_tiercel"):
        if name in given and not found.versus:
            raise UsageError(f"{_flag(name)} is of the second server; --versus names none")
    if found.qps and found.concurrency:
        raise UsageError("--qps and --concurrency: an open loop or a closed one; give one of them")
    if found.trace:
        for name in ("scenario", "qps", "ramp_up", *LENGTHS):
            if name in given and not (name == "ramp_up" and found.concurrency):
                raise UsageError(f"{_flag(name)} is of a scenario; a trace says itself who asks what and when")
        if found.fixed_answers:
            raise UsageError("--fixed-answers is of a scenario; no answer is sent back in a trace")
        if found.speed and found.concurrency:
            raise UsageError("--speed and --concurrency: a closed loop has no clock; give one of them")
        return
    for name in _TRACE_ONLY:
        if name in given:
            raise UsageError(f"{_flag(name)} is of a trace; give --trace FILE")
    scenario = SCENARIOS[found.scenario or "long-short"]
    drawn = [name for name in LENGTHS[1:] if scenario.drawn and name in given]
    if drawn:
        raise UsageError(f"{_flag(drawn[0])}: the lengths of {scenario.name} are drawn for each turn; only --users may be given")
    history = scenario.history_tokens if found.history_tokens is None else found.history_tokens
    if not scenario.drawn and history == 0 and found.question_tokens == 0:
        raise UsageError("--question-tokens 0: without a history a turn says nothing; give at least 1")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _endpoint(flag: str, text: str, key_env: str) -> Endpoint:
    key = os.environ.get(key_env, "") if key_env else ""
    try:
        return Endpoint.parse(text, (("Authorization", f"Bearer {key}"),) if key else ())
    except ValueError:
        raise UsageError(f"{flag} {text}: no address of a server, such as http://127.0.0.1:8000") from None


def _number(name: str, least: float, most: float = math.inf) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least < value <= most or math.isinf(value):
            raise argparse.ArgumentTypeError(f"{text}: not {name}")
        return value

    return read


def _whole(least: int, most: int = 1 << 31) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,12}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: not a whole number from {least} to {most}")
        return int(text)

    return read


def _duration(text: str) -> float:
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)(ms|s|m|h|)", text)
    if not match or not 0 < float(match[1]) * _UNITS[match[2]] < 1e7:
        raise argparse.ArgumentTypeError(f"{text}: not a time above 0, such as 30, 30s, 500ms or 5m")
    return float(match[1]) * _UNITS[match[2]]


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tiercel bench serving", allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter,
                     usage="tiercel bench serving --endpoint URL [flags]\n       tiercel bench serving --compare A.json B.json",
                     description="Loads a server with OpenAI's API as its clients would, and says what they see: time to first token, time between\n"
                                 "tokens, throughput, hits. Times are seconds, or 500ms, 30s, 5m; lengths are tokens.")
    add = parser.add_argument_group("servers").add_argument
    add("--endpoint", metavar="URL", help="the server, such as http://127.0.0.1:8000")
    add("--versus", metavar="URL", help="a second one, under the same load in the same run")
    add("--model", metavar="NAME", help="the first that the server lists")
    add("--versus-model", metavar="NAME", help="of the second server, if it is another")
    add("--api", choices=("completions", "chat"), default="completions", help="which of the two (completions)")
    add("--api-key-env", metavar="NAME", default="OPENAI_API_KEY", help="variable of the environment that holds the key (OPENAI_API_KEY)")
    add("--tiercel", metavar="URL", help="of a Tiercel service's metrics, for its hits")
    add("--versus-tiercel", metavar="URL", help="of the one behind the second server")
    add("--no-ignore-eos", action="store_true", help="answers may end early; for servers that refuse the field ignore_eos")
    add = parser.add_argument_group("what is asked").add_argument
    add("--scenario", choices=sorted(SCENARIOS), help="(long-short)")
    for name, text in zip(LENGTHS, ("users", "turns of a conversation", "shared by all", "of each user", "of each turn", "of each turn")):
        add(_flag(name), metavar="N", type=_whole(1 if name in ("users", "rounds", "answer_tokens") else 0, 10_000_000), help=text)
    add("--fixed-answers", action="store_true", help="text of the asked length goes into the history, in place of the answers")
    add("--trace", metavar="FILE", help="a recorded workload in place of a scenario")
    add("--speed", metavar="X", type=_number("a number above 0", 0), help="of the trace's clock (1)")
    add("--limit", metavar="N", type=_whole(1), help="the first N requests of the trace")
    add("--token-scale", metavar="X", type=_number("a number above 0, at most 1", 0, 1), help="times all lengths of the trace (1)")
    add("--block-tokens", metavar="N", type=_whole(1, 1 << 20), help="tokens of one id of the trace (found from its lengths)")
    add("--session-window", metavar="TIME", type=_duration, help="in which the sessions of a trace without a common clock begin (8h)")
    add = parser.add_argument_group("how fast").add_argument
    add("--qps", metavar="X", type=_number("a number above 0", 0), help="open loop: requests a second of all users (the scenario's)")
    add("--concurrency", metavar="N", type=_whole(1, 100_000), help="closed loop: requests at a time")
    add("--ramp-up", metavar="TIME", type=_duration, help="until all users have begun (open loop: users / qps; closed: at once)")
    add("--duration", metavar="TIME", type=_duration, help="no request is begun after it, and who is through begins anew (until all are through)")
    add("--timeout", metavar="TIME", type=_duration, default=300.0, help="of a request (300)")
    add("--most-in-flight", metavar="N", type=_whole(1, 100_000), default=1024, help="bound of the open loop (1024)")
    add("--seed", metavar="N", type=_whole(0), default=1, help="of texts and lengths (1)")
    add = parser.add_argument_group("answers").add_argument
    add("--ttft-slo", metavar="TIME", type=_duration, help="goodput counts requests whose first token came within it")
    add("--itl-slo", metavar="TIME", type=_duration, help="and whose mean time between tokens was at most this")
    add("--json", metavar="FILE", help="every figure and every request; - is stdout, in place of the table")
    add("--svg", metavar="FILE", help="plot of the time to first token")
    add("--compare", metavar=("A.json", "B.json"), nargs=2, help="two runs that are over")
    return parser
