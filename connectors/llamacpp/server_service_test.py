"""tiercel-llama as a client of the node service, from outside: two engines, one cache, and a service that dies.

Run as: server_service_test.py SERVER MODEL TIERCEL [unittest arguments]. Loopback only; every wait is bounded.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
import urllib.request

import server_test
from server_test import STORY, Server, open_stream, read_until

TIERCEL = ""
ENGINE = ("--slots", "1", "--context", "512", "--batch", "64", "--exact-reuse")
PROMPT = "Listen to a story. " + STORY * 5


class Service:
    """One `tiercel serve` with an arena of its own."""

    def __init__(self, directory):
        self.socket = os.path.join(directory, "tiercel.sock")
        self.log_path = os.path.join(directory, "service.log")
        self.page = ""
        self.start()

    def start(self):
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [TIERCEL, "serve", "--host-capacity", "128MiB", "--service-socket", self.socket, "--http-listen",
                 "127.0.0.1:0", "--metrics-listen", ""], stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while "live page  http" not in self.log():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise AssertionError("the service did not start:\n" + self.log())
            time.sleep(0.02)
        self.page = next(line.split()[-1] for line in self.log().splitlines() if line.startswith("live page"))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def status(self):
        with urllib.request.urlopen(self.page.rstrip("/") + "/status", timeout=10) as response:
            return json.load(response)


class Engines(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.service = Service(directory.name)
        self.addCleanup(self.service.close)

    def start(self, *more):
        server = Server(*ENGINE, *more)
        self.addCleanup(server.close)
        server.wait_until(lambda: server.health()["reuse"] != "pending", "the model's file is hashed")
        return server

    def engine(self):
        return self.start("--service", self.service.socket)

    def ask(self, server, prompt=PROMPT):
        return server.client().completions.create(model="any", prompt=prompt, max_tokens=6, temperature=0)

    def cached(self, answer):
        return answer.usage.prompt_tokens_details.cached_tokens

    def test_what_one_engine_computed_another_restores(self):
        one, other = self.engine(), self.engine()
        first = self.ask(one)
        again = self.ask(other)
        self.assertEqual(self.cached(first), 0)
        self.assertGreaterEqual(self.cached(again), 64)
        self.assertEqual(again.choices[0].text, first.choices[0].text)
        plain = self.start("--cache", "off")
        self.assertEqual(self.ask(plain).choices[0].text, first.choices[0].text)

    def test_people_see_the_engines_and_their_kv_memory(self):
        one, other = self.engine(), self.engine()
        self.ask(one)
        pools = {}

        def both():
            pools.update({engine["engine"]: engine["kv_pool"] for engine in self.service.status()["engines"] if engine["kv_pool"]})
            return len(pools) == 2 and any(pool["used_bytes"] > 0 for pool in pools.values())

        one.wait_until(both, "both engines show their KV memory")
        for pool in pools.values():
            self.assertEqual(pool["used_bytes"] + pool["free_bytes"], pool["total_bytes"])
        other.end()
        one.wait_until(lambda: len(self.service.status()["engines"]) == 1, "an engine that ended is gone from the page")

    def test_an_engine_outlives_its_service_and_finds_the_next_one(self):
        engine = self.engine()
        first = self.ask(engine)
        self.service.kill()
        alone = self.ask(engine)  # computed, not refused
        self.assertEqual(alone.choices[0].text, first.choices[0].text)
        self.service.start()

        def restored():
            self.ask(engine)
            return self.cached(self.ask(engine)) >= 64

        engine.wait_until(restored, "blocks are kept and restored again")
        self.assertEqual(engine.end(), 0)

    def test_a_service_that_dies_in_mid_answer(self):
        engine = self.engine()
        stream = open_stream(engine, 60, "Count: ")
        read_until(stream, b"data: ")
        self.service.kill()
        read_until(stream, b"[DONE]")
        stream.close()
        self.assertEqual(engine.health()["slots_busy"], 0)
        self.assertEqual(engine.end(), 0)

    def test_a_private_service_is_started_once_shared_and_gone_after_the_last_engine(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        program = os.path.join(directory.name, "small")
        with open(program, "w", encoding="utf-8") as script:  # a small one, with little patience
            script.write(f'#!/bin/sh\nexec {os.path.abspath(TIERCEL)} "$@" --host-capacity 128MiB --service-idle-grace 300ms\n')
        os.chmod(program, 0o700)
        environment = {"XDG_RUNTIME_DIR": directory.name, "TIERCEL_PROGRAM": program}
        with unittest.mock.patch.dict(os.environ, environment):
            os.environ.pop("TIERCEL_SOCKET", None)
            one, other = self.start("--service", "auto"), self.start("--service", "auto")
        socket = os.path.join(directory.name, "tiercel", "private.sock")
        first = self.ask(one)
        again = self.ask(other)
        self.assertGreaterEqual(self.cached(again), 64)
        self.assertEqual(again.choices[0].text, first.choices[0].text)
        with open(socket + ".log", encoding="utf-8") as log:
            self.assertEqual(log.read().count("is serving."), 1)
        with open(socket + ".lock", encoding="utf-8") as lock:
            service = int(lock.read())
        self.assertEqual(one.end(), 0)
        self.assertTrue(os.path.exists(f"/proc/{service}"), "it stays for the other engine")
        self.assertEqual(other.end(), 0)
        self.service_ends(service)
        self.assertFalse(os.path.exists(socket))

    def service_ends(self, process):
        """It is init's child, and may stay as its zombie."""
        deadline = time.monotonic() + 30
        while True:
            try:
                with open(f"/proc/{process}/stat", encoding="utf-8") as stat:
                    if stat.read().rpartition(")")[2].split()[0] in "ZX":
                        return
            except FileNotFoundError:
                return
            self.assertLess(time.monotonic(), deadline, "the service does not end")
            time.sleep(0.02)

    def test_no_service_is_said_at_the_start(self):
        missing = os.path.join(os.path.dirname(self.service.socket), "nobody.sock")
        done = subprocess.run([server_test.SERVER, "--model", server_test.MODEL, "--service", missing],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("nobody.sock", done.stderr)


if __name__ == "__main__":
    server_test.SERVER, server_test.MODEL, TIERCEL = sys.argv[1:4]
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
