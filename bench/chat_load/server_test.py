from __future__ import annotations

import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from chat_load import server as server_module
from chat_load.server import Server, ServerFailed, command_line
from chat_load.testing import fake_engine
from chat_load.testing.fake_openai import FakeOpenAi


class ServerTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.output = Path(directory.name)

    def server(self, behaviour: str = "") -> Server:
        port_file = self.output / "one.port"
        patch = mock.patch.dict(os.environ, FAKE_ENGINE=behaviour)
        patch.start()
        self.addCleanup(patch.stop)
        command = [sys.executable, str(fake_engine.__file__), "--port", "0", "--port-file", str(port_file)]
        return Server("engine", command, self.output / "one.log", port_file=port_file)

    def test_starts_answers_and_ends_with_0(self) -> None:
        server = self.server()
        with server:
            self.assertTrue(server.alive())
            self.assertGreater(server.endpoint.port, 0)
            self.assertGreater(server.peak_rss_bytes(), 1 << 20)
        self.assertEqual(server.exit_code, 0)
        self.assertFalse(server.alive())
        self.assertGreater(server.peak_rss_bytes(), 1 << 20)  # the last figure is kept

    def test_is_stopped_when_the_body_fails(self) -> None:
        server = self.server()
        with self.assertRaises(ZeroDivisionError), server:
            raise ZeroDivisionError
        self.assertFalse(server.alive())

    def test_one_that_ignores_sigterm_is_killed(self) -> None:
        with mock.patch.object(server_module, "STOP_TIMEOUT_S", 0.2):
            server = self.server("stubborn")
            with server:
                pass
        self.assertEqual(server.exit_code, -9)

    def test_one_that_ends_at_its_start_says_why(self) -> None:
        with self.assertRaisesRegex(ServerFailed, "exit code 3(.|\n)*no such file"):
            self.server("refuse").__enter__()

    def test_a_binary_that_is_none(self) -> None:
        with self.assertRaisesRegex(ServerFailed, "cannot be started"):
            Server("engine", [str(self.output / "none")], self.output / "log", port=1).__enter__()

    def test_one_that_never_answers_is_given_up_and_ended(self) -> None:
        with mock.patch.object(server_module, "START_TIMEOUT_S", 0.3):
            server = Server("engine", [sys.executable, "-c", "import time; time.sleep(600)"], self.output / "log", port_file=self.output / "port")
            with self.assertRaisesRegex(ServerFailed, "wrote no port"):
                server.__enter__()
        self.assertFalse(server.alive())

    def test_an_old_port_file_is_not_believed_even_where_something_answers(self) -> None:
        other = FakeOpenAi()
        other.start()
        self.addCleanup(other.stop)
        (self.output / "one.port").write_text(f"{other.port}\n")
        with self.server() as server:
            self.assertNotEqual(server.endpoint.port, other.port)

    def test_command_lines_in_reports_name_no_directories(self) -> None:
        self.assertEqual(command_line(["/a/b/tiercel-llama", "--model", "/c/m.gguf", "--slots", "2"]), "tiercel-llama --model m.gguf --slots 2")


if __name__ == "__main__":
    unittest.main()
