"""Runs a load against one server: a closed loop with as many requests in flight as the shape has slots.

Users come back in turn: all of round 1, then all of round 2, and a user never asks before their last answer is complete. The first request that
fails stops the run: what is in flight ends, nothing new is sent, and the failure is part of the result.
"""
from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from chat_load.client import Answer, Endpoint, RequestFailed, chat
from chat_load.conversation import SYSTEM_PROMPT, Load
from chat_load.latency import Latency


@dataclass(frozen=True)
class Turn:
    """One request and its answer."""

    user: int
    round: int  # from 0
    start_s: float  # since the run began
    answer: Answer

    def as_json(self) -> dict[str, Any]:
        return {"user": self.user + 1, "round": self.round + 1, "start_s": self.start_s, **asdict(self.answer)}


@dataclass
class RunResult:
    turns: list[Turn] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    wall_s: float = 0.0  # time in which requests were under way

    @property
    def ttft(self) -> Latency:
        return Latency.of([turn.answer.ttft_s for turn in self.turns])

    @property
    def ttft_first(self) -> Latency:
        return Latency.of([turn.answer.ttft_s for turn in self.turns if turn.round == 0])

    @property
    def ttft_returning(self) -> Latency:
        return Latency.of([turn.answer.ttft_s for turn in self.turns if turn.round > 0])

    @property
    def prompt_tokens(self) -> int:
        return sum(turn.answer.prompt_tokens for turn in self.turns)

    @property
    def reused_tokens(self) -> int:
        return sum(turn.answer.cached_tokens for turn in self.turns)

    @property
    def computed_tokens(self) -> int:
        return self.prompt_tokens - self.reused_tokens

    def as_json(self) -> dict[str, Any]:
        return {
            "ttft_s": self.ttft.as_json(),
            "ttft_first_round_s": self.ttft_first.as_json(),
            "ttft_returning_rounds_s": self.ttft_returning.as_json(),
            "total_s": Latency.of([turn.answer.total_s for turn in self.turns]).as_json(),
            "prompt_tokens": self.prompt_tokens,
            "prompt_tokens_computed": self.computed_tokens,
            "prompt_tokens_reused": self.reused_tokens,
            "wall_s": self.wall_s,
            "failures": self.failures,
            "requests": [turn.as_json() for turn in self.turns],
        }


Progress = Callable[[RunResult], None]


class Runner:
    """Owns the conversations of one run. Not thread-safe: call run_rounds from one thread; progress is called under the runner's lock."""

    def __init__(self, load: Load, endpoint: Endpoint, progress: Progress | None = None, deadline: float | None = None):
        self._load = load
        self._endpoint = endpoint
        self._progress = progress
        self._deadline = deadline  # on time.monotonic()
        self._messages = [[{"role": "system", "content": SYSTEM_PROMPT}] for _ in load.users]
        self._busy = [threading.Lock() for _ in load.users]  # held while a user's request is under way
        self._mutex = threading.Lock()  # guards result and _under_way
        self.result = RunResult()
        self._under_way = 0
        self._origin: float | None = None

    def branch(self, endpoint: Endpoint, progress: Progress | None = None) -> Runner:
        """The same users with the same histories, with a result of its own, against this server. A question that got no answer is forgotten.

        Only between runs; the conversations of both go on independently.
        """
        other = Runner(self._load, endpoint, progress, self._deadline)
        other._messages = [history[:-1] if history[-1]["role"] == "user" else list(history) for history in self._messages]
        return other

    @property
    def under_way(self) -> int:
        """Requests without a whole answer so far. Meant for a progress function, which is called when its own request has been counted out."""
        return self._under_way

    def next_round(self, user: int) -> int:
        """The first round (from 0) whose question this user has no answer to."""
        return sum(1 for message in self._messages[user] if message["role"] == "assistant")

    def run_rounds(self, rounds: Iterable[int] | None = None) -> RunResult:
        """Rounds (from 0) in order; all of them by default. May be called again for later rounds.

        The next round is taken from the iterable when the last request of the one before has been sent, so a generator can end the run early.
        """
        wanted = range(self._load.shape.rounds) if rounds is None else rounds
        return self._run((user, round_index) for round_index in wanted for user in range(len(self._load.users)))

    def run_one_turn_each(self, users: Iterable[int]) -> RunResult:
        """Each of these users (from 0) asks the next question of the own conversation."""
        return self._run((user, self.next_round(user)) for user in list(users))

    def _run(self, turns: Iterator[tuple[int, int]]) -> RunResult:
        begin = time.monotonic()
        if self._origin is None:
            self._origin = begin
        workers = [threading.Thread(target=self._work, args=(turns,), daemon=True) for _ in range(self._load.shape.slots)]
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():  # a signal that another thread took is handled here at the next turn, not when the worker ends
                worker.join(0.2)
        self.result.wall_s += time.monotonic() - begin
        return self.result

    def _work(self, turns: Iterator[tuple[int, int]]) -> None:
        where = "choosing the next request"
        try:
            while True:
                with self._mutex:
                    turn = None if self.result.failures else next(turns, None)
                if turn is None:
                    return
                user, round_index = turn
                where = f"user {user + 1}, round {round_index + 1}"
                with self._busy[user]:
                    self._ask(user, round_index)
        except RequestFailed as error:
            self._fail(f"{where}: {error}")
        except Exception as error:  # a defect of this program must end the run with a message, not hang it or shorten it silently
            self._fail(f"{where}: internal error: {error!r}")

    def _ask(self, user: int, round_index: int) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise RequestFailed("the time limit of the whole run has passed")
        assert self._origin is not None
        messages = self._messages[user]
        messages.append({"role": "user", "content": self._load.users[user].user_message(round_index)})
        start = time.monotonic() - self._origin
        shape = self._load.shape
        with self._mutex:
            self._under_way += 1
        try:
            answer = chat(self._endpoint, messages, shape.answer_tokens, shape.seed)
        finally:
            with self._mutex:
                self._under_way -= 1
        messages.append({"role": "assistant", "content": answer.text})
        with self._mutex:
            self.result.turns.append(Turn(user, round_index, start, answer))
            if self._progress:
                self._progress(self.result)

    def _fail(self, message: str) -> None:
        with self._mutex:
            self.result.failures.append(message)


def differing_answers(first: RunResult, second: RunResult) -> int:
    """Turns whose text differs. Batching alone changes tokens, so this is reported and judged nowhere."""
    texts = {(turn.user, turn.round): turn.answer.text for turn in first.turns}
    return sum(1 for turn in second.turns if texts.get((turn.user, turn.round)) != turn.answer.text)
