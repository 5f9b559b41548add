"""Which turns there are, and when each is due: users who hold conversations.

A script is what one user asks, turn by turn; it does not depend on answers, so two servers get the same. Without an end (`endless`) a
user who is through begins a new conversation. Lengths are tokens, times seconds from the start of the load.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .words import Piece

MINIMUM_ROUNDS, NEXT_ROUND = 4, 0.61  # of ShareGPT-shaped conversations: 4, and each further one with this probability
FIRST = (420.0, 0.60, 16, 2048)  # log-normal: median, sigma; least, most
LATER = (58.0, 1.05, 4, 1024)
ANSWER = (200.0, 0.70, 16, 700)


@dataclass(frozen=True)
class Turn:
    """One request. What was said before it in its conversation comes in front."""

    name: str  # the same in every run of one load
    said: tuple[Piece, ...]
    answer_tokens: int
    system: tuple[Piece, ...] = ()
    due_s: float | None = None  # None: as soon as the one before is answered
    fresh: bool = True  # begins a conversation


@dataclass(frozen=True)
class Scenario:
    """Lengths of 0 leave a part out. `drawn`: lengths and rounds are drawn for each turn, those given here are not used."""

    name: str
    users: int
    rounds: int
    system_tokens: int
    history_tokens: int
    question_tokens: int
    answer_tokens: int
    qps: float
    drawn: bool = False

    def longest_prompt(self) -> int:
        """Of a conversation's last round, without what a chat template adds."""
        if self.drawn:
            return FIRST[3] + 20 * (LATER[3] + ANSWER[3])
        return self.system_tokens + self.history_tokens + self.rounds * self.question_tokens + (self.rounds - 1) * self.answer_tokens


SCENARIOS = {scenario.name: scenario for scenario in (
    Scenario("long-short", users=15, rounds=20, system_tokens=1000, history_tokens=20000, question_tokens=20, answer_tokens=100, qps=0.1),
    Scenario("short-short", users=320, rounds=20, system_tokens=0, history_tokens=256, question_tokens=20, answer_tokens=20, qps=15.0),
    Scenario("long-long", users=320, rounds=20, system_tokens=0, history_tokens=2000, question_tokens=20, answer_tokens=1000, qps=0.7),
    Scenario("sharegpt", users=55, rounds=0, system_tokens=0, history_tokens=0, question_tokens=0, answer_tokens=0, qps=1.34, drawn=True),
)}


@dataclass(frozen=True)
class Pace:
    """Of an open loop: all users together ask `qps` times a second, and begin within `ramp_s`. qps None: a closed loop."""

    qps: float | None
    ramp_s: float


def script(scenario: Scenario, user: int, pace: Pace, seed: int, endless: bool) -> Iterator[Turn]:
    """What one user asks, in order."""
    conversation = turn = 0
    while conversation == 0 or endless:
        for fields in _conversation(scenario, f"user {user + 1}, conversation {conversation + 1}", seed):
            due_s = None
            if pace.qps is not None:
                due_s = user * pace.ramp_s / scenario.users + turn * scenario.users / pace.qps
            yield Turn(due_s=due_s, **fields)
            turn += 1
        conversation += 1


def scripts(scenario: Scenario, pace: Pace, seed: int, endless: bool) -> list[Iterator[Turn]]:
    return [script(scenario, user, pace, seed, endless) for user in range(scenario.users)]


def turn_count(scenario: Scenario, seed: int) -> int:
    """Of one conversation of each user."""
    return sum(1 for one in scripts(scenario, Pace(None, 0.0), seed, endless=False) for _ in one)


def _conversation(scenario: Scenario, name: str, seed: int) -> Iterator[dict[str, Any]]:
    draws = random.Random(f"{seed}/{name}")
    rounds = _drawn_rounds(draws) if scenario.drawn else scenario.rounds
    for place in range(rounds):
        question, answer = scenario.question_tokens, scenario.answer_tokens
        if scenario.drawn:
            question, answer = _drawn(draws, FIRST if place == 0 else LATER), _drawn(draws, ANSWER)
        said = [Piece(f"{name}, history", scenario.history_tokens)] if place == 0 and scenario.history_tokens else []
        said += [Piece(f"{name}, question {place + 1}", question)] if question else []
        system = (Piece("system", scenario.system_tokens),) if place == 0 and scenario.system_tokens else ()
        yield {"name": f"{name}, round {place + 1}", "said": tuple(said), "answer_tokens": answer, "system": system, "fresh": place == 0}


def _drawn(draws: random.Random, shape: tuple[float, float, int, int]) -> int:
    median, sigma, least, most = shape
    return min(most, max(least, round(median * draws.lognormvariate(0.0, sigma))))


def _drawn_rounds(draws: random.Random) -> int:
    rounds = MINIMUM_ROUNDS
    while rounds < 20 and draws.random() < NEXT_ROUND:
        rounds += 1
    return rounds
