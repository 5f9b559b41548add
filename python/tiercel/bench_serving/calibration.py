"""What text costs in tokens on a server: which words cost one, and what the frame around them costs.

Tokens are counted by the server itself: by /tokenize where it has it (vLLM, llama.cpp), else by `usage.prompt_tokens` of a request for
one token. The words are tested all at once; a group that does not come out is halved until it does.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from .http_exchange import RequestFailed, call
from .openai_client import OpenAiClient, Prompt
from .words import COMMON, LEAD

MOST_WORDS = 256
FEWEST_WORDS = 32
_PROBE = 8  # words of a text whose frame is measured

Count = Callable[[Prompt], Awaitable[int]]


@dataclass(frozen=True)
class TextCost:
    """Of a server. Frames are tokens beyond those of the words: marks of the template, the first word, the beginning of the sequence."""

    words: tuple[str, ...]
    frame: int  # of a prompt: of completions, or of one user message
    system_frame: int = 0  # more, with a system message
    turn_frame: int = 0  # more, for each answer and message that follow
    tokens_per_word: float = 1.0  # other than 1: too few words cost one token each, and lengths are approximate
    counted_by: str = "usage"

    def of_prompt(self, *, system: bool) -> int:
        """Of a conversation's first prompt."""
        return self.frame + (self.system_frame if system else 0)


async def measure_cost(client: OpenAiClient) -> TextCost:
    """RequestFailed: the server cannot be asked, or says nothing about lengths."""
    count, counted_by = await _counter(client)

    async def words_cost(words: Sequence[str]) -> int:
        return await count(_prompt(client, " ".join([LEAD, *words])))

    probe = list(COMMON[:_PROBE])
    frame = await words_cost(probe) - await words_cost(probe * 2) + await words_cost(probe)
    words = await _single_token_words(list(COMMON[:MOST_WORDS]), frame, words_cost)
    tokens_per_word = 1.0
    if len(words) < FEWEST_WORDS:
        words = list(COMMON[:MOST_WORDS])
        tokens_per_word = max(0.1, (await words_cost(words) - frame) / len(words))
    system_frame = turn_frame = 0
    if client.chat:
        text = " ".join([LEAD, *([words[0]] * _PROBE)])
        user, answer, system = ({"role": role, "content": text} for role in ("user", "assistant", "system"))
        probe_tokens = await count([user]) - frame
        turn_frame = await count([user, answer, user]) - 3 * probe_tokens - frame - 1  # LEAD in the answer is a token of the answer
        system_frame = await count([system, user]) - 2 * probe_tokens - frame
    return TextCost(tuple(words), frame, system_frame, turn_frame, tokens_per_word, counted_by)


def _prompt(client: OpenAiClient, text: str) -> Prompt:
    return [{"role": "user", "content": text}] if client.chat else text


async def _single_token_words(words: list[str], frame: int, cost: Callable[[Sequence[str]], Awaitable[int]]) -> list[str]:
    """Gives up, and says none, where few words pass: such a tokenizer would take a request for each word."""
    waiting, good, refused = [words], [], 0
    while waiting:
        group = waiting.pop()
        if await cost(group) - frame == len(group):
            good += group
        elif len(group) > 1:
            waiting += [group[: len(group) // 2], group[len(group) // 2 :]]
        else:
            refused += 1
        if refused > len(words) // 8 and len(good) < refused:
            return []
    return sorted(good)


async def _counter(client: OpenAiClient) -> tuple[Count, str]:
    async def by_usage(prompt: Prompt) -> int:
        answer = await client.ask(prompt, 1)
        if answer.error_kind and answer.prompt_tokens is None:
            raise RequestFailed(answer.error_kind, answer.error)
        if answer.prompt_tokens is None:
            raise RequestFailed("no usage", "it does not say in `usage` how many tokens a prompt has")
        return answer.prompt_tokens

    if client.chat:  # the template's tokens count, and only the server's own way through it is sure
        return by_usage, "usage"
    for name, field in (("prompt", "count"), ("content", "tokens")):  # vLLM | llama.cpp
        async def by_tokenize(prompt: Prompt, name: str = name, field: str = field) -> int:
            body = {"model": client.model, name: prompt, "add_special_tokens" if name == "prompt" else "add_special": True}
            status, said = await call(client.endpoint, "POST", "/tokenize", json.dumps(body).encode())
            if status != 200:
                raise RequestFailed(f"HTTP {status}", f"/tokenize answers HTTP {status}")
            found = json.loads(said)[field]
            return found if isinstance(found, int) else len(found)

        try:
            if await by_tokenize(f"{LEAD} {COMMON[0]}") > 0:
                return by_tokenize, "/tokenize"
        except (RequestFailed, ValueError, KeyError, TypeError):
            continue
    return by_usage, "usage"
