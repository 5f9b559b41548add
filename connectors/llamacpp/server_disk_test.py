"""tiercel-llama with a disk tier, from outside: warm after every end, and answering whatever becomes of the disk.

Run as: server_disk_test.py SERVER MODEL [unittest arguments]. Every wait is bounded; disks are directories of a few
hundred MiB, and where the machine allows mounting, small tmpfs that are full or read-only.
"""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import server_test
from server_test import STORY, Server, open_stream, read_until

ENGINE = ("--slots", "1", "--context", "512", "--batch", "64", "--exact-reuse")
CACHE = ("--host-capacity", "128MiB", "--disk-capacity", "256MiB", "--disk-probe-interval", "100ms")
PROMPT = "Listen to a story. " + STORY * 5
DISK_BLOCKS = 'tiercel_tier_blocks{tier="disk"}'


class DiskCase(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.disk = os.path.join(directory.name, "disk")
        os.mkdir(self.disk)

    def start(self, *more, **options):
        return self.start_without_disk(*CACHE, "--disk", self.disk, *more, **options)

    def start_without_disk(self, *flags, **options):
        server = Server(*ENGINE, *flags, **options)
        self.addCleanup(server.close)
        server.wait_until(lambda: server.health()["reuse"] != "pending", "the model's file is hashed")
        return server

    def ask(self, server, prompt=PROMPT):
        return server.client().completions.create(model="any", prompt=prompt, max_tokens=6, temperature=0)

    def states(self, server):
        """The states in which at least one directory is."""
        name = "tiercel_disk_directories"
        return [key.split('"')[1] for key, count in server.metrics().items() if key.startswith(name) and count]

    def wait_for_state(self, server, state):
        server.wait_until(lambda: self.states(server) == [state], f"the disk is {state}, not {self.states(server)}")

    def wait_for_blocks(self, server, blocks):
        server.wait_until(lambda: server.metrics()[DISK_BLOCKS] >= blocks, f"{blocks} blocks are on disk")

    def assert_answers(self, server):
        self.assertGreater(self.ask(server).usage.completion_tokens, 0)


class Warm(DiskCase):
    """The conversation of two turns that a new process goes on with."""

    def second_turn(self, first):
        return PROMPT + first.choices[0].text + " And what happened in the morning?"

    def assert_goes_on_warm(self, server, first, blocks):
        """The second turn comes from disk, and says what a server says that computes all of it."""
        self.assertGreaterEqual(server.metrics()["tiercel_disk_recovered_blocks_total"], blocks)
        second = self.ask(server, self.second_turn(first))
        self.assertGreaterEqual(second.usage.prompt_tokens_details.cached_tokens, 64)
        timings = second.model_extra["timings"]
        self.assertEqual(timings["prompt_tokens_restored"], second.usage.prompt_tokens_details.cached_tokens)
        metrics = server.metrics()
        self.assertGreaterEqual(metrics["tiercel_promoted_blocks_total"], timings["prompt_tokens_restored"] // 16)
        self.assertEqual(metrics["tiercel_disk_checksum_failures_total"], 0)
        server.end()
        plain = self.start_without_disk("--cache", "off")
        self.assertEqual(self.ask(plain).choices[0].text, first.choices[0].text)
        self.assertEqual(self.ask(plain, self.second_turn(first)).choices[0].text, second.choices[0].text)

    def test_after_sigterm(self):
        server = self.start()
        first = self.ask(server)
        self.assertEqual(server.end(), 0)  # writes what still waits to be written
        self.assert_goes_on_warm(self.start(), first, first.usage.prompt_tokens // 64 * 4)

    def test_after_kill_9_in_mid_answer(self):
        server = self.start()
        first = self.ask(server)
        self.wait_for_blocks(server, first.usage.prompt_tokens // 64 * 4)
        stream = open_stream(server, 400, "Count: ")
        read_until(stream, b"data: ")
        blocks = server.metrics()[DISK_BLOCKS]
        server.process.kill()
        server.process.wait()
        stream.close()
        again = self.start()
        self.assertIn("found warm", again.log())
        self.assert_goes_on_warm(again, first, blocks)

    def test_a_disk_made_anew_is_cold(self):
        server = self.start()
        self.ask(server)
        server.end()
        again = self.start("--disk-reset")
        self.assertEqual(self.ask(again).usage.prompt_tokens_details.cached_tokens, 0)


class Broken(DiskCase):
    """A broken disk costs hits and a line in the log, not answers; where the cause goes away the disk comes back."""

    def mounted(self, options):
        """The disk becomes a tmpfs with these options."""
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.disk], check=False, capture_output=True).returncode:
            self.skipTest("this user or machine cannot mount a tmpfs")
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.disk], check=False)

    def remount(self, options):
        subprocess.run(["mount", "-o", "remount," + options, self.disk], check=True)

    def assert_serves_without(self, server, state, cause):
        self.assert_answers(server)
        self.wait_for_state(server, state)
        self.assertIn(cause, server.log())
        self.assertIn(self.disk, server.log())
        self.assertEqual(server.metrics()[DISK_BLOCKS], 0)

    def assert_comes_back(self, server):
        self.wait_for_state(server, "on")
        self.ask(server, "Another story. " + STORY * 4)
        self.wait_for_blocks(server, 1)
        self.assertEqual(server.end(), 0)

    def test_a_missing_directory(self):
        os.rmdir(self.disk)
        server = self.start()
        self.assert_serves_without(server, "off", "No such file or directory")
        os.mkdir(self.disk)
        self.assert_comes_back(server)

    def test_a_file_in_its_place(self):
        os.rmdir(self.disk)
        with open(self.disk, "wb"):
            pass
        self.assert_serves_without(self.start(), "off", "Not a directory")

    def test_a_file_that_is_not_ours_is_left_alone(self):
        path = os.path.join(self.disk, "tiercel.kv")
        with open(path, "wb") as file:
            file.write(b"precious" * 4096)
        self.assert_serves_without(self.start(), "refused", "is not a disk file of Tiercel")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"precious" * 4096)

    def test_read_only(self):
        self.mounted("size=512m,ro")
        server = self.start()
        self.assert_serves_without(server, "off", "Read-only file system")
        self.remount("rw")
        self.assert_comes_back(server)

    def test_a_directory_of_somebody_else(self):
        if os.geteuid() == 0:
            self.skipTest("root may write everywhere")
        os.chmod(self.disk, 0o500)
        server = self.start()
        self.assert_serves_without(server, "off", "Permission denied")
        os.chmod(self.disk, 0o700)
        self.assert_comes_back(server)

    def test_a_full_disk(self):
        self.mounted("size=96m")
        server = self.start()
        self.assert_serves_without(server, "off", "are free there")
        self.remount("size=512m")
        self.assert_comes_back(server)

    def test_a_file_size_limit(self):
        limit = 64 << 20
        server = self.start(prepare=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assert_serves_without(server, "off", "File too large")
        self.assertEqual(server.end(), 0)

    def test_the_file_is_cut_off_under_the_server(self):
        server = self.start()
        first = self.ask(server)
        self.wait_for_blocks(server, first.usage.prompt_tokens // 64 * 4)
        os.truncate(os.path.join(self.disk, "tiercel.kv"), 1 << 20)
        server.wait_until(lambda: server.metrics()["tiercel_disk_lost_blocks_total"] > 0, "the loss is noticed")
        self.assertRegex(server.log(), r"the file has 1048576 bytes of \d+|was cut off at 1048576 of \d+ bytes")
        self.assertEqual(self.ask(server).choices[0].text, first.choices[0].text)
        self.assert_comes_back(server)

    def test_a_second_server_on_the_directory_is_told_who_has_it(self):
        first = self.start()
        second = self.start()
        self.assert_serves_without(second, "refused", f"is locked by process {first.process.pid}")
        self.assertEqual(self.states(first), ["on"])
        self.assertEqual(first.end(), 0)
        self.assert_comes_back(second)


class Ending(DiskCase):
    def assert_ends_within(self, server, seconds):
        begin = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(60), 0)
        self.assertLess(time.monotonic() - begin, seconds)

    def test_sigterm_under_load(self):
        server = self.start("--drain-seconds", "1")
        stream = open_stream(server, 400, PROMPT)
        read_until(stream, b"data: ")
        self.assert_ends_within(server, 15)  # 1 s for answers, 2 s for replies, 2 s for the cache; the rest is a busy machine
        stream.close()

    def test_sigterm_without_its_disk(self):
        os.rmdir(self.disk)
        server = self.start("--drain-seconds", "1")
        self.ask(server)
        self.assert_ends_within(server, 15)


if __name__ == "__main__":
    server_test.SERVER, server_test.MODEL = sys.argv[1:3]
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
