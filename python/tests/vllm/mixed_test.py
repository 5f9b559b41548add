#!/usr/bin/env python3
"""Goal: requests of all lengths that share beginnings, come at any time, are aborted at any time and preempt each other, in an
engine with little room, beside a cache with less RAM than they need: every load is right, every request ends, nothing is held."""

import os
import random
import tempfile
import unittest

from engines import BLOCK, Engine, Service, check, tokens

REQUESTS = int(os.environ.get("TIERCEL_TEST_REQUESTS", "150"))
SEED = int(os.environ.get("TIERCEL_TEST_SEED", "1"))


class Mixed(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tiercel-vllm-disk-")
        self.addCleanup(folder.cleanup)
        service = Service("--host-capacity", "96MiB", "--host-extent-bytes", "16MiB", "--disk", folder.name, "--disk-capacity", "256MiB")
        self.addCleanup(service.end)
        self.engine = Engine({"socket": service.socket}, blocks=24, max_model_len=1024)
        self.addCleanup(self.engine.close)

    def test_mixed_load(self):
        random_ = random.Random(SEED)
        roots = [tokens(1000 + i, 5 * BLOCK) for i in range(6)]
        engine, submitted, ended, aborted, preempted = self.engine, 0, 0, 0, 0
        while submitted < REQUESTS or engine.scheduler.has_requests() or engine.core.batch_queue:
            if submitted < REQUESTS and len(engine.scheduler.requests) < 8 and random_.random() < 0.5:
                prompt = random_.choice(roots)[: random_.randrange(1, 5 * BLOCK)] + tokens(random_.randrange(20), random_.randrange(200))
                engine.submit(prompt, random_.randrange(1, 40), salt=random_.choice([None, None, None, "a"]))
                submitted += 1
            if engine.scheduler.requests and random_.random() < 0.03:
                engine.core.abort_requests([random_.choice(list(engine.scheduler.requests))])
                aborted += 1
            if random_.random() < 0.01 and not engine.tiercel._loading:
                engine.llm.reset_prefix_cache()  # fails while anything runs
            preempted = max([preempted, *(r.num_preemptions for r in engine.scheduler.requests.values())])
            ended += len(engine.step())
        check(self, engine)
        print(f"{submitted} requests, {aborted} aborts, {ended} ended by themselves, {engine.auditor.checked} blocks loaded and right, "
              f"preempted {'yes' if preempted else 'no'}, {engine.tiercel.failed_loads} failed loads")
        self.assertGreaterEqual(ended + aborted, submitted)
        self.assertGreater(engine.auditor.checked, REQUESTS // 5)
        self.assertGreater(preempted, 0)


if __name__ == "__main__":
    unittest.main()
