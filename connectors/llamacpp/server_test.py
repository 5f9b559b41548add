"""tiercel-llama from outside, with the official openai client and raw sockets.

Run as: server_test.py SERVER MODEL [unittest arguments]. Each class starts its own server on a free loopback port and
ends it; every wait is bounded. Prompts are short: a machine without a GPU computes about 200 tokens a second.
"""

import concurrent.futures
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import openai

SERVER = ""
MODEL = ""
STORY = "The lighthouse keeper climbed the stairs every evening and wrote the weather into a grey book. "


class Server:
    """One tiercel-llama process. prepare: called in it before the server is."""

    def __init__(self, *flags, prepare=None):
        self.directory = tempfile.TemporaryDirectory()
        port_file = os.path.join(self.directory.name, "port")
        self.log_path = os.path.join(self.directory.name, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [SERVER, "--model", MODEL, "--port", "0", "--port-file", port_file, *flags],
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=prepare,
                # Threads that wait do not spin: the tests share the machine with others.
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            )
        deadline = time.monotonic() + 120
        while not os.path.exists(port_file):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError("the server did not start:\n" + self.log())
            time.sleep(0.02)
        with open(port_file, encoding="ascii") as file:
            self.port = int(file.read())

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def client(self, key="none", **options):
        return openai.OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=0, timeout=120, **options
        )

    def get(self, path, timeout=60, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("GET", path, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def post(self, path, body, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", path, body, headers or {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read().decode()
        finally:
            connection.close()

    def health(self):
        return json.loads(self.get("/health")[1])

    def metrics(self):
        values = {}
        for line in self.get("/metrics")[1].splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                values[name] = float(value)
        return values

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def wait_until(self, condition, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}; health {self.health()}")
            time.sleep(0.02)

    def wait_idle(self):
        self.wait_until(lambda: self.health()["slots_busy"] == 0 and self.health()["queued"] == 0, "all slots free")

    def end(self):
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    def close(self):
        self.end()
        self.directory.cleanup()


def open_stream(server, tokens, prompt="Tell me a story."):
    """A raw streaming request: (socket, what was read so far). Read on or close it at will."""
    body = json.dumps(
        {"prompt": prompt, "max_tokens": tokens, "stream": True, "ignore_eos": True, "temperature": 0}
    ).encode()
    stream = socket.create_connection(("127.0.0.1", server.port), 120)
    stream.sendall(
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        + str(len(body)).encode()
        + b"\r\n\r\n"
        + body
    )
    return stream


def read_until(stream, mark):
    data = b""
    while mark not in data:
        part = stream.recv(65536)
        if not part:
            raise AssertionError(f"closed before {mark!r}: {data!r}")
        data += part
    return data


class ServerCase(unittest.TestCase):
    FLAGS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server(*cls.FLAGS)
        cls.addClassCleanup(cls.server.close)

    def tearDown(self):
        self.server.wait_idle()


class Api(ServerCase):
    FLAGS = ("--slots", "2", "--context", "1024", "--host-capacity", "256MiB")

    def chat(self, **options):
        settings = {"temperature": 0, "max_tokens": 8}
        settings.update(options)
        return self.server.client().chat.completions.create(
            model="any", messages=[{"role": "user", "content": "What is the capital of France?"}], **settings
        )

    def test_models(self):
        models = self.server.client().models.list().data
        self.assertEqual([m.id for m in models], [os.path.basename(MODEL).removesuffix(".gguf")])

    def test_chat(self):
        answer = self.chat()
        self.assertIn("Paris", answer.choices[0].message.content)
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.choices[0].message.role, "assistant")
        usage = answer.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        timings = answer.model_extra["timings"]
        self.assertGreater(timings["ttft_ms"], 0)
        self.assertEqual(
            timings["prompt_tokens_computed"] + usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens
        )

    def test_streamed_chat_is_the_same_text(self):
        whole = self.chat().choices[0].message.content
        chunks = list(self.chat(stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, whole)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual([c.choices[0].finish_reason for c in chunks if c.choices][-1], "stop")
        self.assertEqual(chunks[-1].choices, [])
        self.assertGreater(chunks[-1].usage.prompt_tokens, 0)
        self.assertIn("timings", [c for c in chunks if c.choices][-1].model_extra)

    def test_max_tokens(self):
        for name in ("max_tokens", "max_completion_tokens"):
            answer = self.chat(**{"max_tokens": openai.NOT_GIVEN, name: 2})
            self.assertEqual(answer.usage.completion_tokens, 2)
            self.assertEqual(answer.choices[0].finish_reason, "length")

    def test_stop(self):
        answer = self.chat(stop=[" Paris"])
        self.assertEqual(answer.choices[0].finish_reason, "stop")
        self.assertTrue(answer.choices[0].message.content.endswith("is"), answer.choices[0].message.content)

    def test_seed_repeats(self):
        texts = {
            self.server.client()
            .completions.create(model="any", prompt="Once upon", max_tokens=8, temperature=1.5, seed=7)
            .choices[0]
            .text
            for _ in range(2)
        }
        self.assertEqual(len(texts), 1)

    def test_completion_of_tokens(self):
        answer = self.server.client().completions.create(model="any", prompt=[1, 2, 3], max_tokens=1)
        self.assertEqual(answer.usage.prompt_tokens, 3)

    def test_same_prompt_again_is_not_computed_again(self):
        self.chat()
        again = self.chat()
        self.assertEqual(again.usage.prompt_tokens_details.cached_tokens, again.usage.prompt_tokens - 1)

    def test_too_long_prompt_names_both_numbers(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.server.client().completions.create(model="any", prompt="word " * 3000)
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        self.assertRegex(caught.exception.message, r"30\d\d")
        self.assertIn("1024", caught.exception.message)

    def test_wrong_requests_are_400_in_openai_form(self):
        for body in (b"{", b"[]", b"", b'{"messages": 3}', b'{"messages": [], "stream": true}', b"\xff\xfe"):
            status, _, text = self.server.post("/v1/chat/completions", body)
            self.assertEqual(status, 400, body)
            error = json.loads(text)["error"]
            self.assertEqual(set(error), {"message", "type", "param", "code"})
            self.assertEqual(error["type"], "invalid_request_error")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.chat(temperature="hot")
        self.assertEqual(caught.exception.param, "temperature")

    def test_unknown_path_and_method(self):
        status, text = self.server.get("/v1/engines")
        self.assertEqual(status, 404)
        self.assertIn("error", json.loads(text))
        self.assertEqual(self.server.get("/v1/chat/completions")[0], 404)

    def test_other_host_names_are_refused(self):
        self.assertEqual(self.server.get("/v1/models", headers={"Host": "attacker.example"})[0], 403)

    def test_metrics_move(self):
        before = self.server.metrics()
        answer = self.chat()
        after = self.server.metrics()
        moved = lambda name: after[name] - before[name]
        self.assertEqual(moved("tiercel_llama_time_to_first_token_seconds_count"), 1)
        self.assertEqual(moved("tiercel_llama_completion_tokens_total"), answer.usage.completion_tokens)
        self.assertEqual(
            sum(moved(f'tiercel_llama_prompt_tokens_total{{source="{s}"}}') for s in ("computed", "tiercel", "engine")),
            answer.usage.prompt_tokens,
        )
        self.assertEqual(moved('tiercel_llama_requests_total{finish="stop"}'), 1)
        self.assertTrue(any(name.startswith("tiercel_host") or "tier=" in name for name in after), "no cache metrics")

    def test_idle_connections_do_not_starve_health(self):
        idle = []
        try:
            for i in range(64):
                connection = socket.create_connection(("127.0.0.1", self.server.port), 10)
                if i % 2:
                    connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    read_until(connection, b"}")
                idle.append(connection)
            start = time.monotonic()
            self.assertEqual(self.server.get("/health", timeout=5)[0], 200)
            self.assertLess(time.monotonic() - start, 5)
            self.chat()
        finally:
            for connection in idle:
                connection.close()

    def test_a_client_that_goes_away_frees_its_slot(self):
        streams = [open_stream(self.server, 400) for _ in range(2)]
        for stream in streams:
            read_until(stream, b"data: ")
        self.assertEqual(self.server.health()["slots_busy"], 2)
        before = self.server.metrics()['tiercel_llama_requests_total{finish="cancelled"}']
        for stream in streams:
            stream.close()
        self.server.wait_until(lambda: self.server.health()["slots_busy"] == 0, "slots of gone clients are free", 20)
        self.server.wait_until(
            lambda: self.server.metrics()['tiercel_llama_requests_total{finish="cancelled"}'] - before == 2,
            "both are counted",
        )

    def test_a_client_that_goes_away_before_a_whole_answer_frees_its_slot(self):
        body = json.dumps({"prompt": "Tell me", "max_tokens": 400, "ignore_eos": True}).encode()
        connection = socket.create_connection(("127.0.0.1", self.server.port), 10)
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        self.server.wait_until(lambda: self.server.health()["slots_busy"] == 1, "the request has a slot")
        connection.close()
        self.server.wait_until(lambda: self.server.health()["slots_busy"] == 0, "its slot is free", 20)


class KeyAndQueue(ServerCase):
    FLAGS = ("--slots", "1", "--queue", "1", "--context", "1024", "--cache", "off", "--api-key", "sesame")

    def test_key(self):
        self.assertEqual(self.server.get("/health")[0], 200)
        self.assertEqual(self.server.get("/v1/models")[0], 401)
        self.assertEqual(self.server.get("/metrics")[0], 401)
        with self.assertRaises(openai.AuthenticationError) as caught:
            self.server.client(key="wrong").models.list()
        self.assertEqual(caught.exception.code, "invalid_api_key")
        self.assertEqual(len(self.server.client(key="sesame").models.list().data), 1)

    def test_a_full_queue_is_429_with_retry_after(self):
        body = json.dumps({"prompt": "a", "max_tokens": 1000, "stream": True, "ignore_eos": True}).encode()
        request = (
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sesame\r\nContent-Length: %d\r\n\r\n"
            % len(body)
            + body
        )
        client = self.server.client(key="sesame")  # made before the slot is busy: importing takes time
        held = []
        try:
            for busy, queued in ((1, 0), (1, 1)):
                held.append(socket.create_connection(("127.0.0.1", self.server.port), 10))
                held[-1].sendall(request)
                self.server.wait_until(
                    lambda: (self.server.health()["slots_busy"], self.server.health()["queued"]) == (busy, queued),
                    f"{busy} busy, {queued} queued",
                )
            with self.assertRaises(openai.RateLimitError) as caught:
                client.completions.create(model="any", prompt="b", max_tokens=1)
            self.assertEqual(caught.exception.response.headers["Retry-After"], "1")
            self.assertEqual(caught.exception.code, "queue_full")
        finally:
            for connection in held:
                connection.close()


class Reuse(ServerCase):
    # The engine holds one user's history; what is pushed out comes back from the cache.
    FLAGS = ("--slots", "1", "--context", "512", "--batch", "256", "--host-capacity", "256MiB")

    def test_a_history_that_was_pushed_out_comes_back(self):
        self.server.wait_until(lambda: self.server.health()["reuse"] == "on", "reuse is on")
        client = self.server.client()
        ask = lambda prompt: client.completions.create(model="any", prompt=prompt, max_tokens=4, temperature=0)
        first = ask(STORY * 12)
        self.assertGreater(first.model_extra["timings"]["bytes_kept"], 0)
        ask("A quite different text. " * 40)
        again = ask(STORY * 12)
        timings = again.model_extra["timings"]
        blocks = (again.usage.prompt_tokens - 1) // 16
        self.assertEqual(timings["prompt_tokens_restored"] + timings["prompt_tokens_from_engine"], blocks * 16)
        self.assertGreater(timings["prompt_tokens_restored"], 0)
        self.assertLess(timings["ttft_ms"], first.model_extra["timings"]["ttft_ms"])


class Load(ServerCase):
    FLAGS = ("--slots", "4", "--context", "2048", "--host-capacity", "256MiB")

    def test_32_clients_half_of_which_go_away(self):
        def client(number):
            rng = random.Random(number)
            tokens = rng.randrange(6, 14)
            stream = open_stream(self.server, tokens, f"Client {number} asks: " + STORY)
            try:
                if number % 2:
                    read_until(stream, b"data: ")
                    return None
                data = read_until(stream, b"data: [DONE]\n\n").decode()
                events = [json.loads(l[6:]) for l in data.splitlines() if l.startswith("data: {")]
                return tokens, events[-1]["choices"][0]["finish_reason"], sum(1 for e in events if e["choices"][0]["text"])
            finally:
                stream.close()

        with concurrent.futures.ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(client, range(32)))
        finished = [a for a in answers if a]
        self.assertEqual(len(finished), 16)
        for tokens, reason, texts in finished:
            self.assertEqual(reason, "length")
            self.assertGreater(texts, 0)
            self.assertLessEqual(texts, tokens)
        self.server.wait_idle()

    def test_500_requests_do_not_grow_the_memory(self):
        client_lock = threading.local()

        def ask(number):
            if not hasattr(client_lock, "client"):
                client_lock.client = self.server.client()
            answer = client_lock.client.completions.create(
                model="any", prompt=[1 + number % 40, 7, 9, 11], max_tokens=1, temperature=0
            )
            return answer.usage.completion_tokens

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            self.assertEqual(sum(pool.map(ask, range(150))), 150)  # pools and arenas have their size after these
            before = self.server.resident_bytes()
            self.assertEqual(sum(pool.map(ask, range(500))), 500)
        grown = self.server.resident_bytes() - before
        self.assertLess(grown, 8 << 20, "500 requests grew the server's memory")


class Ending(unittest.TestCase):
    FLAGS = ("--slots", "1", "--context", "512", "--cache", "off")

    def test_sigterm_finishes_what_streams(self):
        server = Server(*self.FLAGS)
        self.addCleanup(server.close)
        stream = open_stream(server, 24)
        data = read_until(stream, b"data: ")
        server.process.send_signal(signal.SIGTERM)
        data += read_until(stream, b"[DONE]")
        stream.close()
        self.assertIn(b'"finish_reason":"length"', data)
        self.assertEqual(server.process.wait(60), 0)

    def test_sigterm_cuts_what_streams_at_the_deadline(self):
        server = Server(*self.FLAGS, "--drain-seconds", "1")
        self.addCleanup(server.close)
        stream = open_stream(server, 400)
        data = read_until(stream, b"data: ")
        server.process.send_signal(signal.SIGTERM)
        data += read_until(stream, b"[DONE]")
        stream.close()
        self.assertIn(b"the server is stopping", data)
        self.assertEqual(server.process.wait(30), 0)

    def test_sigterm_of_an_idle_server(self):
        server = Server(*self.FLAGS)
        self.addCleanup(server.close)
        self.assertEqual(server.end(), 0)
        self.assertIn("stopped", server.log())


class CommandLine(unittest.TestCase):
    def run_server(self, *flags):
        return subprocess.run([SERVER, *flags], capture_output=True, text=True, timeout=60, check=False)

    def test_a_misspelt_flag_is_told_the_right_one(self):
        for flag, right in (("--slot", "--slots"), ("--host-capacty", "--host-capacity")):
            result = self.run_server("--model", MODEL, flag, "4")
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"did you mean {right}?", result.stderr)

    def test_a_missing_model_is_named(self):
        result = self.run_server("--model", "nowhere.gguf")
        self.assertEqual(result.returncode, 1)
        self.assertIn("nowhere.gguf", result.stderr)

    def test_help_lists_both_kinds_of_flags(self):
        result = self.run_server("--help")
        self.assertEqual(result.returncode, 0)
        self.assertIn("--slots", result.stdout)
        self.assertIn("--host-capacity", result.stdout)

    def test_a_used_port_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            result = self.run_server("--model", MODEL, "--cache", "off", "--context", "512", "--port", port)
        self.assertEqual(result.returncode, 1)
        self.assertIn(port, result.stderr)


if __name__ == "__main__":
    SERVER, MODEL = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
