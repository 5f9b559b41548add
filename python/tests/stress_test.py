#!/usr/bin/env python3
"""Goal: threads that share everything (cache, session, chains, loads, reservations, views) see right bytes or a miss,
crash nothing, and leave nothing behind."""

import random
import threading
import unittest

import worlds

import tiercel
from tiercel import Reserved

THREADS = 6
ROUNDS = 600
CHAINS = 8
BLOCKS = 6
SIZE = 40_000


class Stress(unittest.TestCase):
    def work(self, number):
        dice = random.Random(number)
        for _ in range(ROUNDS):
            chain = dice.choice(self.chains)
            action = dice.randrange(7)
            if action == 0:
                self.store(chain, dice)
            elif action == 1:
                self.load(chain, dice)
            elif action == 2:
                self.session.drop(chain, dice.randrange(BLOCKS))
            elif action == 3:
                self.share_a_load(chain)
            elif action == 4:
                with self.session.pin(chain, BLOCKS, 60):
                    self.session.match(chain)
            elif action == 5:
                self.growing.append(range(dice.randrange(40)))
                self.session.match(self.growing)
                list(self.growing)
            else:
                self.cache.stats()
                self.held.extend(worlds.load(self.session, chain))
                while len(self.held) > 12:
                    self.held.pop(0)

    def store(self, chain, dice):
        with self.session.reserve(chain, 0) as room:
            writers = [writer for writer in room if writer.outcome == Reserved.YES]
            for writer in writers:
                view = writer.bytes
                view[:] = worlds.content(chain, writer.number, SIZE)
            if writers and dice.randrange(3) == 0:
                writers[0].abort()
            room.commit_all()

    def load(self, chain, dice):
        views = self.session.load(chain, BLOCKS, worlds.LOAD_S).wait()
        for block, view in enumerate(views):
            self.assertEqual(view, worlds.content(chain, block, SIZE))

    def share_a_load(self, chain):
        """One load waited for, looked at and closed by three threads."""
        load = self.session.load(chain, BLOCKS, worlds.LOAD_S)

        def look():
            try:
                for block, view in enumerate(load.wait()):
                    if view != worlds.content(chain, block, SIZE):
                        self.failures.append(f"block {block} of a shared load")
                load.done, load.outcome, load.close()
            except tiercel.ClosedError:
                pass
            except BaseException as error:  # noqa: BLE001 - said by the test
                self.failures.append(repr(error))

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        look()
        for thread in threads:
            thread.join()

    def test_threads_share_everything(self):
        self.cache = self.enterContext(worlds.open_cache("32MiB"))
        self.session = worlds.open_session(self.cache, SIZE)
        self.chains = [worlds.chain_of(self.session, BLOCKS, 1000 * i) for i in range(CHAINS)]
        self.growing = tiercel.BlockChain(self.session.space())
        self.held, self.failures = [], []

        def run(number):
            try:
                self.work(number)
            except BaseException as error:  # noqa: BLE001 - said by the test
                self.failures.append(repr(error))

        threads = [threading.Thread(target=run, args=(i,)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.failures, [])
        self.held.clear()
        worlds.until(lambda: worlds.pinned(self.cache) == worlds.NOTHING, "all that was held is given back")
        stats = self.cache.stats()
        self.assertGreater(stats.tiers[0].stored_blocks, 0)
        self.assertGreater(stats.tiers[0].hit_blocks, 0)
        for chain in self.chains:
            self.session.drop(chain, 0)
        self.assertEqual(self.cache.stats().tiers[0].used_bytes, 0, "no slot is left")

    def test_closing_while_threads_work(self):
        for _ in range(10):
            cache = worlds.open_cache("32MiB")
            session = worlds.open_session(cache, SIZE)
            chain = worlds.chain_of(session, BLOCKS)
            failures = []

            def run(cache=cache, session=session, chain=chain, failures=failures):
                try:
                    while True:
                        worlds.load(session, chain)
                        with session.reserve(chain, 0) as room:
                            room.commit_all()
                        session.drop(chain, 0)
                        session.pin(chain, 1, 1)
                except tiercel.ClosedError:
                    pass
                except BaseException as error:  # noqa: BLE001 - said by the test
                    failures.append(repr(error))

            threads = [threading.Thread(target=run) for _ in range(4)]
            for thread in threads:
                thread.start()
            worlds.until(lambda: cache.stats().loads > 20, "work")  # noqa: B023
            cache.close(worlds.LOAD_S)
            for thread in threads:
                thread.join()
            self.assertEqual(failures, [])


if __name__ == "__main__":
    unittest.main()
