"""Sends turns to one server or two, and keeps what came of each.

Open loop: a turn is sent when it is due, or as soon as the answer before it in its conversation has come; with two servers each has the
whole rate. Closed loop: so many turns at a time; with two servers each turn goes to one and then to the other, the first alternating.
Of one event loop. Everything ends: each request has a limit, requests in flight have a bound, and after the duration none is begun.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .calibration import TextCost
from .openai_client import Answer, Message, OpenAiClient, Prompt
from .scenarios import Turn
from .words import LEAD, Piece, Words, shorten, tokens_of

_HEAD_START_S = 0.2  # in which the text of a turn of a trace is made before it is due

Script = Iterator[Turn]


@dataclass
class Outcome:
    """One request, in seconds from the start of the load and in tokens. `first_s` is None where no token came."""

    turn: str
    due_s: float  # when it was to be sent; in a closed loop when it was
    sent_s: float
    first_s: float | None
    ended_s: float
    gaps_s: list[float]  # between pieces of text
    asked_tokens: int  # the length that its prompt was made for
    prompt_tokens: int | None
    cached_tokens: int | None
    output_tokens: int
    error_kind: str = ""
    error: str = ""


@dataclass
class Target:
    """A server under load."""

    name: str
    client: OpenAiClient
    cost: TextCost
    words: Words
    outcomes: list[Outcome] = field(default_factory=list)
    in_flight: int = 0
    given_up: int = 0  # in flight when the load was cancelled


class Conversation:
    """What one user and one server have said. Its texts are the words of the pieces less what the template adds to them."""

    def __init__(self, target: Target, fixed_answers: bool) -> None:
        self._target, self._fixed_answers = target, fixed_answers
        self._messages: list[Message] = []
        self._tokens = 0

    def prompt(self, turn: Turn) -> tuple[Prompt, int]:
        """What is sent for a turn, and how many tokens it is made to have."""
        if turn.fresh:
            self._messages, self._tokens = [], 0
        cost, chat = self._target.cost, self._target.client.chat
        system, said = turn.system if turn.fresh else (), turn.said
        if self._messages and self._messages[-1]["role"] == "user":  # it was not answered: both are asked now
            self._messages[-1]["content"] += self._target.words.texts(said)
            self._tokens += tokens_of(said)
            return self._whole(), self._tokens
        frame = cost.of_prompt(system=bool(system)) if not self._messages else cost.turn_frame
        if tokens_of(system) > frame:
            system = shorten(system, frame)
        else:
            said = shorten(said, frame)
        self._tokens += tokens_of(turn.system if turn.fresh else ()) + tokens_of(turn.said)
        if system and chat:
            self._messages.append(self._message("system", system))
            system = ()
        self._messages.append(self._message("user", [*system, *said]))
        return self._whole(), self._tokens

    def _whole(self) -> Prompt:
        return list(self._messages) if self._target.client.chat else "".join(message["content"] for message in self._messages)

    def answered(self, turn: Turn, answer: Answer, output_tokens: int) -> None:
        """Appends the answer. There is none to go on from where the request failed."""
        if self._fixed_answers:
            filler = Piece(f"{turn.name}, answer", turn.answer_tokens - (1 if self._target.client.chat else 0))  # LEAD is one
            self._messages.append(self._message("assistant", [filler]))
            self._tokens += turn.answer_tokens
        elif not answer.error_kind:
            self._messages.append({"role": "assistant", "content": answer.text})
            self._tokens += output_tokens

    def _message(self, role: str, pieces: Iterable[Piece]) -> Message:
        lead = LEAD if self._target.client.chat or not self._messages else ""
        return {"role": role, "content": lead + self._target.words.texts(pieces)}


@dataclass(frozen=True)
class LoadLimits:
    """concurrency: turns at a time in a closed loop; None: open loop. duration_s: no turn is begun after it."""

    concurrency: int | None = None
    ramp_s: float = 0.0
    duration_s: float | None = None
    most_in_flight: int = 1024
    fixed_answers: bool = False


class Load:
    """ended: told of each request."""

    def __init__(self, targets: Sequence[Target], limits: LoadLimits, ended: Callable[[Target, Outcome], None]) -> None:
        self.targets = targets
        self._limits, self._ended = limits, ended
        self._room = asyncio.Semaphore(limits.most_in_flight)
        self.start = 0.0  # perf_counter()

    def now_s(self) -> float:
        return time.perf_counter() - self.start

    async def run(self, scripts: Callable[[], Iterable[Script]], *, one_turn_each: bool = False, offset_s: float = 0.0) -> None:
        """scripts: asked once for each server, or once for all in a closed loop. one_turn_each: there may be very many, in order of
        time. offset_s: by how much each further server's turns are due later, in an open loop."""
        self.start = time.perf_counter()
        if self._limits.concurrency is not None:
            await self._closed_loop(iter(scripts()), self._limits.concurrency)
            return
        run = self._feed if one_turn_each else self._users
        await _all(run(target, scripts(), place * offset_s) for place, target in enumerate(self.targets))

    async def _users(self, target: Target, scripts: Iterable[Script], offset_s: float) -> None:
        await _all(self._user(target, script, offset_s) for script in scripts)

    async def _user(self, target: Target, script: Script, offset_s: float) -> None:
        conversation = Conversation(target, self._limits.fixed_answers)
        for turn in script:
            if not self._may_begin(turn.due_s):
                return
            await self._ask(target, conversation, turn, (turn.due_s or 0.0) + offset_s)

    async def _feed(self, target: Target, scripts: Iterable[Script], offset_s: float) -> None:
        running: set[asyncio.Task[None]] = set()
        try:
            for turn in (turn for script in scripts for turn in script):
                if not self._may_begin(turn.due_s):
                    break
                due_s = (turn.due_s or 0.0) + offset_s
                await asyncio.sleep(max(0.0, due_s - _HEAD_START_S - self.now_s()))
                task = asyncio.create_task(self._ask(target, Conversation(target, False), turn, due_s))
                running.add(task)
                task.add_done_callback(running.discard)
            while running:
                await asyncio.wait(running)
        finally:
            for task in running:
                task.cancel()

    async def _closed_loop(self, scripts: Iterator[Script], workers: int) -> None:
        ready: deque[tuple[Script, list[Conversation]]] = deque()
        changed = asyncio.Condition()
        in_hand = turns = 0

        def take() -> tuple[Script, list[Conversation]] | None:
            """All users begin before one comes for the second time."""
            script = next(scripts, None)
            if script is not None:
                return script, [Conversation(target, self._limits.fixed_answers) for target in self.targets]
            return ready.popleft() if ready else None

        async def worker(number: int) -> None:
            nonlocal in_hand, turns
            await asyncio.sleep(self._limits.ramp_s * number / workers)
            while True:
                async with changed:
                    while self._may_begin(None) and (entry := take()) is None and in_hand > 0:
                        await changed.wait()
                    if not self._may_begin(None) or entry is None:
                        return
                    in_hand += 1
                turn = next(entry[0], None)
                if turn is not None:
                    turns += 1
                    both = list(zip(self.targets, entry[1]))
                    for target, conversation in both if turns % 2 else reversed(both):
                        await self._ask(target, conversation, turn, None)
                async with changed:
                    in_hand -= 1
                    if turn is not None:
                        ready.append(entry)
                    changed.notify_all()

        await _all(worker(number) for number in range(workers))

    def _may_begin(self, due_s: float | None) -> bool:
        """By the time it is due, and by the time it is now, when it may be late already."""
        return self._limits.duration_s is None or max(due_s or 0.0, self.now_s()) < self._limits.duration_s

    async def _ask(self, target: Target, conversation: Conversation, turn: Turn, due_s: float | None) -> None:
        prompt, asked = conversation.prompt(turn)
        if due_s is not None:
            await asyncio.sleep(max(0.0, due_s - self.now_s()))
        async with self._room:
            target.in_flight += 1
            try:
                answer = await target.client.ask(prompt, turn.answer_tokens)
            except asyncio.CancelledError:
                target.given_up += 1
                raise
            finally:
                target.in_flight -= 1
        outcome = self._outcome(turn, answer, asked, due_s)
        conversation.answered(turn, answer, outcome.output_tokens)
        target.outcomes.append(outcome)
        self._ended(target, outcome)

    def _outcome(self, turn: Turn, answer: Answer, asked: int, due_s: float | None) -> Outcome:
        sent_s = answer.sent - self.start
        arrivals = answer.arrivals
        return Outcome(
            turn=turn.name, due_s=sent_s if due_s is None else due_s, sent_s=sent_s,
            first_s=arrivals[0] - self.start if arrivals else None, ended_s=answer.ended - self.start,
            gaps_s=[later - earlier for earlier, later in itertools.pairwise(arrivals)], asked_tokens=asked,
            prompt_tokens=answer.prompt_tokens, cached_tokens=answer.cached_tokens,
            output_tokens=len(arrivals) if answer.output_tokens is None else answer.output_tokens,
            error_kind=answer.error_kind, error=answer.error)


async def _all(runs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Ends when all have ended; when it is cancelled or one fails, all are."""
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
