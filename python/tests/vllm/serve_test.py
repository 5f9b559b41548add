#!/usr/bin/env python3
"""Goal: as it is served: `vllm serve` in processes of its own, asked over HTTP. What one server stored, it and the next one load,
with the same tokens; clients that go away in mid-answer harm nobody; a server ends on SIGTERM, whether it is given time for that
or not, without a word of the connector's and with nothing left behind."""

import asyncio
import os
import random
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), *[os.pardir] * 3, "bench"))

import tiercel
from vllm_server import Client, Process, Server

PROGRAM = os.environ["TIERCEL_TEST_PROGRAM"]
MODEL = os.environ["TIERCEL_TEST_MODEL_FOLDER"]
BLOCK = 128
START_S = 240
FLAGS = ["--enforce-eager", "--block-size", str(BLOCK), "--max-model-len", "2048", "--max-num-batched-tokens", "512",
         "--max-num-seqs", "8"]
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}


def prompt(seed: int, count: int) -> str:
    return ",".join(map(str, random.Random(seed).choices(range(1000, 40000), k=count)))


class Serve(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="tiercel-vllm-serve-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.socket = os.path.join(self.folder, "s.sock")
        self.service = Process([PROGRAM, "serve", "--host-capacity", "512MiB", "--host-prefault", "false", "--service-socket", self.socket,
                                "--http-listen", "", "--metrics-listen", ""], os.path.join(self.folder, "service.log"))
        self.addCleanup(self.service.stop)
        self.service.wait_until(self.service_answers, 30)

    def service_answers(self) -> bool:
        try:
            tiercel.Client.connect(self.socket).close()
        except tiercel.Error:
            return False
        return True

    def serve(self, name: str, *flags: str, load_mode: str = "auto", **environment: str) -> Server:
        transfer = ('{"kv_connector": "TiercelConnector", "kv_connector_module_path": "tiercel.vllm", "kv_role": "kv_both", '
                    f'"kv_connector_extra_config": {{"socket": "{self.socket}", "load_mode": "{load_mode}"}}}}')
        server = Server(MODEL, [*FLAGS, "--kv-transfer-config", transfer, *flags], os.path.join(self.folder, name),
                        {**ENVIRONMENT, **environment})
        self.addCleanup(server.stop)
        server.wait_until_up(START_S)
        self.client = Client(server.port, timeout=60)
        return server

    def ask(self, *prompts: str, count: int = 8) -> list:
        """(tokens, how many of the prompt's were cached) of prompts that come at once."""
        async def all_of_them():
            return await asyncio.gather(*(self.client.ask(text, count, with_tokens=True) for text in prompts))

        answers = asyncio.run(all_of_them())
        self.assertEqual([answer.error for answer in answers], [""] * len(prompts))
        return [(answer.tokens, answer.cached_tokens) for answer in answers]

    def count(self, server: Server, name: str) -> int:
        return int(server.metrics()[f"vllm:tiercel_{name}"])

    def end(self, server: Server) -> None:
        ended = server.stop(30)
        self.assertEqual((ended["status"], ended["killed"]), (0, 0), server.last_lines())
        ours = ("tiercel/vllm/", "nanobind", "[tiercel] [error]", "[tiercel] [warning]")  # a traceback names our files
        with open(server.log, encoding="utf-8") as file:
            self.assertEqual([line for line in file if any(word in line for word in ours)], [])

    def test_two_servers_one_after_the_other(self):
        first = self.serve("first.log")
        long, short = prompt(1, 4 * BLOCK + 30), prompt(2, 2 * BLOCK + 30)
        (cold,) = self.ask(long)
        self.assertEqual(cold[1], 0)
        local = self.ask(long)
        self.assertEqual(local[0][1], 4 * BLOCK)
        self.assertEqual(self.count(first, "hit_tokens"), 0)
        first.settle(0.5)
        first.forget()
        self.assertEqual(self.ask(long), local)
        first.settle(0.3)
        self.assertEqual([self.count(first, name) for name in ("hit_tokens", "loads", "failed_loads")], [4 * BLOCK, 1, 0])

        self.aborts(first, long)
        self.assertEqual(self.ask(long), local)
        stored = self.ask(short), self.ask(short)
        self.assertEqual(stored[1][0][1], 2 * BLOCK)
        first.settle(0.5)
        self.end(first)

        # Given time to end, and with one rank in the scheduler's process, where steps wait for their loads.
        second = self.serve("second.log", "--shutdown-timeout", "10", "--distributed-executor-backend", "uni", load_mode="step",
                            VLLM_ENABLE_V1_MULTIPROCESSING="0")
        self.ask(prompt(3, 20))  # after its first step steps may wait
        self.assertEqual(self.ask(long), local)
        self.assertEqual(self.ask(short), stored[1])
        self.aborts(second, long)
        second.settle(0.3)
        self.assertGreaterEqual(self.count(second, "step_loads"), 2)
        self.assertEqual((self.count(second, "failed_loads"), self.count(second, "failed_blocks")), (0, 0))
        self.end(second)

    def aborts(self, server: Server, known: str) -> None:
        """8 requests at once, of which every second client goes away in mid-answer, while blocks are loaded and stored."""
        server.settle(0.3)
        server.forget()

        async def all_of_them():
            texts = [known if i % 4 < 2 else prompt(100 + i, 2 * BLOCK + 9 * i) for i in range(8)]
            return await asyncio.gather(*(self.client.ask(text, 24, close_after=i % 2 * (1 + i)) for i, text in enumerate(texts)))

        answers = asyncio.run(all_of_them())
        self.assertEqual([answer.error for answer in answers], [""] * 8)
        for i, answer in enumerate(answers):
            self.assertEqual(answer.steps[-1][1] < 24, i % 2 == 1)
        server.forget()  # nothing is held by what was aborted


if __name__ == "__main__":
    unittest.main()
