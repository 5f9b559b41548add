"""A server with OpenAI's API, in this process on a thread of its own, whose tokens, delays, hits and failures are known.

A word is a token, or two if it begins with `expensive`; a prompt has BEGIN more, a message of a chat MESSAGE more, an answer to come
ANSWER more. `cached_tokens` is the longest common beginning with any earlier prompt, in blocks of BLOCK. `behave(request)` says how each
completion goes: "ok" or a name below."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

BEGIN, MESSAGE, ANSWER, BLOCK = 1, 5, 2, 16


@dataclass
class FakeOpenAi:
    """Start and stop by `with`. `requests` are those for more than one token: the load, without calibration."""

    behave: Callable[[dict[str, Any]], str] = lambda request: "ok"
    first_delay_s: float = 0.0
    token_delay_s: float = 0.0
    expensive: str = "?"
    tokenize: str = ""  # "vllm", "llama.cpp", or without
    metrics: Callable[[], str] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    port: int = 0

    def __enter__(self) -> FakeOpenAi:
        self._seen: list[list[str]] = []
        self._at_once = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26), self._loop).result(10)
        self._server, self.port = server, server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            self._server.close()
            serving = asyncio.all_tasks() - {asyncio.current_task()}
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            await asyncio.sleep(0.01)  # so that closed connections are gone

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tokens(self, text: str) -> list[str]:
        """Names of the tokens of a text."""
        return [token for word in text.split() for token in ([word, "+"] if word.startswith(self.expensive) else [word])]

    def prompt(self, request: dict[str, Any]) -> list[str]:
        """Names of the tokens of a whole prompt."""
        if "prompt" in request:
            return ["<s>"] * BEGIN + self.tokens(request["prompt"])
        frame = [f"<{message['role']}>" for message in request["messages"] for _ in range(MESSAGE)]
        said = [token for message in request["messages"] for token in self.tokens(message["content"])]
        return frame[:MESSAGE] + said + frame[MESSAGE:] + ["<answer>"] * ANSWER

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = next((int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length:")), 0)
            body = json.loads(await reader.readexactly(length)) if length else {}
            path = head.split()[1]
            if path.endswith("completions"):
                await self._complete(body, writer)
            else:
                self._answer_shortly(path, body, writer)
            await writer.drain()

    def _answer_shortly(self, path: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        if path == "/v1/models":
            self._send(writer, 200, json.dumps({"data": [{"id": "fake"}]}))
        elif path == "/tokenize" and self.tokenize == "vllm" and "prompt" in body:
            self._send(writer, 200, json.dumps({"count": len(self.prompt(body))}))
        elif path == "/tokenize" and self.tokenize == "llama.cpp" and "content" in body:
            self._send(writer, 200, json.dumps({"tokens": self.prompt({"prompt": body["content"]})}))
        elif path == "/metrics" and self.metrics:
            self._send(writer, 200, self.metrics())
        else:
            self._send(writer, 404, "{}")

    @staticmethod
    def _send(writer: asyncio.StreamWriter, status: int, text: str) -> None:
        writer.write(f"HTTP/1.1 {status} Status\r\nContent-Length: {len(text.encode())}\r\nConnection: close\r\n\r\n{text}".encode())

    async def _complete(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        how = "ok"
        if request["max_tokens"] > 1:
            request["number"] = len(self.requests)
            self.requests.append(request)
            how = self.behave(request)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await self._stream(request, how, writer)
        finally:
            self._at_once -= 1

    async def _stream(self, request: dict[str, Any], how: str, writer: asyncio.StreamWriter) -> None:
        prompt = self.prompt(request)
        cached = max((len(os.path.commonprefix([prompt, earlier])) for earlier in self._seen), default=0) // BLOCK * BLOCK
        cached = min(cached, (len(prompt) - 1) // BLOCK * BLOCK)
        request["cached"], request["tokens"] = cached, len(prompt)
        if how == "500":
            self._send(writer, 500, json.dumps({"error": {"message": "the engine is tired"}}))
            return
        if how == "not HTTP":
            writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            return
        if how == "hang":
            await asyncio.sleep(3600)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._seen.append(prompt)
        await asyncio.sleep(self.first_delay_s)
        chat = "messages" in request
        if chat:
            self._event(writer, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for place in range(0 if how == "empty" else request["max_tokens"]):
            if place:
                await asyncio.sleep(self.token_delay_s)
            if place == 2 and await self._break_off(how, writer):
                return
            text = f" w{place}"
            self._event(writer, {"choices": [{"index": 0, **({"delta": {"content": text}} if chat else {"text": text})}]})
            await writer.drain()
        usage = {"prompt_tokens": len(prompt), "completion_tokens": request["max_tokens"], "prompt_tokens_details": {"cached_tokens": cached}}
        self._event(writer, {"choices": [], "usage": None if how == "no usage" else usage})
        if how != "no end":
            self._chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")

    async def _break_off(self, how: str, writer: asyncio.StreamWriter) -> bool:
        """In mid-answer; whether it did."""
        if how == "die":
            writer.transport.abort()
        elif how == "stall":
            await writer.drain()
            await asyncio.sleep(3600)
        elif how == "garbage":
            self._chunk(writer, b"<html>Bad Gateway</html>\n\n")
        elif how == "half JSON":
            self._chunk(writer, b'data: {"choices": [{"te\n\n')
        elif how == "not a completion":
            self._chunk(writer, b'data: {"choices": [17]}\n\n')
        elif how == "error":
            self._event(writer, {"error": {"message": "out of blocks"}})
        else:
            return False
        return True

    def _event(self, writer: asyncio.StreamWriter, fields: dict[str, Any]) -> None:
        self._chunk(writer, b"data: " + json.dumps(fields).encode() + b"\n\n")

    @staticmethod
    def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
