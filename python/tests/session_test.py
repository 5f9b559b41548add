#!/usr/bin/env python3
"""Goal: what a session does in C++ it does in Python, with the same answers, and errors where a handle is of no use."""

import threading
import unittest

import worlds

import tiercel
from tiercel import LoadOutcome, Reserved


class Sessions(unittest.TestCase):
    def setUp(self):
        self.cache = self.enterContext(worlds.open_cache())
        self.session = worlds.open_session(self.cache)
        self.chain = worlds.chain_of(self.session, 5)

    def test_what_is_stored_comes_back(self):
        self.assertEqual(self.session.match(self.chain).blocks, 0)
        self.assertEqual(worlds.store(self.session, self.chain), 5)
        match = self.session.match(self.chain)
        self.assertEqual((match.blocks, match.blocks_in(tiercel.TierId.HOST), match.tiers(4)),
                         (5, 5, [tiercel.TierId.HOST]))
        with self.assertRaises(IndexError):
            match.tiers(5)
        load = self.session.load(self.chain, 5, worlds.LOAD_S)
        for block, view in enumerate(load.wait()):
            self.assertEqual(view, worlds.content(self.chain, block))
            self.assertEqual((view.readonly, view.format, view.ndim, view.nbytes), (True, "B", 1, worlds.BLOCK_BYTES))
        self.assertEqual((load.done, load.outcome, load.ready, len(load.wait())), (True, LoadOutcome.COMPLETE, 5, 5))

    def test_a_load_of_more_than_there_is(self):
        worlds.store(self.session, self.chain)
        longer = worlds.chain_of(self.session, 7)
        load = self.session.load(longer, 7, worlds.LOAD_S)
        self.assertEqual((len(load.wait()), load.outcome), (5, LoadOutcome.MISS))

    def test_outcomes_of_a_reservation(self):
        first = self.session.reserve(self.chain, 0, count=2)
        self.assertEqual((len(first), [w.outcome for w in first]), (2, [Reserved.YES] * 2))
        second = self.session.reserve(self.chain, 0, count=2)
        self.assertEqual([second.outcome(i) for i in range(2)], [Reserved.IN_FLIGHT] * 2)
        first.commit_all()
        self.assertEqual(self.session.reserve(self.chain, 0)[1].outcome, Reserved.EXISTS)
        self.assertEqual(self.session.reserve(self.chain, 4)[0].outcome, Reserved.NO_PARENT)
        with self.assertRaises(IndexError):
            first[2]
        with self.assertRaisesRegex(tiercel.InvalidArgumentError, "writer 0 is empty"):
            _ = second[0].bytes

    def test_a_writer_ends_by_commit(self):
        writer = self.session.reserve(self.chain, 0, 1)[0]
        writer.bytes[:3] = b"abc"
        self.assertIs(writer.bytes, writer.bytes, "one view, as long as it is not released")
        writer.commit(3)
        self.assertEqual([bytes(view) for view in worlds.load(self.session, self.chain)], [b"abc"])
        for call in (writer.commit, lambda: writer.bytes, lambda: writer.write(b"x")):
            with self.assertRaises(tiercel.InvalidArgumentError):
                call()

    def test_nothing_is_committed_that_somebody_could_still_write(self):
        room = self.session.reserve(self.chain, 0, 2)
        writer = room[0]
        view = writer.bytes
        part = view[10:20]
        with self.assertRaises(BufferError):
            writer.commit()
        part.release()
        array = memoryview(bytearray(1))
        again = writer.bytes
        exporter = again.obj
        with self.assertRaises(BufferError), memoryview(exporter):
            room.commit_all()
        self.assertEqual(self.session.match(self.chain).blocks, 0)
        self.assertEqual(room.commit_all().blocks, 2)
        with self.assertRaises(ValueError):
            again[0] = 1
        with self.assertRaises(BufferError):
            memoryview(exporter)
        del array

    def test_write_stays_inside(self):
        writer = self.session.reserve(self.chain, 0, 1)[0]
        for data, offset in ((bytes(worlds.BLOCK_BYTES + 1), 0), (b"ab", worlds.BLOCK_BYTES - 1), (b"", 2**63)):
            with self.assertRaisesRegex(tiercel.InvalidArgumentError, "do not fit"):
                writer.write(data, offset)
        writer.write(b"ab", worlds.BLOCK_BYTES - 2)
        with self.assertRaises(TypeError):
            writer.write("text")

    def test_commits_of_several_and_their_failures(self):
        room = self.session.reserve(self.chain, 0)
        done = room.commit([0, 1, 2], sizes=[10, 0, 30])
        self.assertEqual(done.blocks, 2)
        failure = done.failures[0]
        self.assertEqual((failure.place, failure.writer), (1, 1))
        self.assertIsInstance(failure.error, tiercel.InvalidArgumentError)
        with self.assertRaises(IndexError):
            room.commit([9])
        with self.assertRaises(tiercel.InvalidArgumentError):
            room.commit([0, 1], sizes=[1])

    def test_what_is_not_committed_did_not_happen(self):
        with self.session.reserve(self.chain, 0) as room:
            room[0].write(b"x")
            room[0].abort()
            self.assertEqual(room[1].outcome, Reserved.YES)
        with self.assertRaises(tiercel.ClosedError):
            room.commit_all()
        self.assertEqual(self.session.match(self.chain).blocks, 0)
        self.assertEqual(self.cache.stats().aborted_blocks, 5)
        self.assertEqual(worlds.pinned(self.cache), worlds.NOTHING)

    def test_pins(self):
        worlds.store(self.session, self.chain)
        with self.session.pin(self.chain, 3, ttl_s=60) as pin:
            self.assertEqual((pin.blocks, self.cache.stats().logical_pins), (3, 3))
        self.assertEqual((pin.blocks, self.cache.stats().logical_pins), (0, 0))
        with self.assertRaisesRegex(tiercel.InvalidArgumentError, "pin_max_ttl"):
            self.session.pin(self.chain, 3, ttl_s=1e9)
        with self.assertRaises(tiercel.InvalidArgumentError):
            self.session.pin(self.chain, 3, ttl_s=float("nan"))

    def test_deletes(self):
        worlds.store(self.session, self.chain)
        self.assertEqual(self.session.drop(self.chain, 3).blocks, 2)
        self.assertEqual(self.session.match(self.chain).blocks, 3)
        self.assertEqual(self.session.drop(self.session.space()).blocks, 3)
        worlds.store(self.session, self.chain)
        self.assertEqual(self.cache.drop_tenant("default").blocks, 5)

    def test_a_group_of_members(self):
        group = [worlds.open_session(self.cache, group=tiercel.SessionGroup("engine", 2, i)) for i in range(2)]
        chain = worlds.chain_of(group[0], 2)
        room = group[0].reserve(chain, 0)
        self.assertEqual([failure.error.code for failure in room.commit_all().failures],
                         [tiercel.ErrorCode.INCOMPLETE] * 2)
        with self.assertRaises(tiercel.IncompleteError):
            room[0].commit()
        parts = group[1].parts(room.id, [0, 1])
        for block, part in enumerate(parts):
            part[:] = worlds.content(chain, block)
            part.release()
        group[1].report(room.id, [0, 1])
        self.assertEqual(room.commit_all().blocks, 2)
        self.assertEqual(worlds.load(group[1], chain)[1], worlds.content(chain, 1))
        with self.assertRaises(tiercel.NotFoundError):
            group[1].parts(12345, [0])

    def test_layouts(self):
        kind = tiercel.StateKind.KEY_VALUE
        runs = [tiercel.Run(layer=i, kind=kind, heads=2, bytes_per_head_token=256) for i in range(3)]
        layout = tiercel.Layout([tiercel.Group(runs)])
        self.assertEqual(layout, tiercel.Layout([tiercel.Group(runs)]))
        self.assertNotEqual(layout, tiercel.Layout.blob(1))
        session = self.cache.open_session(tiercel.ModelIdentity(kv_dtype="f16"), layout, 32)
        self.assertEqual(session.block_bytes, 3 * 2 * 256 * 32)
        with self.assertRaises(tiercel.UnsupportedError):
            self.cache.open_session(tiercel.ModelIdentity(), tiercel.Layout([tiercel.Group(runs), tiercel.Group(runs)]))
        with self.assertRaises(tiercel.InvalidArgumentError):
            worlds.open_session(self.cache, block_bytes=1 << 30)
        with self.assertRaisesRegex(tiercel.InvalidArgumentError, "weights: has 3 bytes; a SHA-256 has 32"):
            tiercel.ModelIdentity(weights=[b"abc"])

    def test_every_field_of_a_model_decides_its_namespace(self):
        fields = [{}, {"kv_dtype": "q8_0"}, {"weights": [bytes(32)]}, {"config_digest": b"\1" * 32},
                  {"weights_epoch": 1}, {"properties": {"rope": "2"}}]
        layout = tiercel.Layout.blob(1000)
        spaces = {self.cache.open_session(tiercel.ModelIdentity(name="a", **field), layout).space().fingerprint
                  for field in fields}
        self.assertEqual(len(spaces), len(fields))

    def test_modes(self):
        worlds.store(self.session, self.chain)
        self.cache.mode = tiercel.Mode.STORE_ONLY
        self.assertEqual((self.cache.mode, self.session.match(self.chain).blocks), (tiercel.Mode.STORE_ONLY, 0))
        self.cache.mode = tiercel.Mode.ON

    def test_a_planned_load(self):
        worlds.store(self.session, self.chain)
        self.session.report_prefill_time(0, 100, 1.0)
        with self.session.load(self.chain, 5, worlds.LOAD_S, prompt_tokens=100, context_tokens=0, waiting=2, copy_bytes_per_s=1e9) as load:
            self.assertEqual(len(load.wait()), 5)
            self.assertEqual(load.outcome, LoadOutcome.COMPLETE)
        self.assertEqual(sum(self.cache.stats().load_plans), 1)
        with self.assertRaises(tiercel.InvalidArgumentError):
            self.session.report_prefill_time(0, 100, float("nan"))

    def test_stats(self):
        worlds.store(self.session, self.chain)
        worlds.load(self.session, self.chain)
        stats = self.cache.stats()
        self.assertEqual((stats.tiers[0].stored_blocks, stats.tiers[0].hit_blocks, stats.loads), (5, 5, 1))
        self.assertEqual(stats.load_outcomes[LoadOutcome.COMPLETE.value], 1)
        self.assertEqual((stats.load_latency.count, len(stats.load_latency.counts)), (1, 13))
        self.assertIn("tiercel_loads_total", stats.prometheus_text())

    def test_the_disk_tier(self):
        disk = {"directories": [worlds.folder(self)], "capacity": "64MiB"}
        with worlds.open_cache(disk=disk) as cache:
            self.assertTrue(cache.wait_for_disks(60))
            self.assertEqual([report.state for report in cache.disks()], [tiercel.DiskDirectoryState.ON])
            kept = worlds.open_session(cache)
            worlds.store(kept, self.chain)
            views = worlds.load(kept, self.chain)
            worlds.until(lambda: cache.stats().tiers[1].blocks == 5, "they are on disk")
            with self.assertRaises(tiercel.TimeoutError):  # a view is held
                cache.close(deadline_s=0.5)
        with worlds.open_cache(disk=disk) as cache:  # what is still held of the first keeps no directory from it
            self.assertTrue(cache.wait_for_disks(60))
            self.assertEqual([report.cause for report in cache.disks()], [""])
            session = worlds.open_session(cache)
            self.assertEqual(session.match(self.chain).tiers(0), [tiercel.TierId.DISK])
            for block, view in enumerate(worlds.load(session, self.chain)):
                self.assertEqual((view, views[block]), (worlds.content(self.chain, block),) * 2)

    def test_who_waits_lets_other_threads_run(self):
        worlds.store(self.session, self.chain)
        views = worlds.load(self.session, self.chain)

        def let_go():
            while not self.cache.closed:  # close() has begun, and waits for what is held of the cache
                pass
            views.clear()

        other = threading.Thread(target=let_go)
        other.start()
        self.cache.close(worlds.LOAD_S)  # TimeoutError if the other thread could not run meanwhile
        other.join()


if __name__ == "__main__":
    unittest.main()
