"""`vllm serve` as a process of its own, and a client that asks it over HTTP; of vllm_serve.py and of a test.

Prompts are token ids and the server has no tokenizer, so that the model's folder may be a config.json alone. All times are
seconds. A server that ends or does not answer in time is a ServerError that says what its log says last."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field

NAME = "served"  # of the model
LOG_LINES = 40
_ERROR = re.compile(r"\b\w*(Error|Exception): .*")
CONNECTOR_COUNTS = ("vllm:tiercel_", "vllm:kv_offload_")
_ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",  # for reset_prefix_cache
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # it is compiled at its first use
    "VLLM_HOST_IP": "127.0.0.1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
    "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1",
}


class ServerError(Exception):
    """The server is not there, or does not do what it must."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A program in a process group of its own, with its log in a file."""

    def __init__(self, command: list[str], log: str, environment: dict[str, str] | None = None) -> None:
        self.log, self.command = log, command
        with open(log, "wb") as file:
            file.write(f"$ {shlex.join(command)}\n".encode())
            file.flush()
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
                                            start_new_session=True, env={**os.environ, **(environment or {})})

    def last_lines(self) -> str:
        """The end of its log, and what errors it names: the first cause is often far above."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
        errors = dict.fromkeys(match[0] for line in lines if " WARNING " not in line and (match := _ERROR.search(line)))
        named = "".join(f"  {error[:300]}\n" for error in list(errors)[:10])
        return "".join(lines[-LOG_LINES:]) + (f"errors in it, the first one first:\n{named}" if named else "")

    def wait_until(self, is_up, seconds: float) -> float:
        """Until is_up() is true; how long that took. ServerError if the process ends before, or that takes longer."""
        start = time.monotonic()
        while not is_up():
            if self.process.poll() is not None:
                raise ServerError(f"it ended with status {self.process.returncode}; the end of {self.log}:\n{self.last_lines()}")
            if time.monotonic() > start + seconds:
                raise ServerError(f"it was not up after {seconds:.0f} s; the end of {self.log}:\n{self.last_lines()}")
            time.sleep(0.1)
        return time.monotonic() - start

    def ends_within(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def group(self) -> list[int]:
        """The processes of its group that are still there, zombies aside."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    state, _, group = file.read().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(group) == self.process.pid and state != "Z":
                found.append(int(name))
        return found

    def stop(self, seconds: float = 60.0) -> dict:
        """SIGTERM, and after `seconds` SIGKILL for the whole group. Says how it ended, and which processes outlived it."""
        start = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.ends_within(seconds)
        took, status = time.monotonic() - start, self.process.poll()
        while self.group() and time.monotonic() < start + seconds:  # workers end a moment after the server
            time.sleep(0.05)
        left = self.group()
        if left:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return {"status": status, "seconds": took, "killed": len(left)}


class Server(Process):
    """vLLM's server on a free port of the loopback."""

    def __init__(self, model: str, flags: list[str], log: str, environment: dict[str, str] | None = None) -> None:
        self.port = free_port()
        weights = any(name.endswith((".safetensors", ".bin")) for name in os.listdir(model))
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--served-model-name", NAME,
                   "--host", "127.0.0.1", "--port", str(self.port), "--skip-tokenizer-init", "--enable-prompt-tokens-details",
                   "--disable-uvicorn-access-log", "--enable-prefix-caching", "--seed", "0",
                   *([] if weights else ["--load-format", "dummy"]), *flags]
        fixed = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
        super().__init__(command, log, {**fixed, **(environment or {})})

    def wait_until_up(self, seconds: float) -> float:
        return self.wait_until(self._is_healthy, seconds)

    def _is_healthy(self) -> bool:
        try:
            return self.call("GET", "/health", 2)[0] == 200
        except ServerError:
            return False

    def call(self, method: str, path: str, timeout: float = 30.0) -> tuple[int, str]:
        """A short request, not for completions: status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"{path}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """Each metric of vLLM's under its name, summed over its labels."""
        sums: dict[str, float] = {}
        for line in self.call("GET", "/metrics")[1].splitlines():
            match = re.match(r"(vllm:\w+?)(?:_total)?(?:\{.*\})? (\S+)$", line)
            if match and not match[1].endswith(("_created", "_bucket")):
                sums[match[1]] = sums.get(match[1], 0.0) + float(match[2])
        return sums

    def pool_tokens(self) -> int:
        """Tokens whose KV fits the engine's own cache."""
        text = self.call("GET", "/metrics")[1]
        line = next((line for line in text.splitlines() if line.startswith("vllm:cache_config_info{")), "")
        label = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if label.get("num_gpu_blocks", "").isdigit() and label.get("block_size", "").isdigit():
            return int(label["num_gpu_blocks"]) * int(label["block_size"])
        raise ServerError("its metrics do not say how many blocks its KV cache has")

    def forget(self, seconds: float = 60.0) -> None:
        """Empties the engine's own prefix cache, and not the connector's: it fails while blocks are held, and is asked again."""
        end = time.monotonic() + seconds
        while True:
            status, text = self.call("POST", "/reset_prefix_cache")
            if status != 200:
                raise ServerError(f"reset_prefix_cache: status {status}: {text[:200]}")
            if json.loads(text)["success"]:
                return
            if time.monotonic() > end:
                raise ServerError(f"its prefix cache could not be emptied in {seconds:.0f} s: blocks are still held")
            time.sleep(0.05)

    def settle(self, quiet: float = 1.0, seconds: float = 60.0) -> None:
        """Until what connectors count has not moved for `quiet` seconds: nothing is being stored any more."""
        def counts() -> dict[str, float]:
            return {name: value for name, value in self.metrics().items() if name.startswith(CONNECTOR_COUNTS)}

        end, before, since = time.monotonic() + seconds, counts(), time.monotonic()
        while time.monotonic() < min(since + quiet, end):
            time.sleep(0.1)
            now = counts()
            if now != before:
                before, since = now, time.monotonic()


@dataclass
class Answer:
    """What came of one request. Times are of time.perf_counter()."""

    sent: float = 0.0
    steps: list[tuple[float, int]] = field(default_factory=list)  # of each chunk: when it came, and how many tokens there were by then
    tokens: list[int] = field(default_factory=list)  # if they were asked for
    prompt_tokens: int = 0
    cached_tokens: int = 0
    error: str = ""

    @property
    def first(self) -> float:
        """Time to the first token."""
        return self.steps[0][0] - self.sent

    @property
    def ended(self) -> float:
        return self.steps[-1][0]


class Client:
    """Asks for completions, each on a connection of its own. What fails is in Answer.error."""

    def __init__(self, port: int, timeout: float = 300.0) -> None:
        self.port, self.timeout = port, timeout

    async def ask(self, prompt: str, count: int, *, with_tokens: bool = False, close_after: int = 0) -> Answer:
        """prompt: token ids with commas between, so that a long one is not formatted while others are timed. count: of tokens to
        come, whatever they are. with_tokens: their ids too; the server then repeats the prompt's. close_after: the connection is
        closed in mid-answer once so many tokens have come."""
        answer = Answer()
        more = ',"return_token_ids":true' if with_tokens else ""
        body = (f'{{"model":"{NAME}","prompt":[{prompt}],"max_tokens":{count},"temperature":0,"ignore_eos":true,"stream":true,'
                f'"stream_options":{{"include_usage":true,"continuous_usage_stats":true}}{more}}}').encode()
        head = (f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n").encode()
        try:
            await asyncio.wait_for(self._exchange(head + body, answer, close_after), self.timeout)
            got = answer.steps[-1][1] if answer.steps else 0
            if not answer.error and not close_after and got != count:
                answer.error = f"{got} of {count} tokens came"
        except asyncio.TimeoutError:
            answer.error = f"no whole answer in {self.timeout:.0f} s"
        except (OSError, EOFError, ValueError, KeyError) as error:  # of connections, of streams that break off, of what is no answer
            answer.error = answer.error or f"{type(error).__name__}: {error}"
        return answer

    async def _exchange(self, request: bytes, answer: Answer, close_after: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        try:
            answer.sent = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(None, 2)[1])
            if status != 200 or b"chunked" not in head.lower():
                answer.error = f"status {status}: {(await reader.read(2000)).decode(errors='replace')}"
                return
            async for at, event in _events(reader):
                if event == b"[DONE]":
                    return
                _note(json.loads(event), at, answer)
                if answer.error or (close_after and answer.steps and answer.steps[-1][1] >= close_after):
                    return
            answer.error = "the stream ended before its end mark"
        finally:
            writer.close()


async def _events(reader: asyncio.StreamReader):
    """(when it came, its data) of each server-sent event of a chunked body."""
    rest = b""
    while size := int(await reader.readline(), 16):
        rest += (await reader.readexactly(size + 2))[:-2]
        at = time.perf_counter()
        *events, rest = rest.split(b"\n\n")
        for event in events:
            if event.startswith(b"data: "):
                yield at, event[6:]


def _note(event: dict, at: float, answer: Answer) -> None:
    if "error" in event:
        answer.error = json.dumps(event["error"])[:500]
        return
    usage = event.get("usage") or {}
    if event["choices"]:
        answer.steps.append((at, usage["completion_tokens"]))
        answer.tokens += event["choices"][0].get("token_ids") or []
    elif usage:
        answer.prompt_tokens = usage["prompt_tokens"]
        answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
