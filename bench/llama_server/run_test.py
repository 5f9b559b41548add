"""The comparison as a program, with stand-ins for both servers."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parent / "chat_load" / "testing" / "fake_engine.py"


class ComparisonTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.output = Path(directory.name)
        (self.output / "model.gguf").write_bytes(b"GGUF")

    def compare(self, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(HERE / "run.py"), "--tiercel-binary", str(ENGINE), "--llama-server-binary", str(ENGINE),
                   "--model", str(self.output / "model.gguf"), "--output", str(self.output), "--rounds", "3", "--history", "200", *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False, env={**os.environ, **environment})

    def data(self) -> Any:
        return json.loads((self.output / "llama_server.json").read_text())

    def test_both_servers_get_the_same_load_in_both_scenarios(self) -> None:
        done = self.compare("--repeats", "2")
        self.assertEqual(done.returncode, 0, done.stderr)
        for name in ("private: every user", "shared: 3 users on each document"):
            self.assertIn(name, done.stdout)
        for percentile in ("p50", "p95", "p99", "worst"):
            self.assertRegex(done.stdout, rf"first token, users returning {percentile} +[\d.]+ s +[\d.]+ s +[\d.]+\n")
        for scenario in self.data()["scenarios"]:
            ours, theirs = scenario["tiercel-llama"], scenario["llama-server"]
            self.assertEqual((ours["ttft_s"]["count"], theirs["ttft_s"]["count"]), (36, 36))
            self.assertEqual(ours["prompt_tokens"], theirs["prompt_tokens"])
            self.assertEqual([len(run["requests"]) for run in ours["runs"]], [18, 18])

    def test_same_slots_context_and_cache_memory(self) -> None:
        self.compare("--cache-mib", "300")
        shared = self.data()["scenarios"][0]
        context = str(shared["load"]["context_tokens"])
        ours, theirs = shared["tiercel-llama"]["command"], shared["llama-server"]["command"]
        self.assertIn(f"--slots 2 --context {context} ", ours)
        self.assertIn("--host-capacity 300MiB", ours)
        self.assertIn(f"--parallel 2 --ctx-size {context} --kv-unified --cache-ram 300 ", theirs)

    def test_users_of_a_group_reuse_each_others_document(self) -> None:
        self.compare()
        private, shared = (scenario["tiercel-llama"] for scenario in self.data()["scenarios"])
        self.assertLess(shared["prompt_tokens_computed"], 0.8 * private["prompt_tokens_computed"])

    def test_a_server_that_dies_is_an_error_of_the_run(self) -> None:
        for name in ("tiercel-llama", "llama-server"):
            done = self.compare(FAKE_ENGINE="die:4", FAKE_ENGINE_PASS=name)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"error: {name}: user ", done.stderr)
            self.assertFalse((self.output / "llama_server.json").exists())


if __name__ == "__main__":
    unittest.main()
