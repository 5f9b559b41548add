"""An OpenAI-compatible chat endpoint without a model, which can also answer wrongly in each of the ways the client must notice.

A token is four characters. It remembers the longest prompt prefix of each conversation as cached, so that returning users show reuse.
"""
from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WORDS = ("Down", " the", " Rabbit", "-Hole", " and", " on")


class FakeOpenAi(ThreadingHTTPServer):
    """Behaviours: whole, cut, no_done, no_finish, no_usage, empty, short, error_chunk, not_json, busy, filtered. Chosen a request by `behaviour(n)`, n from 1."""

    daemon_threads = True

    def __init__(self, behaviour: Callable[[int], str] | None = None, port: int = 0, disk: Path | None = None):
        super().__init__(("127.0.0.1", port), _Handler)
        self.behaviour = behaviour or (lambda _: "whole")
        self.requests: list[dict[str, Any]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.restored_bytes = 0
        self._disk = disk  # a file that keeps the prompts beyond this process, a line each
        self._prompts: list[str] = [json.loads(line) for line in disk.read_text().splitlines()] if disk and disk.exists() else []
        self.recovered = len(self._prompts)
        self.mutex = threading.Lock()

    def start(self) -> None:
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """May be called twice."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of the tests; anything else is a defect of this file and is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def admit(self, body: dict[str, Any]) -> tuple[int, int, int]:
        """(number of this request, prompt tokens, cached tokens)"""
        prompt = "".join(f"<{message['role']}>{message['content']}" for message in body["messages"])
        with self.mutex:
            self.requests.append(body)
            cached = max((_common(prompt, earlier) for earlier in self._prompts), default=0) // 4
            if self._disk:  # before it is counted: what the metrics say is on disk survives a kill
                with self._disk.open("a") as file:
                    file.write(json.dumps(prompt) + "\n")
            self._prompts.append(prompt)
            self.restored_bytes += 100 * cached
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            return len(self.requests), len(prompt) // 4, min(cached, len(prompt) // 4 - 1)

    def metrics(self) -> str:
        text = f'tiercel_llama_moved_bytes_total{{direction="restored"}} {self.restored_bytes}\n'
        if self._disk:
            text += (f'tiercel_tier_blocks{{tier="disk"}} {len(self._prompts)}\ntiercel_disk_directories{{state="starting"}} 0\n'
                     f"tiercel_disk_recovered_blocks_total {self.recovered}\ntiercel_disk_checksum_failures_total 0\n"
                     f"tiercel_promoted_blocks_total {min(self.recovered, len(self.requests))}\n")
        return text

    def leave(self) -> None:
        with self.mutex:
            self.in_flight -= 1


def _common(a: str, b: str) -> int:
    end = min(len(a), len(b))
    return next((at for at in range(end) if a[at] != b[at]), end)


class _Handler(BaseHTTPRequestHandler):
    server: FakeOpenAi
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: a test's output is its result."""

    def do_GET(self) -> None:
        text = self.server.metrics() if self.path == "/metrics" else "{}"
        self._send(200, text.encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number, prompt_tokens, cached = self.server.admit(body)
        # Counted out before the last byte goes out: a client that has a whole answer may come again before this thread runs again.
        try:
            behaviour = self.server.behaviour(number)
            whole = behaviour != "busy" and self._stream(behaviour, int(body["max_tokens"]), prompt_tokens, cached)
        finally:
            self.server.leave()
        if behaviour == "busy":
            self._send(429, b'{"error":{"message":"the queue is full"}}')
        elif whole:
            self.wfile.write(b"0\r\n\r\n")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, behaviour: str, tokens: int, prompt_tokens: int, cached: int) -> bool:
        """All but the end of the body; False where the connection breaks off instead."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._event({"choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]})
        for number in range(0 if behaviour == "empty" else tokens):
            if number == tokens // 2 and behaviour == "cut":
                self.close_connection = True
                return False
            if number == tokens // 2 and behaviour in ("error_chunk", "not_json"):
                self._event({"error": {"message": "out of cells"}} if behaviour == "error_chunk" else "half a chu")
                self.close_connection = True
                return False
            self._event({"choices": [{"index": 0, "delta": {"content": WORDS[number % len(WORDS)]}, "finish_reason": None}]})
        if behaviour != "no_finish":
            self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter" if behaviour == "filtered" else "length"}]})
        if behaviour != "no_usage":
            completion = tokens - 1 if behaviour == "short" else tokens
            self._event({"choices": [], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion,
                                                  "prompt_tokens_details": {"cached_tokens": cached}}})
        if behaviour != "no_done":
            self._event("[DONE]")
        return True

    def _event(self, data: dict[str, Any] | str) -> None:
        text = data if isinstance(data, str) else json.dumps(data)
        payload = f"data: {text}\n\n".encode()
        self.wfile.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")
