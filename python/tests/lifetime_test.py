#!/usr/bin/env python3
"""Goal: bytes that are held stay what they are, what is let go leaves nothing behind, what is closed says so, and an
interpreter ends well whatever it holds."""

import gc
import os
import unittest

import worlds

import numpy
import tiercel


class Views(unittest.TestCase):
    def setUp(self):
        self.cache = worlds.open_cache()
        self.session = worlds.open_session(self.cache)
        self.chain = worlds.chain_of(self.session, 5)
        worlds.store(self.session, self.chain)

    def test_a_view_outlives_its_load_session_and_cache(self):
        expected = [worlds.content(self.chain, block) for block in range(5)]
        views = worlds.load(self.session, self.chain)
        self.assertEqual(self.cache.stats().copy_pins, 5)
        self.session.drop(self.chain, 0)  # deleted under the views
        other = worlds.open_session(self.cache)
        for first in range(1000, 20_000, 1000):  # far more than the arena holds: every slot that is free is written
            worlds.store(other, worlds.chain_of(other, 20, first))
        self.assertEqual(self.cache.stats().copy_pins, 5)
        self.session.close()
        with self.assertRaises(tiercel.TimeoutError):
            self.cache.close(0)
        del self.cache, self.session, other
        gc.collect()
        for view, content in zip(views, expected):
            self.assertEqual(view, content)

    def test_each_view_holds_its_own_block_alone(self):
        views = worlds.load(self.session, self.chain)
        for left in (4, 3, 2, 1, 0):
            views.pop()
            self.assertEqual(self.cache.stats().copy_pins, left)
        self.assertEqual(worlds.pinned(self.cache), worlds.NOTHING)

    def test_what_is_made_of_a_view_holds_too(self):
        (view, *_) = worlds.load(self.session, self.chain)
        del _
        array = numpy.frombuffer(view, dtype=numpy.uint16)
        del view
        self.assertEqual(self.cache.stats().copy_pins, 1)
        self.assertFalse(array.flags.writeable)
        with self.assertRaises(ValueError):
            array[0] = 1
        self.assertEqual(array.tobytes(), worlds.content(self.chain, 0))
        del array
        self.assertEqual(worlds.pinned(self.cache), worlds.NOTHING)

    def test_a_released_view_lets_go_at_once(self):
        (view, *rest) = worlds.load(self.session, self.chain)
        with view:
            self.assertEqual(self.cache.stats().copy_pins, 5)
        self.assertEqual(self.cache.stats().copy_pins, 4)
        del rest
        with self.assertRaises(ValueError):
            view[0]

    def test_two_waits_share_their_blocks(self):
        load = self.session.load(self.chain, 5, worlds.LOAD_S)
        first, second = load.wait(), load.wait()
        self.assertEqual(self.cache.stats().copy_pins, 5)
        load.close()
        del first
        self.assertEqual(self.cache.stats().copy_pins, 5)
        del second
        self.assertEqual(worlds.pinned(self.cache), worlds.NOTHING)
        with self.assertRaisesRegex(tiercel.ClosedError, "the load is closed"):
            load.wait()

    def test_a_load_that_nobody_waited_for(self):
        for _ in range(100):
            self.session.load(self.chain, 5, worlds.LOAD_S)
        worlds.until(lambda: worlds.pinned(self.cache) == worlds.NOTHING, "loads are let go")

    def test_a_writers_view_that_outlives_its_writer(self):
        chain = worlds.chain_of(self.session, 3, 5000)
        room = self.session.reserve(chain, 0)
        views = [writer.bytes for writer in room]
        del room
        self.assertEqual(self.cache.stats().tiers[0].quarantined_slots, 3, "nobody gets these slots")
        worlds.store(self.session, worlds.chain_of(self.session, 20, 9000))
        for view in views:
            view[:] = bytes(worlds.BLOCK_BYTES)
        for block, view in enumerate(worlds.load(self.session, self.chain)):
            self.assertEqual(view, worlds.content(self.chain, block))
        del views, view
        self.assertEqual(worlds.pinned(self.cache), worlds.NOTHING)

    def test_a_writer_keeps_its_reservation(self):
        writer = self.session.reserve(worlds.chain_of(self.session, 1, 5000), 0)[0]
        gc.collect()
        writer.write(b"abc")
        writer.commit(3)


class Ends(unittest.TestCase):
    def test_what_is_still_held_works(self):
        session = worlds.open_session(worlds.open_cache())  # nobody holds the cache but its session
        gc.collect()
        chain = worlds.chain_of(session, 2)
        self.assertEqual(worlds.store(session, chain), 2)
        load = session.load(chain, 2, worlds.LOAD_S)
        del session
        self.assertEqual(len(load.wait()), 2)

    def test_use_after_close(self):
        cache = worlds.open_cache()
        session = worlds.open_session(cache)
        chain = worlds.chain_of(session, 2)
        worlds.store(session, chain)
        load, room = session.load(chain, 2, worlds.LOAD_S), session.reserve(worlds.chain_of(session, 2, 7000), 0)
        pin = session.pin(chain, 2, 10)
        view = room[0].bytes
        other = worlds.open_session(cache)
        session.close()
        session.close()
        for call in (lambda: session.match(chain), lambda: session.load(chain, 1, 1), lambda: session.reserve(chain, 0),
                     lambda: session.pin(chain, 1, 1), lambda: session.drop(chain, 0), session.space,
                     lambda: session.block_bytes, lambda: session.report(1, [0])):
            with self.assertRaisesRegex(tiercel.ClosedError, "^the session is closed$"):
                call()
        with self.assertRaises(tiercel.Error):
            room[1].commit()
        view.release()
        room.close()  # until then its bytes could still be written
        self.assertEqual(pin.blocks, 0)
        self.assertEqual(other.match(chain).blocks, 2, "another session goes on")
        load.close()
        with self.assertRaises(tiercel.ClosedError):
            load.outcome
        cache.close(worlds.LOAD_S)
        cache.close(worlds.LOAD_S)
        for call in (lambda: other.match(chain), lambda: worlds.open_session(cache), cache.stats, cache.disks):
            with self.assertRaisesRegex(tiercel.ClosedError, "^the cache is closed$"):
                call()
        self.assertEqual(len(chain), 2, "a chain belongs to nobody")

    def test_a_process_opens_and_closes_many(self):
        for _ in range(30):
            with worlds.open_cache("32MiB") as cache, worlds.open_session(cache) as session:
                worlds.store(session, worlds.chain_of(session, 3))
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(30):
            session = worlds.open_session(worlds.open_cache("32MiB"))
            worlds.store(session, worlds.chain_of(session, 3))
        del session
        gc.collect()
        self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)


PRELUDE = """
import sys; sys.path.insert(0, sys.argv[1])
import threading, tiercel, worlds
cache = worlds.open_cache()
session = worlds.open_session(cache)
chain = worlds.chain_of(session, 5)
worlds.store(session, chain)
load = session.load(chain, 5, 30)
views = load.wait()
room = session.reserve(worlds.chain_of(session, 5, 9000), 0)
writer = room[0]; view = writer.bytes
pin = session.pin(chain, 2, 60)
"""


class InterpreterEnd(unittest.TestCase):
    def end(self, text):
        return worlds.run_program(PRELUDE + text, os.path.dirname(os.path.abspath(__file__)))

    def test_with_live_objects(self):
        self.assertEqual(self.end("print('end')"), "end\n")

    def test_with_objects_in_cycles_and_modules(self):
        self.end("class Knot: pass\nknot = Knot(); knot.self = knot\n"
                 "knot.all = (cache, session, load, views, room, view, pin)\n"
                 "sys.modules['keeps'] = knot; import builtins; builtins.kept = knot\n")

    def test_with_threads_that_never_end(self):
        """Daemon threads come back from calls while the interpreter ends, or after."""
        for _ in range(5):
            self.end("def work():\n"
                     "    while True:\n"
                     "        try:\n"
                     "            own = worlds.chain_of(session, 5, 100)\n"
                     "            worlds.store(session, own); worlds.load(session, own); session.match(own)\n"
                     "        except tiercel.Error: pass\n"
                     "for _ in range(4): threading.Thread(target=work, daemon=True).start()\n"
                     "import time; time.sleep(0.02)\n")

    def test_with_exits_of_every_kind(self):
        with self.assertRaisesRegex(AssertionError, "ended with 3"):
            self.end("sys.exit(3)")
        with self.assertRaisesRegex(AssertionError, "ended with 1\n"):
            self.end("raise ValueError('x')")
        self.end("import os; os._exit(0)")

    def test_a_forked_child_uses_nothing_of_its_parent(self):
        self.assertEqual(self.end(
            "import os\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    for call in (lambda: session.match(chain), cache.stats, load.wait, room.commit_all, writer.abort):\n"
            "        try: call()\n"
            "        except tiercel.ClosedError as error: assert 'forked' in str(error), error\n"
            "        else: raise AssertionError(call)\n"
            "    cache.close(); session.close()\n"
            "    assert len(chain) == 5\n"
            "    del cache, session, load, views, room, writer, view, pin\n"
            "    import gc; gc.collect()\n"
            "    fresh = worlds.open_cache(); worlds.store(worlds.open_session(fresh), chain)\n"
            "    sys.exit(7)\n"
            "status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
            "assert len(worlds.load(session, chain)) == 5\n"
            "print(status)\n"), "7\n")


if __name__ == "__main__":
    unittest.main()
