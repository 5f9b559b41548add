#!/usr/bin/env python3
"""Goal: what fails costs hits, never an answer: the service killed and started again, blocks deleted between promise and load,
loads that do not end, requests that are aborted and engines that are put to sleep meanwhile. Every request ends, with the tokens of an engine that computes:
in 32-bit floats, for in 16 bits another cut of a prompt can already change an answer."""

import time
import unittest

import engines
import tiercel
from engines import BLOCK, Engine, Service, check, tokens


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service("--host-capacity", "1GiB")
        cls.addClassCleanup(cls.service.end)
        cls.engine = Engine({"socket": cls.service.socket}, dtype="float32", blocks=60)
        cls.addClassCleanup(cls.engine.close)

    def setUp(self):
        self.engine.forget()
        self.auditor = self.engine.auditor
        self.addCleanup(self._let_go)

    def _let_go(self):
        self.auditor.before_orders, self.auditor.hold_loads, self.auditor.hold_stores = (lambda orders: None), False, False

    def stored_prompt(self, seed, blocks):
        """A prompt that is in the cache and not in the engine, and what comes of it."""
        prompt = tokens(seed, blocks * BLOCK + 7)
        cold, _ = self.engine.run(prompt)
        self.engine.forget()
        return prompt, cold

    def chain(self, prompt):
        plan = self.engine.tiercel._opening._outcome[2]
        client = tiercel.Client.connect(self.service.socket)
        self.addCleanup(client.close)
        model = tiercel.ModelIdentity(name=plan.name, kv_dtype=plan.kv_dtype, weights=list(plan.weights), properties=dict(plan.properties))
        session = client.open_session(model, plan.layout.layout(), BLOCK)
        return session, tiercel.BlockChain(session.space(), prompt)

    def drop_before_load(self, prompt, first):
        session, chain = self.chain(prompt)

        def drop(orders):
            if orders.loads:
                self.assertGreater(session.drop(chain, first).blocks, 0)
                self._let_go()

        self.auditor.before_orders = drop

    def test_blocks_deleted_between_promise_and_load_are_computed(self):
        prompt, cold = self.stored_prompt(1, 5)
        self.drop_before_load(prompt, 2)
        failed = self.engine.tiercel.failed_loads
        answer, cached = self.engine.run(prompt)
        self.assertEqual(answer, cold)
        self.assertEqual(self.engine.tiercel.failed_loads - failed, 1)
        check(self, self.engine)
        self.engine.forget()  # what was computed has been stored again
        self.assertEqual(self.engine.run(prompt)[1], 5 * BLOCK)
        check(self, self.engine)

    def test_all_blocks_deleted_between_promise_and_load(self):
        prompt, cold = self.stored_prompt(2, 3)
        self.drop_before_load(prompt, 0)
        self.assertEqual(self.engine.run(prompt)[0], cold)
        check(self, self.engine)

    def test_a_load_that_fails_beside_one_that_does_not(self):
        bad, cold_bad = self.stored_prompt(3, 4)
        good, cold_good = self.stored_prompt(4, 4)
        self.drop_before_load(bad, 1)
        first = self.engine.submit(bad)
        second = self.engine.submit(good)
        ended = self.engine.drain()
        self.assertEqual(len(ended), 2)
        self.assertEqual(sorted(answer for answer, _ in ended.values()), sorted([cold_bad, cold_good]), (first, second))
        check(self, self.engine)

    def start_load(self, prompt):
        """A request whose load does not end before _let_go()."""
        self.auditor.hold_loads = True
        name = self.engine.submit(prompt)
        for _ in range(50):
            self.engine.step()
            if self.engine.tiercel._loading:
                return name
        raise AssertionError("nothing is loaded")

    def test_a_request_that_is_aborted_while_it_loads_keeps_its_blocks_until_the_copy_ends(self):
        prompt, cold = self.stored_prompt(5, 5)
        free = self.engine.free_blocks()
        self.start_load(prompt)
        (name,) = self.engine.tiercel._loading
        self.engine.core.abort_requests([name])
        for _ in range(5):
            self.engine.step()
        self.assertLess(self.engine.free_blocks(), free)
        self._let_go()
        check(self, self.engine)
        self.assertEqual(self.engine.run(prompt)[0], cold)

    def test_a_load_that_takes_long_holds_up_nobody_else(self):
        prompt, cold = self.stored_prompt(6, 5)
        self.start_load(prompt)
        other = tokens(7, 100)
        self.engine.submit(other)
        ended = []
        for _ in range(60):
            ended += self.engine.step()
        self.assertEqual(len(ended), 1)
        self._let_go()
        self.assertEqual([answer for answer, _ in self.engine.drain().values()], [cold])
        check(self, self.engine)

    def test_stores_that_take_long_keep_their_blocks_whatever_becomes_of_their_requests(self):
        self.auditor.hold_stores = True
        pool, limit = self.engine.scheduler.kv_cache_manager.block_pool, self.engine.tiercel.stores.running_limit
        prompt = tokens(50, limit * BLOCK + 9)
        self.engine.submit(prompt, 20)
        for _ in range(4):
            self.engine.step()
        self.assertEqual(self.engine.tiercel.stores.held_blocks, limit)
        self.engine.core.abort_requests(list(self.engine.scheduler.requests))
        others = 3 * pool.num_gpu_blocks // 2 // 13  # go through all of the pool
        for seed in range(others):
            self.engine.submit(tokens(60 + seed, 12 * BLOCK + 1), 1)
        ended = []
        while len(ended) < others:
            ended += self.engine.step()
            self.assertEqual(self.engine.tiercel.stores.held_blocks, limit)
        self._let_go()
        check(self, self.engine)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt, 1)[1], limit * BLOCK)
        check(self, self.engine)

    def refuses_to_sleep(self, mode):
        with self.assertRaisesRegex(RuntimeError, "Failed to reset KV cache"):
            self.engine.llm.sleep(mode=mode)
        self.assertFalse(self.engine.core.model_executor.is_sleeping)

    def end_copies(self, mode):
        """What a server does before it sleeps: it steps until nothing is to be done. In this process sleep() itself does not."""
        self.refuses_to_sleep(mode)
        for _ in range(3):
            self.engine.step()
            self.assertTrue(self.engine.scheduler.has_requests(), "it would sleep now")
        self._let_go()
        end = time.monotonic() + engines.PATIENCE_S
        while self.engine.scheduler.has_requests():
            self.engine.step()
            self.assertLess(time.monotonic(), end)
        self.assertEqual((self.engine.tiercel.stores.held_blocks, self.engine.tiercel._loading, self.engine.worker._loads, self.engine.worker._stores),
                         (0, {}, [], []))

    def sleep_and_wake(self, mode):
        self.engine.llm.sleep(mode=mode)
        self.assertTrue(self.engine.core.model_executor.is_sleeping)
        for layer in self.engine.kv:  # the memory that a sleeping engine gives up
            layer.fill_(0)
        self.engine.llm.wake_up()
        return [answer for answer, _ in self.engine.drain().values()]

    def test_it_does_not_sleep_under_a_load(self):
        prompt, cold = self.stored_prompt(70, 4)
        self.start_load(prompt)
        self.end_copies("abort")
        self.assertEqual(self.sleep_and_wake("abort"), [])
        self.assertEqual(self.engine.run(prompt), (cold, 0), "vLLM resets the connector too: what was stored before is forgotten")
        check(self, self.engine)

    def test_it_does_not_sleep_with_a_request_that_waits_for_what_it_loaded(self):
        prompt, cold = self.stored_prompt(71, 4)
        self.start_load(prompt)
        self.end_copies("keep")
        self.refuses_to_sleep("keep")  # vLLM's own rule
        self.engine.llm.wake_up()
        self.assertEqual([answer for answer, _ in self.engine.drain().values()], [cold])
        check(self, self.engine)

    def test_it_does_not_sleep_under_a_store(self):
        for mode in ("abort", "keep"):
            prompt = tokens({"abort": 72, "keep": 73}[mode], 2 * BLOCK + 9)
            cold, _ = self.engine.run(prompt, extra_args={"kv_transfer_params": {"tiercel_store": False}})
            self.engine.forget()
            self.auditor.hold_stores = True
            self.engine.submit(prompt)
            while not self.engine.tiercel.stores.held_blocks:
                self.engine.step()
            self.end_copies(mode)
            self.assertEqual(self.sleep_and_wake(mode), [cold] if mode == "keep" else [])
            check(self, self.engine)

    def test_an_abort_while_it_computes_and_stores(self):
        for seed in range(8, 14):
            name = self.engine.submit(tokens(seed, 6 * BLOCK + 9), 50)
            for _ in range(seed - 6):
                self.engine.step()
            self.engine.core.abort_requests(list(self.engine.scheduler.requests) or [name])
        check(self, self.engine)

    def test_the_service_is_killed_and_comes_back(self):
        prompt, cold = self.stored_prompt(20, 4)
        self.engine.submit(tokens(21, 4 * BLOCK + 5), 30)
        for _ in range(3):
            self.engine.step()
        self.service.kill()
        self.assertEqual(len(self.engine.drain()), 1)  # what runs goes on
        self.assertEqual(self.engine.run(prompt), (cold, 0))  # a miss
        check(self, self.engine)
        self.service.start()
        self.engine.forget()

        def is_stored_again():
            self.engine.forget()
            return self.engine.run(prompt)[1] == 4 * BLOCK

        engines.until(is_stored_again, "hits after the restart")
        check(self, self.engine)

    def test_the_service_is_killed_while_a_request_loads(self):
        prompt, cold = self.stored_prompt(30, 5)

        def kill(orders):
            if orders.loads:
                self.service.kill()
                self._let_go()

        self.auditor.before_orders = kill
        self.assertEqual(self.engine.run(prompt)[0], cold)
        check(self, self.engine)
        self.service.start()

    def test_a_service_that_hangs_is_a_miss(self):
        import signal

        prompt, cold = self.stored_prompt(40, 4)
        self.service.process.send_signal(signal.SIGSTOP)
        try:
            self.assertEqual(self.engine.run(prompt)[0], cold)
        finally:
            self.service.process.send_signal(signal.SIGCONT)
        engines.until(lambda: self.engine.forget() or self.engine.run(prompt)[1] == 4 * BLOCK, "hits afterwards")
        check(self, self.engine)


if __name__ == "__main__":
    unittest.main()
