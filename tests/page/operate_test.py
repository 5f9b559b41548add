#!/usr/bin/env python3
"""operate_test.py TIERCEL: a running `tiercel serve` as people operate it: the commands, curl's way in, SIGHUP.

Goal: each command does what it says and says what it did; mistakes are told with what would be valid, and the exit
status tells a refusal from a service that does not answer; a configuration file that is wrong changes nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

PROGRAM = ""
FILE = """[host]
capacity = "128MiB"
prefault = false
[limits]
sessions = {sessions}
{more}"""


class Operate(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tiercel-operate-")
        self.addCleanup(folder.cleanup)
        self.socket = os.path.join(folder.name, "s.sock")
        self.file = os.path.join(folder.name, "tiercel.toml")
        self.write(sessions=100)

    def write(self, sessions, more=""):
        with open(self.file, "w", encoding="ascii") as file:
            file.write(FILE.format(sessions=sessions, more=more))

    def serve(self):
        process = subprocess.Popen([PROGRAM, "serve", "--config", self.file, "--service-socket", self.socket,
                                    "--http-listen", "", "--metrics-listen", ""], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        for cleanup in (process.stdout.close, process.stderr.close):
            self.addCleanup(cleanup)
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.terminate)
        while not process.stdout.readline().startswith("metrics"):
            self.assertIsNone(process.poll(), "it ended")
        self.process = process

    def run_command(self, *words):
        return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False)

    def done(self, *words):
        ran = self.run_command(*words, "--socket", self.socket)
        self.assertEqual(ran.returncode, 0, ran.stderr)
        self.assertEqual(ran.stderr, "")
        return ran.stdout

    def refused(self, *words):
        ran = self.run_command(*words, "--socket", self.socket)
        self.assertEqual((ran.returncode, ran.stdout), (1, ""), ran.stderr)
        return ran.stderr

    def logged(self, text):
        """Reads the log until it has said it."""
        for line in iter(self.process.stderr.readline, ""):
            if text in line:
                return
        self.fail(f"the log has no {text!r}")

    def ask(self, path, body):
        """As curl --unix-socket does."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(30)
            line.connect(self.socket + ".admin")
            line.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            answer = b"".join(iter(lambda: line.recv(65536), b""))
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(rest)

    def test_the_commands(self):
        self.serve()
        self.assertEqual(self.done("mode"), "ENGINE  MODE  ITS OWN  PROCESS\n(all)   on             \n")
        self.assertEqual(self.done("mode", "store-only"), "all engines: store_only (was on)\n")
        self.assertEqual(json.loads(self.done("mode", "--json"))["mode"], "store_only")
        self.assertEqual(self.done("mode", "on"), "all engines: on (was store_only)\n")
        self.assertIn("valid are on, store_only, load_only and off", self.refused("mode", "slow"))
        self.assertIn("no engine \"x\" is connected", self.refused("mode", "off", "--engine", "x"))
        self.assertEqual(self.done("drop"), "nothing is in the cache\n")
        self.assertEqual(self.done("drop", "--all"), "dropped 0 blocks (0 bytes) of everything\n")
        self.assertIn("needs exactly one", self.refused("drop", "--all", "--tenant", "t"))
        self.assertEqual(self.done("pin"), "no pin is held\n")
        self.assertIn("is not in the cache", self.refused("pin", "0" * 64))
        self.assertIn("64 hexadecimal digits", self.refused("pin", "0"))
        self.assertIn("no pin 4", self.refused("pin", "--end", "4"))
        self.assertEqual(self.done("log-level"), "info\n")
        self.assertEqual(self.done("log-level", "debug"), "log level debug (was info)\n")
        self.assertEqual(self.ask("/admin/log-level", "{}"), (200, {"level": "debug"}))
        self.assertEqual(self.ask("/admin/nothing", "{}")[0], 404)
        self.assertIn("it breaks at byte", self.ask("/admin/mode", "{oops")[1]["error"])
        self.logged("admin: mode: all engines: store_only (was on) (by user ")
        self.logged("admin: mode: refused: mode: \"slow\" is none")

    def test_mistakes_on_the_command_line(self):
        for words, said in ((("mode", "--engin", "x"), "did you mean --engine?"), (("mode", "on", "off"), "one word too many"),
                            (("pin", "--end", "1", "--ttl", "1s"), "--end: ends a pin"), (("mod",), "did you mean mode?")):
            ran = self.run_command(*words)
            self.assertEqual(ran.returncode, 64, ran.stderr)
            self.assertIn(said, ran.stderr)
        for command in ("mode", "drop", "pin", "log-level", "reload"):
            ran = self.run_command(command, "--help")
            self.assertEqual((ran.returncode, "usage: tiercel " + command in ran.stdout), (0, True))
        nobody = self.run_command("mode", "--socket", self.socket)
        self.assertEqual(nobody.returncode, 2)
        self.assertIn("--socket", nobody.stderr)

    def test_reload_and_sighup(self):
        self.serve()
        self.assertEqual(self.done("reload"), "nothing has changed in the configuration\n")
        self.write(sessions=200, more="[workers]\nthreads = 3\n[service]\nlog_level = \"debug\"\n")
        self.assertEqual(self.done("reload"), "applied: limits.sessions (100 before, now 200), service.log_level (info "
                                              "before, now debug); needs a restart: workers.threads (0 before, now 3)\n")
        self.assertEqual(self.done("log-level"), "debug\n")
        self.write(sessions=0, more="[service]\nlog_level = \"warn\"\n")
        self.assertIn(f"{self.file}:5: limits.sessions: 0 is", self.refused("reload"))
        self.assertEqual(self.done("log-level"), "debug\n", "a file that is wrong changes nothing")
        self.process.send_signal(signal.SIGHUP)
        self.logged("SIGHUP: nothing was changed: " + self.file + ":5")
        self.write(sessions=300)
        self.process.send_signal(signal.SIGHUP)
        self.logged("SIGHUP: applied: limits.sessions (200 before, now 300), service.log_level (debug before, now info)")
        self.assertEqual(self.done("reload"), "nothing has changed in the configuration\n")
        self.assertIsNone(self.process.poll(), "it goes on")


if __name__ == "__main__":
    PROGRAM = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
