#!/usr/bin/env python3
"""Goal: what one request stored is loaded by the next, with the bytes that were stored and the tokens that the engine's own
cache gives; what must not be shared is not; a salt that names a tenant of the service stores within its quota."""

import json
import os
import tempfile
import unittest
import unittest.mock

from engines import BLOCK, Engine, Service, check, tokens
from prometheus_client import REGISTRY
from tiercel.vllm import tenants
from vllm.distributed.kv_events import BlockRemoved, BlockStored
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorProm

CAP_BLOCKS = 9  # of 2,949,120 bytes fit 5 % of 512 MiB
TENANTS = """
[tenants.search]
host_cap = "5%"
[tenants.chat]
[tenants.default]
"""


class Reuse(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.NamedTemporaryFile("w", suffix=".toml", delete=False) as file:
            file.write(TENANTS)
        cls.addClassCleanup(os.unlink, file.name)
        cls.service = Service("--config", file.name, "--host-capacity", "512MiB")
        cls.addClassCleanup(cls.service.end)
        cls.engine = Engine({"socket": cls.service.socket}, kv_events_config={"enable_kv_cache_events": True, "publisher": "null"})
        cls.addClassCleanup(cls.engine.close)
        cls.show_all_counts()

    @classmethod
    def show_all_counts(cls):
        """As the engine of a server does; the one in this process shows those of steps with an output alone."""
        prometheus = KVConnectorProm(cls.engine.core.vllm_config, ["engine"], {0: ["0"]})
        make_stats = cls.engine.scheduler.make_stats

        def make_and_show(spec_decoding_stats, kv_connector_stats, *more, **named):
            if kv_connector_stats is not None:
                prometheus.observe(kv_connector_stats.data)
            return make_stats(spec_decoding_stats, kv_connector_stats, *more, **named)

        cls.engine.scheduler.make_stats = make_and_show

    def setUp(self):
        self.engine.forget()
        self.before = self.engine.auditor.checked
        self.auditor = self.engine.auditor
        self.batches = []
        patched = unittest.mock.patch.object(self.engine.scheduler.kv_event_publisher, "publish", self.batches.append)
        self.enterContext(patched)

    def loaded(self):
        return self.auditor.checked - self.before

    def cold_local_external(self, prompt, **more):
        """The same prompt computed, from the engine's own cache, and from ours."""
        cold = self.engine.run(prompt, **more)
        local = self.engine.run(prompt, **more)
        self.engine.forget()
        external = self.engine.run(prompt, **more)
        check(self, self.engine)
        return cold, local, external

    def test_a_prompt_is_loaded_as_it_was_stored(self):
        cold, local, external = self.cold_local_external(tokens(1, 5 * BLOCK + 17))
        self.assertEqual((cold[1], local[1], external[1]), (0, 5 * BLOCK, 5 * BLOCK))
        self.assertEqual(external[0], local[0])
        self.assertEqual(self.loaded(), 5)

    def test_a_prompt_that_ends_on_a_block_leaves_the_last_block_to_compute(self):
        _, local, external = self.cold_local_external(tokens(2, 4 * BLOCK))
        self.assertEqual((local[1], external[1], self.loaded()), (3 * BLOCK, 3 * BLOCK, 3))
        self.assertEqual(external[0], local[0])

    def test_a_hit_that_leaves_one_token(self):
        _, local, external = self.cold_local_external(tokens(3, 4 * BLOCK + 1))
        self.assertEqual((local[1], external[1], self.loaded()), (4 * BLOCK, 4 * BLOCK, 4))
        self.assertEqual(external[0], local[0])

    def test_less_than_a_block_is_nothing(self):
        cold, _, external = self.cold_local_external(tokens(4, BLOCK - 1), new_tokens=1)
        self.assertEqual((external[1], self.loaded()), (0, 0))
        self.assertEqual(external[0], cold[0])

    def test_a_prompt_of_several_chunks(self):
        _, local, external = self.cold_local_external(tokens(5, 12 * BLOCK + 40))  # of 512 tokens
        self.assertEqual((local[1], external[1], self.loaded()), (12 * BLOCK, 12 * BLOCK, 12))
        self.assertEqual(external[0], local[0])

    def test_answers_are_stored_too(self):
        prompt = tokens(6, BLOCK - 10)
        answer, _ = self.engine.run(prompt, new_tokens=20)
        self.engine.forget()
        _, cached = self.engine.run(prompt + answer, new_tokens=1)
        self.assertEqual((cached, self.loaded()), (BLOCK, 1))
        check(self, self.engine)

    def test_the_engines_own_blocks_come_first_and_the_rest_is_loaded(self):
        prompt = tokens(7, 6 * BLOCK + 5)
        self.engine.run(prompt)
        local = self.engine.run(prompt)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt[: 2 * BLOCK + 5], new_tokens=1)[1], 2 * BLOCK)  # now in the engine's cache
        external = self.engine.run(prompt)
        self.assertEqual((external[1], external[0]), (6 * BLOCK, local[0]))
        self.assertEqual(self.loaded(), 2 + 4)
        check(self, self.engine)

    def test_two_requests_with_the_same_prompt_at_once(self):
        prompt = tokens(8, 4 * BLOCK + 9)
        self.engine.run(prompt)
        first, second = self._both(prompt)
        self.engine.forget()
        before = self.auditor.checked
        self.assertEqual([r for r in self._both(prompt)], [first, second])
        self.assertEqual(self.auditor.checked - before, 8)  # each into pages of its own
        check(self, self.engine)

    def _both(self, prompt):
        for _ in range(2):
            self.engine.submit(prompt)
        return list(self.engine.drain().values())

    def test_a_cold_prompt_given_twice_at_once_is_stored_once(self):
        prompt = tokens(9, 4 * BLOCK + 9)
        stored = self.engine.tiercel.stores.stored_blocks
        first, second = self._both(prompt)
        self.engine.drain()
        self.assertEqual(self.engine.tiercel.stores.stored_blocks - stored, 4)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt)[1], 4 * BLOCK)
        check(self, self.engine)

    def test_salts_are_apart(self):
        prompt = tokens(10, 3 * BLOCK + 5)
        self.engine.run(prompt, salt="a")
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt, salt="b")[1], 0)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt)[1], 0)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt, salt="a")[1], 3 * BLOCK)
        check(self, self.engine)

    def drop_all(self):
        self.engine.run(tokens(0, 10))  # the worker has its session from now on
        self.engine.forget()
        session = self.engine.tiercel.session
        for tenant in ("search", "chat", "default"):
            session.drop(session.space(tenant))

    def cached(self, prompt, salt):
        """Blocks of the prompt that were there, in an engine that has none itself."""
        _, cached = self.engine.run(prompt, 1, salt=salt)
        self.engine.forget()
        return cached // BLOCK

    def used_blocks(self):
        """By tenant, what the service counts in RAM."""
        connection = tenants._Connection(self.service.socket + ".admin")
        self.addCleanup(connection.close)
        connection.request("POST", "/admin/quota", "{}")
        size = self.engine.tiercel.session.block_bytes
        return {tenant["tenant"]: tenant["host"]["used_bytes"] // size for tenant in json.loads(connection.getresponse().read())["tenants"]}

    def test_salts_and_tenants_are_apart(self):
        self.drop_all()
        prompt = tokens(18, 2 * BLOCK + 5)
        salts = ["search", "chat", "default", "another", None]
        for blocks in (0, 2):
            for salt in salts:
                self.assertEqual(self.cached(prompt, salt), blocks, salt)
        self.assertEqual(self.used_blocks(), {"search": 2, "chat": 2, "default": 3 * 2})
        check(self, self.engine)

    def test_a_tenant_has_what_its_cap_allows_and_others_keep_theirs(self):
        self.drop_all()
        prompts = [tokens(20 + i, 6 * BLOCK + 5) for i in range(2)]
        for salt in ("chat", "search"):
            for prompt in prompts:
                self.assertEqual(self.cached(prompt, salt), 0)
        self.assertEqual(self.used_blocks(), {"search": CAP_BLOCKS, "chat": 12, "default": 0})
        found = {salt: sum(self.cached(prompt, salt) for prompt in reversed(prompts)) for salt in ("search", "chat")}
        self.assertEqual(found["chat"], 12)
        self.assertTrue(0 < found["search"] < 12, found)
        check(self, self.engine)

    def test_who_does_not_want_it(self):
        prompt = tokens(11, 3 * BLOCK + 5)
        no_store = {"kv_transfer_params": {"tiercel_store": False}}
        no_load = {"kv_transfer_params": {"tiercel_load": False}}
        self.engine.run(prompt, extra_args=no_store)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt)[1], 0)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt, extra_args=no_load)[1], 0)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt, skip_reading_prefix_cache=True)[1], 0)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt, extra_args={"kv_transfer_params": {"tiercel_load": "yes"}})[1], 0)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt)[1], 3 * BLOCK)
        check(self, self.engine)

    def test_after_a_reset_nothing_from_before_is_found(self):
        prompt = tokens(12, 3 * BLOCK + 5)
        self.engine.run(prompt)
        self.engine.forget()
        self.assertTrue(self.engine.llm.llm_engine.reset_prefix_cache(reset_connector=True))
        self.assertEqual(self.engine.run(prompt)[1], 0)
        self.engine.forget()
        self.assertEqual(self.engine.run(prompt)[1], 3 * BLOCK)  # stored anew
        check(self, self.engine)

    def test_what_is_counted_is_in_vllms_metrics(self):
        _, _, external = self.cold_local_external(tokens(14, 3 * BLOCK + 5))
        self.assertEqual(external[1], 3 * BLOCK)
        self.engine.drain()
        scheduler, worker = self.engine.tiercel, self.engine.worker
        counted = {"stored_blocks": scheduler.stores.stored_blocks, "hit_tokens": scheduler.hit_tokens, "asked_tokens": scheduler.asked_tokens,
                   "loaded_bytes": worker.loaded_bytes, "stored_bytes": worker.stored_bytes}
        self.assertEqual(counted["loaded_bytes"], self.auditor.checked * BLOCK * 30 * 3 * 256)
        shown = {sample.name: sample.value for metric in REGISTRY.collect() for sample in metric.samples}
        self.assertEqual({name: shown[f"vllm:tiercel_{name}_total"] for name in counted}, counted)

    def events(self, medium):
        """{hash: (hash before, tokens, extra keys)} of blocks that are said to be stored there, each once."""
        known = {}
        for event in [event for batch in self.batches for event in batch.events if isinstance(event, BlockStored) and event.medium == medium]:
            self.assertEqual((event.block_size, event.group_idx, event.lora_name), (BLOCK, 0, None))
            self.assertEqual(len(event.token_ids), BLOCK * len(event.block_hashes))
            before = event.parent_block_hash
            for i, name in enumerate(event.block_hashes):
                self.assertNotIn(name, known)
                known[name] = (before, list(event.token_ids[i * BLOCK : (i + 1) * BLOCK]), (event.extra_keys or [None] * (i + 1))[i])
                before = name
        return known

    def test_what_is_stored_is_told_as_vllms_events(self):
        prompt = tokens(15, 3 * BLOCK - 20)
        answer, _ = self.engine.run(prompt, new_tokens=30, salt="events")
        self.engine.drain()
        told = self.events("CPU")
        whole = prompt + answer
        self.assertEqual([tokens for _, tokens, _ in told.values()], [whole[i * BLOCK : (i + 1) * BLOCK] for i in range(3)])
        self.assertEqual([before for before, _, _ in told.values()], [None, *list(told)[:2]])
        self.assertEqual(told, self.events("GPU"), "the engine's own cache has the same blocks under the same names")
        self.assertEqual([keys and keys[0] for _, _, keys in told.values()], ["events", None, None])
        self.engine.forget()
        self.batches.clear()
        self.assertEqual(self.engine.run(prompt, salt="events")[1], 2 * BLOCK)
        self.engine.drain()
        self.assertEqual((self.events("CPU"), len(self.events("GPU"))), ({}, 2), "they were there")
        self.assertFalse(any(isinstance(event, BlockRemoved) and event.medium == "CPU" for batch in self.batches for event in batch.events))

    def test_what_is_not_stored_is_not_told(self):
        self.engine.run(tokens(16, 2 * BLOCK + 5), extra_args={"kv_transfer_params": {"tiercel_store": False}})
        self.auditor.hold_stores = True
        self.engine.submit(tokens(17, 2 * BLOCK + 5), 1)
        for _ in range(5):
            self.engine.step()
        self.assertEqual((self.engine.tiercel.stores.held_blocks, self.events("CPU")), (2, {}))
        self.engine.tiercel.reset()  # what is in flight is void
        self.auditor.hold_stores = False
        self.engine.drain()
        self.assertEqual((self.events("CPU"), len(self.events("GPU"))), ({}, 4))

    def test_many_prompts_at_once(self):
        shared = tokens(13, 2 * BLOCK)
        prompts = [shared + tokens(100 + i, BLOCK * (i % 3) + 30 + i) for i in range(16)]
        for prompt in prompts:
            self.engine.submit(prompt, 4)
        self.assertEqual(len(self.engine.drain()), 16)
        self.engine.forget()
        for prompt in prompts:
            self.engine.submit(prompt, 4)
        ended = self.engine.drain()
        self.assertEqual(sorted(cached for _, cached in ended.values()), sorted(len(p) // BLOCK * BLOCK for p in prompts))
        check(self, self.engine)


if __name__ == "__main__":
    unittest.main()
