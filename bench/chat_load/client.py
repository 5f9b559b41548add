"""One chat request to an OpenAI-compatible server, streamed and timed.

An answer counts only if it is whole: status 200, at least one piece of text, a finish_reason, usage, and the closing [DONE]. Anything else is a
RequestFailed that says what was missing; a load never counts it as an answer.
"""
from __future__ import annotations

import contextlib
import http.client
import json
import time
from dataclasses import dataclass
from typing import Any

from chat_load import sse


class RequestFailed(Exception):
    """The server gave no whole answer."""


@dataclass(frozen=True)
class Answer:
    text: str
    ttft_s: float  # from before the connection to the first piece of text
    total_s: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    finish_reason: str


@dataclass(frozen=True)
class Endpoint:
    host: str
    port: int
    timeout_s: float = 300.0  # without a single byte; a hung server ends the run, not the patience of the user


def chat(endpoint: Endpoint, messages: list[dict[str, str]], max_tokens: int, seed: int = 1) -> Answer:
    body = json.dumps({
        "model": "default",
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    })
    begin = time.monotonic()
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=endpoint.timeout_s)
    try:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            raise RequestFailed(f"HTTP {response.status}: {_error_text(response.read(4096))}")
        return _read_stream(response, begin, max_tokens)
    except TimeoutError as error:
        raise RequestFailed(f"no byte for {endpoint.timeout_s:.0f} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise RequestFailed(f"connection broken: {type(error).__name__} {error}".rstrip()) from error
    finally:
        connection.close()


def _read_stream(response: http.client.HTTPResponse, begin: float, max_tokens: int) -> Answer:
    pieces: list[str] = []
    first: float | None = None
    finish: str | None = None
    usage: dict[str, Any] | None = None
    done = False
    for data in sse.event_data(response):
        if data == sse.DONE:
            done = True
            break
        chunk = _parse(data)
        usage = chunk.get("usage") or usage
        for choice in chunk.get("choices", []):
            text = (choice.get("delta") or {}).get("content")
            if text:
                if first is None:
                    first = time.monotonic()
                pieces.append(text)
            finish = choice.get("finish_reason") or finish
    end = time.monotonic()
    if done:  # read to the end, so that the server sees a client that stayed
        with contextlib.suppress(OSError, http.client.HTTPException):
            response.read()
    return _whole_answer("".join(pieces), first, finish, usage, done, begin, end, max_tokens)


def _parse(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)
    except json.JSONDecodeError as error:
        raise RequestFailed(f"a chunk is not JSON: {data[:120]!r}") from error
    if not isinstance(chunk, dict):
        raise RequestFailed(f"a chunk is not an object: {data[:120]!r}")
    if "error" in chunk:
        raise RequestFailed(f"error in the stream: {_error_text(data.encode())}")
    return chunk


def _whole_answer(text: str, first: float | None, finish: str | None, usage: dict[str, Any] | None, done: bool,
                  begin: float, end: float, max_tokens: int) -> Answer:
    missing = [name for name, present in (("text", first is not None), ("finish_reason", finish), ("usage", usage), ("[DONE]", done)) if not present]
    if missing or first is None or finish is None or usage is None:
        raise RequestFailed(f"answer cut off: no {', no '.join(missing)} after {len(text)} characters")
    completion = int(usage.get("completion_tokens", 0))
    if finish not in ("stop", "length"):
        raise RequestFailed(f"answer ended with finish_reason {finish!r}")
    if finish == "length" and completion != max_tokens:
        raise RequestFailed(f"answer cut off: {completion} of {max_tokens} tokens, finish_reason length")
    details = usage.get("prompt_tokens_details") or {}
    return Answer(text, first - begin, end - begin, int(usage["prompt_tokens"]), int(details.get("cached_tokens", 0)), completion, finish)


def _error_text(body: bytes) -> str:
    text = body.decode("utf-8", errors="replace")
    try:
        error = json.loads(text).get("error")
    except (json.JSONDecodeError, AttributeError):
        return text[:300]
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
