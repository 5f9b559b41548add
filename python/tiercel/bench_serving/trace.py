"""Recorded workloads as load: the three formats that `tiercel replay` reads (docs/replay.md), plain or packed with zstd.

The text of a request is made block by block out of its ids: equal ids give equal text. Only ids, lengths and times are in a trace.
TraceError says file, line and what is wrong.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import random
import shutil
import statistics
import subprocess
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any

from .scenarios import Turn
from .words import Piece

HEADING = "TIMESTAMP,ContextTokens,GeneratedTokens"
LONGEST_GAP_S = 1800.0  # of a session without a common clock; longer ones are cut
_MOST_TOKENS = 1 << 32


class TraceError(Exception):
    """A trace that cannot be read, in one sentence."""


@dataclass
class TraceRequest:
    arrival_s: float
    input_tokens: int
    output_tokens: int
    ids: array[int] = field(default_factory=lambda: array("Q"))
    scope: str = ""  # ids are names inside it


@dataclass
class Trace:
    requests: list[TraceRequest]  # in order of time
    block_tokens: int


def read_trace(path: str, *, limit: int | None, seed: int, window_s: float, block_tokens: int | None) -> Trace:
    """limit: of requests; of a trace of sessions, applied after they are laid over each other. window_s: in which those begin."""
    with _lines(path) as numbered:
        reader = _Reader(path, seed, window_s)
        for number, line in numbered:
            if not line:
                continue
            try:
                reader.add(line)
            except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
                missing = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
                raise TraceError(f"{path}:{number}: {missing}") from None
            if limit is not None and len(reader.requests) >= limit and not reader.sessions:
                break
    if not reader.requests:
        raise TraceError(f"{path}: there is no request in it")
    if reader.sessions:
        reader.requests.sort(key=lambda request: request.arrival_s)
    requests = reader.requests[:limit]
    return Trace(requests, block_tokens or reader.block_tokens or _inferred_block_tokens(requests))


def turns(trace: Trace, *, speed: float, token_scale: float) -> Iterator[Turn]:
    """One fresh conversation a request. speed: of the clock. token_scale: of all lengths, for models with less room."""
    block = max(1, round(trace.block_tokens * token_scale))
    start = trace.requests[0].arrival_s
    for number, request in enumerate(trace.requests, 1):
        yield Turn(name=f"request {number}", said=pieces_of(request, f"request {number}", block, token_scale),
                   answer_tokens=max(1, round(request.output_tokens * token_scale)), due_s=(request.arrival_s - start) / speed)


def pieces_of(request: TraceRequest, name: str, block: int, token_scale: float = 1.0) -> tuple[Piece, ...]:
    """A piece for each id, and one of its own for what lies beyond the last id. At least one token."""
    left = max(1, round(request.input_tokens * token_scale))
    pieces = []
    for number in request.ids:
        if left <= 0:
            break
        pieces.append(Piece(f"block {request.scope}{number}", min(block, left)))
        left -= pieces[-1].tokens
    if left > 0:
        pieces.append(Piece(f"{name}, rest", left))
    return tuple(pieces)


class _Reader:
    """Takes lines; the first says the format."""

    def __init__(self, path: str, seed: int, window_s: float) -> None:
        self.requests: list[TraceRequest] = []
        self.block_tokens = 0
        self.sessions = 0
        self._lengths = False
        self._first = True
        self._start: datetime.datetime | None = None
        self._window_s, self._draws = window_s, random.Random(f"{seed}/sessions")

    def add(self, line: str) -> None:
        if self._first and not line.startswith("{"):
            if line != HEADING:
                raise ValueError(f"neither a JSON object nor the heading {HEADING}")
            self._lengths = True
        elif self._lengths:
            self._append(self._row(line))
        else:
            fields = json.loads(line)
            if "requests" in fields:
                self._add_session(fields)
            else:
                self._append(TraceRequest(_time(fields["timestamp"], "timestamp") / 1000, _count(fields["input_length"], "input_length"),
                                          _count(fields["output_length"], "output_length"), _ids(fields["hash_ids"])))
        self._first = False

    def _append(self, request: TraceRequest) -> None:
        if self.requests and request.arrival_s < self.requests[-1].arrival_s:
            raise ValueError("its time lies before that of the line before")
        self.requests.append(request)

    def _row(self, line: str) -> TraceRequest:
        values = line.split(",")
        if len(values) != 3:
            raise ValueError("not three values")
        whole, _, fraction = values[0].partition(".")
        moment = datetime.datetime.strptime(whole, "%Y-%m-%d %H:%M:%S")
        self._start = self._start or moment
        arrival = (moment - self._start).total_seconds() + float(f"0.{fraction or 0}")
        return TraceRequest(arrival, _count(int(values[1]), "ContextTokens"), _count(int(values[2]), "GeneratedTokens"))

    def _add_session(self, fields: dict[str, Any]) -> None:
        self.block_tokens = _count(fields["block_size"], "block_size")
        self.sessions += 1
        found = sorted(_turns_of(fields, 0.0, f"{self.sessions}."), key=lambda request: request.arrival_s)
        laid, recorded = self._draws.random() * self._window_s, 0.0
        for request in found:
            laid += min(request.arrival_s - recorded, LONGEST_GAP_S)
            recorded = request.arrival_s
            request.arrival_s = laid
        self.requests += found


def _turns_of(owner: dict[str, Any], start_s: float, scope: str) -> Iterator[TraceRequest]:
    for fields in owner["requests"]:
        at = start_s + _time(fields["t"], "t")
        if fields.get("type") == "subagent":
            yield from _turns_of(fields, at, scope)
        else:
            yield TraceRequest(at, _count(fields["in"], "in"), _count(fields["out"], "out"), _ids(fields["hash_ids"]), scope)


def _time(value: Any, name: str) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise ValueError(f"{name} is not a time from the start")
    return float(value)


def _count(value: Any, name: str) -> int:
    if not isinstance(value, int) or not 0 <= value < _MOST_TOKENS:
        raise ValueError(f"{name} is not a whole number from 0 to {_MOST_TOKENS - 1}")
    return value


def _ids(value: Any) -> array[int]:
    if not isinstance(value, list) or not all(isinstance(number, int) and number >= 0 for number in value):
        raise ValueError("hash_ids is not an array of whole numbers")
    return array("Q", value)


def _inferred_block_tokens(requests: list[TraceRequest]) -> int:
    """The power of two nearest to tokens an id: the last id of a request stands for half a block on average."""
    with_ids = [request for request in requests if request.ids]
    long = [request for request in with_ids if len(request.ids) >= 4] or with_ids
    if not long:
        return 512
    each = statistics.median(request.input_tokens / (len(request.ids) - 0.5) for request in long)
    return min((1 << power for power in range(21)), key=lambda block: max(block, each) / max(1e-9, min(block, each)))


@contextlib.contextmanager
def _lines(path: str) -> Iterator[Iterator[tuple[int, str]]]:
    """Numbered from 1, without their ends."""
    def numbered(file: IO[bytes]) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(file, 1):
            yield number, line.decode(errors="replace").strip()

    try:
        with open(path, "rb") as file:
            if file.peek(4)[:4] != b"\x28\xb5\x2f\xfd":
                yield numbered(file)
                return
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    if not shutil.which("zstd"):
        raise TraceError(f"{path} is packed, and the program zstd is not installed; unpack it elsewhere with zstd -d --long=27")
    with subprocess.Popen(["zstd", "-dcq", "--long=27", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as unpacking:
        assert unpacking.stdout and unpacking.stderr
        whole = False
        try:
            yield numbered(unpacking.stdout)
            whole = not unpacking.stdout.peek(1)  # type: ignore[attr-defined]
        finally:
            if not whole:  # the reader has enough, or has failed
                unpacking.terminate()
        said = unpacking.stderr.read().decode(errors="replace").strip()
        if whole and unpacking.wait() != 0:
            raise TraceError(f"{path}: zstd: {said.splitlines()[-1] if said else 'it failed'}")
