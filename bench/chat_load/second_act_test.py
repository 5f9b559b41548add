from __future__ import annotations

import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from chat_load.conversation import LoadShape, build_load
from chat_load.corpus import read_documents
from chat_load.disk_directory import DiskDirectory, NoRoom, check_room, parse_size
from chat_load.engines import EngineSettings, tiercel_server
from chat_load.runner import Runner
from chat_load.second_act import come_back, in_one_round, kill_in_mid_load
from chat_load.server import Server, ServerFailed
from chat_load.testing import fake_engine

SHAPE = LoadShape(users=4, rounds=1, extra_rounds=2, slots=2, history_tokens=200)


class SecondActTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.output = Path(directory.name)
        self.disk = DiskDirectory(self.output / "disk", "1GiB")
        self.disk.create()
        binary = self.output / "engine"
        binary.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_engine.__file__} "$@"\n')
        binary.chmod(0o755)
        self.binary = binary

    def server(self, name: str, behaviour: str = "") -> Server:
        patch = mock.patch.dict(os.environ, FAKE_ENGINE=behaviour)
        patch.start()
        self.addCleanup(patch.stop)
        return tiercel_server(self.binary, EngineSettings(self.output / "m.gguf", 2, 512, self.output), name, "1GiB", disk=self.disk)

    def runner(self, server: Server) -> Runner:
        return Runner(build_load(SHAPE, read_documents()), server.endpoint)

    def test_what_was_answered_is_not_asked_again_and_what_was_not_is(self) -> None:
        with self.server("first") as server:
            runner = self.runner(server)
            runner.run_rounds([0])
            killed, conversations = kill_in_mid_load(runner, server, 1, 4)
            self.assertFalse(server.alive())
            self.assertEqual(server.exit_code, -9)
        self.assertEqual([turn.user for turn in killed.before.turns], [0, 1, 2, 3])
        self.assertGreaterEqual(killed.disk_blocks, 4)
        answered = {turn.user for turn in killed.before.turns if turn.round == 1}
        self.assertGreaterEqual(len(answered), 2)
        with self.server("second") as again:
            back = come_back(conversations, again, range(4))
        self.assertEqual({turn.user: turn.round for turn in back.result.turns}, {user: 2 if user in answered else 1 for user in range(4)})
        self.assertGreaterEqual(back.count("tiercel_disk_recovered_blocks_total"), killed.disk_blocks)
        self.assertGreater(back.ready_s, 0)
        self.assertEqual({turn.round for turn in in_one_round(back.result).turns}, {0})

    def test_a_server_that_fails_by_itself_is_not_taken_for_the_killed_one(self) -> None:
        with self.assertRaisesRegex(ServerFailed, "before it was to be killed"), self.server("first", "die:5") as server:
            runner = self.runner(server)
            runner.run_rounds([0])
            kill_in_mid_load(runner, server, 1, 4)

    def test_a_server_that_does_not_answer_those_who_come_back(self) -> None:
        with self.server("first") as server:
            runner = self.runner(server)
            runner.run_rounds([0])
        with self.assertRaisesRegex(ServerFailed, r"\(second\): user \d, round 2"), self.server("second", "die:1") as again:
            come_back(runner, again, [0])


class DiskDirectoryTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.disk = DiskDirectory(Path(directory.name) / "disk", "1GiB")

    def test_only_files_of_the_disk_tier_are_removed(self) -> None:
        self.disk.create()
        for name in ("tiercel.kv", "tiercel.kv.lock", "mine"):
            (self.disk.path / name).write_text("")
        self.disk.remove()
        self.assertEqual([file.name for file in self.disk.path.iterdir()], ["mine"])
        (self.disk.path / "mine").unlink()
        self.disk.remove()
        self.assertFalse(self.disk.path.exists())

    def test_what_an_earlier_run_left_is_gone(self) -> None:
        self.disk.create()
        (self.disk.path / "tiercel.kv").write_text("old")
        self.disk.create()
        self.assertEqual(list(self.disk.path.iterdir()), [])

    def test_room(self) -> None:
        check_room(self.disk.path, 1)
        with self.assertRaisesRegex(NoRoom, "are free"):
            check_room(self.disk.path, 1 << 60)

    def test_sizes_as_the_servers_read_them(self) -> None:
        for text, value in (("4GiB", 4 << 30), ("1.5GB", 1_500_000_000), ("4096", 4096), ("7B", 7)):
            self.assertEqual(parse_size(text), value)
        with self.assertRaisesRegex(ValueError, "write it like"):
            parse_size("GiB")


if __name__ == "__main__":
    unittest.main()
