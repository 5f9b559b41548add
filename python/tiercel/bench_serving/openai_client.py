"""Streamed completions of one server with OpenAI's API, timed token by token.

`Answer` is filled in while the stream comes, so that what was measured before a failure is still there. All times are
perf_counter() seconds. A failed request is `Answer.error_kind` and a sentence, never an exception and never a hang: each has a limit.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .http_exchange import Endpoint, RequestFailed, call, exchange

MOST_EVENT_BYTES = 4 << 20
_MOST_WORDS_OF_AN_ERROR = 300
_OTHER_TEXT = ("reasoning_content", "reasoning")  # of models that think before they answer: those are tokens too

Message = dict[str, str]
Prompt = str | list[Message]  # of completions | of chat completions


@dataclass
class Answer:
    """What came of one request."""

    sent: float = 0.0
    arrivals: list[float] = field(default_factory=list)  # of each piece of text
    ended: float = 0.0
    text: str = ""
    prompt_tokens: int | None = None  # as the server counts; None: it did not say
    cached_tokens: int | None = None
    output_tokens: int | None = None
    error_kind: str = ""
    error: str = ""


@dataclass(frozen=True)
class OpenAiClient:
    """A model of a server. `chat` chooses /v1/chat/completions; `extra` are further fields of every request."""

    endpoint: Endpoint
    model: str
    chat: bool
    timeout_s: float
    extra: Mapping[str, Any] = field(default_factory=dict)

    async def ask(self, prompt: Prompt, tokens: int) -> Answer:
        """One streamed answer of at most so many tokens."""
        answer = Answer()
        body = self.body(prompt, tokens)
        answer.sent = time.perf_counter()  # of a request that never gets a connection
        try:
            await asyncio.wait_for(self._stream(body, answer), self.timeout_s)
        except asyncio.TimeoutError:
            answer.error_kind, answer.error = "timeout", f"no whole answer in {self.timeout_s:g} s"
        except RequestFailed as error:
            answer.error_kind, answer.error = error.kind, str(error)
        answer.ended = answer.ended or time.perf_counter()
        return answer

    def body(self, prompt: Prompt, tokens: int) -> bytes:
        said = {"messages": prompt} if self.chat else {"prompt": prompt}
        return json.dumps({"model": self.model, **said, "max_tokens": tokens, "temperature": 0, "stream": True,
                           "stream_options": {"include_usage": True}, **self.extra}).encode()

    async def _stream(self, body: bytes, answer: Answer) -> None:
        path = "/v1/chat/completions" if self.chat else "/v1/completions"
        async with exchange(self.endpoint, "POST", path, body) as answering:
            answer.sent = answering.sent
            if answering.status != 200:
                raise await _refusal(answering.status, answering.body())
            other = 0.0  # when the first event with a choice came: of a token whose text is empty
            async for event in events(answering.body()):
                now = time.perf_counter()
                if event == b"[DONE]":
                    break
                got_text, got_choice = self._note(event, answer)
                if got_text:
                    answer.arrivals.append(now)
                other = other or (now if got_choice else 0.0)
            else:
                raise RequestFailed("cut off", "the stream ended without [DONE]")
        answer.ended = time.perf_counter()
        if not answer.arrivals and other and answer.output_tokens:
            answer.arrivals.append(other)  # tokens that are half a character each have no text of their own
        if not answer.arrivals:
            raise RequestFailed("no token", "the answer has no token")

    def _note(self, event: bytes, answer: Answer) -> tuple[bool, bool]:
        """Whether the event has text, and whether it has a choice at all."""
        try:
            fields = json.loads(event)
        except ValueError:
            raise RequestFailed("bad stream", f"an event is not JSON: {_shown(event)}") from None
        if not isinstance(fields, dict):
            raise RequestFailed("bad stream", f"an event is no JSON object: {_shown(event)}")
        if "error" in fields:
            raise RequestFailed("error in stream", _message(fields))
        try:
            _note_usage(fields, answer)
            choices = fields.get("choices") or ()
            text = "".join(self._text(choice) for choice in choices)
        except (AttributeError, TypeError, ValueError):
            raise RequestFailed("bad stream", f"an event is no completion: {_shown(event)}") from None
        answer.text += text
        return bool(text), bool(choices)

    def _text(self, choice: dict[str, Any]) -> str:
        if not self.chat:
            return choice.get("text") or ""
        delta = choice.get("delta") or {}
        return "".join(delta.get(name) or "" for name in (*_OTHER_TEXT, "content"))


async def events(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Data of each server-sent event. RequestFailed("bad stream"): lines that are none, or one that does not end."""
    rest = bytearray()
    data: list[bytes] = []
    async for piece in pieces:
        rest += piece
        while (end := rest.find(b"\n")) >= 0:
            line = bytes(rest[:end]).rstrip(b"\r")
            del rest[: end + 1]
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []
            elif line and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise RequestFailed("bad stream", f"a line is no server-sent event: {_shown(line)}")
        if len(rest) + sum(map(len, data)) > MOST_EVENT_BYTES:
            raise RequestFailed("bad stream", f"an event has more than {MOST_EVENT_BYTES >> 20} MiB")
    if data == [b"[DONE]"] and not rest:
        yield data[0]  # some servers leave out the empty line behind it
    elif rest or data:
        raise RequestFailed("cut off", "the stream ended in mid-event")


def _note_usage(fields: dict[str, Any], answer: Answer) -> None:
    usage = fields.get("usage")
    if usage:
        answer.prompt_tokens = int(usage["prompt_tokens"]) if "prompt_tokens" in usage else answer.prompt_tokens
        answer.output_tokens = int(usage["completion_tokens"]) if "completion_tokens" in usage else answer.output_tokens
        details = usage.get("prompt_tokens_details") or {}
        if details.get("cached_tokens") is not None:
            answer.cached_tokens = int(details["cached_tokens"])
    timings = fields.get("timings")  # llama.cpp's own server says it there
    if timings and answer.cached_tokens is None and "cache_n" in timings:
        answer.cached_tokens = int(timings["cache_n"])


async def _refusal(status: int, body: AsyncIterator[bytes]) -> RequestFailed:
    said = b""
    try:
        async for piece in body:
            said += piece
            if len(said) > 1 << 16:
                break
        fields = json.loads(said)
        message = _message(fields) if isinstance(fields, dict) else _shown(said)
    except (ValueError, RequestFailed):
        message = _shown(said)
    return RequestFailed(f"HTTP {status}", f"HTTP {status}: {message}")


def _message(fields: dict[str, Any]) -> str:
    error: Any = fields.get("error", fields)
    text = error.get("message") if isinstance(error, dict) else error
    return str(text if text is not None else error)[:_MOST_WORDS_OF_AN_ERROR]


def _shown(data: bytes) -> str:
    return repr(data[:80].decode(errors="replace"))


async def model_names(endpoint: Endpoint) -> Sequence[str]:
    """What /v1/models lists. RequestFailed: the server is not there, refuses, or says something else."""
    status, body = await call(endpoint, "GET", "/v1/models")
    if status != 200:
        raise RequestFailed(f"HTTP {status}", f"/v1/models answers HTTP {status}: {_shown(body)}")
    try:
        return [str(model["id"]) for model in json.loads(body)["data"]]
    except (ValueError, KeyError, TypeError):
        raise RequestFailed("bad answer", f"/v1/models does not list models: {_shown(body)}") from None
