"""How fast this machine computes, and the largest load that fits a time budget.

The model of a run's time is plain: every prompt token that no cache holds costs one over the prefill speed, every answer token one decode step.
Two requests in flight share the machine, so their costs add up.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from chat_load.client import Endpoint, chat
from chat_load.conversation import SYSTEM_PROMPT, TEMPLATE_TOKENS_A_MESSAGE, LoadShape
from chat_load.corpus import Document, excerpt

BLOCK_TOKENS = 16  # tiercel-llama's on processors
SMALLEST_HISTORY = 256
RESTARTS_S = 10.0  # two servers that are started and ended
_WARM_UP_CHARS = 200
_MEASURED_CHARS = 1800


@dataclass(frozen=True)
class Speed:
    prefill_tokens_per_s: float
    decode_s_per_token: float
    chars_per_token: float


def measure_speed(endpoint: Endpoint, documents: list[Document]) -> Speed:
    """One short request to touch the weights, then one of about 500 tokens, timed. The texts differ, so neither can reuse the other's KV."""
    chat(endpoint, _single_question(excerpt(documents[-1].text, _WARM_UP_CHARS)), 2)
    text = excerpt(documents[0].text, _MEASURED_CHARS)
    answer = chat(endpoint, _single_question(text), 12)
    computed = answer.prompt_tokens - answer.cached_tokens
    decode = (answer.total_s - answer.ttft_s) / max(1, answer.completion_tokens - 1)
    text_tokens = answer.prompt_tokens - 3 * TEMPLATE_TOKENS_A_MESSAGE // 2
    return Speed(computed / answer.ttft_s, decode, (len(SYSTEM_PROMPT) + len(text)) / text_tokens)


def _single_question(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": text}]


def run_seconds(shape: LoadShape, speed: Speed, reuse: bool) -> float:
    """Predicted time of one run; with reuse a returning user computes the new turn and, on average, half a block of the old one."""
    new_tokens = _new_tokens(shape)
    computed = 0.0
    for round_index in range(shape.rounds):
        computed += new_tokens if reuse and round_index > 0 else shape.prompt_tokens(round_index)
    prefill = shape.users * computed / speed.prefill_tokens_per_s
    decode = shape.users * shape.rounds * shape.answer_tokens * speed.decode_s_per_token
    return prefill + decode


def second_act_seconds(shape: LoadShape, speed: Speed, cold_users: int) -> float:
    """Predicted time of killing and starting again: a round cut short, its users back on a warm server, some of them also on a cold one."""
    answer = shape.answer_tokens * speed.decode_s_per_token
    returning = _new_tokens(shape) / speed.prefill_tokens_per_s + answer
    return 2 * shape.users * returning + cold_users * cold_turn_seconds(shape, speed) + RESTARTS_S


def cold_turn_seconds(shape: LoadShape, speed: Speed) -> float:
    """Of one user whose whole conversation is computed again."""
    return shape.prompt_tokens(shape.rounds) / speed.prefill_tokens_per_s + shape.answer_tokens * speed.decode_s_per_token


def _new_tokens(shape: LoadShape) -> float:
    return shape.question_tokens + shape.answer_tokens + 2 * TEMPLATE_TOKENS_A_MESSAGE + BLOCK_TOKENS / 2


def fit(wanted: LoadShape, speed: Speed, budget_s: float, also_s: Callable[[LoadShape], float] = lambda _: 0.0) -> LoadShape:
    """The wanted shape, or a smaller one that should fit the budget for a run without and one with reuse, and what also_s says comes after them.

    Gives way in this order: shorter histories, fewer rounds, fewer users (as long as twice as many remain as fit the engine).
    """
    shape = replace(wanted, chars_per_token=speed.chars_per_token)

    def seconds(candidate: LoadShape) -> float:
        return run_seconds(candidate, speed, reuse=False) + run_seconds(candidate, speed, reuse=True) + also_s(candidate)

    fewest_users = min(shape.users, 2 * shape.resident_users)
    sizes = [(shape.users, rounds) for rounds in range(shape.rounds, 1, -1)] + [(users, 2) for users in range(shape.users - 1, fewest_users - 1, -1)]
    for users, rounds in sizes:
        candidate = replace(shape, users=users, rounds=rounds)
        if seconds(candidate.with_history(min(SMALLEST_HISTORY, wanted.history_tokens))) > budget_s:
            continue
        history = candidate.history_tokens
        while history > SMALLEST_HISTORY and seconds(candidate.with_history(history)) > budget_s:
            history -= 16
        return candidate.with_history(max(history, min(SMALLEST_HISTORY, wanted.history_tokens)))
    raise ValueError(f"this machine computes {speed.prefill_tokens_per_s:.0f} prompt tokens a second: even the smallest load does not fit "
                     f"{budget_s:.0f} s; give more with --time-budget")


def one_more_round_s(shape: LoadShape, speed: Speed, rounds_done: int, elapsed_s: float) -> float:
    """Predicted time from now, in the run without reuse, for one more round and then a run with reuse of as many.

    Corrected by how much slower (or faster) the rounds so far went than predicted.
    """
    done, more = replace(shape, rounds=rounds_done), replace(shape, rounds=rounds_done + 1)
    predicted = run_seconds(done, speed, reuse=False)
    return elapsed_s / predicted * (run_seconds(more, speed, reuse=False) - predicted + run_seconds(more, speed, reuse=True))
