#!/usr/bin/env python3
"""client_test.py TIERCEL: the same sessions over the socket of a service.

Goal: what a service holds is as good as what a cache of this process holds, a private one is started where it is asked
for, and a service that does not answer or is gone is a miss at the deadline, not a hang."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import unittest

import worlds

import tiercel

PROGRAM = ""
FLAGS = ["--ram", "64MiB", "--host-extent-bytes", "16MiB", "--host-prefault", "false"]


class Service:
    def __init__(self, folder):
        self.socket = os.path.join(folder, "s.sock")
        self.process = subprocess.Popen([PROGRAM, "serve", *FLAGS, "--service-socket", self.socket, "--http-listen", "",
                                         "--metrics-listen", ""], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def connect(self, **options):
        """Waits until it serves."""
        def there():
            try:
                self.client = tiercel.Client.connect(self.socket, **options)
            except tiercel.NotFoundError:
                return False
            return True
        worlds.until(there, "the service")
        return self.client

    def end(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


class Clients(unittest.TestCase):
    def setUp(self):
        self.service = Service(worlds.folder(self))
        self.addCleanup(self.service.end)

    def test_blocks_go_there_and_come_back(self):
        with self.service.connect() as client, worlds.open_session(client) as session:
            self.assertEqual(client.socket, self.service.socket)
            chain = worlds.chain_of(session, 5)
            self.assertEqual(worlds.store(session, chain), 5)
            views = worlds.load(worlds.open_session(self.service.connect()), chain)
            for block, view in enumerate(views):
                self.assertEqual((view, view.readonly), (worlds.content(chain, block), True))
            self.assertTrue(client.sync())

    def test_a_view_outlives_client_and_service(self):
        client = self.service.connect()
        session = worlds.open_session(client)
        chain = worlds.chain_of(session, 5)
        worlds.store(session, chain)
        views = worlds.load(session, chain)
        expected = [worlds.content(chain, block) for block in range(5)]
        client.close()
        client.close()
        for call in (lambda: session.match(chain), lambda: worlds.open_session(client), client.sync,
                     lambda: client.socket):
            with self.assertRaises(tiercel.ClosedError):
                call()
        del session, client
        self.service.client = None
        gc.collect()
        self.service.end()
        for view, content in zip(views, expected):
            self.assertEqual(view, content)

    def test_a_service_that_stops_is_a_miss_and_no_hang(self):
        client = self.service.connect(call_deadline_s=0.05)
        session = worlds.open_session(client)
        chain = worlds.chain_of(session, 2)
        worlds.store(session, chain)
        self.service.process.send_signal(signal.SIGSTOP)
        worlds.until(lambda: session.match(chain).blocks == 0, "it has stopped")
        self.assertEqual(session.load(chain, 2, 0.05).wait(), [])
        room = session.reserve(worlds.chain_of(session, 1, 900), 0)
        self.assertNotIn(tiercel.Reserved.YES, [writer.outcome for writer in room])
        self.service.process.send_signal(signal.SIGCONT)
        worlds.until(lambda: session.match(chain).blocks == 2, "it is heard of again")

    def test_who_waits_for_a_service_lets_other_threads_run(self):
        client = self.service.connect(call_deadline_s=60)
        session = worlds.open_session(client)
        chain = worlds.chain_of(session, 2)
        worlds.store(session, chain)
        self.service.process.send_signal(signal.SIGSTOP)
        # It can only go on if this thread runs while the call below waits.
        other = threading.Timer(0.2, self.service.process.send_signal, [signal.SIGCONT])
        other.start()
        self.assertEqual(session.match(chain).blocks, 2)
        other.join()

    def test_a_service_that_is_gone(self):
        client = self.service.connect()
        session = worlds.open_session(client)
        chain = worlds.chain_of(session, 2)
        worlds.store(session, chain)
        self.service.end()
        worlds.until(lambda: session.match(chain).blocks == 0, "it is seen to be gone")
        load = session.load(chain, 2, worlds.LOAD_S)
        self.assertEqual(load.wait(), [])
        with self.assertRaises(tiercel.Error):
            tiercel.Client.connect(self.service.socket)

    def test_an_interpreter_may_end_with_it(self):
        self.service.connect()
        text = ("import sys; sys.path.insert(0, sys.argv[1])\n"
                "import tiercel, worlds, threading\n"
                "client = tiercel.Client.connect(sys.argv[2]); session = worlds.open_session(client)\n"
                "chain = worlds.chain_of(session, 3); worlds.store(session, chain)\n"
                "views = worlds.load(session, chain); room = session.reserve(worlds.chain_of(session, 1, 900), 0)\n"
                "view = room[0].bytes\n"
                "def work():\n"
                "    while True: session.match(chain)\n"
                "for _ in range(3): threading.Thread(target=work, daemon=True).start()\n")
        worlds.run_program(text, os.path.dirname(os.path.abspath(__file__)), self.service.socket)


class PrivateService(unittest.TestCase):
    def test_it_is_started_shared_and_ends(self):
        folder = worlds.folder(self)
        socket = os.path.join(folder, "private.sock")
        start = tiercel.StartOptions(program=PROGRAM, arguments=[*FLAGS, "--service-idle-grace", "300ms"], deadline_s=60)
        with self.assertRaises(tiercel.NotFoundError):
            tiercel.Client.connect(socket)
        with tiercel.Client.connect(socket, start=start) as client:
            session = worlds.open_session(client)
            chain = worlds.chain_of(session, 2)
            self.assertEqual(worlds.store(session, chain), 2)
            with tiercel.Client.connect(socket, start=start) as other:
                self.assertEqual(worlds.open_session(other).match(chain).blocks, 2)
        del client, other, session, chain
        gc.collect()

        def ended():
            time.sleep(1)  # whoever connects keeps it for another grace time
            try:
                tiercel.Client.connect(socket)
            except tiercel.NotFoundError:
                return True
            return False
        worlds.until(ended, "the end of the private service")

    def test_why_it_did_not_start(self):
        start = tiercel.StartOptions(program="/nowhere/tiercel", deadline_s=60)
        with self.assertRaisesRegex(tiercel.Error, "/nowhere/tiercel"):
            tiercel.Client.connect(os.path.join(worlds.folder(self), "s.sock"), start=start)
        with self.assertRaises(tiercel.InvalidArgumentError):
            tiercel.Client.connect("x", start=tiercel.StartOptions(program=PROGRAM, deadline_s=0))
        self.assertIn("tiercel", tiercel.private_socket_path())
        self.assertIn("tiercel", tiercel.default_socket_path())


if __name__ == "__main__":
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main()
