#!/usr/bin/env python3
"""serve_test.py TIERCEL: `tiercel serve`, `status` and `top` from outside.

Goal: it says where it is, answers there, ends in order on SIGTERM; an address that is taken stops it with the key."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import unittest
import urllib.request

PROGRAM = ""


def command(*words):
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False)


class Serve(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tiercel-serve-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.flags = ["--ram", "128MiB", "--host-prefault", "false", "--service-socket", os.path.join(folder.name, "s.sock"),
                      "--metrics-listen", "127.0.0.1:0"]

    def addresses(self, process):
        said = {}
        while "metrics" not in said:
            line = process.stdout.readline()
            self.assertNotEqual(line, "", "it ended")
            for name in ("live page", "metrics"):
                if line.startswith(name):
                    said[name] = line.split()[-1]
        return said

    def test_it_serves_until_it_is_told_to_end(self):
        with subprocess.Popen([PROGRAM, "serve", *self.flags, "--http-listen", "127.0.0.1:0"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                said = self.addresses(process)
                with urllib.request.urlopen(said["metrics"].replace("/metrics", "/healthz"), timeout=20) as answer:
                    self.assertEqual(answer.read(), b"ok\n")
                url = said["live page"]
                status = command("status", "--url", url)
                self.assertEqual(status.returncode, 0, status.stderr)
                self.assertIn(" ok ", status.stdout)
                self.assertEqual(json.loads(command("status", "--url", url, "--json").stdout)["service"]["pid"], process.pid)
                top = command("top", "--url", url)
                self.assertEqual((top.returncode, "\x1b" in top.stdout), (0, False), "without a terminal: one frame")
                self.assertNotIn("guaranteed", status.stdout + top.stdout, "there is one tenant alone")
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait(30)
            self.assertEqual(code, 0)

    def test_tenants_with_settings_are_shown(self):
        settings = os.path.join(self.folder, "tiercel.toml")
        with open(settings, "w", encoding="ascii") as file:
            file.write('[tenants.search]\nhost_guarantee = "25%"\nhost_cap = "50%"\n')
        with subprocess.Popen([PROGRAM, "serve", "--config", settings, *self.flags, "--http-listen", "127.0.0.1:0"],
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                url = self.addresses(process)["live page"]
                for name in ("status", "top"):
                    shown = [line.split() for line in command(name, "--url", url).stdout.splitlines()]
                    self.assertIn(["tenant", "host", "guaranteed", "cap"], shown)
                    self.assertIn("search 0 B 32.0 MiB 64.0 MiB".split(), shown)
                tenant = json.loads(command("status", "--url", url, "--json").stdout)["tenants"][0]
                self.assertEqual((tenant["tenant"], tenant["tiers"][0]["cap_bytes"]), ("search", 64 << 20))
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)

    def test_an_address_that_is_taken_is_told_with_its_key(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = command("serve", *self.flags, "--http-listen", f"127.0.0.1:{taken.getsockname()[1]}")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("error: http.listen: 127.0.0.1:", done.stderr)

    def test_mistakes_are_told(self):
        self.assertEqual(command("serve", "--http-listen", "here").returncode, 64)
        self.assertEqual(command("doctor", "--http-listen", "127.0.0.1:1").returncode, 64)
        gone = command("status", "--url", "http://127.0.0.1:1")
        self.assertEqual(gone.returncode, 2)
        self.assertIn("tiercel serve", gone.stderr)


if __name__ == "__main__":
    PROGRAM = sys.argv[1]
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]], verbosity=2)
