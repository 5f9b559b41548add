#!/usr/bin/env python3
"""Goal: an engine with little room of its own, which preempts requests, and a cache with little RAM, which brings blocks back
from disk: every request ends, every loaded block is right, nothing stays held."""

import tempfile
import unittest

from engines import BLOCK, Engine, Service, check, tokens


class LittlePool(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service()
        cls.addClassCleanup(cls.service.end)
        cls.engine = Engine({"socket": cls.service.socket}, blocks=20, max_model_len=1024, dtype="float32")
        cls.addClassCleanup(cls.engine.close)

    def test_requests_that_are_preempted_end_as_they_do_alone(self):
        prompts = [tokens(i, 3 * BLOCK + 60 + i) for i in range(6)]  # grow over a border: 6 x 5 blocks do not fit
        alone = []
        for prompt in prompts:
            alone.append(self.engine.run(prompt, 90)[0])
        self.engine.forget()
        for epoch in range(2):
            names = [self.engine.submit(prompt, 90) for prompt in prompts]
            preempted = 0
            ended = {}
            while self.engine.scheduler.has_requests() or self.engine.core.batch_queue:
                preempted = max([preempted, *(r.num_preemptions for r in self.engine.scheduler.requests.values())])
                for output in self.engine.step():
                    ended[output.request_id] = list(output.outputs[0].token_ids)
            self.assertGreater(preempted, 0, f"round {epoch}: the pool is large enough; the test needs a smaller one")
            self.assertEqual([ended[name] for name in sorted(ended, key=lambda n: int(n.split("-")[1]))], alone, names)
            check(self, self.engine)
            self.engine.forget()
        self.assertGreater(self.engine.auditor.checked, 0)

    def test_few_blocks_of_a_small_pool_are_held(self):
        self.engine.forget()
        stores = self.engine.tiercel.stores
        self.assertEqual(stores.limit, 1)
        self.assertLessEqual(stores.running_limit, self.engine.scheduler.kv_cache_manager.block_pool.num_gpu_blocks // 8)
        prompt = tokens(50, 6 * BLOCK + 3)
        self.engine.submit(prompt, 2)
        most = 0
        while self.engine.scheduler.has_requests() or self.engine.core.batch_queue:
            self.engine.step()
            most = max(most, stores.held_blocks)
        self.assertGreater(most, 0)
        self.assertLessEqual(most, stores.running_limit)
        check(self, self.engine)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt, 2)[1], 6 * BLOCK)  # all of it was stored, one after the other
        check(self, self.engine)

    def test_what_the_pool_needs_at_once_is_given_up(self):
        self.engine.forget()
        lost = self.engine.tiercel.stores.lost_blocks
        for i in range(12):
            self.engine.submit(tokens(60 + i, 6 * BLOCK + 3), 1)
        self.assertEqual(len(self.engine.drain()), 12)
        self.assertGreater(self.engine.tiercel.stores.lost_blocks, lost)
        check(self, self.engine)


class LittleRam(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="tiercel-vllm-disk-")
        cls.addClassCleanup(folder.cleanup)
        cls.service = Service("--host-capacity", "64MiB", "--host-extent-bytes", "16MiB", "--disk", folder.name, "--disk-capacity", "512MiB")
        cls.addClassCleanup(cls.service.end)
        cls.engine = Engine({"socket": cls.service.socket})
        cls.addClassCleanup(cls.engine.close)

    def test_blocks_come_back_from_disk(self):
        prompts = [tokens(i, 8 * BLOCK + 5) for i in range(6)]  # 48 blocks of 2.8 MiB
        first = [self.engine.run(prompt) for prompt in prompts]
        local = [self.engine.run(prompt) for prompt in prompts]
        self.engine.forget()
        waited = 0
        for prompt, (answer, _) in zip(prompts, local):
            self.engine.submit(prompt)
            while self.engine.scheduler.has_requests() or self.engine.core.batch_queue:
                for output in self.engine.step():
                    self.assertEqual((list(output.outputs[0].token_ids), output.num_cached_tokens), (answer, 8 * BLOCK))
                leases = [t.lease for t in self.engine.tiercel._tracked.values() if t.lease is not None]
                waited += any(not lease.host_only for lease in leases)
        self.assertGreater(waited, 0, "all of it was in RAM; the test needs less")
        self.assertEqual(len(first), 6)
        check(self, self.engine, loaded=48)


if __name__ == "__main__":
    unittest.main()
