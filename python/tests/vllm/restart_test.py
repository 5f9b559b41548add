#!/usr/bin/env python3
"""Goal: an engine that starts again finds what the one before stored, with its first request, in the private service that the
first one started; engines that only store or only load do that and no more; other weights find nothing."""

import os
import shutil
import tempfile
import time
import unittest

from engines import BLOCK, MODEL, PROGRAM, Engine, check, tokens


class Restart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.extra = {"program": PROGRAM, "host_bytes": "256MiB", "arguments": ["--host-prefault", "false", "--service-idle-grace", "20s"]}
        cls.prompt = tokens(1, 4 * BLOCK + 30)

    def engine(self, stored=None, extra=None, **options):
        engine = Engine(extra or self.extra, stored=stored, **options)
        self.addCleanup(lambda: engine.llm and engine.close())
        return engine

    def test_one_after_the_other(self):
        first = self.engine()
        cold, _ = first.run(self.prompt)
        local, _ = first.run(self.prompt)
        check(self, first)
        plan, stored = first.tiercel._opening._outcome[2], first.auditor.stored
        self.assertIn("private", plan.socket)
        first.close()

        second = self.engine(stored)
        self.assertEqual(second.run(self.prompt), (local, 4 * BLOCK))
        check(self, second, loaded=4)
        again = second.tiercel._opening._outcome[2]
        self.assertEqual((again.socket, again.weights), (plan.socket, plan.weights))
        self.assertNotEqual(again.engine_id, plan.engine_id)
        second.close()

        loads_only = self.engine(stored, role="kv_consumer")
        self.assertEqual(loads_only.run(self.prompt), (local, 4 * BLOCK))
        new = tokens(2, 3 * BLOCK + 30)
        loads_only.run(new)
        loads_only.forget()
        self.assertEqual(loads_only.run(new)[1], 0)
        check(self, loads_only, loaded=4)
        loads_only.close()

        stores_only = self.engine(role="kv_producer")
        self.assertEqual(stores_only.run(self.prompt)[1], 0)
        stores_only.forget()
        self.assertEqual(stores_only.run(self.prompt), (cold, 0))
        check(self, stores_only, loaded=0)
        stores_only.close()

        with tempfile.TemporaryDirectory(prefix="tiercel-vllm-model-") as folder:
            shutil.copytree(MODEL, folder, dirs_exist_ok=True)
            same = self.engine(stored, model=folder)
            self.assertEqual(same.run(self.prompt), (local, 4 * BLOCK))  # the weights count, not where they lie
            check(self, same, loaded=4)
            same.close()
            with open(os.path.join(folder, "model.safetensors"), "r+b") as weights:
                weights.seek(-2, os.SEEK_END)
                last = weights.read(2)
                weights.seek(-2, os.SEEK_END)
                weights.write(bytes([last[0] ^ 1, last[1]]))  # one bit of one weight
            other = self.engine(model=folder)
            self.assertEqual(other.run(self.prompt)[1], 0)
            self.assertNotEqual(other.tiercel._opening._outcome[2].weights, plan.weights)
            check(self, other, loaded=0)
            other.close()

    def test_without_the_engines_own_cache(self):
        engine = self.engine(enable_prefix_caching=False)
        prompt = tokens(3, 4 * BLOCK + 30)
        cold = engine.run(prompt)
        self.assertEqual(cold[1], 0)
        self.assertEqual(engine.run(prompt)[1], 4 * BLOCK)
        check(self, engine, loaded=4)
        engine.close()

    def test_without_a_service_it_computes(self):
        with tempfile.TemporaryDirectory(prefix="tiercel-vllm-") as folder:
            engine = self.engine(extra={"socket": os.path.join(folder, "none.sock")})
            start = time.monotonic()
            self.assertEqual(len(engine.run(self.prompt)[0]), 8)
            self.assertLess(time.monotonic() - start, 30)
            self.assertIsNone(engine.tiercel.session)
            check(self, engine, loaded=0)
            engine.close()


if __name__ == "__main__":
    unittest.main()
