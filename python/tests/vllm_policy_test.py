#!/usr/bin/env python3
"""Goal: loads say what is ahead of the engine, and what they leave is counted; how long the engine computes is measured where a
step is one prompt's; a busy cache is asked again, seldom. Without vLLM: plain objects stand for its pool, and a clock that the test moves for time."""

import sys
import types
import unittest
import unittest.mock

import worlds

import tiercel
from tiercel import TierId

base = types.ModuleType("vllm.distributed.kv_transfer.kv_connector.v1.base")
for name in ("KVConnectorHandshakeMetadata", "KVConnectorMetadata", "KVConnectorWorkerMetadata"):
    setattr(base, name, type(name, (), {}))
sys.modules[base.__name__] = base

from tiercel.vllm import stores as stores_module
from tiercel.vllm.lookups import Lookups, Wish
from tiercel.vllm.messages import Report
from tiercel.vllm.pace import Pace, Prefill
from tiercel.vllm.stores import Source, Stores


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Paces(unittest.TestCase):
    def setUp(self):
        self.clock = Clock()
        self.pace = Pace(self.clock)

    def step(self, tokens, seconds, waits=False):
        number = self.pace.begin_step(tokens, waits=waits)
        self.clock.now += seconds
        self.pace.answered([number] if number else [])

    def test_only_steps_of_many_tokens_count_and_none_that_waits_for_a_load(self):
        self.pace.answered([])
        self.step(8, 0.01)
        self.step(4096, 9.0, waits=True)
        self.assertEqual(self.pace.tokens_per_s, 0.0)
        self.step(4096, 0.25)
        self.assertAlmostEqual(self.pace.tokens_per_s, 16384.0)

    def test_steps_that_overlap_last_from_the_end_of_the_one_before(self):
        numbers = [self.pace.begin_step(2048, waits=False) for _ in range(2)]
        for number in numbers:
            self.clock.now += 0.5
            self.pace.answered([number])
        self.assertAlmostEqual(self.pace.tokens_per_s, 4096.0)

    def test_answers_that_do_not_come_or_name_nothing_known_change_nothing(self):
        self.step(2000, 0.2)
        for _ in range(100):
            self.pace.begin_step(2000, waits=False)
        self.pace.answered([5000])
        self.clock.now += 1.0
        self.step(2000, 0.2)
        self.assertAlmostEqual(self.pace.tokens_per_s, 10000.0)

    def test_one_step_that_was_held_up_changes_nothing(self):
        for _ in range(4):
            self.step(2000, 0.2)
        self.step(2000, 60.0)
        self.assertAlmostEqual(self.pace.tokens_per_s, 10000.0)

    def test_a_step_of_one_prompt_says_how_long_its_tokens_take_where_they_lie(self):
        self.pace.answered([])
        told = []
        for tokens, largest in ((4096, Prefill(8192, 4090)), (4096, Prefill(0, 3000)), (4096, None), (512, Prefill(0, 512))):
            number = self.pace.begin_step(tokens, waits=False, largest=largest)
            self.clock.now += 0.25
            told += self.pace.answered([number] if number else [])
        [(prefill, seconds)] = told
        self.assertEqual((prefill.context_tokens, prefill.tokens), (8192, 4090))
        self.assertAlmostEqual(seconds, 0.25)


class Match:
    """Of 10 blocks, the first 4 in RAM."""

    blocks = 10

    def blocks_in(self, tier):
        return {TierId.HOST: 4, TierId.DISK: 10}[tier]

    def tiers(self, block):
        return [TierId.HOST, TierId.DISK] if block < 4 else [TierId.DISK]


class Load:
    def __init__(self, blocks, ahead):
        self.blocks, self.ahead = blocks, ahead
        self.done, self.ready, self.outcome, self.closed = False, None, tiercel.LoadOutcome.COMPLETE, False

    def end(self, ready, outcome=tiercel.LoadOutcome.COMPLETE):
        self.done, self.ready, self.outcome = True, ready, outcome

    def close(self):
        self.closed = True


class Session:
    def __init__(self):
        self.loads = []

    def match(self, chain):
        return Match()

    def load(self, chain, blocks, deadline_s, **ahead):
        self.loads.append(Load(blocks, ahead))
        return self.loads[-1]


class LookingUp(unittest.TestCase):
    def setUp(self):
        self.lookups, self.session = Lookups(2.0), Session()

    def take(self, local=0, most=10, waiting=0):
        lease, there = self.lookups.take_lease(self.session, None, Wish(165, local, most, waiting), 16)
        self.assertEqual(there, 10)
        return lease

    def test_a_load_says_what_is_ahead(self):
        lease = self.take(local=2, waiting=3)
        [load] = self.session.loads
        self.assertEqual((load.blocks, load.ahead), (10, {"prompt_tokens": 165, "context_tokens": 32, "waiting": 3}))
        self.assertFalse(lease.host_only)
        self.assertFalse(lease.is_done)

    def test_what_is_left_on_disk_leaves_a_load_from_ram_alone(self):
        lease = self.take(local=2)
        self.session.loads[0].end(4, tiercel.LoadOutcome.SLOWER)
        self.assertTrue(lease.is_done)
        self.assertEqual((lease.ready, lease.host_only), (4, True))
        for _ in range(2):
            self.lookups.take_left(lease)
        self.assertEqual(self.lookups.left_blocks, 6, "counted once")

    def test_what_came_from_disk_was_not_in_ram(self):
        lease = self.take()
        self.session.loads[0].end(10)
        self.assertTrue(lease.is_done)
        self.assertEqual((lease.ready, lease.host_only), (10, False))
        self.lookups.take_left(lease)
        self.assertEqual(self.lookups.left_blocks, 0)

    def test_a_load_of_nothing_ends(self):
        lease = self.take()
        self.session.loads[0].end(0, tiercel.LoadOutcome.SLOWER)
        self.assertTrue(lease.is_done)
        self.assertIsNone(lease.load)
        self.assertTrue(self.session.loads[0].closed)

    def test_what_the_engine_has_itself_is_not_asked_for(self):
        self.assertIsNone(self.take(local=10).load)
        self.assertEqual(self.session.loads, [])

    def test_a_prompt_that_ends_earlier_needs_less(self):
        self.assertEqual(self.take(most=8).asked, 8)
        self.assertEqual(self.take(most=4).host_only, True)


class Pool:
    num_gpu_blocks = 1000

    def __init__(self):
        self.blocks = [types.SimpleNamespace(block_hash=i) for i in range(self.num_gpu_blocks)]

    def touch(self, blocks):
        pass

    def free_blocks(self, blocks):
        pass

    def get_num_free_blocks(self):
        return 400


class Counting:
    """A session that counts what it is asked."""

    def __init__(self, session):
        self._session, self.asked = session, 0

    def reserve(self, *arguments):
        self.asked += 1
        return self._session.reserve(*arguments)


class Storing(unittest.TestCase):
    def setUp(self):
        self.clock = Clock()
        self.enterContext(unittest.mock.patch.object(stores_module, "time", types.SimpleNamespace(monotonic=self.clock)))
        self.cache = self.enterContext(worlds.open_cache("32MiB"))
        self.real = worlds.open_session(self.cache)
        self.session = Counting(self.real)
        self.stores = Stores(1)
        self.stores.bind(Pool())
        full = self.real.reserve(worlds.chain_of(self.real, 150, first_token=10_000), 0)
        self.assertEqual(full.outcome(149), tiercel.Reserved.BUSY)
        self.full = full
        self.chain = worlds.chain_of(self.real, 6)

    def source(self):
        return Source(self.chain, range(6), 0, 6)

    def test_a_running_request_is_stored_when_the_cache_has_room_again(self):
        source = self.source()
        for _ in range(10):
            self.stores.plan(self.session, source)
        self.assertEqual((self.session.asked, source.stopped, source.next), (1, False, 0))
        for _ in range(200):
            self.clock.now += 0.5
            self.stores.plan(self.session, source)
        self.assertLess(self.session.asked, 110, "once a second")
        self.assertFalse(source.stopped)
        self.full.close()
        self.clock.now += 1.0
        self.stores.plan(self.session, source)
        self.assertEqual((source.next, source.stopped), (6, False))
        [order] = self.stores.take_orders()
        self.stores.reported(Report(stored={order.store_id: 1}))
        self.assertEqual(self.stores.stored_blocks, 6)
        self.assertEqual(self.stores.refused_blocks, 0)

    def test_what_is_left_over_of_a_finished_one_is_given_up_in_the_end(self):
        source = self.source()
        self.stores.plan(self.session, source)
        self.stores.leave_over(source)
        for _ in range(19):
            self.clock.now += 0.5
            self.stores.plan_left_over(self.session)
            self.assertTrue(self.stores.has_work)
        self.clock.now += 1.0
        self.stores.plan_left_over(self.session)
        self.assertFalse(self.stores.has_work, "nothing steps an engine for it any longer")
        self.assertEqual(self.stores.refused_blocks, 6)

    def test_a_time_in_which_nobody_asked_does_not_count_as_busy(self):
        self.stores.plan(self.session, self.source())
        self.clock.now += 60.0
        source = self.source()
        self.stores.plan(self.session, source)
        self.stores.leave_over(source)
        self.clock.now += 0.005
        self.stores.plan_left_over(self.session)
        self.assertTrue(self.stores.has_work)
        self.assertEqual(self.stores.refused_blocks, 0)

    def test_what_is_left_over_follows_when_there_is_room(self):
        source = self.source()
        self.stores.plan(self.session, source)
        self.stores.leave_over(source)
        self.full.close()
        self.clock.now += 1.0
        self.stores.plan_left_over(self.session)
        self.assertEqual(len(self.stores.take_orders()[0].positions), 6)

    def test_a_block_without_its_parent_ends_it(self):
        self.full.close()
        source = Source(self.chain, range(6), 3, 6)
        self.stores.plan(self.session, source)
        self.assertEqual((source.stopped, self.stores.refused_blocks), (True, 3))

    def test_of_a_running_request_two_steps_are_held_and_of_finished_ones_two_percent(self):
        self.full.close()
        pool = Pool()
        pool.num_gpu_blocks = 60
        stores = Stores(1, step_blocks=2)
        stores.bind(pool)
        self.assertEqual((stores.limit, stores.running_limit), (1, 4))
        running = Source(self.chain, range(6), 0, 6)
        stores.plan(self.session, running)
        self.assertEqual((stores.held_blocks, running.next), (4, 4))
        stores.leave_over(running)
        stores.plan_left_over(self.session)
        self.assertEqual(stores.held_blocks, 4, "all that may be held is")
        [order] = stores.take_orders()
        stores.reported(Report(stored={order.store_id: 1}))
        held = []
        for _ in range(2):
            stores.plan_left_over(self.session)
            held.append(stores.held_blocks)
            [order] = stores.take_orders()
            stores.reported(Report(stored={order.store_id: 1}))
        self.assertEqual((held, stores.held_blocks, stores.stored_blocks), ([1, 1], 0, 6))
        large = Pool()
        stores.bind(large)
        self.assertEqual((stores.limit, stores.running_limit), (20, 20))

    def test_what_the_pool_has(self):
        self.assertEqual(self.stores.pool_blocks, (400, 1000))
        self.assertEqual(Stores(1).pool_blocks, (0, 0))


if __name__ == "__main__":
    unittest.main()
