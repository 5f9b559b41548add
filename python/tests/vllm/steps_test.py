#!/usr/bin/env python3
"""Goal: a step that waits for its loads computes on the bytes that were stored, whatever happens between promise and load, and
only where nothing else would stand still with it."""

import unittest
import unittest.mock

import tiercel
from engines import BLOCK, Engine, Service, check, tokens, until


def external(name):
    """The name that outputs have: the engine puts a suffix behind it."""
    return "-".join(name.split("-")[:2])


class Steps(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.service = Service()
        cls.addClassCleanup(cls.service.end)
        cls.engine = Engine({"socket": cls.service.socket, "load_mode": "step"})
        cls.addClassCleanup(cls.engine.close)

    def setUp(self):
        self.engine.forget()
        self.orders = []
        self.begun = []  # of each: its copy was under way before the step's orders came
        self.engine.auditor.before_orders = self.note
        self.engine.run(tokens(0, 2 * BLOCK))  # the worker has its session, and is ready, from now on
        self.engine.drain()
        self.before, self.failed = self.engine.auditor.checked, self.engine.tiercel.failed_loads

    def check(self, loaded=None):
        """As the check of all tests; of blocks since this one began."""
        check(self, self.engine)
        if loaded is not None:
            self.assertEqual(self.engine.auditor.checked - self.before, loaded)
        self.assertEqual(self.engine.tiercel.failed_loads, self.failed)

    def start_again(self, prompt):
        """The service, for the tests that follow."""
        self.engine.auditor.before_orders = self.note
        self.service.start()
        until(lambda: self.engine.forget() or self.engine.run(prompt)[1] > 0, "hits after the restart")

    def note(self, orders):
        self.orders += orders.loads
        self.begun += [order.in_step in self.engine.worker._started for order in orders.loads]

    def stored(self, *prompts):
        """What the engine's own cache gives for each; then that is emptied."""
        for prompt in prompts:
            self.engine.run(prompt)
        local = [self.engine.run(prompt) for prompt in prompts]
        self.engine.forget()
        self.orders.clear()
        self.begun.clear()
        return local

    def test_the_request_is_in_the_step_that_loads_its_blocks(self):
        prompt = tokens(1, 5 * BLOCK + 17)
        (local,) = self.stored(prompt)
        self.engine.submit(prompt)
        self.engine.step()
        self.assertEqual(([order.in_step > 0 for order in self.orders], self.begun), ([True], [True]))
        self.assertEqual(self.engine.scheduler.running[0].num_computed_tokens, len(prompt))
        self.assertEqual(list(self.engine.drain().values()), [local])
        self.check(5)

    def test_a_load_that_cannot_begin_before_its_step_begins_with_it(self):
        prompt = tokens(5, 3 * BLOCK + 17)
        (local,) = self.stored(prompt)
        self.engine.worker._thread = -1  # the scheduler runs in another one
        self.engine.submit(prompt)
        self.assertEqual(list(self.engine.drain().values()), [local])
        self.assertEqual(([order.in_step > 0 for order in self.orders], self.begun), ([True], [False]))
        self.check(3)

    def waits_by_layers(self):
        """Small loads are copied layer by layer from now on: (layer that waits, layers that it waits for), of every wait."""
        self.enterContext(unittest.mock.patch("tiercel.vllm.layers._LEAST_BYTES", 0))
        worker, asked, waited = self.engine.worker, [], []
        layers, load = worker._layers, worker._transfer.load
        before, wait = layers.before, worker._wait
        brings = {}

        def load_and_note(*arguments, **more):
            copy = load(*arguments, **more)
            brings[id(copy)] = (copy, more.get("layers"))
            return copy

        def before_and_note(name, ask):
            asked.append(int(name.split(".")[2]))
            before(name, ask)

        def wait_and_note(copy, *stream):
            waited.append((asked[-1] if asked else None, brings[id(copy)][1]))
            wait(copy, *stream)
        for place, name, noting in ((worker._transfer, "load", load_and_note), (layers, "before", before_and_note), (worker, "_wait", wait_and_note)):
            self.enterContext(unittest.mock.patch.object(place, name, noting))
        return asked, waited

    def test_each_layer_waits_for_what_it_reads(self):
        prompts = [tokens(80, 5 * BLOCK + 17), tokens(81, 2 * BLOCK + 3)]
        self.stored(*prompts)
        names = [self.engine.submit(prompt) for prompt in prompts]
        ended = self.engine.drain()
        whole = [ended[external(name)] for name in names]
        self.assertEqual([cached for _, cached in whole], [5 * BLOCK, 2 * BLOCK])
        self.engine.forget()
        asked, waited = self.waits_by_layers()
        names = [self.engine.submit(prompt) for prompt in prompts]
        asked.clear()
        self.engine.step()
        layers = len(self.engine.worker._geometry.tensors)
        self.assertEqual(asked, list(range(layers)))
        self.assertEqual([layer for layer, _ in waited], [first for _, (first, _) in waited], "a layer waits for those from it on")
        self.assertEqual([layer for first in (0, 1) for _, (begin, end) in waited[first::2] for layer in range(begin, end)], 2 * list(range(layers)))
        ended = self.engine.drain()
        self.assertEqual([ended[external(name)] for name in names], whole)
        self.check(14)

    def test_copies_that_find_no_place_at_first_are_all_made(self):
        prompt = tokens(82, 4 * BLOCK + 1)
        (local,) = self.stored(prompt)
        _, waited = self.waits_by_layers()
        load, refused = self.engine.worker._transfer.load, []

        def load_or_refuse(*arguments, **more):
            if len(waited) == 0 and len(refused) < 5 and more["layers"][0] > 0:
                refused.append(more["layers"])
                raise tiercel.LimitError("planted: too many copies")
            return load(*arguments, **more)
        self.enterContext(unittest.mock.patch.object(self.engine.worker._transfer, "load", load_or_refuse))
        self.assertEqual(self.engine.run(prompt), local)
        self.assertEqual((len(refused), len(waited)), (5, len(self.engine.worker._layers._groups)))
        self.check(4)

    def test_prompts_at_once_share_a_step(self):
        prompts = [tokens(10 + i, (2 + i) * BLOCK + 5) for i in range(3)] + [tokens(10, 2 * BLOCK + 5) + tokens(20, BLOCK)]
        local = self.stored(*prompts)
        names = [self.engine.submit(prompt) for prompt in prompts]
        ended = self.engine.drain()
        self.assertEqual([ended[external(name)][1] for name in names], [result[1] for result in local])
        self.assertTrue(self.orders and all(order.in_step for order in self.orders))
        self.check()
        self.assertGreaterEqual(self.engine.auditor.checked - self.before, 9)

    def test_beside_running_work_a_request_joins_a_later_step(self):
        prompt = tokens(30, 4 * BLOCK + 9)
        (local,) = self.stored(prompt)
        self.engine.submit(tokens(31, 40), new_tokens=60)
        for _ in range(3):
            self.engine.step()
        name = self.engine.submit(prompt)
        self.assertEqual(self.engine.drain()[external(name)][1], local[1])
        self.assertEqual([order.in_step for order in self.orders], [0])
        self.check(4)

    def test_blocks_deleted_between_promise_and_load_are_held(self):
        prompt = tokens(40, 4 * BLOCK + 3)
        (local,) = self.stored(prompt)
        session = self.engine.tiercel.session

        def drop(orders):
            for order in orders.loads:
                self.orders.append(order)
                self.assertEqual(session.drop(session.space()).blocks > 0, True)
        self.engine.auditor.before_orders = drop
        self.assertEqual(self.engine.run(prompt), local)
        self.assertEqual([order.in_step > 0 for order in self.orders], [True])
        self.check(4)

    def test_a_service_killed_between_promise_and_load(self):
        prompt = tokens(50, 4 * BLOCK + 3)
        (local,) = self.stored(prompt)

        def kill(orders):
            if orders.loads:
                self.service.kill()
        self.engine.auditor.before_orders = kill
        self.addCleanup(self.start_again, prompt)
        self.assertEqual(self.engine.run(prompt), local)
        self.check(4)

    def test_an_abort_of_a_request_whose_step_waits(self):
        prompt = tokens(60, 4 * BLOCK + 3)
        (local,) = self.stored(prompt)
        name = self.engine.submit(prompt)
        self.engine.step()
        self.engine.core.abort_requests([name])
        self.assertNotIn(external(name), self.engine.drain())
        self.assertEqual([order.in_step > 0 for order in self.orders], [True])
        self.assertEqual(self.engine.run(prompt), local)
        self.check()

    def test_what_follows_a_hit_is_stored(self):
        prompt = tokens(70, 3 * BLOCK)
        self.stored(prompt)
        longer = prompt + tokens(71, 2 * BLOCK + 7)
        (local,) = self.stored(longer)
        self.assertEqual(local[1], 5 * BLOCK)
        self.assertEqual(self.engine.run(longer), local)
        self.check()


if __name__ == "__main__":
    unittest.main()
